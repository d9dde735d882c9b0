"""Means of a few paired differences, with Student's interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mpmath

__all__ = ["CONFIDENCE", "Interval", "mean_interval", "paired", "student_quantile"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean of `count` numbers and Student's 95 % interval; low = high = None for a single number.

    The interval takes the numbers for independent draws of a normal distribution, which seeds are at best
    approximately; with five of them no more can be had.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def beyond_noise(self) -> bool | None:
        """Whether 0 lies outside; None where there is no interval."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 0 <= self.high

    def text(self, digits: int = 3) -> str:
        """``-0.012 [-0.020, -0.004]``, or the bare mean of a single number."""
        if self.low is None or self.high is None:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def student_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """t with P(|T| ≤ t) = confidence for Student's distribution, by bisection on the incomplete beta."""
    if freedom < 1 or not 0 < confidence < 1:
        raise ValueError(f"freedom: given {freedom}, confidence {confidence}; allowed: ≥ 1, and in (0, 1)")

    def outside(t: float) -> float:
        x = freedom / (freedom + t * t)
        return float(mpmath.betainc(freedom / 2, 0.5, 0, x, regularized=True))

    low, high = 0.0, 1.0
    while outside(high) > 1 - confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) > 1 - confidence else (low, middle)
    return high


def mean_interval(numbers: Sequence[float]) -> Interval:
    """The interval of the mean. ValueError without numbers or with one that is not finite."""
    if not numbers or not all(math.isfinite(x) for x in numbers):
        raise ValueError(f"numbers: given {list(numbers)}; allowed: at least one, all finite")
    count = len(numbers)
    mean = math.fsum(numbers) / count
    if count == 1:
        return Interval(mean, None, None, 1)
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (count - 1) / count)
    half = student_quantile(count - 1) * error
    return Interval(mean, mean - half, mean + half, count)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """Interval of first − second over equal seeds. ValueError unless both have the same seeds."""
    if set(first) != set(second):
        raise ValueError(f"seeds: given {sorted(first)} and {sorted(second)}; allowed: the same in both")
    return mean_interval([first[seed] - second[seed] for seed in sorted(first)])
