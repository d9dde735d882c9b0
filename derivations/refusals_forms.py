"""Chapter VI: false claims about gauge, positions, masks, training and cost."""

from typing import Any

import sympy as sp
from flint import fmpq

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import KEYS
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import LinearMap
from projsym.costs import FOLDED, STANDARD, TIED, distance_extra
from projsym.proof.refusal import At, refusal
from projsym.proof.theorem import shown

from . import costs, forms, learning
from .identity import a
from .notation import W_K, W_Q, X, i, j, k, q, v, x, τ

Sides = tuple[Any, Any]
g, T = learning.g, learning.T
HALF = fmpq(1, 2)

GAUGE = At(
    vectors={"q": (1,)},
    families={"k": [(1,), (2,)]},
    maps={"G": [(2,)], "G_inv": [(HALF,)]},
    scalars={"τ": 1},
    dimensions={"E": 1},
)


class _Moved:
    """The keys in another gauge, ``k_j G⁻ᵀ``."""

    def __getitem__(self, index: Any) -> Any:
        return k[index] @ forms.G_inverse.T


moved = _Moved()


@refusal(
    "VI.8",
    "the surface in key space is intrinsic: another gauge moves the projection along with the keys",
    repair="attention and A = W_Q W_Kᵀ are gauge invariant, distances are not",
    repaired_by=("I.11", "I.11a"),
    given=(forms.invertible,),
    at=GAUGE,
)
def surface_intrinsic() -> Sides:
    """One dimension, G = 2: the query 1 becomes 2 and the keys 1, 2 become ½, 1; the nearer key is the
    other one."""
    return (
        attend(lambda j: -norm2(q @ forms.G - moved[j]) / (2 * τ), moved),
        attend(lambda j: -norm2(q - k[j]) / (2 * τ), k) @ forms.G_inverse.T,
    )


@refusal(
    "VI.f1",
    "Q → QG, K → KGᵀ leaves the scores alone",
    repair="K → KG⁻ᵀ; the same for orthogonal G only",
    repaired_by=("I.11",),
    at=GAUGE,
)
def gauge_transposed() -> Sides:
    return inner(q @ forms.G, k[j] @ forms.G.T), inner(q, k[j])


@refusal(
    "VI.f2",
    "the folded A does not see one G on queries and keys alike",
    repair="G on queries and G⁻ᵀ on keys: W_Q G (W_K G⁻ᵀ)ᵀ = W_Q W_Kᵀ",
    repaired_by=("I.11a",),
)
def folded_in_another_gauge() -> Sides:
    return forms.u @ (W_Q @ forms.G @ forms.G.T @ W_K.T), forms.u @ (W_Q @ W_K.T)


@refusal(
    "VI.9",
    "with unit vectors and τ = √d = 8 the best key can have twice the weight of another",
    repair="the ratio is at most exp(2/√d), 1.28 at d = 64; LayerNorm's vectors of norm √d have exp(2√d)",
    repaired_by=("IV.2a",),
    at=At(vectors={"q": (1,)}, families={"k": [(1,), (-1,)]}, scalars={"τ": 8}, dimensions={"E": 1}),
)
def unit_vectors_discriminate() -> Sides:
    """The most that unit vectors allow, q = k_i = −k_j: the ratio is exp(1/4) and not at least 2."""
    weights = softmax(lambda l: inner(q, k[l]) / τ)
    ratio = weights(i) / weights(j)
    return ratio, sp.Max(ratio, 2)


w_v, w_o, w_k, rate, goal = sp.symbols("w_v w_o w_k eta y", real=True)


@refusal(
    "VI.10",
    "the tied and the standard layer train alike from matched weights",
    repair="the same functions under I.8, not the same gradient flow",
    repaired_by=("I.8", "III.2t", "III.4k", "III.4v"),
    at=At(scalars={"w_v": 1, "w_o": 1, "w_k": 2, "eta": 1, "y": 0}),
)
def train_alike() -> Sides:
    """One token x = 1, so every weight is 1: outputs w_v w_o and w_k m, matched with m = w_v w_o/w_k, and
    one step of descent on ½(output − y)². With w_v = w_o = 1, w_k = 2, y = 0 and rate 1: standard 0, tied
    3/2·(−3/2) = −9/4."""
    m = w_v * w_o / w_k
    error = w_v * w_o - goal
    return (
        (w_v - rate * error * w_o) * (w_o - rate * error * w_v),
        (w_k - rate * error * m) * (m - rate * error * w_k),
    )


tokens = ScalarFamily("token")


def head(key_weight: Any, value_weight: Any) -> Any:
    """A head in one dimension: tokens times weights, seen from the query 1."""
    w = softmax(lambda l: key_weight * tokens[l])
    return total(lambda j: w(j) * value_weight * tokens[j])


def step(*roles: int) -> list[Any]:
    """Key and value weight after one step of descent on half the squared output, both 1 before; `roles` names
    the weight that each role uses, so that roles with one weight add their gradients."""
    weights = sp.symbols("u_0 u_1", real=True)
    used = [weights[r] for r in roles]
    out = head(*used)
    start = {u: sp.S.One for u in weights}
    slopes = {u: substitute(directional(out, {u: sp.S.One}), start) for u in weights}
    error = substitute(out, start)
    return [1 - rate * error * slopes[u] for u in used]


@refusal(
    "VI.f26",
    "they train alike if they start as the same layer, W_V = W_K",
    repair="the shared matrix gets the sum of two gradients, the separate ones one each",
    repaired_by=("III.2t", "III.4k", "III.4v"),
)
def train_alike_from_equal() -> Sides:
    """Outputs after one step: key and value weights of their own against one weight in both roles."""
    return (
        shown("the output after a step of two weights", head(*step(0, 1))),
        shown("the output after a step of one weight in both roles", head(*step(0, 0))),
    )


directions = learning.H


@refusal(
    "VI.f3",
    "tying leaves the gradient of the keys as it was",
    repair="the values' path w_j g is added",
    repaired_by=("III.2t", "III.4k"),
)
def tied_key_gradient() -> Sides:
    path = total(lambda j: (learning.dot(j) * inner(k[j] - T, g) / τ) * inner(q, directions[j]))
    return shown("D_k ⟨g, T⟩ [H]", directional(inner(g, T), {k: directions})), path


@refusal(
    "VI.f4",
    "the query gradient needs no ⟨o, f⟩",
    repair="⟨v_j − o, f⟩: weights sum to 1, so raising one lowers the others",
    repaired_by=("III.4q", "III.4d"),
)
def query_gradient_without_output() -> Sides:
    plain = total(lambda j: (costs.w(j) * inner(v[j], costs.f) / τ) * k[j])
    return shown("D_q ⟨f, O⟩ [h]", directional(inner(costs.f, costs.O), {q: costs.h})), inner(plain, costs.h)


@refusal(
    "VI.f5",
    "in the folded form ∂L/∂B is x_i ⊗ g",
    repair="p ⊗ g, with the projection p in place of the token",
    repaired_by=("III.5",),
)
def folded_output_gradient() -> Sides:
    t, p = costs.t, costs.folded_mean(costs.y)
    moving = inner(costs.g, p @ costs.B + t * (p @ costs.dB))
    return (
        shown("D_B ⟨g, P B⟩ [dB]", substitute(directional(moving, {t: sp.S.One}), {t: sp.S.Zero})),
        inner(x[i] @ costs.dB, costs.g),
    )


WIDE = At(scalars={"batch": 1, "n": 3, "D": 2, "H": 1, "d_h": 2})
NARROW = At(scalars={"batch": 1, "n": 1, "D": 4, "H": 4, "d_h": 1})
scores = next(p for p in STANDARD.products if p.name == "scores").flops


@refusal(
    "VI.11",
    "it is faster because of the distance form: distances cost no more than dot products",
    repair="distances add work; what is saved is products with weights",
    repaired_by=("III.6w", "III.6t", "III.6f"),
    at=WIDE,
)
def faster_by_distance() -> Sides:
    """Three tokens of width 2: 36 operations for the dot products, 54 for the distances."""
    return sp.Max(scores + distance_extra(), scores), scores


@refusal(
    "VI.f6",
    "tying halves the work of attention",
    repair="a ratio below 4/3",
    repaired_by=("III.6t", "III.6r"),
    at=WIDE,
)
def tying_halves() -> Sides:
    return STANDARD.forward, 2 * TIED.forward


@refusal(
    "VI.f30",
    "the operations that tying saves explain 174 s → 129 s",
    repair="a ratio below 4/3, and the whole model gains no more than its attention",
    repaired_by=("III.6r", "III.6a", "III.6s"),
    at=At(scalars={"batch": 1, "n": 1, "D": 5, "H": 1, "d_h": 5}),
)
def tying_explains_the_ratio() -> Sides:
    """One token of width 5: 220 operations against 170, which is 22/17 = 1.294; 174/129 is 1.349."""
    ratio = STANDARD.forward / TIED.forward
    return sp.Max(ratio, sp.Rational(174, 129)), ratio


@refusal(
    "VI.f7",
    "folding always saves work",
    repair="if and only if D (2 d_h − D) > n (D − d_h)",
    repaired_by=("III.6f", "III.6g"),
    at=NARROW,
)
def folding_always_saves() -> Sides:
    """Four heads of width 1 on an input of width 4, one token."""
    return sp.Max(FOLDED.forward, STANDARD.forward), STANDARD.forward


@refusal(
    "VI.f8",
    "decoding with keys as values moves exactly half the bytes",
    repair="half of the cache; queries and outputs are moved all the same",
    repaired_by=("IV.3",),
    at=WIDE,
)
def decoding_exactly_half() -> Sides:
    return TIED.decode_traffic(), STANDARD.decode_traffic() / 2


A_1, A_2 = LinearMap("A_1", X, X), LinearMap("A_2", X, X)


@refusal(
    "VI.13",
    "heads may share their query map if it is the average of theirs",
    repair="each head keeps its own A; what all heads share is the surface, the inputs",
    repaired_by=("I.7", "I.7n"),
    at=At(
        families={"x": [(1,), (0,)]},
        maps={"A_1": [(0,)], "A_2": [(2,)]},
        scalars={"τ": 1},
        dimensions={"X": 1},
    ),
)
def heads_share() -> Sides:
    """Tokens 1 and 0, A₁ = 0 and A₂ = 2, seen from the token 1: ½ + σ(2) against 2σ(1), σ the logistic
    function."""
    first = attend(lambda l: inner(x[i] @ A_1, x[l]) / τ, x)
    second = attend(lambda l: inner(x[i] @ A_2, x[l]) / τ, x)
    return first + second, 2 * attend(lambda l: inner((x[i] @ A_1 + x[i] @ A_2) / 2, x[l]) / τ, x)


N = LinearMap("N")


@refusal(
    "VI.12",
    "with rotary keys one position-free map takes keys to values",
    repair="turn the query key by key, or the output back",
    repaired_by=("I.12", "I.12o"),
    at=At(families={"u": [(1, 0), (1, 0)], "k": [(1, 0), (-1, 0)]}, maps={"N": [(3, 4), (5, 6)]}),
)
def position_free_map() -> Sides:
    """The same unrotated vector (1, 0) at two positions half a turn apart: its keys add to 0 and so does
    every image of them, whatever the map, but the values add to (2, 0)."""
    u = forms.unrotated
    return u[i] + u[j], (k[i] + k[j]) @ N


@refusal(
    "VI.f9",
    "rotation does not matter to the weights, since it keeps norms",
    repair="the distance is to the query turned back, key by key",
    repaired_by=("I.12",),
    given=(forms.rotary, forms.unrotated_equal),
)
def rotation_ignored() -> Sides:
    return (
        softmax(lambda l: inner(q, k[l]) / τ)(j),
        softmax(lambda l: -norm2(q - forms.unrotated[l]) / (2 * τ))(j),
    )


@refusal(
    "VI.f10",
    "with a gain on rotary keys the query's norm still cancels",
    repair="the gain's query depends on the key: its norm is a bias",
    repaired_by=("I.12g",),
    given=(forms.normed_equal,),
)
def gain_norm_cancels() -> Sides:
    y, m, Γ = forms.turned, forms.normed, forms.gain
    return (
        softmax(lambda l: inner(y[l], m[l] @ Γ) / τ)(j),
        softmax(lambda l: -norm2(y[l] @ Γ.T - m[l]) / (2 * τ))(j),
    )


@refusal(
    "VI.f11",
    "the lifted coordinate enters the squared distance with a minus",
    repair="‖q − k_j‖² + lift_j²",
    repaired_by=("I.9", "I.9n"),
    given=(forms.lifted,),
    at=At(vectors={"q": (1,)}, families={"k": [(0,), (1,)]}, scalars={"τ": 1, "R": 1}, dimensions={"E": 1}),
)
def lift_with_minus() -> Sides:
    """Keys 0 and 1 with R = 1: the lifted coordinates are 1 and 0."""
    return (
        softmax(lambda l: inner(q, k[l]) / τ)(j),
        softmax(lambda l: -(norm2(q - k[l]) - forms.lift[l] ** 2) / (2 * τ))(j),
    )


@refusal(
    "VI.f12",
    "multiplying scores by 0 masks keys",
    repair="add −∞ to the score: a score of 0 still has the weight exp(0)",
    repaired_by=("I.10",),
)
def mask_by_multiplication() -> Sides:
    hidden = forms.hidden_keys
    above = forms.weighted(k, forms.SEEN) + total(lambda j: sp.exp(0 * τ) * hidden[j], forms.HIDDEN)
    below = forms.mass(k, forms.SEEN) + total(lambda j: sp.exp(0 * τ), forms.HIDDEN)
    return above / below, attend(lambda l: inner(q, k[l]) / τ, k, forms.SEEN)


@refusal(
    "VI.f13",
    "with an attention sink the weights of the keys still sum to 1",
    repair="1 minus the sink's weight",
    repaired_by=("I.10t",),
)
def sink_sums_to_one() -> Sides:
    z = total(lambda l: sp.exp(a[l]))
    return total(lambda j: sp.exp(a[j]) / (sp.exp(forms.s) + z)), sp.S.One


@refusal(
    "VI.f14",
    "an attention sink leaves the output alone",
    repair="it scales the output by the mass that is left",
    repaired_by=("I.10s",),
)
def sink_leaves_output() -> Sides:
    return forms.with_sink(KEYS), attend(lambda l: a[l], v)
