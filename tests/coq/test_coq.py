"""What Coq says of the core and of its false variants. Skipped where there is no coqc."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _coq import CORE, PROOF, Compile, admitted, named, wrong

from projsym import coq
from projsym.coq.compile import ALLOWED
from projsym.coq.export import coq_name, section
from projsym.coq.write import source
from projsym.proof.prove import decide
from projsym.proof.verdict import Refuted

GEOMETRY = Path(coq.__file__).with_name("geometry.v").read_text(encoding="utf-8")
WRONG = wrong()
# The statement of each theorem, and one that looks like it.
WRONG_BY_HAND = {
    "II.1: minus the displacement": (
        "(inner (projection q) h - inner q h).",
        "(inner q h - inner (projection q) h).",
    ),
    "II.2: without the mean": (
        "weight q j * inner (centred j) h * inner (centred j) g) / sigma ^ 2).",
        "weight q j * inner (k j) h * inner (k j) g) / sigma ^ 2).",
    ),
    "II.2: sigma for its square": (
        "inner (centred j) g) / sigma ^ 2).",
        "inner (centred j) g) / sigma).",
    ),
}


@pytest.mark.parametrize("id", CORE)
def test_the_core_compiles_and_rests_on_the_real_numbers(id: str, compile_text: Compile) -> None:
    (theorem,) = named(id)
    result = compile_text(coq_name(id) + ".v", source(theorem))
    assert not result.error
    assert list(result.assumptions) == [coq_name(id)]
    assert set(result.assumptions[coq_name(id)]) <= ALLOWED


def test_the_derivatives_compile_and_rest_on_the_real_numbers(compile_text: Compile) -> None:
    result = compile_text("geometry.v", GEOMETRY)
    assert not result.error
    assert list(result.assumptions) == ["II_1_derivative", "II_2_derivative"]
    assert result.good


@pytest.mark.parametrize("name", WRONG)
def test_false_variants_are_refuted_here_and_not_proved_there(name: str, compile_text: Compile) -> None:
    t = WRONG[name]
    assert isinstance(decide(t.first, t.last, t.given), Refuted)
    result = compile_text("wrong.v", source(t))
    assert "No applicable tactic" in result.error
    # The proof of the step fails, not the theorem that follows from it.
    line = int(re.findall(r"line (\d+)", result.error)[0])
    assert "algebra." in source(t).splitlines()[line - 1]


def test_the_statements_of_false_variants_are_well_formed(compile_text: Compile) -> None:
    """Their proofs left out, they compile; and what is taken on trust is no axiom of the real numbers."""
    header, _ = source(*named("I.2")).split("Section ", 1)
    sections = [section(t) for t in WRONG.values()]
    (last,) = (coq_name(t.id) for t in list(WRONG.values())[-1:])
    result = compile_text("stated.v", admitted(f"{header}{''.join(sections)}Print Assumptions {last}.\n"))
    assert not result.error
    assert result.refused == (last,)
    assert not result.good


@pytest.mark.parametrize("name", WRONG_BY_HAND)
def test_false_derivatives_are_not_proved(name: str, compile_text: Compile) -> None:
    true, false = WRONG_BY_HAND[name]
    assert GEOMETRY.count(true) == 1
    text = GEOMETRY.replace(true, false)
    assert compile_text("wrong_geometry.v", text).error
    theorem = coq_name(name.split(":")[0]) + "_derivative"
    left_out = re.compile(rf"(^Theorem {theorem}.*?)^Proof\..*?^Qed\.$", re.MULTILINE | re.DOTALL)
    result = compile_text("wrong_geometry.v", left_out.sub(r"\1Admitted.", text))
    assert not result.error
    assert result.refused == (theorem,)


def test_hypotheses_are_used(compile_text: Compile) -> None:
    """Without the line that states equal norms the very script of I.4 fails."""
    (theorem,) = named("I.4")
    text = source(theorem)
    stated = re.findall(r"^Hypothesis H_equal_norms .*\n", text, re.MULTILINE)
    assert len(stated) == 1
    without = text.replace(stated[0], "").replace("rewrite ?H_equal_norms.", "")
    assert "No applicable tactic" in compile_text("without.v", without).error


def test_proofs_are_found() -> None:
    assert PROOF.findall(source(*named("I.4")))
