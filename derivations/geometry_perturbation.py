"""Chapter II, perturbation: how far the output moves when scores or weights are off.

If every score moves by at most δ, the output moves by at most diam(V) tanh(δ/2): II.9d bounds the mass of any
set of keys (II.9m: the worst moves, II.9w: the worst set), II.9 turns mass into output, II.9s shows that
nothing smaller will do.
A weight error η of an approximate exponential is a move of the score (II.9r), of half-width artanh η.
"""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp
from flint import arb

from projsym.algebra.scalars import ScalarFamily, attend, total
from projsym.algebra.sets import IndexSet
from projsym.proof.certificate import inequality
from projsym.proof.hypotheses import Equation
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    arithmetic,
    disjoint_union,
    distributivity,
    exponential_law,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import Scaled, at_least, by, shown, theorem, therefore

from .geometry_bounds import PAIR, beyond, tanh
from .geometry_lemmas import norm_by_duality
from .notation import i, j, v

UP, DOWN = IndexSet("I"), IndexSet("J")
"""The keys whose weight grows, and the others."""
a = ScalarFamily("a")
factor = ScalarFamily("factor", positive=True)
"""``exp(δ_j)``, by which the unnormalised weight of a key is multiplied; between 1/r and r = exp(δ)."""
excess = sp.Symbol("excess", positive=True)
r = 1 + excess
"""``exp(δ)`` for δ > 0, and ``tanh(δ/2) = (r − 1)/(r + 1) = excess/(2 + excess)``."""
under, over = ScalarFamily("under"), ScalarFamily("over")


def _members(instance: Instance, name: str, positive: bool = False) -> list[arb]:
    """The numbers of a family over both sets."""
    return [instance.scalar(name, positive, (s, n)) for s in ("I", "J") for n in range(instance.size(s))]


def _largest_factor(instance: Instance) -> None:
    """Draw r = 1 + excess beyond every factor and its inverse."""

    def draw() -> arb:
        factors = _members(instance, "factor", positive=True)
        return beyond(instance, [*factors, *[1 / x for x in factors]]) - 1

    instance.scalars["excess"] = draw


at_most_r = inequality(
    "factors at most r",
    "exp(δ_j) ≤ r for all j; under_j = √(r − exp(δ_j))",
    under,
    lambda l: r - factor[l],
    _largest_factor,
)
at_least_inverse = inequality(
    "factors at least 1/r",
    "exp(δ_j) ≥ 1/r for all j; over_j = √(exp(δ_j) − 1/r)",
    over,
    lambda l: factor[l] - 1 / r,
    _largest_factor,
)


def mass(s: Any) -> Any:
    """``Σ exp(a_j)`` over a set."""
    return total(lambda l: sp.exp(a[l]), s)


def moved(s: Any) -> Any:
    """``Σ exp(a_j + δ_j)`` over a set."""
    return total(lambda l: sp.exp(a[l]) * factor[l], s)


HELD = mass(UP) / (mass(UP) + mass(DOWN))
WORST = r * mass(UP) / (r * mass(UP) + mass(DOWN) / r)
REACHED = moved(UP) / (moved(UP) + moved(DOWN))
TANH = excess / (2 + excess)
ROOM = (
    r * mass(UP) * total(lambda l: sp.exp(a[l]) * over[l] ** 2, DOWN)
    + mass(DOWN) / r * total(lambda l: sp.exp(a[l]) * under[l] ** 2, UP)
) / ((r * mass(UP) + mass(DOWN) / r) * (moved(UP) + moved(DOWN)))
"""By how much the worst case exceeds what is reached."""


def slack(A: Any, B: Any) -> Any:
    """By how much ``tanh(δ/2)`` exceeds the worst move of a set of mass `A` when the others have mass `B`."""
    return excess * (r * A - B) ** 2 / ((2 + excess) * (A + B) * (r**2 * A + B))


@theorem(
    "II.9m",
    "No set of keys weighs more than with all its scores up by δ and all others down",
    given=[at_most_r, at_least_inverse],
)
def mass_of_a_set() -> Iterator[Any]:
    """For any split of the keys into two sets and any moves within ±δ, r = exp(δ)."""
    yield WORST - REACHED
    yield by(at_most_r, at_least_inverse, distributivity), ROOM
    yield at_least(WORST, REACHED)


A, B = sp.symbols("A B", positive=True)


@theorem("II.9w", "The worst set moves by tanh(δ/2)")
def worst_set() -> Iterator[Any]:
    """For masses A and B and r = exp(δ) = 1 + excess; (r − 1)/(r + 1) = tanh(δ/2)."""
    gain = r * A / (r * A + B / r) - A / (A + B)
    yield TANH - gain
    yield by(arithmetic), slack(A, B)
    yield at_least(TANH, gain, "equal only if B = r A")


@theorem(
    "II.9d",
    "The mass of any set of keys moves by at most tanh(δ/2)",
    given=[at_most_r, at_least_inverse],
)
def moved_mass() -> Iterator[Any]:
    """II.9m and II.9w in one: for any keys, any set of them and any moves of the scores within ±δ."""
    yield TANH - (REACHED - HELD)
    yield by(at_most_r, at_least_inverse, distributivity), slack(mass(UP), mass(DOWN)) + ROOM
    yield at_least(shown("tanh(δ/2)", TANH), REACHED - HELD)


y, gains, losses = ScalarFamily("y"), ScalarFamily("gain"), ScalarFamily("loss")
low, high = sp.Symbol("low", real=True), sp.Symbol("high", real=True)
above, below = ScalarFamily("above"), ScalarFamily("below")


def _beyond_values(name: str, side: int) -> Callable[[Instance], None]:
    def impose(instance: Instance) -> None:
        instance.scalars[name] = lambda: beyond(instance, _members(instance, "y"), side)

    return impose


values_below = inequality(
    "values below high",
    "⟨v_j, h⟩ = y_j ≤ high for all j; above_j = √(high − y_j)",
    above,
    lambda l: high - y[l],
    _beyond_values("high", 1),
)
values_above = inequality(
    "values above low",
    "y_j ≥ low for all j; below_j = √(y_j − low)",
    below,
    lambda l: y[l] - low,
    _beyond_values("low", -1),
)


def _balanced(instance: Instance) -> None:
    """Gains in I and losses in J with equal sums of squares: the losses share the gains."""

    for n in range(instance.size("I")):
        instance.drawn["gain", ("I", n)] = arb(instance.rational(positive=True))
    gained = sum((instance.scalar("gain", False, ("I", n)) ** 2 for n in range(instance.size("I"))), arb(0))
    share = (gained / instance.size("J")).sqrt()
    for n in range(instance.size("J")):
        instance.drawn["loss", ("J", n)] = share


balanced = Equation(
    "weights add to 1",
    "Σ_I gain_j² = Σ_J loss_j², where the weight of a key in I grows by gain_j² and in J falls by loss_j²",
    total(lambda l: gains[l] ** 2, UP),
    total(lambda l: losses[l] ** 2, DOWN),
    _balanced,
)
MOVED = total(lambda l: gains[l] ** 2 * y[l], UP) - total(lambda l: losses[l] ** 2 * y[l], DOWN)
SHIFTED_MASS = total(lambda l: gains[l] ** 2, UP)


@theorem(
    "II.9",
    "The output moves by at most the moved mass times the width of the values",
    given=[values_below, values_above, balanced],
)
def moved_output() -> Iterator[Any]:
    """Along any direction h. What the keys in I gain, Σ_I gain_j², is at most tanh(δ/2) by II.9d."""
    yield (high - low) * SHIFTED_MASS - MOVED
    yield (
        by(Scaled(balanced, low), distributivity),
        total(lambda l: gains[l] ** 2 * (high - y[l]), UP)
        + total(lambda l: losses[l] ** 2 * (y[l] - low), DOWN),
    )
    yield (
        by(values_below, values_above),
        total(lambda l: gains[l] ** 2 * above[l] ** 2, UP)
        + total(lambda l: losses[l] ** 2 * below[l] ** 2, DOWN),
    )
    yield at_least((high - low) * SHIFTED_MASS, MOVED)
    yield therefore(
        norm_by_duality,
        "‖P' − P‖ ≤ diam(V) tanh(δ/2), with II.9d, if no score moves by more than δ: high − low ≤ diam(V)",
    )


δ = sp.Symbol("delta", positive=True)


@theorem("II.9s", "The bound is sharp: two keys that change places")
def sharp() -> Iterator[Any]:
    """Scores −a_l become a_l. For a_i = δ/2 = −a_j each moves by δ, the output by tanh(δ/2) (v_i − v_j)."""
    yield attend(lambda l: a[l], v, PAIR) - attend(lambda l: -a[l], v, PAIR)
    yield (
        by(softmax_definition, disjoint_union, exponential_law),
        tanh((a[i] - a[j]) / 2) * (v[i] - v[j]),
    )


@theorem("II.9r", "A relative error of the weights is a move of the scores")
def relative_error() -> Iterator[Any]:
    """Factors 1 + η_j, and any constant c: moves log(1 + η_j) − c, within artanh η for c = ½ log(1 − η²)."""
    c = sp.Symbol("c", real=True)
    moved_ = attend(lambda l: a[l] + sp.log(factor[l]) - c, v)
    yield total(lambda l: sp.exp(a[l]) * factor[l] * v[l]) / total(lambda l: sp.exp(a[l]) * factor[l])
    yield by(softmax_definition, exponential_law), attend(lambda l: a[l] + sp.log(factor[l]), v)
    yield by(shift_invariance), moved_


@theorem("II.9t", "t = tanh(½ artanh η) solves 2t/(1 + t²) = η")
def half_angle() -> Iterator[Any]:
    """With r = exp(artanh η) = √((1 + η)/(1 − η)): η = (r² − 1)/(r² + 1) and t = (r − 1)/(r + 1)."""
    t = TANH
    yield (r**2 - 1) / (r**2 + 1)
    yield by(arithmetic), 2 * t / (1 + t**2)
