"""Reading committed result tables: curves, paired differences with intervals, and the reported ratio.

Needs neither PyTorch nor a GPU.

    found = load("benchmarks/learning", "translate")
    found.difference("test_loss", Variant("tied")).text()
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projsym.errors import refused

from .intervals import Interval, mean_interval, paired
from .sizes import Variant
from .tables import Row, Tables

__all__ = ["REPORTED_RATIO", "Results", "Speed", "dates", "load"]

REPORTED_RATIO = 174 / 129
"""Seconds of ten epochs, standard over projection attention: reported of the paper at second hand."""


@dataclass(frozen=True)
class Speed:
    """A variant's training step against the standard form's with the same core, measured and as operations
    predict [III.6]."""

    variant: str
    core: str
    measured: float
    predicted: float
    attention_measured: float
    attention_predicted: float

    @property
    def reached(self) -> bool:
        """Whether the measured ratio of whole steps is at least the reported one."""
        return self.measured >= REPORTED_RATIO

    def text(self) -> str:
        """One sentence with all four ratios and the verdict."""
        verdict = "reached" if self.reached else "not reached"
        return (
            f"{self.variant}, core {self.core}: a step is {self.measured:.2f}x as fast as the standard "
            f"form's (products counted: {self.predicted:.2f}x), its attention {self.attention_measured:.2f}x "
            f"(counted: {self.attention_predicted:.2f}x); {REPORTED_RATIO:.2f}x is {verdict}"
        )


@dataclass(frozen=True)
class Results:
    """One experiment on one day."""

    tables: Tables
    experiment: str
    date: str

    @property
    def variants(self) -> list[Variant]:
        """Those that were trained, in the order of the table."""
        rows = [
            Variant(r["form"], r["head_width"], r["sigma"]) for r in self.tables.runs if r["phase"] == "main"
        ]
        return list(dict.fromkeys(rows))

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(r["task"] for r in self.tables.runs))

    def final(
        self, metric: str, variant: Variant, *, phase: str = "main", task: str | None = None
    ) -> dict[int, float]:
        """seed -> a column of the table of runs. ValueError if no run of that kind has it."""
        rows = _chosen(self.tables.runs, variant, phase, task or self.tasks[0])
        return _by_seed(rows, metric)

    def curve(
        self, metric: str, variant: Variant, *, phase: str = "main", task: str | None = None
    ) -> dict[int, dict[int, float]]:
        """seed -> epoch -> a column of the table of curves; epoch 0 is before training."""
        found: dict[int, dict[int, float]] = {}
        for row in _chosen(self.tables.curves, variant, phase, task or self.tasks[0]):
            if metric in row:
                found.setdefault(row["seed"], {})[row["epoch"]] = row[metric]
        if not found:
            raise ValueError(refused("metric", repr(metric), "a column of the table of curves"))
        return found

    def mean(
        self, metric: str, variant: Variant, *, phase: str = "main", task: str | None = None
    ) -> Interval:
        """Mean over seeds with its interval."""
        return mean_interval(list(self.final(metric, variant, phase=phase, task=task).values()))

    def difference(
        self,
        metric: str,
        variant: Variant,
        *,
        epoch: int | None = None,
        phase: str = "main",
        task: str | None = None,
    ) -> Interval:
        """This variant less the standard form of equal head width and σ, paired by seed, with Student's
        interval: a column of the table of runs, or of the curves at an epoch."""
        base = Variant("standard", variant.head_width, variant.sigma)
        if epoch is None:
            sides = [self.final(metric, v, phase=phase, task=task) for v in (variant, base)]
        else:
            curves = [self.curve(metric, v, phase=phase, task=task) for v in (variant, base)]
            sides = [{seed: rows[epoch] for seed, rows in curve.items()} for curve in curves]
        return paired(*sides)

    def speeds(self) -> list[Speed]:
        """Every timed variant but the standard one."""
        return [
            Speed(
                row["variant"],
                row["core"],
                row["step_ratio"],
                row["predicted_step_ratio"],
                row["attention_ratio"],
                row["predicted_attention_ratio"],
            )
            for row in self.tables.timing
            if not row["variant"].startswith("standard.")
        ]


def dates(folder: Path | str, experiment: str) -> list[str]:
    """The days that have results of an experiment, in order."""
    pattern = re.compile(rf"(\d{{4}}-\d\d-\d\d)-{re.escape(experiment)}\.json")
    return sorted(m[1] for p in Path(folder).glob("*.json") if (m := pattern.fullmatch(p.name)))


def load(folder: Path | str, experiment: str, date: str | None = None) -> Results:
    """The results of a day (YYYY-MM-DD), by default of the last one. FileNotFoundError if there are none."""
    known = dates(folder, experiment)
    if not known or (date is not None and date not in known):
        wanted = f"on {date} " if date else ""
        raise FileNotFoundError(f"{folder}: no results of {experiment!r} {wanted}(days: {', '.join(known)})")
    date = date or known[-1]
    return Results(Tables.read(Path(folder), experiment, date), experiment, date)


def _chosen(rows: Sequence[Row], variant: Variant, phase: str, task: str) -> list[Row]:
    wanted = (phase, task, variant.form, variant.head_width, variant.sigma)
    return [
        r for r in rows if tuple(r[k] for k in ("phase", "task", "form", "head_width", "sigma")) == wanted
    ]


def _by_seed(rows: Sequence[Row], metric: str) -> dict[int, Any]:
    found = {row["seed"]: row[metric] for row in rows if metric in row}
    if not found or len(found) != len(rows):
        raise ValueError(refused("metric", repr(metric), "a column that every chosen run has"))
    return found
