(* II.1 and II.2: statements and proofs written by hand.

   The exported chains of II.1 and II.2 start from derivatives that have been taken already. Here the derivative
   itself is proved, with Coquelicot's is_derive along any direction h at any query q. *)

From Projsym Require Import base.
Require Import Reals Lra List.
From Coquelicot Require Import Coquelicot.
Open Scope R_scope.

Lemma is_derive_sum {A} (s : list A) (f : R -> A -> R) (g : A -> R) (t : R) :
  (forall j, is_derive (fun x => f x j) t (g j)) -> is_derive (fun x => sum s (f x)) t (sum s g).
Proof.
  intros H. induction s as [|j s IH]; simpl.
  - apply (is_derive_const (K := R_AbsRing) (V := R_NormedModule) 0).
  - apply (is_derive_plus (K := R_AbsRing) (V := R_NormedModule)); auto.
Qed.

Section Geometry.
Context {E : InnerSpace} {Index : Type}.
Variables (keys : list Index) (k : Index -> E) (sigma : R).
Hypothesis some_keys : keys <> nil.
Hypothesis positive_sigma : 0 < sigma.

Definition distance2 (u v : E) := inner (add u (scale (-1) v)) (add u (scale (-1) v)).
Definition score (x : E) (j : Index) := - distance2 x (k j) / (2 * sigma ^ 2).
Definition density (x : E) := sum keys (fun j => exp (score x j)).
Definition weight (x : E) (j : Index) := softmax keys (score x) j.
Definition projection (x : E) : E := vsum keys (fun j => scale (weight x j) (k j)).

Variables (q h : E).
Definition line (t : R) : E := add q (scale t h).

Lemma density_pos x : 0 < density x.
Proof. apply sum_pos; [exact some_keys | intros j; apply exp_pos]. Qed.

Lemma score_line t j : score (line t) j
  = score q j + t * ((inner (k j) h - inner q h) / sigma ^ 2) - t * t * (inner h h / (2 * sigma ^ 2)).
Proof.
  unfold score, distance2, line. expand.
  rewrite ?(inner_sym h q), ?(inner_sym h (k j)), ?(inner_sym q (k j)). field. lra.
Qed.

Lemma line_0 j : score (line 0) j = score q j.
Proof. rewrite score_line. ring. Qed.
Lemma density_line_0 : density (line 0) = density q.
Proof. unfold density. apply sum_ext; intros j. now rewrite line_0. Qed.

Definition slope (j : Index) := (inner (k j) h - inner q h) / sigma ^ 2.

Lemma exp_score_derivative j :
  is_derive (fun t => exp (score (line t) j)) 0 (exp (score q j) * slope j).
Proof.
  apply is_derive_ext with (fun t => exp (score q j + t * slope j - t * t * (inner h h / (2 * sigma ^ 2)))).
  { intros t. now rewrite score_line. }
  auto_derive; [trivial|].
  rewrite !Rmult_0_l, Rmult_0_r, Ropp_0, !Rplus_0_r. ring.
Qed.

Lemma density_derivative :
  is_derive (fun t => density (line t)) 0 (sum keys (fun j => exp (score q j) * slope j)).
Proof. unfold density. apply (is_derive_sum keys (fun t j => exp (score (line t) j))). exact exp_score_derivative. Qed.

Lemma inner_projection x g :
  inner (projection x) g = sum keys (fun j => exp (score x j) * inner (k j) g) / density x.
Proof.
  pose proof (density_pos x). unfold projection, weight, softmax. rewrite inner_sum_l. fold (density x).
  rewrite (sum_ext keys _ (fun j => (/ density x) * (exp (score x j) * inner (k j) g))).
  - rewrite sum_scale. field. lra.
  - intros j. rewrite inner_scale_l. field. lra.
Qed.

Lemma sum_slope (f : Index -> R) : sum keys (fun j => exp (score q j) * slope j * f j)
  = (sum keys (fun j => exp (score q j) * inner (k j) h * f j)
     - inner q h * sum keys (fun j => exp (score q j) * f j)) / sigma ^ 2.
Proof.
  rewrite (sum_ext keys _ (fun j => (/ sigma ^ 2) * (exp (score q j) * inner (k j) h * f j)
    + (- inner q h / sigma ^ 2) * (exp (score q j) * f j))).
  - rewrite sum_add, !sum_scale. field. lra.
  - intros j. unfold slope. field. lra.
Qed.

(* II.1 (Tweedie). Statement and proof: written by hand.
   <P(q), h> = <q, h> + the derivative along h of sigma^2 log density at q. *)
Theorem II_1_derivative :
  is_derive (fun t => sigma ^ 2 * ln (density (line t))) 0 (inner (projection q) h - inner q h).
Proof.
  pose proof (density_pos q) as Z.
  evar_last.
  { apply (is_derive_scal (fun t => ln (density (line t))) 0 (sigma ^ 2)).
    apply (is_derive_comp ln (fun t => density (line t)) 0).
    - apply is_derive_ln. now rewrite density_line_0.
    - exact density_derivative. }
  rewrite density_line_0, inner_projection.
  rewrite (sum_ext keys _ (fun j => exp (score q j) * slope j * 1)) by (intros; ring).
  rewrite sum_slope.
  rewrite (sum_ext keys (fun j => exp (score q j) * inner (k j) h * 1)
    (fun j => exp (score q j) * inner (k j) h)) by (intros; ring).
  rewrite (sum_ext keys (fun j => exp (score q j) * 1) (fun j => exp (score q j))) by (intros; ring).
  fold (density q). unfold scal; simpl; unfold mult; simpl. field. lra.
Qed.

Definition centred (j : Index) : E := add (k j) (scale (-1) (projection q)).

(* II.2 (Jacobian). Statement and proof: written by hand.
   <D P [h], g> = (1/sigma^2) sum_j w_j <k_j - p, h> <k_j - p, g> for every g, p = P(q). *)
Theorem II_2_derivative (g : E) :
  is_derive (fun t => inner (projection (line t)) g) 0
    (sum keys (fun j => weight q j * inner (centred j) h * inner (centred j) g) / sigma ^ 2).
Proof.
  pose proof (density_pos q) as Z.
  apply is_derive_ext
    with (fun t => sum keys (fun j => exp (score (line t) j) * inner (k j) g) / density (line t)).
  { intros t. now rewrite inner_projection. }
  evar_last.
  { apply (is_derive_div (fun t => sum keys (fun j => exp (score (line t) j) * inner (k j) g))
      (fun t => density (line t)) 0 (sum keys (fun j => exp (score q j) * slope j * inner (k j) g))).
    - apply (is_derive_sum keys (fun t j => exp (score (line t) j) * inner (k j) g)). intros j.
      evar_last.
      { apply is_derive_ext with (fun t => inner (k j) g * exp (score (line t) j)); [intros; apply Rmult_comm|].
        apply (is_derive_scal (fun t => exp (score (line t) j)) 0), exp_score_derivative. }
      unfold scal; simpl; unfold mult; simpl. ring.
    - exact density_derivative.
    - rewrite density_line_0. lra. }
  rewrite density_line_0.
  rewrite (sum_ext keys (fun j => exp (score (line 0) j) * inner (k j) g)
    (fun j => exp (score q j) * inner (k j) g)) by (intros; now rewrite line_0).
  rewrite sum_slope.
  rewrite (sum_ext keys (fun j => exp (score q j) * slope j) (fun j => exp (score q j) * slope j * 1))
    by (intros; ring).
  rewrite sum_slope.
  rewrite (sum_ext keys (fun j => exp (score q j) * inner (k j) h * 1)
    (fun j => exp (score q j) * inner (k j) h)) by (intros; ring).
  rewrite (sum_ext keys (fun j => exp (score q j) * 1) (fun j => exp (score q j))) by (intros; ring).
  fold (density q).
  set (H := inner (projection q) h). set (G := inner (projection q) g).
  assert (EH : sum keys (fun j => exp (score q j) * inner (k j) h) = H * density q)
    by (unfold H; rewrite inner_projection; field; lra).
  assert (EG : sum keys (fun j => exp (score q j) * inner (k j) g) = G * density q)
    by (unfold G; rewrite inner_projection; field; lra).
  rewrite (sum_ext keys (fun j => weight q j * inner (centred j) h * inner (centred j) g)
    (fun j => (/ density q) * (exp (score q j) * inner (k j) h * inner (k j) g)
      + (- G / density q) * (exp (score q j) * inner (k j) h)
      + (- H / density q) * (exp (score q j) * inner (k j) g)
      + (H * G / density q) * exp (score q j))).
  2: { intros j. unfold weight, softmax, centred. fold (density q).
       rewrite !inner_add_l, !inner_scale_l. fold H G. field. lra. }
  rewrite !sum_add, !sum_scale, EH, EG. fold (density q).
  field. lra.
Qed.
End Geometry.
Print Assumptions II_1_derivative.
Print Assumptions II_2_derivative.
