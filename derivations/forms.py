"""Chapter I, third part: the lift, masks and sinks, gauge, rotary positions."""

from collections.abc import Iterator
from typing import Any

import sympy as sp
from flint import arb

from projsym.algebra.generators import Atom, Product
from projsym.algebra.poly import Poly, letter
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import EMPTY, KEYS, IndexSet
from projsym.algebra.terms import (
    E,
    LinearMap,
    Vector,
    VectorFamily,
    VectorSymbol,
    ZeroVector,
    identity_map,
)
from projsym.proof.hypotheses import Domain, Equation, MapEquation, Products, definition, equal_norms
from projsym.proof.instance import Element, Instance, Vec
from projsym.proof.laws import (
    adjoint,
    bilinearity,
    disjoint_union,
    distributivity,
    exponential_law,
    linearity,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import Scaled, by, theorem

from .identity import a, keys_equal
from .notation import W_K, W_Q, F, X, i, j, k, q, v, τ

LIFT = (
    "Y. Bachrach et al., Speeding up the Xbox recommender system using a Euclidean transformation for "
    "inner-product spaces, RecSys 2014",
)
SINK = (
    "G. Xiao et al., Efficient streaming language models with attention sinks, ICLR 2024 (arXiv 2309.17453)",
)
ROFORMER = (
    "J. Su et al., RoFormer: enhanced transformer with rotary position embedding (arXiv 2104.09864), 2021",
)

# I.9 — the lift

R = sp.Symbol("R", positive=True)
lift = ScalarFamily("lift")


def _large_radius(instance: Instance) -> None:
    """R exceeds every norm that the instance can draw (components are at most the largest rational)."""
    largest = max(abs(n) for n in instance.span.numerators) / instance.span.denominators[0]
    instance.scalars["R"] = lambda: arb(int(largest * instance.dimension("E")) + 2)


inside = Domain("the keys lie in a ball", "R ≥ ‖k_j‖ for all j, R = max_j ‖k_j‖ say", _large_radius)
lifted = definition(
    lift, lambda j: sp.sqrt(R**2 - norm2(k[j])), "lift_j = √(R² − ‖k_j‖²), the last coordinate of k̃_j"
)


@theorem("I.9n", "Lifted keys lie on a sphere", given=[inside, lifted], references=LIFT)
def lifted_norm() -> Iterator[Any]:
    """‖k̃_j‖² = ‖k_j‖² + lift_j² = R² for k̃_j = (k_j, lift_j)."""
    yield norm2(k[j]) + lift[j] ** 2
    yield by(inside, lifted), R**2


@theorem(
    "I.9",
    "Lift: with one more coordinate dot products are distances, for any keys",
    given=[inside, lifted],
    references=LIFT,
)
def lift_identity() -> Iterator[Any]:
    """With q̃ = (q, 0) and k̃_j = (k_j, lift_j) scores are unchanged and ‖q̃ − k̃_j‖² = ‖q − k_j‖² + lift_j²."""
    yield softmax(lambda j: inner(q, k[j]) / τ)(j)
    yield (
        by(inside, lifted, polarization),
        softmax(lambda j: (norm2(q) + R**2 - (norm2(q - k[j]) + lift[j] ** 2)) / (2 * τ))(j),
    )
    yield by(shift_invariance), softmax(lambda j: -(norm2(q - k[j]) + lift[j] ** 2) / (2 * τ))(j)


# I.10 — masks, row constants, sinks, empty rows

SEEN, HIDDEN = IndexSet("seen"), IndexSet("hidden")
hidden_keys = VectorFamily("g")
c, s = sp.symbols("c s", real=True)


def mass(keys: VectorFamily, over: Any) -> Any:
    """``Σ exp(⟨q, k_j⟩/τ)``."""
    return total(lambda j: sp.exp(inner(q, keys[j]) / τ), over)


def weighted(keys: VectorFamily, over: Any) -> Vector:
    """``Σ exp(⟨q, k_j⟩/τ) k_j``."""
    return total(lambda j: sp.exp(inner(q, keys[j]) / τ) * keys[j], over)


@theorem("I.10", "Masks: only the keys that a row sees need equal norms", given=[keys_equal])
def masked_row() -> Iterator[Any]:
    """Hidden keys g_j, of any norm, get the score −c more: the output is the projection onto the seen keys
    plus an exact remainder, the share of the hidden keys, which is 0 in the limit c → ∞ (the mask −∞)."""
    share = sp.exp(-c) * mass(hidden_keys, HIDDEN) / (mass(k, SEEN) + sp.exp(-c) * mass(hidden_keys, HIDDEN))
    hidden = attend(lambda j: inner(q, hidden_keys[j]) / τ, hidden_keys, HIDDEN)
    seen = attend(lambda j: inner(q, k[j]) / τ, k, SEEN)
    near = attend(lambda j: -norm2(q - k[j]) / (2 * τ), k, SEEN)
    shifted = total(lambda j: sp.exp(inner(q, hidden_keys[j]) / τ - c) * hidden_keys[j], HIDDEN)
    below = total(lambda j: sp.exp(inner(q, hidden_keys[j]) / τ - c), HIDDEN)
    yield (weighted(k, SEEN) + shifted) / (mass(k, SEEN) + below)
    yield by(softmax_definition, exponential_law, distributivity), seen + share * (hidden - seen)
    yield by(keys_equal, polarization, shift_invariance), near + share * (hidden - near)


row = ScalarFamily("row")
queries = VectorFamily("q")


@theorem("I.10r", "Per-row constants cancel, whatever the row sees")
def row_constants() -> Iterator[Any]:
    """A term of the scores that depends on the query's row i only (‖q_i‖², say) is no term at all."""
    yield attend(lambda j: inner(queries[i], k[j]) / τ + row[i], v, SEEN)
    yield by(shift_invariance), attend(lambda j: inner(queries[i], k[j]) / τ, v, SEEN)


def with_sink(over: Any) -> Vector:
    """Attention with one more pair of score s and value 0: ``Σ exp(a_j) v_j / (exp(s) + Σ exp(a_l))``."""
    return total(lambda j: sp.exp(a[j]) * v[j], over) / (sp.exp(s) + total(lambda j: sp.exp(a[j]), over))


lse = sp.Symbol("lse", real=True)
row_lse = definition(lse, sp.log(total(lambda l: sp.exp(a[l]))), "lse = log Σ_j exp(a_j)")


@theorem(
    "I.10s",
    "An attention sink scales the output by the mass that it leaves",
    given=[row_lse],
    references=SINK,
)
def sink_output() -> Iterator[Any]:
    """A sink of score s and value 0: the output is attention times 1/(1 + exp(s − lse))."""
    z = total(lambda l: sp.exp(a[l]))
    yield with_sink(KEYS)
    yield by(softmax_definition), (z / (sp.exp(s) + z)) * attend(lambda j: a[j], v)
    yield by(row_lse, exponential_law), (1 / (1 + sp.exp(s - lse))) * attend(lambda j: a[j], v)


@theorem("I.10t", "With a sink the weights of the keys sum to less than 1")
def sink_weights() -> Iterator[Any]:
    """What is missing is the sink's own weight exp(s)/(exp(s) + Σ exp(a_l)) > 0."""
    z = total(lambda l: sp.exp(a[l]))
    yield total(lambda j: sp.exp(a[j]) / (sp.exp(s) + z))
    yield by(distributivity), 1 - sp.exp(s) / (sp.exp(s) + z)


@theorem("I.10e", "A row that sees no key and has a sink gives zero")
def empty_row() -> Iterator[Any]:
    """The empty sums are 0, so the output is 0 and not 0/0; without a sink the row is the unit of the merge
    [IV.1d], whose output is 0 by the same convention."""
    yield ZeroVector(F)
    yield by(disjoint_union), with_sink(EMPTY)


# I.11 — gauge

G, G_inverse = LinearMap("G"), LinearMap("G_inv")


def _shear(instance: Instance) -> None:
    """A unit lower triangular G with its exact inverse (1 + one row of entries below the diagonal)."""
    n = instance.dimension("E")
    low = [arb(instance.rational()) for _ in range(n - 1)]
    one = [[arb(int(p == r)) for r in range(n)] for p in range(n)]
    if n == 1:
        instance.maps["G"], instance.maps["G_inv"] = lambda: [[arb(2)]], lambda: [[arb(1) / 2]]
        return
    instance.maps["G"] = lambda: [*one[:-1], [*low, arb(1)]]
    instance.maps["G_inv"] = lambda: [*one[:-1], [*[-x for x in low], arb(1)]]


invertible = MapEquation("invertible", "G G⁻¹ = 1 (written G_inv)", G @ G_inverse, identity_map(E), _shear)


class _Mapped:
    """The family ``k_j W``."""

    def __init__(self, family: VectorFamily, weight: LinearMap) -> None:
        self.family, self.weight = family, weight

    def __getitem__(self, index: Any) -> Vector:
        return self.family[index] @ self.weight


@theorem("I.11", "Gauge: attention does not see Q → QG, K → KG⁻ᵀ", given=[invertible])
def gauge_invariance() -> Iterator[Any]:
    """Distances and key norms do change, so a surface in key space is not intrinsic to a layer."""
    moved = _Mapped(k, G_inverse.T)
    yield attend(lambda j: inner(q @ G, moved[j]) / τ, v)
    yield by(bilinearity, adjoint, invertible), attend(lambda j: inner(q, k[j]) / τ, v)


u = VectorSymbol("u", X)


@theorem("I.11a", "The folded A is gauge invariant", given=[invertible])
def gauge_of_folded() -> Iterator[Any]:
    """(W_Q G)(W_K G⁻ᵀ)ᵀ = W_Q W_Kᵀ: the surface in input space is intrinsic."""
    yield u @ ((W_Q @ G) @ (W_K @ G_inverse.T).T)
    yield by(linearity, invertible), u @ (W_Q @ W_K.T)


# I.12 — rotary positions

unrotated, turned = VectorFamily("u"), VectorFamily("y")


def _rotary_rule(g: Product) -> Poly | None:
    """Inner products between q, k_j = u_j R_j and y_j = q R_jᵀ, for orthogonal R_j."""
    if g.word:
        return None
    one, two = sorted((g.left, g.right), key=lambda atom: atom.name)
    if one.name == "k" and two == Atom("q"):
        return letter(Product(Atom("y", one.at), (), Atom("u", one.at)))
    if one == two and one.at is not None and one.name == "y":
        return letter(Product(Atom("q"), (), Atom("q")))
    if one == two and one.at is not None and one.name == "k":
        return letter(Product(Atom("u", one.at), (), Atom("u", one.at)))
    return None


def _turn(instance: Instance, at: Element) -> Vec:
    """The coefficients (cos, sin) of the turn at a position: a rational point of the circle."""
    return instance.vector("turn", "turn", at)


def _rotate(x: Vec, turn: Vec, back: bool = False) -> Vec:
    """Rotate components in pairs; an odd last one stays, as in partial rotary embeddings."""
    cos, sin = turn[0], -turn[1] if back else turn[1]
    out = list(x)
    for p in range(0, len(x) - 1, 2):
        out[p], out[p + 1] = cos * x[p] - sin * x[p + 1], sin * x[p] + cos * x[p + 1]
    return out


def _positions(instance: Instance) -> None:
    """Draw k_j and y_j from u_j and q by one rotation for each position."""
    instance.vectors["turn"] = lambda at, space: instance.on_sphere(arb(1), 2)

    def keys(at: Element | None, space: str) -> Vec:
        assert at is not None
        return _rotate(instance.vector("u", "E", at), _turn(instance, at))

    def back(at: Element | None, space: str) -> Vec:
        assert at is not None
        return _rotate(instance.vector("q", "E", None), _turn(instance, at), back=True)

    instance.vectors["k"], instance.vectors["y"] = keys, back


rotary = Products(
    "rotary positions",
    "k_j = u_j R_j and y_j = q R_jᵀ for orthogonal R_j, so that ⟨q, k_j⟩ = ⟨y_j, u_j⟩",
    _rotary_rule,
    _positions,
)
unrotated_equal = equal_norms(unrotated)


@theorem(
    "I.12",
    "Rotary keys: the query turns back, key by key",
    given=[rotary, unrotated_equal],
    references=ROFORMER,
)
def rotary_projection() -> Iterator[Any]:
    """The weights of rotated keys are Gaussian in the distance of unrotated keys to the turned query y_j, so
    with values u_j attention is a mean of a position-free surface, seen from a query that depends on j."""
    yield attend(lambda j: inner(q, k[j]) / τ, unrotated)
    yield by(rotary), attend(lambda j: inner(turned[j], unrotated[j]) / τ, unrotated)
    yield (
        by(rotary, polarization),
        attend(
            lambda j: (norm2(q) + norm2(unrotated[j]) - norm2(turned[j] - unrotated[j])) / (2 * τ), unrotated
        ),
    )
    yield (
        by(unrotated_equal, shift_invariance),
        attend(lambda j: -norm2(turned[j] - unrotated[j]) / (2 * τ), unrotated),
    )


gain, normed = LinearMap("Γ"), VectorFamily("n")
normed_equal = equal_norms(normed)


@theorem("I.12g", "With a gain on the keys the turned query's norm becomes a bias", given=[normed_equal])
def rotary_gain() -> Iterator[Any]:
    """Keys g ⊙ n_j from normalised n_j that are also the values, seen from turned queries y_j = q R_jᵀ: the
    query of key j is g ⊙ y_j, and its norm depends on j unless the gain is constant. It does not cancel."""
    yield attend(lambda j: inner(turned[j], normed[j] @ gain) / τ, normed)
    yield by(bilinearity, adjoint), attend(lambda j: inner(turned[j] @ gain.T, normed[j]) / τ, normed)
    yield (
        by(normed_equal, polarization, adjoint, shift_invariance),
        attend(
            lambda j: (norm2(turned[j] @ gain.T) - norm2(turned[j] @ gain.T - normed[j])) / (2 * τ), normed
        ),
    )


R_i = LinearMap("R_i")


@theorem(
    "I.12o",
    "Rotary keys as values: an inverse rotation on the output",
    given=[rotary, unrotated_equal],
    references=ROFORMER,
)
def rotary_output() -> Iterator[Any]:
    """Rotation keeps norms, so attention with rotated keys as values is the projection onto them; the row's
    inverse rotation R_iᵀ after it makes the output depend on relative positions only."""
    yield attend(lambda j: inner(q, k[j]) / τ, k) @ R_i.T
    yield (
        by(rotary, polarization, shift_invariance),
        attend(lambda j: (norm2(unrotated[j]) - norm2(q - k[j])) / (2 * τ), k) @ R_i.T,
    )
    yield (
        by(unrotated_equal, shift_invariance),
        attend(lambda j: -norm2(q - k[j]) / (2 * τ), k) @ R_i.T,
    )


J = LinearMap("J")
p = VectorSymbol("p")
cos_t, sin_t, cos_s, sin_s = sp.symbols("c_t s_t c_s s_s", real=True)


def _quarter_turn(instance: Instance, factor: int = 1) -> None:
    """A multiple of the quarter turn in every plane of an even-dimensional space."""
    n = instance.fixed_dimensions["E"] = 2 * ((instance.dimension("E") + 1) // 2)
    rows = [[arb(0) for _ in range(n)] for _ in range(n)]
    for b in range(0, n, 2):
        rows[b][b + 1], rows[b + 1][b] = arb(factor), arb(-factor)
    instance.maps["J"] = lambda: rows


def _orthogonal(instance: Instance) -> None:
    """The identity: orthogonal and not skew; replaced where J is skew as well."""
    n = instance.dimension("E")
    instance.maps["J"] = lambda: [[arb(int(p == r)) for r in range(n)] for p in range(n)]


def _skew(instance: Instance) -> None:
    """The quarter turn where J is orthogonal as well; otherwise twice that, which is not orthogonal."""
    _quarter_turn(instance, 1 if "J" in instance.maps else 2)


orthogonal = MapEquation("J is orthogonal", "J Jᵀ = 1", J @ J.T, identity_map(E), _orthogonal)
skew = Equation("J is skew", "⟨q, p J⟩ = −⟨q J, p⟩", inner(q, p @ J), -inner(q @ J, p), _skew)


@theorem(
    "I.12p", "Rotary scores see only the difference of angles", given=[orthogonal, skew], references=ROFORMER
)
def relative_positions() -> Iterator[Any]:
    """For rotations c + s J, J a quarter turn of each plane; cos(t − s) = c_t c_s + s_t s_s and
    sin(t − s) = s_t c_s − c_t s_s. Planes with different angles are orthogonal summands."""
    yield inner(cos_t * q + sin_t * (q @ J), cos_s * p + sin_s * (p @ J))
    yield (
        by(bilinearity, adjoint, orthogonal),
        (cos_t * cos_s + sin_t * sin_s) * inner(q, p)
        + sin_t * cos_s * inner(q @ J, p)
        + cos_t * sin_s * inner(q, p @ J),
    )
    yield (
        by(Scaled(skew, cos_t * sin_s), bilinearity, adjoint),
        inner((cos_t * cos_s + sin_t * sin_s) * q + (sin_t * cos_s - cos_t * sin_s) * (q @ J), p),
    )
