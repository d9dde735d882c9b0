"""The polynomial behind ``exp2`` in every kernel: coefficients, computed anew whenever they are asked for.

A kernel evaluates ``2**x`` (mathematically, not bit for bit) as ``2**n * p(f)`` with ``n = rint(x)`` and
``f = x - n``. `coefficients` gives the polynomial ``p``; `projsym.codegen.exp2_certificate` bounds what is
lost.

*Why degree 6 in float32.* With degree 5 the approximation error alone is above the unit roundoff 2**-24,
with degree 6 it is a few hundredths of it, so that one more multiply-add halves the certified error; a
seventh would gain almost nothing, as rounding in the Horner scheme is all that is left. In float64 degree 11
plays the same part. The tests measure both statements.

*How.* The relative error of ``1 + c_1 f + … + c_n f**n`` is minimised by exchange (Remez) on a fixed grid.
Rounding all coefficients of the optimum at once would lose up to half an ulp of ``c_1``; instead the lowest
free coefficient is rounded and the higher ones are optimised again around it, until all are rounded
(compare Brisebarre and Chevillard, *Efficient polynomial L∞-approximations*, 2007, who solve the same
problem by lattice reduction). Arithmetic is mpmath's at a fixed precision on integers: the same bytes on
every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import mpmath

from projsym.codegen.exp2_certificate import Certificate, DType, certify, check_dtype

#: Degree of the polynomial by type.
DEGREE: Final[dict[str, int]] = {"float32": 6, "float64": 11}

_BITS: Final = 200  # of mpmath's arithmetic; float64 coefficients need 53 and the solve loses about 40
_GRID_PER_COEFFICIENT: Final = 24  # the discrete optimum is then within about a percent of the true one
_MAX_EXCHANGES: Final = 40  # exchange converges quadratically: about five rounds are needed


@cache
def coefficients(dtype: str, degree: int | None = None) -> tuple[float, ...]:
    """Ascending coefficients of the polynomial that stands for ``2**f``, ``|f| <= 1/2``.

    dtype: ``"float32"`` or ``"float64"``; every coefficient is exactly representable in it, the first one
    is exactly 1 (so that ``exp2`` of an integer is exact: a block that does not raise the running maximum
    rescales its sums without error).
    degree: that of the polynomial, by default `DEGREE`.

    Raises ValueError for another dtype or a degree below 1.
    """
    kind = check_dtype(dtype)
    degree = DEGREE[kind] if degree is None else degree
    if degree < 1:
        raise ValueError(f"degree: got {degree}, allowed are integers >= 1")
    fixed = [1.0]
    with mpmath.workprec(_BITS):
        while len(fixed) <= degree:
            fixed.append(_round(_minimax(fixed, degree)[0], kind))
    return tuple(fixed)


@cache
def certificate(dtype: str) -> Certificate:
    """Proven error bounds of ``exp2`` with the polynomial of `coefficients`, for kernels of that type.

    See `projsym.codegen.exp2_certificate` for what they guarantee and what they cannot see.
    Raises ValueError for another dtype.
    """
    return certify(coefficients(dtype), dtype)


def _round(x: mpmath.mpf, dtype: DType) -> float:
    """The nearest number of that type, in one rounding (through double there might be two)."""
    with mpmath.workprec(24 if dtype == "float32" else 53):
        return float(+x)


def _minimax(fixed: Sequence[float], degree: int) -> list[mpmath.mpf]:
    """Coefficients of degree ``len(fixed)`` to `degree` that minimise the relative error, others held.

    With ``s = len(fixed)`` the error is ``e(x) = x**s * (g(x) - h(x)) / 2**x``, ``g`` free of degree
    ``degree - s``: a weighted Chebyshev problem for ``g`` away from ``x = 0``. Its optimum alternates in the
    sign of ``g - h``, that is of ``e(x) * sign(x)**s``.
    """
    s, unknowns = len(fixed), degree + 1 - len(fixed)
    size = 2 * _GRID_PER_COEFFICIENT * (degree + 1)  # even: the Chebyshev points then avoid 0
    xs = [-mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * size)) / 2 for i in range(size)]
    power = [mpmath.mpf(2) ** x for x in xs]
    sign = [1 if x > 0 or s % 2 == 0 else -1 for x in xs]
    held = [_horner(fixed, x) / p - 1 for x, p in zip(xs, power, strict=True)]
    reference = [round(k * (size - 1) / unknowns) for k in range(unknowns + 1)]
    for _ in range(_MAX_EXCHANGES):
        system = mpmath.matrix(unknowns + 1, unknowns + 1)
        right = mpmath.matrix(unknowns + 1, 1)
        for row, i in enumerate(reference):
            for k in range(unknowns):
                system[row, k] = xs[i] ** (s + k) / power[i]
            system[row, unknowns] = -sign[i] * (-1) ** row
            right[row] = -held[i]
        solution = mpmath.lu_solve(system, right)
        free, level = [solution[k] for k in range(unknowns)], abs(solution[unknowns])
        error = [(held[i] + xs[i] ** s * _horner(free, xs[i]) / power[i]) * sign[i] for i in range(size)]
        reference = _alternation(error, unknowns + 1)
        if max(map(abs, error)) <= level * (1 + mpmath.mpf(2) ** -20):
            return free
    raise ArithmeticError(f"the exchange did not converge for degree {degree}, {s} coefficients held")


def _alternation(error: Sequence[mpmath.mpf], count: int) -> list[int]:
    """Indices of `count` extrema of alternating sign: the largest of each run of one sign, the
    least ones dropped (never the largest of all)."""
    peaks: list[int] = []
    for i, e in enumerate(error):
        if peaks and (error[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(error[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        size = [abs(error[i]) for i in peaks]
        least = size.index(min(size))
        if len(peaks) == count + 1 or least in (0, len(peaks) - 1):
            peaks.pop(0 if size[0] < size[-1] else -1)
        else:  # a peak inside goes with its lesser neighbour, or the signs would not alternate
            first = least - 1 if size[least - 1] < size[least + 1] else least
            del peaks[first : first + 2]
    if len(peaks) < count:
        raise ArithmeticError(f"{len(peaks)} alternations where {count} are needed")
    return peaks


def _horner(ascending: Sequence[mpmath.mpf | float], x: mpmath.mpf) -> mpmath.mpf:
    value = mpmath.mpf(0)
    for c in reversed(ascending):
        value = value * x + c
    return value
