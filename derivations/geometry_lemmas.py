"""Cited results of chapter II, each tested on instances; none is proved here."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from flint import acb, arb, arb_mat, ctx, fmpq

from projsym.proof.theorem import Lemma
from projsym.proof.verdict import ProofError


def _in_balls(test: Callable[[random.Random], None]) -> Callable[[], None]:
    """A test run with 128-bit balls and a fixed seed."""

    def run() -> None:
        before = ctx.prec
        ctx.prec = 128
        try:
            test(random.Random(0))
        finally:
            ctx.prec = before

    return run


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise ProofError(what)


def _two_stages(rng: random.Random) -> None:
    """On random finite tables with fibres: the least value is the least of the fibres' least values."""
    for _ in range(50):
        table = [(rng.randrange(4), fmpq(rng.randint(-99, 99), 7)) for _ in range(12)]
        fibres = {x: min(r for y, r in table if y == x) for x, _ in table}
        _demand(min(fibres.values()) == min(r for _, r in table), "minimisation in two stages")


two_stages = Lemma(
    "minimisation in two stages",
    "min over u of A(x(u)) + r(u) is min over x of A(x) + R(x), with R(x) the least r(u) where x(u) = x",
    "R. T. Rockafellar, Convex Analysis (1970), section 5 (image of a function under a linear map)",
    _in_balls(_two_stages),
)


def _decay(rng: random.Random) -> None:
    """``exp(−g/2σ²) ≤ 2σ²/g`` in balls for σ falling over eight decades."""
    for _ in range(20):
        g = arb(fmpq(rng.randint(1, 99), rng.randint(1, 99)))
        for n in range(9):
            s = arb(fmpq(2, 10**n)) ** 2
            _demand((-g / (2 * s)).exp() < 2 * s / g, f"elementary decay at g = {g}, σ² = {s}")


decay = Lemma(
    "elementary decay",
    "exp(−g/2σ²) < 2σ²/g for g > 0, so it tends to 0 with σ; finite sums of such terms do too",
    "from exp(x) > x",
    _in_balls(_decay),
)


def _mean_of_gaussian(rng: random.Random) -> None:
    """Rigorous integrals of a one-dimensional Gaussian with and without the factor x, on a wide interval."""
    for _ in range(3):
        c, s = fmpq(rng.randint(-20, 20), 10), fmpq(rng.randint(5, 20), 10)

        def weight(x: acb, _: bool, c: fmpq = c, s: fmpq = s) -> acb:
            return (-((x - c) ** 2) / (2 * s)).exp()

        below, above = acb(c - 40), acb(c + 40)
        mass = acb.integral(weight, below, above)
        first = acb.integral(lambda x, a: x * weight(x, a), below, above)
        _demand((first / mass).real.overlaps(arb(c)) and mass.real > 0, f"mean of a Gaussian at {c}")
        _demand((first / mass).real.rad() < 1e-20, "the integral is too wide to mean anything")


mean_of_gaussian = Lemma(
    "mean of a Gaussian",
    "∫ k exp(−½⟨(k − c)Λ, k − c⟩) dk = c ∫ exp(−½⟨(k − c)Λ, k − c⟩) dk for Λ symmetric positive definite",
    "the reflection k → 2c − k keeps the weight",
    _in_balls(_mean_of_gaussian),
)


def _convolution(rng: random.Random) -> None:
    """In one dimension: ``N(μ, λ) * N(0, s)`` at q is the density of N(μ, λ + s), by rigorous integration."""
    for _ in range(3):
        mu, at = (fmpq(rng.randint(-9, 9), 5) for _ in range(2))
        lam, s = (fmpq(rng.randint(2, 20), 10) for _ in range(2))

        def product(x: acb, _: bool, mu: fmpq = mu, at: fmpq = at, lam: fmpq = lam, s: fmpq = s) -> acb:
            return (-((x - mu) ** 2) / (2 * lam) - (x - at) ** 2 / (2 * s)).exp()

        got = acb.integral(product, acb(mu - 60), acb(mu + 60)).real
        got /= 2 * arb.pi() * (arb(lam) * s).sqrt()
        want = (-(arb(at - mu) ** 2) / (2 * (lam + s))).exp() / (2 * arb.pi() * (lam + s)).sqrt()
        _demand(got.overlaps(want) and got.rad() < 1e-20, f"convolution of Gaussians at q = {at}")


convolution = Lemma(
    "convolution of Gaussians",
    "the density of keys N(μ, Σ) smoothed by the kernel exp(−‖·‖²/2σ²) is that of N(μ, Σ + σ² 1)",
    "H. Cramér, Mathematical Methods of Statistics (1946), section 24",
    _in_balls(_convolution),
)


def bessel_ratio(κ: arb) -> arb:
    """``I₁(κ)/I₀(κ)``, κ > 0."""
    return κ.bessel_i(1) / κ.bessel_i(0)


def _circle(rng: random.Random) -> None:
    """The mean of cos under exp(κ cos) by rigorous integration, and the pull inside at κ = ρ²/σ²."""
    for _ in range(3):
        κ = arb(fmpq(rng.randint(1, 80), 10))

        def weight(t: acb, _: bool, κ: arb = κ) -> acb:
            return (κ * t.cos()).exp()

        mass = acb.integral(weight, acb(0), acb.pi()).real
        first = acb.integral(lambda t, a: t.cos() * weight(t, a), acb(0), acb.pi()).real
        _demand((first / mass).overlaps(bessel_ratio(κ)), f"circle at κ = {κ}")
    for n in range(3, 7):
        κ = arb(10) ** n
        _demand(abs((1 - bessel_ratio(κ)) * 2 * κ - 1) < 1 / κ, f"pull inside a circle at κ = {κ}")


circle = Lemma(
    "mean of a von Mises density",
    "∫ cos t exp(κ cos t) dt / ∫ exp(κ cos t) dt = I₁(κ)/I₀(κ) = 1 − 1/2κ + O(1/κ²)",
    "NIST Digital Library of Mathematical Functions, 10.32.3 and 10.40.1",
    _in_balls(_circle),
)


def _onto(rng: random.Random) -> None:
    """Keys at the corners of a triangle: Newton's method finds a query for every inner point tried."""
    corners = ((0, 0), (3, 0), (1, 2))
    for _ in range(5):
        parts = [fmpq(rng.randint(1, 9)) for _ in corners]
        mass = sum(parts, fmpq(0))
        goal = [sum((p * c[n] for p, c in zip(parts, corners, strict=True)), fmpq(0)) / mass for n in (0, 1)]
        # The scores log u_j, minus those at the first corner, are a linear system for the query.
        rows = arb_mat([[x - corners[0][0], y - corners[0][1]] for x, y in corners[1:]])
        half = [arb(fmpq(x * x + y * y, 2)) for x, y in corners]
        right = arb_mat(
            [[arb(p / parts[0]).log() + b - half[0]] for p, b in zip(parts[1:], half[1:], strict=True)]
        )
        query = rows.solve(right)
        scores = [
            (query[0, 0] * x + query[1, 0] * y - b).exp() for (x, y), b in zip(corners, half, strict=True)
        ]
        for n in (0, 1):
            mean = sum((s * c[n] for s, c in zip(scores, corners, strict=True)), arb(0)) / sum(scores, arb(0))
            _demand(mean.overlaps(arb(goal[n])), f"no query for the inner point {goal}")


onto_interior = Lemma(
    "range of the mean map",
    "the gradient of log Σ_j exp(⟨q, k_j⟩ + b_j) takes every value in the relative interior of the hull of "
    "the k_j, and no other",
    "O. Barndorff-Nielsen, Information and Exponential Families (1978), section 9.1; "
    "M. Wainwright and M. Jordan (2008), theorem 3.3",
    _in_balls(_onto),
)


def _duality(rng: random.Random) -> None:
    """Random vectors of the plane: no unit vector's product exceeds the norm, and one attains it."""
    for _ in range(20):
        x, y = (arb(fmpq(rng.randint(1, 99), 7)) for _ in range(2))
        norm = (x * x + y * y).sqrt()
        for _ in range(5):
            t = fmpq(rng.randint(-99, 99), 50)
            a, b = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
            _demand(not (a * x + b * y > norm), "the norm by duality")
        _demand((x / norm * x + y / norm * y).overlaps(norm), "the norm is attained")


norm_by_duality = Lemma(
    "norm by duality",
    "‖x‖ is the largest ⟨x, h⟩ over unit vectors h; ‖A‖ is the largest ⟨h, A h⟩ for A symmetric and "
    "positive semidefinite",
    "A. Cauchy, Cours d'analyse (1821), note II; Courant and Fischer for the second",
    _in_balls(_duality),
)


def _linear_rate(rng: random.Random) -> None:
    """Keys ±b, σ = 1: ratios of successive errors of x → b tanh(b x) approach its slope at the mode."""
    for _ in range(3):
        b = arb(fmpq(rng.randint(12, 30), 10))
        mode = b
        for _ in range(400):
            mode = b * arb(float((b * mode).tanh().mid()))
        slope = b * b * (1 - (b * mode).tanh() ** 2)
        x = arb(fmpq(1, 2)) * b
        errors = []
        for _ in range(12):
            x = b * (b * x).tanh()
            errors.append(abs(float((x - mode).mid())))
        ratios = [after / e for e, after in pairwise(errors) if e > 1e-9]
        _demand(abs(ratios[-1] - float(slope.mid())) < 0.05, f"rate of convergence at b = {b}")


linear_rate = Lemma(
    "rate of a fixed-point iteration",
    "an iteration of a map that is continuously differentiable near a fixed point, where its derivative has "
    "spectral radius r < 1, converges to it from nearby, linearly at the rate r",
    "A. M. Ostrowski, Solution of Equations and Systems of Equations (1960), chapter 22; S. Banach, Fund. "
    "Math. 3 (1922) for a contraction from anywhere",
    _in_balls(_linear_rate),
)
