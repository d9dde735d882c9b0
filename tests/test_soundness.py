"""The reports on the proof engine: what they count, and that each kind of failure is one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from projsym import soundness
from projsym.cli import cli
from projsym.proof import ledger
from projsym.proof.fuzz import Finding, fuzz
from projsym.proof.theorem import REGISTRY
from projsym.proof.verdict import Witness
from projsym.soundness import Left, Soundness, examine, summary

SOME = ("I.4", "II.2s", "IV.5")


@pytest.fixture(scope="module")
def report() -> Soundness:
    ledger.load()
    patch = pytest.MonkeyPatch()
    some = [REGISTRY[id] for id in SOME]
    patch.setattr(ledger, "select", lambda: (some, []))
    try:
        return examine(30, 3)
    finally:
        patch.undo()


def test_what_is_counted(report: Soundness) -> None:
    assert report.good and report.fuzz.terms == 30
    assert tuple(m.theorem for m in report.mutants) == SOME
    totals = report.mutation_totals()
    assert sum(totals.values()) == 9 and totals["unsound"] == 0 and totals["killed"] > 0
    assert report.left_out == (Left("I.4", "equal norms", "refuted"),)
    assert report.empty == ()
    json.dumps(report.as_dict(), allow_nan=False)
    told = summary(report)
    assert "unsound 0, broken 0" in told and "idle 0" in told and "UNSOUND" not in told


def test_parts_of_the_fuzzing_add_up(report: Soundness, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of any size the same terms are judged."""
    monkeypatch.setattr(soundness, "CHUNK", 7)
    parts = [fuzz(min(7, 30 - n), seed=n, changes=1) for n in range(0, 30, 7)]
    assert soundness._joined(parts) == report.fuzz


def test_each_failure_is_one(report: Soundness) -> None:
    finding = Finding(5, "a flipped sign", REGISTRY["I.1"].first, REGISTRY["I.1"].last, Witness((), "1", "2"))
    failures = {
        "UNSOUND a flipped sign, seed 5": replace(report, fuzz=replace(report.fuzz, unsound=(finding,))),
        "BROKEN a flipped sign, seed 5": replace(report, fuzz=replace(report.fuzz, broken=(finding,))),
        "IDLE I.4: equal norms": replace(report, left_out=(Left("I.4", "equal norms", "proved"),)),
        "EMPTY I.4": replace(report, empty=("I.4",)),
    }
    for line, failed in failures.items():
        assert not failed.good and line in summary(failed) and not failed.as_dict()["good"]


def test_two_processes_give_the_same_report(report: Soundness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "CHUNK", 15)
    monkeypatch.setattr(ledger, "select", lambda: ([REGISTRY[id] for id in SOME], []))
    again = examine(30, 3, jobs=2)
    assert replace(again, seconds=report.seconds) == report


@pytest.mark.parametrize("option", [["--terms", "0"], ["--mutants", "-1"], ["--jobs", "0"]])
def test_bad_numbers_are_named(option: list[str]) -> None:
    result = CliRunner().invoke(cli, ["soundness", *option])
    assert result.exit_code == 2 and f"got {option[1]}, at least 1" in result.output
