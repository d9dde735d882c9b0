(* Written by hand: what the exported statements are about.

   Real numbers and exp: Coq's standard library. A finite index set: any list over any type, so that every
   number of keys (and of repeated keys) is covered. Vectors: any real inner-product space; no dimension
   occurs. Rn below shows that R^d is one for every d. *)

Require Import Reals Lra List.
Import ListNotations.
Open Scope R_scope.

(* Inner-product spaces *)

Record InnerSpace := {
  carrier :> Type;
  zero : carrier;
  add : carrier -> carrier -> carrier;
  scale : R -> carrier -> carrier;
  inner : carrier -> carrier -> R;
  add_comm : forall u v, add u v = add v u;
  add_assoc : forall u v w, add u (add v w) = add (add u v) w;
  add_zero : forall u, add u zero = u;
  add_opposite : forall u, add u (scale (-1) u) = zero;
  inner_sym : forall u v, inner u v = inner v u;
  inner_add_l : forall u v w, inner (add u v) w = inner u w + inner v w;
  inner_scale_l : forall c u w, inner (scale c u) w = c * inner u w;
  inner_nonneg : forall u, 0 <= inner u u;
  inner_definite : forall u, inner u u = 0 -> u = zero
}.
Arguments zero {_}. Arguments add {_}. Arguments scale {_}. Arguments inner {_}.
Arguments inner_sym {_}. Arguments inner_add_l {_}. Arguments inner_scale_l {_}.

Section Space.
Context {E : InnerSpace}.
Implicit Types u v w : E.

Lemma inner_add_r u v w : inner w (add u v) = inner w u + inner w v.
Proof. now rewrite inner_sym, inner_add_l, !(inner_sym w). Qed.
Lemma inner_scale_r c u w : inner w (scale c u) = c * inner w u.
Proof. now rewrite inner_sym, inner_scale_l, (inner_sym w). Qed.
Lemma inner_zero_l w : inner zero w = 0.
Proof. pose proof (inner_add_l zero zero w) as H. rewrite add_zero in H. lra. Qed.
Lemma inner_zero_r w : inner w zero = 0.
Proof. now rewrite inner_sym, inner_zero_l. Qed.

(* Two vectors with the same inner products are equal: how equations of vectors are proved below. *)
Lemma by_products u v : (forall t, inner u t = inner v t) -> u = v.
Proof.
  intros H. assert (Z : add u (scale (-1) v) = zero).
  { apply inner_definite. rewrite inner_add_l, inner_scale_l, H. ring. }
  transitivity (add (add u (scale (-1) v)) v).
  - now rewrite <- add_assoc, (add_comm _ (scale (-1) v)), add_opposite, add_zero.
  - now rewrite Z, add_comm, add_zero.
Qed.
End Space.

(* Linear maps; a row vector times a matrix in code is an application here. *)

Record LinearMap (E F : InnerSpace) := {
  apply :> E -> F;
  apply_add : forall u v, apply (add u v) = add (apply u) (apply v);
  apply_scale : forall c u, apply (scale c u) = scale c (apply u)
}.
Arguments apply_add {_ _}. Arguments apply_scale {_ _}.

Lemma scale_zero {E : InnerSpace} (u : E) : scale 0 u = zero.
Proof. apply by_products; intros t. rewrite inner_scale_l, inner_zero_l. ring. Qed.
Lemma apply_zero {E F} (M : LinearMap E F) : M zero = zero.
Proof. now rewrite <- (scale_zero zero), apply_scale, scale_zero. Qed.

(* Finite sums *)

Fixpoint sum {A} (s : list A) (f : A -> R) : R :=
  match s with nil => 0 | j :: r => f j + sum r f end.
Fixpoint vsum {A} {E : InnerSpace} (s : list A) (f : A -> E) : E :=
  match s with nil => zero | j :: r => add (f j) (vsum r f) end.

Section Sums.
Context {A : Type}.
Implicit Types (s : list A) (f g : A -> R).

Lemma sum_ext s f g : (forall j, f j = g j) -> sum s f = sum s g.
Proof. intros H; induction s as [|j s IH]; simpl; [|rewrite H, IH]; reflexivity. Qed.
Lemma sum_add s f g : sum s (fun j => f j + g j) = sum s f + sum s g.
Proof. induction s as [|j s IH]; simpl; [|rewrite IH]; ring. Qed.
Lemma sum_scale s c f : sum s (fun j => c * f j) = c * sum s f.
Proof. induction s as [|j s IH]; simpl; [|rewrite IH]; ring. Qed.
Lemma sum_zero s : sum s (fun _ => 0) = 0.
Proof. induction s as [|j s IH]; simpl; [|rewrite IH]; ring. Qed.
Lemma sum_app s r f : sum (s ++ r) f = sum s f + sum r f.
Proof. induction s as [|j s IH]; simpl; [|rewrite IH]; ring. Qed.
Lemma sum_nil f : sum nil f = 0.
Proof. reflexivity. Qed.
Lemma sum_nonneg s f : (forall j, 0 <= f j) -> 0 <= sum s f.
Proof. intros H; induction s as [|j s IH]; simpl; [|specialize (H j)]; lra. Qed.
Lemma sum_pos s f : s <> nil -> (forall j, 0 < f j) -> 0 < sum s f.
Proof.
  intros N H; destruct s as [|j s]; [now destruct N|]. simpl.
  assert (0 <= sum s f) by (apply sum_nonneg; intros l; apply Rlt_le, H). specialize (H j). lra.
Qed.

Context {E F : InnerSpace}.
Lemma inner_sum_l s (u : A -> E) w : inner (vsum s u) w = sum s (fun j => inner (u j) w).
Proof. induction s as [|j s IH]; simpl; [apply inner_zero_l | now rewrite inner_add_l, IH]. Qed.
Lemma inner_sum_r s (u : A -> E) w : inner w (vsum s u) = sum s (fun j => inner w (u j)).
Proof. rewrite inner_sym, inner_sum_l. apply sum_ext; intros j; apply inner_sym. Qed.
Lemma apply_sum s (u : A -> E) (M : LinearMap E F) : M (vsum s u) = vsum s (fun j => M (u j)).
Proof. induction s as [|j s IH]; simpl; [apply apply_zero | now rewrite apply_add, IH]. Qed.
Lemma vsum_app s r (u : A -> E) : vsum (s ++ r) u = add (vsum s u) (vsum r u).
Proof. apply by_products; intros t. now rewrite inner_add_l, !inner_sum_l, sum_app. Qed.
End Sums.

(* softmax_j a_j over s; its value at an index *)
Definition softmax {A} (s : list A) (a : A -> R) (j : A) : R := exp (a j) / sum s (fun l => exp (a l)).

(* R^d is an inner-product space for every d, so the statements are not about nothing. *)

Definition R0 : InnerSpace.
Proof.
  refine {| carrier := unit; zero := tt; add _ _ := tt; scale _ _ := tt; inner _ _ := 0 |};
    try (intros; ring); try (now intros []); try (intros; lra); now intros.
Defined.
Definition with_coordinate (E : InnerSpace) : InnerSpace.
Proof.
  refine {| carrier := R * E; zero := (0, zero); add u v := (fst u + fst v, add (snd u) (snd v));
    scale c u := (c * fst u, scale c (snd u)); inner u v := fst u * fst v + inner (snd u) (snd v) |}.
  - intros; f_equal; [ring | apply add_comm].
  - intros; f_equal; simpl; [ring | apply add_assoc].
  - intros [x u]; f_equal; simpl; [ring | apply add_zero].
  - intros [x u]; f_equal; simpl; [ring | apply add_opposite].
  - intros; f_equal; [ring | apply inner_sym].
  - intros; simpl; rewrite inner_add_l; ring.
  - intros; simpl; rewrite inner_scale_l; ring.
  - intros [x u]; simpl. pose proof (inner_nonneg E u). pose proof (Rle_0_sqr x). unfold Rsqr in *. lra.
  - intros [x u]; simpl; intros H. pose proof (inner_nonneg E u). pose proof (Rle_0_sqr x). unfold Rsqr in *.
    f_equal; [|apply inner_definite; lra]. apply Rsqr_0_uniq. unfold Rsqr. lra.
Defined.
Fixpoint Rn (d : nat) : InnerSpace := match d with O => R0 | S e => with_coordinate (Rn e) end.

(* Tactics of the exported proofs *)

Ltac positive := lazymatch goal with
  | |- 0 < _ + _ => apply Rplus_lt_0_compat; positive
  | |- 0 < _ * _ => apply Rmult_lt_0_compat; positive
  | |- 0 < / _ => apply Rinv_0_lt_compat; positive
  | |- 0 < _ / _ => apply Rdiv_lt_0_compat; positive
  | |- 0 < _ ^ _ => apply pow_lt; positive
  | |- 0 < exp _ => apply exp_pos
  | |- 0 < sum _ _ => apply sum_pos; [assumption | intros ?; cbv beta; positive]
  | |- 0 < ?x => first [assumption | lra]
  end.
Ltac nonzero := first [apply Rgt_not_eq, Rlt_gt; positive | lra].
Ltac algebra := first [ring | field; repeat split; nonzero].
(* Integer multiples in an exponent *)
Lemma exp_multiple c u x n : c = INR n * u -> exp (c * x) = exp (u * x) ^ n.
Proof.
  intros ->. induction n as [|n IH]; [simpl; rewrite !Rmult_0_l; apply exp_0|].
  rewrite S_INR. simpl pow. rewrite <- IH, <- exp_plus. f_equal. ring.
Qed.
Lemma exp_divisor c u x n : c = - (INR n * u) -> exp (c * x) = / exp (u * x) ^ n.
Proof.
  intros ->. rewrite <- (exp_multiple (INR n * u)) by reflexivity. rewrite <- exp_Ropp. f_equal. ring.
Qed.
(* Sums out of vectors, sets taken apart *)
Ltac with_sum x := lazymatch x with context [@vsum] => idtac end.
Ltac expose := unfold softmax; cbv beta; rewrite ?exp_0;
  repeat match goal with
  | |- context [apply _ _ ?M (vsum ?s ?u)] => rewrite (apply_sum s u M)
  | |- context [vsum (?s ++ ?r) ?u] => rewrite (vsum_app s r u)
  | |- context [inner (vsum ?s ?u) ?w] => rewrite (inner_sum_l s u w)
  | |- context [inner ?w (vsum ?s ?u)] => rewrite (inner_sum_r s u w)
  | |- context [sum (?s ++ ?r) ?f] => rewrite (sum_app s r f)
  | |- context [sum nil ?f] => rewrite (sum_nil f)
  | |- context [apply _ _ ?M (add ?u ?v)] => with_sum (u, v); rewrite (apply_add M u v)
  | |- context [apply _ _ ?M (scale ?c ?u)] => with_sum u; rewrite (apply_scale M c u)
  | |- context [inner (add ?u ?v) ?w] => with_sum (u, v); rewrite (inner_add_l u v w)
  | |- context [inner (scale ?c ?u) ?w] => with_sum u; rewrite (inner_scale_l c u w)
  | |- context [inner ?w (add ?u ?v)] => with_sum (u, v); rewrite (inner_add_r u v w)
  | |- context [inner ?w (scale ?c ?u)] => with_sum u; rewrite (inner_scale_r c u w)
  end; cbv beta.
(* Inner products of sums and multiples as sums and multiples of inner products *)
Ltac expand :=
  rewrite ?apply_add, ?apply_scale, ?apply_zero;
  repeat match goal with
  | |- context [inner (add ?u ?v) ?w] => rewrite (inner_add_l u v w)
  | |- context [inner ?w (add ?u ?v)] => rewrite (inner_add_r u v w)
  | |- context [inner (scale ?c ?u) ?w] => rewrite (inner_scale_l c u w)
  | |- context [inner ?w (scale ?c ?u)] => rewrite (inner_scale_r c u w)
  | |- context [inner zero ?w] => rewrite (inner_zero_l w)
  | |- context [inner ?w zero] => rewrite (inner_zero_r w)
  end.
