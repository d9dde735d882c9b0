"""Building and proving: what a step may cite, and what becomes of a wrong one."""

from __future__ import annotations

import sys

import pytest
import sympy as sp

from projsym.algebra.poly import ZERO
from projsym.algebra.scalars import ScalarFamily, inner, norm2, softmax, total
from projsym.algebra.sets import index
from projsym.algebra.terms import VectorFamily, VectorSymbol, ZeroVector
from projsym.proof.hypotheses import Equation, equal_norms
from projsym.proof.laws import (
    bilinearity,
    distributivity,
    exponential_law,
    polarization,
    shift_invariance,
)
from projsym.proof.prove import decide, prove, require
from projsym.proof.theorem import build, by, shown
from projsym.proof.verdict import ProofError, Proved, Refuted, Unknown

q, u, k = VectorSymbol("q"), VectorSymbol("u"), VectorFamily("k")
a, j = ScalarFamily("a"), index("j")
c = sp.Symbol("c", real=True)
norms = equal_norms(k)


def chain(*lines, given=()):  # type: ignore[no-untyped-def]
    return build("t", "a title", given, lambda: iter(lines))


def test_a_step_may_only_cite_what_is_given() -> None:
    with pytest.raises(ValueError, match="cites 'equal norms', which is not given"):
        chain(norm2(k[j]), (by(norms), sp.S.One))
    equation = Equation("e", "e", q, u, lambda instance: None)
    with pytest.raises(ValueError, match="cites 'e', which is not given"):
        chain(q, (by(equation), u))


def test_a_step_cites_laws_and_hypotheses() -> None:
    with pytest.raises(TypeError, match="must cite"):
        by()
    with pytest.raises(TypeError, match="not 'polarization'"):
        by("polarization")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scalar with a vector"):
        chain(q, (by(bilinearity), c))
    with pytest.raises(ValueError, match="at least one step"):
        chain(q)


def test_the_wrong_law_does_not_prove_a_true_step() -> None:
    t = chain(inner(q, u), (by(exponential_law), (norm2(q) + norm2(u) - norm2(q - u)) / 2))
    proof = prove(t)
    assert isinstance(proof.verdict, Unknown) and isinstance(proof.steps[0].verdict, Unknown)
    with pytest.raises(ProofError, match=r"steps by: exponential law"):
        require(t)
    assert isinstance(prove(chain(t.first, (by(polarization), t.last))).verdict, Proved)


def test_a_false_step_is_refuted_with_a_witness() -> None:
    t = chain(inner(q, u), (by(polarization), (norm2(q) + norm2(u) - norm2(q - u))))
    proof = prove(t)
    assert isinstance(proof.verdict, Refuted) and isinstance(proof.steps[0].verdict, Refuted)
    assert dict(proof.steps[0].verdict.witness.inputs).keys() == {"q", "u"}


def test_two_errors_that_cancel_are_no_proof() -> None:
    """First and last line agree; the line between them is false."""
    t = chain(norm2(q), (by(bilinearity), 2 * norm2(q)), (by(bilinearity), norm2(q)))
    assert isinstance(prove(t).verdict, Refuted)


def test_an_idle_hypothesis_is_reported() -> None:
    t = chain(inner(q, u), (by(norms, bilinearity), inner(u, q)), given=[norms])
    assert isinstance(prove(t).needs[0].verdict, Proved)


def test_an_uncited_hypothesis_is_not_used() -> None:
    left, right = softmax(lambda n: norm2(k[n]) + a[n])(j), softmax(lambda n: a[n])(j)
    assert isinstance(prove(chain(left, (by(shift_invariance), right), given=[norms])).verdict, Unknown)
    cited = chain(left, (by(norms, shift_invariance), right), given=[norms])
    assert isinstance(prove(cited).verdict, Proved)
    assert isinstance(prove(cited).needs[0].verdict, Refuted)


def test_decide_gives_one_of_three_verdicts() -> None:
    assert isinstance(decide(total(lambda n: c * a[n]), c * total(lambda n: a[n])), Proved)
    assert isinstance(decide(total(lambda n: a[n]), c), Refuted)
    zero = total(lambda n: a[n]) - total(lambda n: a[n])
    assert isinstance(decide(1 / zero, c), Unknown)
    assert isinstance(decide(sp.exp((c**2 - 4) / (c - 2)), sp.exp(c + 2)), Unknown)


def test_a_shown_line_means_its_term() -> None:
    t = chain(
        shown("what it says", total(lambda n: 2 * a[n])), (by(distributivity), 2 * total(lambda n: a[n]))
    )
    assert isinstance(prove(t).verdict, Proved) and t.steps[0].before.text == "what it says"


def test_zero_vectors() -> None:
    t = chain(q - q + 0 * u, (by(bilinearity), ZeroVector()))
    assert isinstance(prove(t).verdict, Proved)


def test_balls_overrule_a_normal_form_that_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision procedure that accepts everything proves nothing false."""
    monkeypatch.setattr(sys.modules["projsym.proof.prove"], "residual", lambda *_: ZERO)
    false = chain(norm2(q), (by(bilinearity), 2 * norm2(q)))
    proof = prove(false)
    assert isinstance(proof.steps[0].verdict, Proved) and isinstance(proof.verdict, Refuted)
    with pytest.raises(ProofError):
        require(false)
