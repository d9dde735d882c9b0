"""Midpoint–radius arithmetic on NumPy arrays: a running error bound beside the computed value.

A `Ball` holds `mid`, the value that floating point computed, and `rad`, an entrywise upper bound of its
distance from the exact value of the same expression at the same inputs. Run a formula on balls and the
middle is the ordinary result; the radius is its proven error.

What is guaranteed. With u the unit roundoff of mid's dtype and γ_n = n·u/(1−n·u): a product of inner length n
errs by at most γ_n |X||Y| whatever the order of summation, fused or not (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., §3.1); sums and products of numbers by u times the result; underflow by the
smallest normal number. Softmax averages use [II.9]. Radii are float64, computed from non-negative terms and
inflated by more than their own rounding.

What it assumes and cannot see: IEEE arithmetic rounded to nearest, a matrix product of the conventional kind
(not Strassen's), and an exp with relative error below `EXP_ULPS` units u (NumPy's are below two).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXP_ULPS", "Ball", "gamma", "softmax_average"]

Array = NDArray[Any]
Radius = NDArray[np.float64]

EXP_ULPS = 8
_U64 = 2.0**-53


def gamma(n: int, unit: float) -> float:
    """γ_n = n·u / (1 − n·u), the relative error of n rounded operations; needs n·u < 1."""
    if not n * unit < 1:
        raise ValueError(f"n: got {n} operations at unit roundoff {unit}; the bound needs n·unit < 1")
    return n * unit / (1 - n * unit)


def _up(radius: Any, operations: int) -> Radius:
    """Inflate a computed non-negative radius by more than the rounding made in computing it."""
    return np.asarray(radius * (1 + 4 * (operations + 16) * _U64), dtype=np.float64)


def _wide(x: Array) -> Radius:
    return np.abs(x).astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False)
class Ball:
    """mid: float32 or float64, any shape; rad: float64 of the same shape, >= 0."""

    mid: Array
    rad: Radius

    __array_ufunc__ = None

    @classmethod
    def exact(cls, value: Any) -> Ball:
        mid = np.asarray(value)
        return cls(mid, np.zeros(mid.shape))

    @property
    def unit(self) -> float:
        return float(np.finfo(self.mid.dtype).eps) / 2

    @property
    def tiny(self) -> float:
        return float(np.finfo(self.mid.dtype).smallest_normal)

    @property
    def mT(self) -> Ball:
        return Ball(self.mid.mT, self.rad.mT)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    def __getitem__(self, index: Any) -> Ball:
        return Ball(self.mid[index], self.rad[index])

    def reshape(self, *shape: int) -> Ball:
        return Ball(self.mid.reshape(*shape), self.rad.reshape(*shape))

    def widen(self, extra: Any) -> Ball:
        """The same middle with a radius larger by extra >= 0 (a known difference of exact values)."""
        return Ball(self.mid, _up(self.rad + extra, 1))

    @property
    def magnitude(self) -> Radius:
        """An upper bound of the exact absolute value."""
        return _up(_wide(self.mid) + self.rad, 1)

    def __matmul__(self, other: Ball) -> Ball:
        n = self.shape[-1]
        left, right = _wide(self.mid), _wide(other.mid)
        g = gamma(n, self.unit)
        radius = left @ (g * right + other.rad) + n * self.tiny
        if self.rad.any():
            radius = radius + self.rad @ (right + other.rad)
        return Ball(self.mid @ other.mid, _up(radius, n))

    def __add__(self, other: Ball) -> Ball:
        mid = self.mid + other.mid
        return Ball(mid, _up(self.rad + other.rad + self.unit * _wide(mid), 3))

    def __mul__(self, other: Ball) -> Ball:
        mid = self.mid * other.mid
        radius = _wide(self.mid) * other.rad + self.rad * (_wide(other.mid) + other.rad)
        return Ball(mid, _up(radius + self.unit * _wide(mid) + self.tiny, 5))


def softmax_average(scores: Ball, values: Ball) -> tuple[Ball, Array]:
    """Σ_j softmax_j(scores) values_j, and the computed weights; (..., n, m), (..., m, c) -> (..., n, c).

    The radius is the sum of four moves, one column c of the values at a time: scores by at most δ, which
    includes the rounding of s − max s and of exp, moves the average by diam_c tanh(δ/2) [II.9]; values by
    their largest radius; weights that underflow; and the rounding of the two sums and the quotient, γ_{3m+2}.
    """
    count = scores.shape[-1]
    shifted = scores.mid - scores.mid.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    weights = e / total
    mid = (e @ values.mid) / total

    unit = scores.unit
    moved = scores.rad + unit * _wide(shifted) + gamma(EXP_ULPS, unit)
    delta = _up(moved.max(axis=-1, keepdims=True), 4)
    high = (values.mid.astype(np.float64) + values.rad).max(axis=-2, keepdims=True)
    low = (values.mid.astype(np.float64) - values.rad).min(axis=-2, keepdims=True)
    spread = (high - low) + 4 * _U64 * (np.abs(high) + np.abs(low))
    size = (e.astype(np.float64) @ _wide(values.mid)) / total.astype(np.float64)
    radius = (
        spread * (np.tanh(delta / 2) + 2 * count * scores.tiny)
        + values.rad.max(axis=-2, keepdims=True)
        + gamma(3 * count + 2, unit) * (1 + gamma(2 * count + 2, unit)) * size
        + scores.tiny
    )
    return Ball(mid, _up(radius, count)), weights
