"""What a kernel of any weight function may return: an enclosure by the standard model of rounding.

u is the unit roundoff, g = (d + 16) u/(1 − (d + 16) u) bounds an inner product of d terms relative to the sum
of the absolute values of its terms (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1), with the
elementwise operations around it. Inner products enter the weight function as balls of that radius, so the
ball of a weight contains what any order of evaluation gives; every weight then gets a relative error of
``exp(g (|s| + max |s|)) (1 + ε)^(2 + blocks) (1 + 16 u)`` with its exponent s and the exponential's
error ε, for rescaling by the running maximum. Sums of m terms add (m + 8) u of their absolute values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flint import arb

Weight = Callable[[arb, arb, arb, arb], tuple[arb, arb]]
"""From ⟨q,k⟩, ‖q‖², ‖k‖² and the bias: the exponent, and the factor beside its exponential."""


@dataclass(frozen=True)
class Enclosed:
    """Balls for each query: the components of the mean, and the log-sum-exp."""

    out: list[list[arb]]
    lse: list[arb]

    def contains(self, out: np.ndarray, lse: np.ndarray) -> bool:
        """Whether every number is in its ball."""
        rows = zip(self.out, out, strict=True)
        inside = all(
            b.contains(arb(float(x))) for balls, row in rows for b, x in zip(balls, row, strict=True)
        )
        return inside and all(b.contains(arb(float(x))) for b, x in zip(self.lse, lse, strict=True))


def enclosure(
    weight: Weight, q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray, ε: float, blocks: int
) -> Enclosed:
    """The enclosure for inputs (n, d), (m, d), (m, d_v), (m,) of one dtype."""
    u, (m, d) = float(np.finfo(q.dtype).eps) / 2, k.shape
    g = (d + 16) * u / (1 - (d + 16) * u)

    def product(a: np.ndarray, b: np.ndarray) -> arb:
        pairs = [arb(float(x)) * arb(float(y)) for x, y in zip(a, b, strict=True)]
        size = sum((abs(p) for p in pairs), arb(0))
        return sum(pairs, arb(0)) + arb(0, float((g * size).abs_upper()))

    outs, sums = [], []
    for row in q:
        made = [
            weight(product(row, key), product(row, row), product(key, key), arb(float(b)))
            for key, b in zip(k, bias, strict=True)
        ]
        top = max(float(abs(s).abs_upper()) for s, _ in made)
        spread = arb(0, g * 2 * top).exp() * (1 + arb(0, ε)) ** (2 + blocks) * (1 + arb(0, 16 * u))
        w = [s.exp() * f * spread for s, f in made]
        z = sum(w, arb(0)) * (1 + arb(0, (m + 8) * u))
        columns = zip(*v.tolist(), strict=True)
        mean = []
        for column in columns:
            terms = [a * arb(x) for a, x in zip(w, column, strict=True)]
            size = sum((abs(t) for t in terms), arb(0))
            mean.append((sum(terms, arb(0)) + size * arb(0, (m + 8) * u)) / z * (1 + arb(0, 4 * u)))
        outs.append(mean)
        log = z.log()
        sums.append(log + (abs(log) + top) * arb(0, 8 * u))
    return Enclosed(outs, sums)
