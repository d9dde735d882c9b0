"""Cited results. A theorem that uses one says so; each is tested on instances, none is proved here."""

from __future__ import annotations

import random

from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

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
    return arb(x).exp()


exponentials_independent = Lemma(
    "linear independence of exponentials",
    "if Σ_j exp⟨q, k_j⟩ u_j = 0 for all q and the k_j are distinct, every u_j is 0",
    "choose a direction in which the ⟨·, k_j⟩ are distinct; Vandermonde's determinant is not zero",
    _vandermonde,
)


def _roundings() -> None:
    """Exact rationals: products of r factors 1 ± u, all signs for small r and extreme ones for large."""
    u = fmpq(1, 2**11)
    for r in range(1, 40):
        gamma = r * u / (1 - r * u)
        for ups in range(r + 1):
            product = (1 + u) ** ups * (1 - u) ** (r - ups)
            if not -gamma <= product - 1 <= gamma:
                raise ProofError(f"roundings: {ups} up of {r} exceed γ")


roundings = Lemma(
    "a product of roundings",
    "a product of r factors within 1 ± u is within 1 ± γ_r, γ_r = r u/(1 − r u), if r u < 1",
    "N. J. Higham, Accuracy and Stability of Numerical Algorithms, SIAM 2002, lemma 3.1",
    _roundings,
)


def _taylor() -> None:
    """In balls for rational a of either sign, small and large."""
    before = ctx.prec
    ctx.prec = 256
    try:
        for n in range(-60, 61):
            a = arb(fmpq(n, 7) ** 3 / 100)
            e = 1 - (1 + a) * (-a).exp()
            if e < 0 or e > a * a * abs(a).exp() / 2:
                raise ProofError(f"second-order remainder at a = {a}")
    finally:
        ctx.prec = before


taylor = Lemma(
    "second-order remainder",
    "0 ≤ 1 − (1 + a) exp(−a) ≤ a² exp(|a|)/2",
    "Taylor's theorem with Lagrange's remainder for exp at −a; the left side from exp(a) ≥ 1 + a",
    _taylor,
)
