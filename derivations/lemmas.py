"""Cited results. A theorem that uses one says so; each is tested on instances, none is proved here."""

from __future__ import annotations

import random

from flint import arb_mat, ctx, fmpq, fmpq_mat

from projsym.proof.theorem import Lemma
from projsym.proof.verdict import ProofError


def _vandermonde() -> None:
    """Distinct rational exponents a_j: the matrix exp(t a_j), t = 0…m−1, has a determinant ball off zero."""
    rng = random.Random(0)
    before = ctx.prec
    ctx.prec = 256
    try:
        for m in range(2, 7):
            exponents = [fmpq(p, 7) for p in rng.sample(range(-20, 21), m)]
            rows = [[(t * fmpq_mat([[x]])[0, 0]) for x in exponents] for t in range(m)]
            matrix = arb_mat([[_exp(x) for x in row] for row in rows])
            if matrix.det().contains(0):
                raise ProofError(f"independence of exponentials: determinant may vanish at {exponents}")
    finally:
        ctx.prec = before


def _exp(x: fmpq):  # type: ignore[no-untyped-def]  # python-flint ships no stubs for arb
    from flint import arb

    return arb(x).exp()


exponentials_independent = Lemma(
    "linear independence of exponentials",
    "if Σ_j exp⟨q, k_j⟩ u_j = 0 for all q and the k_j are distinct, every u_j is 0",
    "choose a direction in which the ⟨·, k_j⟩ are distinct; Vandermonde's determinant is not zero",
    _vandermonde,
)
