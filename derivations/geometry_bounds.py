"""Chapter II, bounds: two keys, not idempotent, how far P stretches, where it lands, the bias on a circle."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy as sp
from flint import arb, fmpq

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import DisjointUnion, Singleton
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import Vector
from projsym.proof.certificate import inequality
from projsym.proof.hypotheses import Agree, definition, equal_norms
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    disjoint_union,
    distributivity,
    exponential_law,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.refusal import At
from projsym.proof.theorem import at_least, by, contradicted, shown, theorem, therefore

from .geometry import STRETCH, P, w
from .geometry_lemmas import circle, norm_by_duality, onto_interior
from .learning import h
from .notation import i, j, k, q, σ

PAIR = DisjointUnion(Singleton(i), Singleton(j))
MID = (k[i] + k[j]) / 2
GAP = k[i] - k[j]


def tanh(z: Any) -> Any:
    """The hyperbolic tangent, by its definition."""
    return (sp.exp(z) - sp.exp(-z)) / (sp.exp(z) + sp.exp(-z))


def two_keys(x: Vector) -> Vector:
    """The projection of `x` onto the pair k_i, k_j."""
    return attend(lambda l: -norm2(x - k[l]) / (2 * σ**2), k, PAIR)


def two_weights(x: Vector) -> Any:
    """The weights of the pair as seen from `x`, a function of the index."""
    return softmax(lambda l: -norm2(x - k[l]) / (2 * σ**2), PAIR)


@theorem("II.7", "Two keys: a hyperbolic tangent along the line through them")
def two_keys_tanh() -> Iterator[Any]:
    """P = mid + tanh(⟨q − mid, k_i − k_j⟩/2σ²) (k_i − k_j)/2; for keys ±1 it is tanh(q/σ²)."""
    yield two_keys(q)
    yield (
        by(softmax_definition, disjoint_union, exponential_law, bilinearity),
        MID + tanh(inner(q - MID, GAP) / (2 * σ**2)) * GAP / 2,
    )


@theorem("II.7k", "Two keys: neither is a fixed point, by an exact amount")
def keys_are_not_fixed() -> Iterator[Any]:
    """k_i is pulled to k_j by the share 1/(1 + exp(‖k_i − k_j‖²/2σ²)) > 0 of their difference."""
    yield two_keys(k[i]) - k[i]
    yield (
        by(softmax_definition, disjoint_union, exponential_law, bilinearity),
        -GAP / (1 + sp.exp(norm2(GAP) / (2 * σ**2))),
    )


again, once = ScalarFamily("again", positive=True), ScalarFamily("once", positive=True)
weights_again = definition(
    again, two_weights(two_keys(q)), "again_j: the weights of the two keys as seen from P(q)"
)
weights_once = definition(once, two_weights(q), "once_j: the weights of the two keys as seen from q")


@theorem(
    "II.7w",
    "P(P(q)) − P(q) is the change of weight times the difference of the keys",
    given=[weights_again, weights_once],
)
def second_projection() -> Iterator[Any]:
    """So for two distinct keys P(P(q)) = P(q) says that the weights are the same from q and from P(q)."""
    yield two_keys(two_keys(q)) - two_keys(q)
    yield (
        by(weights_again, weights_once, softmax_definition, disjoint_union, exponential_law),
        (again[i] - once[i]) * GAP,
    )


def _query_between(instance: Instance) -> None:
    """The query halfway between the first two keys, a fixed point."""

    def middle(at: Any, space: str) -> list[arb]:
        a, b = (instance.vector("k", "E", ("keys", n)) for n in (0, 1))
        return [(x + y) / 2 for x, y in zip(a, b, strict=True)]

    instance.vectors["q"] = middle


idempotent = Agree(
    "idempotent at q",
    "again_j = once_j for both keys: P(P(q)) = P(q), see II.7w",
    again,
    once,
    _query_between,
)
TWO = At(
    vectors={"q": (1,)},
    families={"k": [(1,), (-1,)]},
    dimensions={"E": 1},
    scalars={"sigma": arb(fmpq(1, 2)).sqrt()},
)


@theorem(
    "II.7c",
    "Not idempotent: only a query with ⟨P(q) − q, k_i − k_j⟩ = 0 is mapped to a fixed point",
    given=[weights_again, weights_once, idempotent],
)
def not_idempotent() -> Iterator[Any]:
    """Equal weights at q and at P(q) mean equal odds, so q and P(q) agree along the line of the keys."""
    yield inner(two_keys(q) - q, GAP)
    yield (
        by(weights_again, weights_once, softmax_definition, disjoint_union, exponential_law, bilinearity),
        σ**2 * sp.log((again[i] / again[j]) / (once[i] / once[j])),
    )
    yield by(idempotent), sp.S.Zero
    yield contradicted("P(P(q)) ≠ P(q) for keys ±1, σ² = ½, q = 1", TWO)


low, high = sp.Symbol("low", real=True), sp.Symbol("high", real=True)
above, below = ScalarFamily("above"), ScalarFamily("below")


def beyond(instance: Instance, values: Sequence[arb], side: int = 1) -> arb:
    """A number beyond all values: above them for side 1, below them for side −1."""
    most = side * values[0]
    for value in values[1:]:
        most = most.max(side * value)
    return side * (most + arb(instance.rational(positive=True)))


def _bound(name: str, side: int) -> Callable[[Instance], None]:
    """Draw a number beyond every ⟨k_j, h⟩ on one side."""

    def impose(instance: Instance) -> None:
        instance.scalars[name] = lambda: beyond(instance, _along(instance), side)

    return impose


def _keys(instance: Instance) -> list[list[arb]]:
    return [instance.vector("k", "E", ("keys", n)) for n in range(instance.size("keys"))]


def _along(instance: Instance) -> list[arb]:
    x = instance.vector("h", "E", None)
    return [sum((a * b for a, b in zip(x, y, strict=True)), arb(0)) for y in _keys(instance)]


keys_below = inequality(
    "keys below high",
    "⟨k_j, h⟩ ≤ high for all j; above_j = √(high − ⟨k_j, h⟩)",
    above,
    lambda j: high - inner(k[j], h),
    _bound("high", 1),
)
keys_above = inequality(
    "keys above low",
    "⟨k_j, h⟩ ≥ low for all j; below_j = √(⟨k_j, h⟩ − low)",
    below,
    lambda j: inner(k[j], h) - low,
    _bound("low", -1),
)
POPOVICIU = ("T. Popoviciu, Mathematica (Cluj) 9 (1935)", "S. Banach, Fund. Math. 3 (1922)")


@theorem(
    "II.7b",
    "No direction is stretched by more than diam(K)²/4σ²",
    given=[keys_below, keys_above],
    references=POPOVICIU,
)
def stretch_bound() -> Iterator[Any]:
    """The variance of numbers between low and high is at most (high − low)²/4, with what is missing."""
    most = (high - low) ** 2 / (4 * σ**2)
    yield shown("(high − low)²/4σ² − ⟨h, D_q P [h]⟩", most - STRETCH.term)
    yield by(differentiation), most - total(lambda j: w(j) * inner(k[j] - P, h) ** 2) / σ**2
    yield (
        by(keys_below, keys_above, softmax_definition, exponential_law, distributivity, bilinearity),
        ((inner(P, h) - (high + low) / 2) ** 2 + total(lambda j: w(j) * above[j] ** 2 * below[j] ** 2))
        / σ**2,
    )
    yield at_least(most, STRETCH)
    yield therefore(
        norm_by_duality,
        "‖DP‖ ≤ diam(K)²/4σ², as high − low ≤ diam(K) for unit h; for σ > diam(K)/2 P is a contraction",
    )


@theorem("II.7m", "The bound on the stretch is reached midway between two keys")
def stretch_reached() -> Iterator[Any]:
    """There both weights are ½, and along h = k_i − k_j the stretch is ‖k_i − k_j‖²/4σ² times ‖h‖²."""
    midway = substitute(inner(GAP, directional(two_keys(q), {q: GAP})), {q: MID})
    yield shown("⟨h, D_q P [h]⟩ at q = (k_i + k_j)/2, h = k_i − k_j", midway)
    yield by(differentiation, disjoint_union), norm2(GAP) ** 2 / (4 * σ**2)


@theorem("II.8", "The projection is the mean map of an exponential family on the keys")
def mean_map() -> Iterator[Any]:
    """Its parameter is q/σ², the bias of a key −‖k_j‖²/2σ²: nothing else decides the range."""
    yield P
    yield (
        by(polarization, shift_invariance),
        attend(lambda j: inner(q / σ**2, k[j]) - norm2(k[j]) / (2 * σ**2), k),
    )
    yield therefore(
        onto_interior,
        "over all q, P takes exactly the values in the relative interior of the hull of the keys",
    )


@theorem("II.8h", "The projection stays in every half-space that holds the keys", given=[keys_below])
def in_the_hull() -> Iterator[Any]:
    """The hull of the keys is the intersection of these half-spaces."""
    yield high - inner(P, h)
    yield (
        by(keys_below, softmax_definition, exponential_law, distributivity, bilinearity),
        total(lambda j: w(j) * above[j] ** 2),
    )
    yield at_least(high, inner(P, h), "equal only if ⟨k_j, h⟩ = high for all j")


radius = sp.Symbol("radius", positive=True)
room = ScalarFamily("room")


def _radius(instance: Instance) -> None:
    """Draw the radius beyond every ‖k_j‖."""
    instance.scalars["radius"] = lambda: beyond(
        instance, [sum((x * x for x in y), arb(0)).sqrt() for y in _keys(instance)]
    )


in_ball = inequality(
    "keys in a ball",
    "‖k_j‖ ≤ radius for all j; room_j = √(radius² − ‖k_j‖²)",
    room,
    lambda j: radius**2 - norm2(k[j]),
    _radius,
)


@theorem("II.8n", "The projection is shorter than the longest key", given=[in_ball])
def shorter_than_keys() -> Iterator[Any]:
    """The squared radius exceeds ‖P‖² by the mean room plus the spread of the keys."""
    yield radius**2 - norm2(P)
    yield (
        by(in_ball, softmax_definition, exponential_law, distributivity, bilinearity),
        total(lambda j: w(j) * room[j] ** 2)
        + total(lambda j: total(lambda l: w(j) * w(l) * norm2(k[j] - k[l]))) / 2,
    )
    yield at_least(radius**2, norm2(P), "equal only if all keys coincide, at that radius")


sphere = equal_norms(k)
ρ = sphere.radius


@theorem("II.8s", "On a sphere the pull inside is the weighted variance", given=[sphere])
def pulled_inside() -> Iterator[Any]:
    """ρ² − ‖P‖² = Σ_j w_j ‖k_j − P‖²: the density bias of a curved surface, exactly."""
    yield ρ**2 - norm2(P)
    yield (
        by(sphere, softmax_definition, exponential_law, distributivity, bilinearity),
        total(lambda j: w(j) * norm2(k[j] - P)),
    )
    yield at_least(ρ**2, norm2(P))


@theorem("II.8c", "The bias on a circle", given=[sphere])
def circle_bias() -> Iterator[Any]:
    """With ⟨q, k_j⟩ = ρ ‖q‖ cos t_j this is ρ ‖q‖ times the mean of cos t under exp(κ cos t)."""
    yield inner(P, q)
    yield (
        by(sphere, polarization, shift_invariance),
        total(lambda j: softmax(lambda l: inner(q, k[l]) / σ**2)(j) * inner(q, k[j])),
    )
    yield therefore(
        circle,
        "for keys spread evenly over a circle (an integral for the sum) P(q) = ρ I₁(κ)/I₀(κ) q/‖q‖, "
        "κ = ρ‖q‖/σ²; a query on the circle is pulled inside by σ²/2ρ + O(σ⁴)",
    )
