"""The fuzzer: no unsoundness where it looks, and rules that are planted wrong are found."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from projsym.algebra import decide, generators, normal, poly, sums
from projsym.algebra.generators import Generator, Product, make_mono, transpose
from projsym.algebra.normal import Normaliser
from projsym.algebra.poly import Mono
from projsym.algebra.theory import ALGEBRA
from projsym.proof import fuzz as fuzzing
from projsym.proof.fuzz import decided, disproved, fuzz

TERMS = 1000
"""Terms over all parts of the test below; each gives two pairs. `projsym soundness` draws more."""


@pytest.mark.parametrize("part", range(2))
def test_normal_form_and_balls_agree(part: int) -> None:
    report = fuzz(TERMS // 2, seed=10_000 * part, changes=1)
    assert report.unsound == () and report.broken == ()
    # Not vacuous: most pairs are decided one way or the other, and both kinds occur.
    assert report.proved > report.terms / 2 and report.refuted > report.terms / 2 and report.equal > 0


def test_every_rewriting_is_proved() -> None:
    """Completeness where the procedure claims it: rewritings by its own laws."""
    report = fuzz(300, seed=50_000, changes=0)
    assert report.missed == 0 and report.proved > 0


def test_a_report_is_reproducible_and_a_seed_stands_alone() -> None:
    assert fuzz(5, seed=7) == fuzz(5, seed=7)
    parts = [fuzz(1, seed=s) for s in range(7, 12)]
    assert sum(p.proved for p in parts) == fuzz(5, seed=7).proved


def lost_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that become equal by renaming are not multiplied."""

    def rename_mono(mono: Mono, names: dict[str, str]) -> Mono:
        return make_mono({g.renamed(names): e for g, e in mono})

    for module in (generators, poly, sums):
        monkeypatch.setattr(module, "rename_mono", rename_mono)


def wrong_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner product takes the absolute value of a coefficient out."""
    real = Normaliser._inner

    def inner(self: Normaliser, e, env):  # type: ignore[no-untyped-def]
        p = real(self, e, env)
        return type(p)({m: abs(c) if len(p.terms) == 1 else c for m, c in p.terms.items()})

    monkeypatch.setattr(Normaliser, "_inner", inner)


def one_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """All index sets are one."""
    monkeypatch.setattr(normal, "_set_name", lambda over: "keys")


def distribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of a product is the product of the sums."""
    real = sums._components

    def components(binders, inside, outside):  # type: ignore[no-untyped-def]
        if len(binders) == 1 and len(inside) > 1:
            for g, e in inside.items():
                yield from real(binders, {g: e}, outside)
        else:
            yield from real(binders, inside, outside)

    monkeypatch.setattr(sums, "_components", components)


def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summing twice uses one bound name."""
    monkeypatch.setattr(normal, "fresh", lambda: "%0")


def dropped_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is outside a sum is lost when it holds a sum itself."""
    real = sums._sum_mono

    def sum_mono(mono: Mono, j: str, over: str):  # type: ignore[no-untyped-def]
        return real(tuple((g, e) for g, e in mono if j in g.indices or not g.height), j, over)

    monkeypatch.setattr(sums, "_sum_mono", sum_mono)


def cleared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Denominators are dropped, not multiplied with."""

    def clear(p):  # type: ignore[no-untyped-def]
        return sum((poly.Poly({_without_poly(m): c}) for m, c in p.terms.items()), poly.ZERO)

    monkeypatch.setattr(decide, "clear", clear)


def _without_poly(mono: Mono) -> Mono:
    kept: list[tuple[Generator, Fraction]] = [(g, e) for g, e in mono if not g.key.startswith("poly")]
    return tuple(kept)


PLANTED = [lost_exponents, wrong_sign, one_set, distribute, captured, dropped_factor, cleared_once]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda p: p.__name__)
def test_a_planted_unsound_rule_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(0, 2000, 50):
        report = fuzz(50, seed=seed)
        if report.unsound:
            break
    assert report.unsound
    found = report.unsound[0]
    assert fuzz(1, seed=found.seed).unsound
    monkeypatch.undo()
    assert not decided(found.left, found.right, ALGEBRA)
    assert disproved(found.left, found.right, found.seed)[0] is not None


def test_a_wrong_evaluator_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal by construction and disproved: reported apart, as broken."""
    real = fuzzing.rewritten
    monkeypatch.setattr(fuzzing, "rewritten", lambda terms, x, scope: 2 * real(terms, x, scope))
    assert fuzz(20).broken


def test_transposing_twice_is_nothing() -> None:
    word = (("A", False), ("W", True))
    assert transpose(transpose(word)) == word
    assert Product(generators.Atom("q"), word, generators.Atom("u")) == Product(
        generators.Atom("u"), transpose(word), generators.Atom("q")
    )
