"""Single-node mutants of every theorem: none is accepted by the normal form and disproved by balls."""

from __future__ import annotations

import pytest
import sympy as sp

from projsym.algebra import generators, normal
from projsym.algebra.normal import Normaliser
from projsym.algebra.scalars import inner, norm2
from projsym.algebra.terms import LinearMap, VectorSymbol
from projsym.proof import ledger
from projsym.proof.edits import edits
from projsym.proof.laws import adjoint, polarization
from projsym.proof.mutants import accepted, kill, mutants, refuted
from projsym.proof.theorem import Theorem, build, by

THEOREMS = ledger.select()[0]
LIMIT, LIMIT_OF_LONG = 40, 10
"""Mutants for each theorem, drawn with a fixed seed; `projsym soundness --mutants 0` tries all."""
LONG = ("IV.6b/", "IV.6lb/", "V.3b")
"""Theorems of gradients and of a mixture: one mutant of theirs takes the time of ten others."""


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: t.id)
def test_no_mutant_is_accepted_and_disproved(theorem: Theorem) -> None:
    limit = LIMIT_OF_LONG if theorem.id.startswith(LONG) else LIMIT
    report = kill(theorem, limit)
    assert report.unsound == ()
    assert report.killed > 0
    assert report.total == min(limit, report.possible)


def test_a_killed_mutant_is_accepted_by_no_step() -> None:
    theorem = next(t for t in THEOREMS if t.id == "I.4")
    found = [m for m in mutants(theorem) if refuted(m) is not None]
    assert len({m.line for m in found}) == 3
    assert all(accepted(m) is None for m in found)
    assert {len(m.steps) for m in found} == {1, 2}


def test_an_equivalent_mutant_is_accepted() -> None:
    """In I.3 a constant of the scores may change at will: softmax does not see it."""
    report = kill(next(t for t in THEOREMS if t.id == "I.3"))
    assert report.equivalent > 0 and report.killed > 0 and report.unsound == ()


def test_a_lost_transpose_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that moves to the other side of an inner product must be transposed."""
    q, u, w = VectorSymbol("q"), VectorSymbol("u"), LinearMap("A")
    lines = [inner(q @ w, u), (by(adjoint), inner(q, u @ w.T))]
    theorem = build("t", "adjoint", (), lambda: iter(lines))
    assert kill(theorem).unsound == ()
    for module in (generators, normal):
        monkeypatch.setattr(module, "transpose", lambda word: tuple(reversed(word)))
    assert kill(theorem).unsound


def test_an_unsound_normal_form_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants with a wrong sign are caught when the inner product loses signs."""
    real = Normaliser._inner

    def inner_(self, e, env):  # type: ignore[no-untyped-def]
        p = real(self, e, env)
        return type(p)({m: abs(c) for m, c in p.terms.items()})

    monkeypatch.setattr(Normaliser, "_inner", inner_)
    q, u = VectorSymbol("q"), VectorSymbol("u")
    lines = [norm2(q + u), (by(polarization), norm2(q) + norm2(u) + 2 * inner(q, u))]
    assert kill(build("t", "square", (), lambda: iter(lines))).unsound


def test_edits_are_well_typed_and_different() -> None:
    q, u = VectorSymbol("q"), VectorSymbol("u")
    c = sp.Symbol("c", real=True)
    term = sp.exp(c * inner(q, u)) / (1 + norm2(q))
    made = list(edits(term))
    labels = {label for label, _ in made}
    assert {"exp to identity", "drop an operand", "flip a sign", "q to u", "one side twice"} <= labels
    assert all(changed != term for _, changed in made)
