"""Chapter II: which kind of argument each theorem is, and its figures by independent routes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import sympy as sp
from flint import arb, ctx, fmpq

from projsym.derivations.geometry import P, projection, q
from projsym.derivations.geometry_bounds import TWO
from projsym.derivations.geometry_gaussian import derived_by_integration
from projsym.derivations.geometry_limits import covariance, nearest, wide, β
from projsym.proof import ledger
from projsym.proof.evaluate import Evaluator
from projsym.proof.oracle import free_indices
from projsym.proof.prove import lemmas, prove
from projsym.proof.refusal import At
from projsym.proof.theorem import REGISTRY, Certificate, Kind, Theorem
from projsym.proof.verdict import Proved

CHAPTER = [t for t in ledger.select()[0] if t.id.startswith("II.")]
I, C, KL = Kind.IDENTITY, Kind.CERTIFICATE, Kind.KL_CERTIFICATE
EXPECTED = {
    "II.1": I, "II.1d": KL, "II.1e": I, "II.2": I, "II.2p": C, "II.2q": C, "II.2s": I, "II.2v": I,
    "II.3": I, "II.3c": KL, "II.4": KL, "II.4f": KL, "II.4d": I, "II.4m": C, "II.4p": KL,
    "II.5": Kind.LIMIT, "II.5b": C, "II.5d": Kind.COEFFICIENT, "II.5e": Kind.COEFFICIENT, "II.5m": I,
    "II.5t": Kind.LIMIT, "II.5u": C, "II.5w": Kind.COEFFICIENT,
    "II.6": Kind.LEMMA, "II.6c": I, "II.6e": I, "II.6t": Kind.LEMMA,
    "II.7": I, "II.7b": C, "II.7m": I, "II.7c": Kind.CONTRAPOSITION, "II.7k": I, "II.7w": I,
    "II.8": Kind.LEMMA, "II.8b": I, "II.8c": Kind.LEMMA, "II.8h": C, "II.8n": C, "II.8s": C,
    "II.9": C, "II.9d": C, "II.9m": C, "II.9r": I, "II.9s": I, "II.9t": I, "II.9w": C,
    "II.10": I, "II.10o": I, "II.10p": I, "II.10s": I,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _precision() -> object:
    before = ctx.prec
    ctx.prec = 256
    yield
    ctx.prec = before


def value(term: object, at: At) -> list[arb]:
    return Evaluator(at.instance(), free_indices([term]))(term)  # type: ignore[no-any-return]


def test_every_statement_has_its_kind_of_argument() -> None:
    assert {t.id: t.kind for t in CHAPTER} == EXPECTED
    assert {f"II.{n}" for n in range(1, 11)} <= EXPECTED.keys()
    assert all(lemmas(t) for t in CHAPTER if t.kind in (KL, Kind.LIMIT, Kind.LEMMA))
    assert set(EXPECTED.values()) == set(Kind), "each kind is used"


def test_series_of_refusals_sort_together() -> None:
    ids = ["VI.v2", "VI.g10", "VI.g9", "VI.2", "II.10s", "II.10", "II.9"]
    ordered = ["II.9", "II.10", "II.10s", "VI.2", "VI.g9", "VI.g10", "VI.v2"]
    assert sorted(ids, key=ledger.order) == ordered


def test_gaussian_keys_by_integration() -> None:
    """SymPy's integral of the one-dimensional Gaussian is the Wiener filter of II.6."""
    by_integration, wiener = derived_by_integration()
    assert sp.cancel(sp.together(by_integration - wiener)) == 0
    assert len(wiener.free_symbols) == 4


def test_the_worked_case_of_two_keys() -> None:
    """Keys ±1, σ² = ½: P(1) = tanh 2 and P(P(1)) = tanh(2 tanh 2), neither a key nor a fixed point."""
    once, twice = value(P, TWO)[0], value(projection(P), TWO)[0]
    assert once.overlaps(arb(2).tanh()) and twice.overlaps((2 * arb(2).tanh()).tanh())
    assert abs(once - fmpq(9640, 10**4)) < fmpq(1, 2 * 10**4) and abs(twice - fmpq(9586, 10**4)) < fmpq(
        1, 2 * 10**4
    )


KEYS_1D = [fmpq(0), fmpq(1, 2), fmpq(3), fmpq(-2, 3)]


@pytest.mark.parametrize("exponent", [4, 8, 16])
def test_the_coefficient_is_the_slope_at_zero(exponent: int) -> None:
    """|P(β) − P(0) − β P'| ≤ ½ β² diam(K) range(scores)²: the second derivative is a third cumulant."""
    b, x = fmpq(1, 2**exponent), fmpq(7, 5)
    slope = REGISTRY["II.5w"].last
    at = [
        At({"q": (x,)}, {"k": [(y,) for y in KEYS_1D]}, {"β": beta}, dimensions={"E": 1})
        for beta in (b, fmpq(0))
    ]
    (far,), (near,), (rate,) = value(wide, at[0]), value(wide, at[1]), value(slope, at[0])
    scores = [(x - y) ** 2 / 2 for y in KEYS_1D]
    spread = max(scores) - min(scores)
    remainder = b * b / 2 * (max(KEYS_1D) - min(KEYS_1D)) * spread**2
    assert abs(far - near - b * rate) < arb(remainder)
    (naive,) = value(covariance(q), at[0])
    if exponent == 16:
        assert abs(far - near - b * naive) > arb(remainder), "the bound tells the two apart"
    assert β in wide.free_symbols


def test_the_nearest_key_is_approached_at_the_stated_rate() -> None:
    """‖P − k_i‖ ≤ Σ' e_l ‖k_l − k_i‖ with e_l < 2σ²/gap_l (II.5's lemma); the first key is nearest to 0."""
    first, others = (0, fmpq(1, 2)), [(2, 0), (0, 3), (-1, -1)]
    gaps = [fmpq(x * x + y * y) - fmpq(1, 4) for x, y in others]
    lengths = [(arb(x) ** 2 + (arb(y) - arb(first[1])) ** 2).sqrt() for x, y in others]
    away = []
    for s in (fmpq(1), fmpq(1, 2), fmpq(1, 4)):
        instance = At({"q": (0, 0)}, scalars={"sigma": s}, dimensions={"E": 2}, sizes={"J": 4}).instance()
        for place, key in enumerate([first, *others]):
            instance.drawn["k", ("J", place)] = [arb(x) for x in key]
        out = Evaluator(instance, free_indices([nearest]))(nearest)
        away.append((out[0] ** 2 + (out[1] - arb(first[1])) ** 2).sqrt())
        bound = sum((2 * s * s / g * n for g, n in zip(gaps, lengths, strict=True)), arb(0))
        assert away[-1] < bound
    assert away[2] < away[1] < away[0]


def _mean(scores: list[arb], values: list[int]) -> arb:
    w = [s.exp() for s in scores]
    return sum((x * y for x, y in zip(w, values, strict=True)), arb(0)) / sum(w, arb(0))


def _moved(scores: list[fmpq], signs: tuple[int, ...], δ: fmpq, values: list[int]) -> arb:
    after = [arb(s + sign * δ) for s, sign in zip(scores, signs, strict=True)]
    return abs(_mean(after, values) - _mean([arb(s) for s in scores], values))


def test_no_adversary_beats_the_perturbation_bound_and_one_meets_it() -> None:
    """All signs of moves, all values 0 and 1, score gaps on a grid that holds the worst one (gap δ)."""
    δ = fmpq(1, 2)
    bound = (arb(δ) / 2).tanh()
    best = arb(0)
    grid = [fmpq(n, 2) for n in range(-2, 3)]
    for m in (2, 3):
        for scores in product(grid, repeat=m - 1):
            for signs in product((-1, 1), repeat=m):
                for values in product((0, 1), repeat=m - 1):
                    moved = _moved([fmpq(0), *scores], signs, δ, [1, *values])
                    assert not moved > bound
                    best = best.max(moved)
    assert best.overlaps(bound) and best.rad() < 1e-60


@pytest.mark.parametrize("theorem", [t for t in CHAPTER if t.certificate], ids=lambda t: t.id)
def test_no_certificate_proves_the_reverse(theorem: Theorem) -> None:
    assert theorem.certificate is not None
    c = theorem.certificate
    turned = replace(theorem, certificate=Certificate(c.smaller, c.larger))
    assert not isinstance(prove(turned, instances=1).verdict, Proved)
