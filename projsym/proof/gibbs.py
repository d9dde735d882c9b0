"""Gibbs' inequality, the one lemma that a KL certificate rests on."""

from __future__ import annotations

import random
from typing import Any

from flint import arb, ctx, fmpq

from .theorem import Lemma
from .verdict import ProofError


def _try() -> None:
    """Random rational distributions: the divergence's ball is positive, and contains 0 for equal ones."""
    rng = random.Random(0)
    before = ctx.prec
    ctx.prec = 256
    try:
        for m in range(2, 8):
            u, w = ([fmpq(rng.randint(1, 99)) for _ in range(m)] for _ in range(2))
            if m == 7:
                w = [x + fmpq(1, 10**20) * n for n, x in enumerate(u)]
            u, w = ([x / sum(f, fmpq(0)) for x in f] for f in (u, w))
            if u != w and not _divergence(u, w) > 0:
                raise ProofError(f"Gibbs' inequality: the divergence may not be positive at {u}, {w}")
            if not _divergence(u, u).contains(0):
                raise ProofError(f"Gibbs' inequality: the divergence of {u} from itself is not 0")
    finally:
        ctx.prec = before


def _divergence(u: list[Any], w: list[Any]) -> Any:
    return sum((arb(a) * (arb(a) / arb(b)).log() for a, b in zip(u, w, strict=True)), arb(0))


GIBBS = Lemma(
    "Gibbs' inequality",
    "Σ_j u_j log(u_j/w_j) ≥ 0 for positive weights that each add to 1, with equality only for u = w",
    "J. W. Gibbs, Elementary Principles in Statistical Mechanics (1902), ch. XI; from log x ≤ x − 1",
    _try,
)
