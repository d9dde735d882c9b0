"""What ``tanh2`` of a kernel is and loses, proved by ball arithmetic on top of the exponential's certificate.

The C of ``tanh2(z) = 1 - 2/(1 + 2**z)`` [IV.4t] takes the power of two of ``min(z, 100)``, adds one, divides
and subtracts: three more roundings. With ``E`` the exact power of two and `rho` the relative error of the
computed one, the quotient ``R = 2/(1 + E)`` is off by a factor ``1/(1 + s rho)``, ``s = E/(1 + E)``, and two
roundings, and the difference ``1 - R`` by one more. The bound is the largest of these over subintervals of
``[-REACH, REACH]`` on which ``E`` is a ball. Beyond: above, both quotients lie between 0 and
``2**(2 - REACH)`` (the clamp at 100 included), so the result is within one rounding of 1 and that much;
below, ``E`` is less than half a unit roundoff and ``1 + E`` rounds to 1, so the result is -1, off by at most
``2 E``.

The error is absolute: near zero ``1 - R`` cancels, and nothing is said relative to ``tanh2(z)`` itself. It is
of the function at the *computed* argument ``z``; rounding of the argument is the caller's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

from flint import arb, ctx, fmpq

from projsym.codegen.exp2 import certificate as exp2_certificate

REACH: Final = 64
_PIECES: Final = 4096
_BITS: Final = 200

C = """\
/* tanh(x*log(2)/2) as 1 - 2/(1 + 2^x), to an absolute error; 1 where 2^x would overflow, NaN for NaN */
INLINE V TANH2(V x) { return SET1((T)1) - SET1((T)2)/(SET1((T)1) + EXP2_SMALL(MIN(SET1((T)100), x))); }"""
"""The C of ``TANH2``, after the prelude."""


@dataclass(frozen=True)
class Certificate:
    """Proven bound on the absolute error of ``tanh2`` at a float argument, rounded upwards."""

    dtype: str
    error: float


@cache
def certificate(dtype: str) -> Certificate:
    """The bound for ``"float32"`` or ``"float64"``; it holds with and without fused multiply-adds.

    It cannot see a compiled kernel that does other operations (tests measure that), or another ``tanh``, such
    as NumPy's. Raises ValueError for another dtype.
    """
    exponential = exp2_certificate(dtype)
    with ctx.workprec(_BITS):
        u, rho = arb(exponential.unit_roundoff), arb(exponential.worst)
        worst = float((u + arb(2) ** (2 - REACH)).upper())
        for piece in range(_PIECES):
            centre = fmpq(REACH * (2 * piece + 1 - _PIECES), _PIECES)
            power = arb(2) ** (arb(centre) + arb(0, fmpq(REACH, _PIECES)))
            quotient, share = 2 / (1 + power), power / (1 + power)
            off = quotient * ((1 + u) / ((1 - u) * (1 - share * rho)) - 1)
            rounded = u * (abs(1 - quotient) + off)
            worst = max(worst, float((off + rounded).upper()))
    return Certificate(dtype, math.nextafter(worst, math.inf))
