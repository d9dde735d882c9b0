"""Chapter IV, errors: what the bounds of `projsym.bounds` and of the exponential's certificate rest on."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, attend, exp2, norm2, softmax, total
from projsym.algebra.terms import Vector, VectorFamily, VectorSymbol
from projsym.proof.hypotheses import definition
from projsym.proof.laws import (
    arithmetic,
    bilinearity,
    distributivity,
    exponential_law,
    powers_of_two,
    softmax_definition,
)
from projsym.proof.theorem import at_least, by, theorem, therefore

from .identity import a
from .lemmas import roundings
from .notation import F, v

HIGHAM = ("N. J. Higham, Accuracy and Stability of Numerical Algorithms, SIAM 2002, chapters 3 and 4",)
n, f = sp.symbols("n f", real=True)
err = sp.Symbol("η", real=True)


@theorem("IV.4", "Range reduction keeps a relative error as it is")
def range_reduction() -> Iterator[Any]:
    """2^x = 2^n 2^f with n the nearest integer and f = x − n: what the polynomial for 2^f is off by,
    relatively, the exponential is. `projsym.codegen.exp2.certificate` proves how much that is."""
    yield exp2(n) * ((1 + err) * exp2(f))
    yield by(powers_of_two, exponential_law), (1 + err) * exp2(n + f)


off = ScalarFamily("η")
w = softmax(lambda l: a[l])
mean = attend(lambda l: a[l], v)


@theorem("IV.5", "A mean whose weights are off is off by the mean of the errors times the deviations")
def perturbed_mean() -> Iterator[Any]:
    """Weights off by factors 1 + η_j: exactly Σ w_j η_j (v_j − p)/(1 + Σ w_j η_j). An error that all weights
    share cancels, as the same weights are in both sums."""
    wrong = total(lambda j: (w(j) * (1 + off[j])) * v[j]) / total(lambda j: w(j) * (1 + off[j]))
    yield wrong - mean
    yield (
        by(softmax_definition, exponential_law, distributivity),
        total(lambda j: (w(j) * off[j]) * (v[j] - mean)) / (1 + total(lambda j: w(j) * off[j])),
    )


y = VectorFamily("y", F)


@theorem("IV.5c", "Cauchy–Schwarz for the errors: at most their root mean square times the spread")
def mean_square() -> Iterator[Any]:
    """‖Σ w_j η_j y_j‖² ≤ (Σ w_j η_j²)(Σ w_j ‖y_j‖²), for y_j = v_j − p in IV.5."""
    errors = total(lambda j: w(j) * off[j] ** 2)
    spread = total(lambda j: w(j) * norm2(y[j]))
    moved = norm2(total(lambda j: (w(j) * off[j]) * y[j]))
    yield errors * spread - moved
    yield (
        by(bilinearity, distributivity),
        total(lambda j: total(lambda l: w(j) * w(l) * norm2(off[j] * y[l] - off[l] * y[j]))) / 2,
    )
    yield at_least(errors * spread, moved)


b = VectorSymbol("b", F)


def spread_about(centre: Vector) -> Any:
    """``Σ w_j ‖v_j − centre‖²``."""
    return total(lambda j: w(j) * norm2(v[j] - centre))


@theorem("IV.5v", "The spread is least about the mean")
def least_about_the_mean() -> Iterator[Any]:
    """So any fixed point in place of the mean gives a bound."""
    about, least = spread_about(b), spread_about(mean)
    yield about - least
    yield by(bilinearity, softmax_definition, exponential_law, distributivity), norm2(mean - b)
    yield at_least(about, least)


N, e, t = sp.symbols("N e t", real=True)
D = sp.Symbol("D", positive=True)


@theorem("IV.5q", "What a quotient makes of the errors of its two sums")
def quotient_error() -> Iterator[Any]:
    """A numerator off by e, a denominator by the factor 1 + t: (e/D − t N/D)/(1 + t). The error of the
    weights' sum counts with the output itself and not with Σ w_j |v_j|."""
    yield (N + e) / (D * (1 + t)) - N / D
    yield by(arithmetic), (e / D - t * (N / D)) / (1 + t)


s, M1, M2, M3 = sp.symbols("s M_1 M_2 M_3", real=True)


@theorem("IV.5t", "The arguments of the exponentials of a key telescope")
def telescope() -> Iterator[Any]:
    """Whatever the running maximum was in between; all have one sign, so that their rounding errors add to
    at most u times the distance from the last maximum."""
    yield exp2(s - M1) * exp2(M1 - M2) * exp2(M2 - M3)
    yield by(powers_of_two, exponential_law), exp2(s - M3)


x1, x2, x3, u1, u2 = sp.symbols("x_1 x_2 x_3 u_1 u_2", real=True)


@theorem("IV.5s", "A rounded sum: every addend times the roundings it goes through", references=HIGHAM)
def rounded_sum() -> Iterator[Any]:
    """Additions that are off by factors 1 + u_1 and 1 + u_2, one after the other; longer sums repeat it."""
    yield ((x1 + x2) * (1 + u1) + x3) * (1 + u2)
    yield by(arithmetic), (x1 + x2) * ((1 + u1) * (1 + u2)) + x3 * (1 + u2)
    yield therefore(roundings, "an addend that goes through r roundings is off by at most γ_r of itself")


l1, l2, s1, s2 = sp.symbols("l_1 l_2 s_1 s_2", real=True)
first_result = definition(s1, x1 + x2 + l1, "s_1 = x_1 + x_2 + l_1, the first result")
second_result = definition(s2, s1 + x3 + l2, "s_2 = s_1 + x_3 + l_2, the second")


@theorem(
    "IV.5r",
    "A rounded sum is off by what each addition loses",
    given=[first_result, second_result],
    references=HIGHAM,
)
def running_error() -> Iterator[Any]:
    """With |l_n| ≤ u |s_n| it is off by at most u times the sum of the partial sums, which is far less than
    γ Σ |x_j| where the addends have both signs."""
    yield s2 - (x1 + x2 + x3)
    yield by(second_result, first_result), l1 + l2
