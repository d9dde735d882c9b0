"""What a row should take, from symbolic counts and the machine's measured rates.

Counted is what the kernel needs: of causal attention, the pairs that are seen. A model, not a bound: all
arithmetic at the multiply-add rate, no time for packing, memory traffic hidden behind arithmetic or the other
way round, whichever is longer. What it leaves out shows as a prediction that is too short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from projsym.bench import backward
from projsym.bench.rows import CAUSAL, IN_NUMPY, computed, multiplied
from projsym.codegen.exp2 import coefficients

H, n, m, d = sp.symbols("H n m d", positive=True, integer=True)
size = sp.Symbol("bytes", positive=True)
degree = sp.Symbol("p", positive=True, integer=True)

SLOTS = degree + 8
"""Instructions of an exponential that take a multiply-add's place: the polynomial, range reduction, scaling,
and the comparison, addition and two moves of the pair around it."""

PAIRS = H * n * m
SEEN = H * n * (n + 1) / 2
"""Pairs of query and key ``j <= i``, of as many keys as queries."""
FLOPS: dict[str, sp.Expr] = {
    "attention": 4 * PAIRS * d,
    "project": 4 * PAIRS * d,
    backward.KERNEL: 2 * backward.CONTRACTIONS * PAIRS * d,
    CAUSAL: 4 * SEEN * d,
    IN_NUMPY: 4 * PAIRS * d,
}
"""Of the contractions: two forward, seven with gradients; a multiply-add is two."""
EXPONENTIALS: dict[str, sp.Expr] = {
    "attention": PAIRS,
    "project": PAIRS,
    backward.KERNEL: 2 * PAIRS,
    CAUSAL: SEEN,
    IN_NUMPY: PAIRS,
}
BYTES: dict[str, sp.Expr] = {
    "attention": size * H * d * (2 * n + 2 * m),
    "project": size * H * d * (2 * n + m),
    backward.KERNEL: size * H * d * (6 * n + 6 * m),
    CAUSAL: size * H * d * (2 * n + 2 * m),
    IN_NUMPY: size * H * d * (2 * n + 2 * m),
}
"""Arrays read and written once: keys that are values are read once [IV.3]."""


@dataclass(frozen=True)
class Prediction:
    """Counts and time of one call."""

    flops: int
    exponentials: int
    bytes: int
    seconds: float


def flops(kernel: str, shape: tuple[int, int, int, int]) -> int:
    """Operations of the contractions that a kernel needs at a shape; KeyError for one not in `FLOPS`."""
    return int(FLOPS[kernel].subs(dict(zip((H, n, m, d), shape, strict=True))))


def predict(
    kernel: str, shape: tuple[int, int, int, int], dtype: str, fma_rate: float, bandwidth: float
) -> Prediction:
    """The prediction for a kernel of the benchmark.

    fma_rate: flops a second of all threads together. bandwidth: bytes a second of them together.
    Raises KeyError for a kernel that is not in `FLOPS`.
    """
    values: dict[Any, int] = dict(zip((H, n, m, d), shape, strict=True))
    item = {"bfloat16": 2, "float32": 4, "float64": 8}[dtype]
    values |= {size: item, degree: len(coefficients(computed(dtype))) - 1}
    operations = flops(kernel, shape)
    exponentials, traffic = (int(table[kernel].subs(values)) for table in (EXPONENTIALS, BYTES))
    # An exponential is computed in float32, and takes the place of twice as many products of bfloat16.
    width = 2 if multiplied(dtype) == "bfloat16" else 1
    arithmetic = operations + 2 * width * exponentials * int(SLOTS.subs(values))
    return Prediction(operations, exponentials, traffic, max(arithmetic / fma_rate, traffic / bandwidth))
