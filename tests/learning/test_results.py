"""Tables as files, intervals, and the reader."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from projsym.learning.intervals import mean_interval, paired, student_quantile
from projsym.learning.report import conclusions
from projsym.learning.results import REPORTED_RATIO, Results, load
from projsym.learning.sizes import Variant
from projsym.learning.tables import Tables, read_csv

LOSSES = {"standard": [1.0, 2.0, 3.0], "tied": [1.5, 2.25, 3.75]}


def key(form: str, seed: int) -> dict[str, Any]:
    return {
        "phase": "main", "task": "translation", "form": form, "head_width": "input", "sigma": "fixed",
        "seed": seed,
    }  # fmt: skip


@pytest.fixture
def tables() -> Tables:
    runs = [
        {**key(f, s), "parameters": 10, "test_loss": x} for f, xs in LOSSES.items() for s, x in enumerate(xs)
    ]
    curves: list[dict[str, Any]] = []
    for f, xs in LOSSES.items():
        for s, x in enumerate(xs):
            curves += [{**key(f, s), "epoch": 0, "validation_loss": 9.0}]
            curves += [{**key(f, s), "epoch": 1, "validation_loss": x / 3, "training_loss": 0.1}]
    timing = [
        {
            "variant": f"{f}.input.fixed", "core": "torch", "step": 0.1, "step_ratio": r,
            "predicted_step_ratio": 1.14,
            "attention_ratio": 1.2, "predicted_attention_ratio": 1.31,
        }
        for f, r in (("standard", 1.0), ("tied", 1.1), ("folded", 1.4))
    ]  # fmt: skip
    return Tables(curves, runs, timing, {"note": "ü"})


def test_written_tables_are_read_back_exactly(tables: Tables, tmp_path: Path) -> None:
    assert len(tables.write(tmp_path, "translate", "2030-01-02")) == 4
    found = Tables.read(tmp_path, "translate", "2030-01-02")
    assert found == tables


def test_the_last_day_is_the_default(tables: Tables, tmp_path: Path) -> None:
    for date in ("2030-01-02", "2029-12-31"):
        tables.write(tmp_path, "translate", date)
    tables.write(tmp_path, "translate-quick", "2031-01-01")
    assert load(tmp_path, "translate").date == "2030-01-02"
    assert load(tmp_path, "translate", "2029-12-31").date == "2029-12-31"
    with pytest.raises(FileNotFoundError, match="no results of 'translate' on 2028-01-01"):
        load(tmp_path, "translate", "2028-01-01")


def test_differences_are_paired_by_seed(tables: Tables) -> None:
    found = Results(tables, "translate", "2030-01-02")
    difference = found.difference("test_loss", Variant("tied"))
    # 0.5, 0.25, 0.75: mean 0.5, deviation 0.25, t of 2 degrees of freedom 4.302653
    half = 4.302652729749464 * 0.25 / math.sqrt(3)
    assert difference.mean == 0.5 and difference.count == 3
    assert difference.low == pytest.approx(0.5 - half) and difference.high == pytest.approx(0.5 + half)
    assert difference.beyond_noise is False
    at_epoch = found.difference("validation_loss", Variant("tied"), epoch=1)
    assert at_epoch.mean == pytest.approx(0.5 / 3)
    assert found.difference("validation_loss", Variant("tied"), epoch=0).beyond_noise is False
    assert found.curve("validation_loss", Variant("tied"))[2] == {0: 9.0, 1: 1.25}


def test_speeds_say_whether_the_reported_ratio_is_reached(tables: Tables) -> None:
    found = Results(tables, "translate", "2030-01-02")
    assert [(s.variant, s.reached) for s in found.speeds()] == [
        ("tied.input.fixed", False),
        ("folded.input.fixed", True),
    ]
    assert pytest.approx(1.349, abs=1e-3) == REPORTED_RATIO
    lines = conclusions(found)
    assert "1.35x is not reached" in lines[0] and "1.35x is reached" in lines[1]
    assert "does not differ beyond noise" in lines[2]


def test_unknown_columns_and_unequal_seeds_are_refused(tables: Tables) -> None:
    found = Results(tables, "translate", "2030-01-02")
    with pytest.raises(ValueError, match="metric: given 'bleu'"):
        found.final("bleu", Variant("tied"))
    with pytest.raises(ValueError, match="metric: given 'bleu'"):
        found.curve("bleu", Variant("tied"))
    with pytest.raises(ValueError, match=r"seeds: given \[0\] and \[0, 1\]"):
        paired({0: 1.0}, {0: 1.0, 1: 2.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "columns: given"),
        ("variant,step\nx\n", r"line 2: given \['x'\]; allowed: 2 fields"),
        ("variant,step\nx,fast\n", "line 2: given .* allowed: numbers"),
        ("", "columns: given"),
    ],
)
def test_malformed_csv_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_csv(path, ("variant", "step"))


@pytest.mark.parametrize(
    ("freedom", "confidence", "quantile"),
    [
        (1, 0.5, 1.0),
        (1, 0.95, 12.706204736174694),
        (2, 0.5, math.sqrt(2) / math.sqrt(3)),
        (4, 0.95, 2.7764451051977),
    ],
)
def test_student_quantiles(freedom: int, confidence: float, quantile: float) -> None:
    """Closed forms for one and two degrees of freedom; the last from printed tables."""
    assert student_quantile(freedom, confidence) == pytest.approx(quantile, rel=1e-12)


def test_intervals_of_few_numbers() -> None:
    assert mean_interval([2.0]).beyond_noise is None and mean_interval([2.0]).text() == "2.000"
    assert mean_interval([1.0, 1.0]).beyond_noise is True
    for bad in ([], [math.nan]):
        with pytest.raises(ValueError, match="numbers: given"):
            mean_interval(bad)
    with pytest.raises(ValueError, match="freedom: given 0"):
        student_quantile(0)


def test_reading_results_needs_no_torch() -> None:
    code = "import sys, projsym.learning.results, projsym.learning.report; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
