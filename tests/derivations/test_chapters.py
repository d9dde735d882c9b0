"""Every theorem proved by both opinions, every refusal refuted, every hypothesis needed."""

from __future__ import annotations

import re

import pytest

from projsym.algebra.decide import equal
from projsym.algebra.theory import Theory
from projsym.proof import ledger
from projsym.proof.prove import Proof, require
from projsym.proof.refusal import Refusal
from projsym.proof.text import latex, text
from projsym.proof.theorem import Theorem
from projsym.proof.verdict import Checked, Proved

THEOREMS, REFUSALS = ledger.select()
KNOWN = {t.id for t in THEOREMS}
BASE = {"arithmetic", "linearity", "powers of two"}
"""Laws that add nothing to field and vector arithmetic: steps by them alone hold in the empty theory."""


@pytest.fixture(scope="module", params=THEOREMS, ids=lambda t: t.id)
def proof(request: pytest.FixtureRequest) -> Proof:
    return require(request.param)


def test_every_step_is_proved_and_every_line_checked(proof: Proof) -> None:
    assert isinstance(proof.verdict, Proved) and isinstance(proof.checked, Checked)
    assert proof.checked.instances >= 5 and proof.checked.worst_radius < 1e-30
    assert len(proof.steps) == len(proof.theorem.steps) > 0
    assert all(isinstance(s.verdict, Proved) for s in proof.steps)


def test_every_assumed_hypothesis_is_needed_and_cited(proof: Proof) -> None:
    assert [n.hypothesis for n in proof.needs] == list(proof.theorem.assumptions)
    assert not [n for n in proof.needs if isinstance(n.verdict, Proved)]
    reasons = [s.reason for s in proof.theorem.steps]
    cited = {h.name for r in reasons for h in r.hypotheses}
    cited |= {r.equation.equation.name for r in reasons if r.equation}
    assert {h.name for h in proof.theorem.given} == cited


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: t.id)
def test_no_step_is_trivial_unless_it_cites_nothing_more(theorem: Theorem) -> None:
    """What a step cites is used: without it the step is not decided."""
    for s in theorem.steps:
        laws = {law.name for law in s.reason.laws}
        extra = s.reason.hypotheses or s.reason.equation or laws - BASE
        if extra:
            assert not _equal(s.before.term, s.after.term), f"{s.reason}: nothing cited is needed"


def _equal(left: object, right: object) -> bool:
    try:
        return equal(left, right, Theory())
    except ValueError:  # a sum over a singleton or a union that the empty theory cannot write
        return False


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: t.id)
def test_no_two_lines_are_the_same_and_both_ends_differ(theorem: Theorem) -> None:
    for s in theorem.steps:
        assert s.before.term != s.after.term


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: t.id)
def test_every_line_prints(theorem: Theorem) -> None:
    for s in (theorem.steps[0].before, *[x.after for x in theorem.steps]):
        source = latex(s.term)
        assert source and text(s.term)
        depth = 0
        for brace in re.findall(r"(?<!\\)[{}]", source):
            depth += 1 if brace == "{" else -1
            assert depth >= 0
        assert depth == 0
        assert source.count(r"\left") == source.count(r"\right")
        assert source.count(r"\langle") == source.count(r"\rangle")
        assert len(re.findall(r"\\lVert", source)) == len(re.findall(r"\\rVert", source))
        assert not re.search(r"[^\x00-\x7f]", source), "LaTeX is plain ASCII"


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.id)
def test_every_refusal_is_refuted_and_repaired(refusal: Refusal) -> None:
    witness = refusal.require().witness
    assert witness.inputs and witness.left != witness.right
    assert refusal.repair and set(refusal.repaired_by) <= KNOWN


def test_what_this_release_promises_is_there() -> None:
    promised = {f"I.{n}" for n in range(1, 9)} | {"I.6c", "I.7n", "I.7x", "I.8c", "I.8k", "I.8n", "I.8r"}
    promised |= {"III.1", "III.2", "III.2t", "IV.1", "IV.1a", "IV.1b", "IV.1c", "IV.1d", "IV.1e", "IV.4b"}
    kernels = (
        "attention",
        "project_dot",
        "project_dot_biased",
        "project_gaussian",
        "project_gaussian_biased",
    )
    promised |= {f"IV.6/{name}" for name in kernels}
    assert promised <= KNOWN
    assert {f"VI.{n}" for n in range(1, 7)} <= {r.id for r in REFUSALS}
    everything = [t.id for t in THEOREMS] + [r.id for r in REFUSALS]
    assert len(set(everything)) == len(everything)
    titles = [t.title for t in THEOREMS]
    assert len(set(titles)) == len(titles)
