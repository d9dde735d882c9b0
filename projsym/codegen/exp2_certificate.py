"""What ``exp2`` of a kernel loses, proved by ball arithmetic [IV.4].

The function certified is, for a float ``x`` of the type, ``n = rint(x)``, ``f = x - n``,
``y = p(f)`` by Horner's rule, result ``y * 2**n``. Its parts:

*Reduction is exact.* ``n`` is an integer with ``|x - n| <= 1/2``. If ``n = 0`` then ``f = x``. Otherwise
``|n| >= 1``, so ``n/2 <= x <= 2 n`` in absolute value and with one sign, and by Sterbenz's lemma the
subtraction of two such floats is exact. This holds for every finite ``x`` with ``rint``; a kernel that rounds
by adding and subtracting ``1.5 * 2**(t-1)``, ``t`` the bits of the significand (24 or 53), gets the same
``n`` when ``|x| <= 2**(t-2)``, 2**22 in float32, far beyond the range of the exponent.

*The polynomial.* ``polynomial_error >= sup |p(f)/2**f - 1|`` over ``|f| <= 1/2``: on each of 512 subintervals
the difference of ``p`` and 30 Taylor terms of ``2**f``, expanded about the midpoint with ball coefficients,
plus the Taylor remainder, over the least value of ``2**f`` there.

*Rounding.* A running error analysis over the same subintervals: each operation adds at most half the spacing
of floats at the largest value that it can take, earlier errors are multiplied by ``|f|``. Each operation also
adds the least normal number, so that flushing of small results to zero is covered.

*Scaling* by ``2**n`` is exact unless the result is subnormal. As ``p`` is above 0.7, that cannot happen for
``x >= lowest``, where the relative bound therefore holds. For ``x < lowest`` both ``2**x`` and any
computed value in ``[0, floor]`` are within `floor`, four times the least normal number, of each other: this
covers gradual underflow, flushing to zero and kernels that return 0 early or clamp ``x`` from below at
``lowest`` or less.

What it cannot see: whether a compiled kernel does these operations (the kernels' tests measure that),
rounding of the argument (that is part of `projsym.bounds`), ``x`` above the overflow threshold, and other
implementations of ``exp2`` such as a mathematical library's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from flint import arb, arb_poly, ctx, fmpq

DType = Literal["float32", "float64"]

_PIECES: Final = 512  # even, so that 0 is an end point; the bounds tighten like 1/pieces
_TAYLOR: Final = 30  # terms; the remainder is below 2**-150
_BITS: Final = 200
_SIGNIFICAND: Final = {"float32": 24, "float64": 53}
_LEAST_EXPONENT: Final = {"float32": -126, "float64": -1022}  # of normal numbers


def check_dtype(dtype: str) -> DType:
    """`dtype` itself, if it is a type that kernels are generated for.

    Raises ValueError otherwise.
    """
    if dtype == "float32":
        return "float32"
    if dtype == "float64":
        return "float64"
    raise ValueError(f"dtype: got {dtype!r}, allowed are 'float32' and 'float64'")


@dataclass(frozen=True)
class Certificate:
    """Proven bounds on the error of ``exp2``; every float is rounded upwards.

    polynomial_error: of ``p(f)`` in exact arithmetic, relative to ``2**f``.
    rounding_error, rounding_error_mul_add: of Horner's rule, relative to ``2**f``, when each step is one
    fused multiply-add, or a product and a sum.
    total, total_mul_add: of the two together (at most their sum, as they are largest in different places).
    lowest: the relative bounds hold for results of arguments ``x >= lowest``.
    floor: bound on the absolute error for ``x < lowest``.
    """

    dtype: DType
    degree: int
    polynomial_error: float
    rounding_error: float
    rounding_error_mul_add: float
    total: float
    total_mul_add: float
    lowest: int
    floor: float

    @property
    def unit_roundoff(self) -> float:
        """2**-24 or 2**-53."""
        return math.ldexp(1.0, -_SIGNIFICAND[self.dtype])

    @property
    def worst(self) -> float:
        """The bound that holds with and without fused multiply-adds."""
        return max(self.total, self.total_mul_add)


def certify(coefficients: Sequence[float], dtype: str) -> Certificate:
    """Bounds for ``exp2`` in `dtype` with this polynomial for ``2**f`` (ascending coefficients).

    Any polynomial may be given; a bad one gets a large bound, not an error. Raises ValueError for another
    dtype, no coefficients, or a coefficient that is not a finite number of that type.
    """
    kind = check_dtype(dtype)
    if not coefficients:
        raise ValueError("coefficients: got none, at least one is needed")
    for c in coefficients:
        if not math.isfinite(c) or math.ldexp(math.frexp(c)[0], _SIGNIFICAND[kind]) % 1 != 0:
            raise ValueError(f"coefficients: {c!r} is not a finite number of type {kind}")
    with ctx.workprec(_BITS):
        balls = [arb(fmpq(*c.as_integer_ratio())) for c in coefficients]
        worst = (0.0, 0.0, 0.0, 0.0, 0.0)
        difference, remainder = _difference(balls)
        for piece in range(_PIECES):
            centre = fmpq(2 * piece + 1 - _PIECES, 2 * _PIECES)
            radius = fmpq(1, 2 * _PIECES)
            near = max(abs(centre - radius), abs(centre + radius))
            least = arb(2) ** arb(centre - radius)
            shift = difference(arb_poly([arb(centre), arb(1)])).coeffs()
            sup = sum((abs(c) * arb(radius) ** k for k, c in enumerate(shift)), remainder)
            fused = _rounding(balls, centre, radius, near, kind, True)
            split = _rounding(balls, centre, radius, near, kind, False)
            worst = (
                max(worst[0], _upper(sup / least)),
                max(worst[1], _upper(fused / least)),
                max(worst[2], _upper(split / least)),
                max(worst[3], _upper((sup + fused) / least)),
                max(worst[4], _upper((sup + split) / least)),
            )
    lowest = _LEAST_EXPONENT[kind] + 2
    return Certificate(kind, len(coefficients) - 1, *worst, lowest, math.ldexp(1.0, lowest))


def _difference(balls: Sequence[arb]) -> tuple[arb_poly, arb]:
    """``p`` minus the Taylor polynomial of ``2**f`` at 0, and a bound on the remainder for ``|f| <= 1/2``.

    The remainder is below its first term times ``1/(1 - 1/4)``, as the ratio of terms is below 1/4.
    """
    terms = [arb(1)]
    for k in range(1, max(_TAYLOR, len(balls)) + 1):
        terms.append(terms[-1] * arb(2).log() / k)
    count = len(terms) - 1
    padded = list(balls) + [arb(0)] * (count - len(balls))
    remainder = terms[count] / arb(2) ** count * arb(fmpq(4, 3))
    return arb_poly([a - b for a, b in zip(padded, terms[:count], strict=True)]), remainder


def _rounding(balls: Sequence[arb], centre: fmpq, radius: fmpq, near: fmpq, kind: DType, fused: bool) -> arb:
    """Bound on the rounding error of Horner's rule over a subinterval, `near` the largest ``|f|`` in it."""
    f = arb(centre) + arb(0, 1) * arb(radius)
    value, error = balls[-1], arb(0)
    for c in list(balls)[-2::-1]:
        product, error = value * f, error * arb(near)
        if not fused:
            error += _rounding_of(product, error, kind)
        value = product + c
        error += _rounding_of(value, error, kind)
    return error


def _rounding_of(value: arb, error: arb, kind: DType) -> arb:
    """Half the spacing of floats at the largest number within `error` of `value`, plus flushing to zero."""
    _, exponent = math.frexp(_upper(abs(value) + error))  # that number is below 2**exponent
    return arb(2) ** (exponent - _SIGNIFICAND[kind] - 1) + arb(2) ** _LEAST_EXPONENT[kind]


def _upper(x: arb) -> float:
    """A float that is not below any number in the ball."""
    return math.nextafter(float(x.upper()), math.inf)
