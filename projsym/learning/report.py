"""Result tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from .results import Results
from .sizes import Variant

__all__ = ["conclusions", "difference_table", "run_table", "timing_table"]

METRICS = {
    "test_loss": 3, "test_accuracy": 4, "chrf": 2, "bleu": 2, "test_rmse": 4,
}  # fmt: skip


def _metrics(results: Results, task: str) -> dict[str, int]:
    rows = [r for r in results.tables.runs if r["task"] == task]
    return {name: digits for name, digits in METRICS.items() if all(name in row for row in rows)}


def _phases(results: Results, task: str) -> list[tuple[str, Variant]]:
    found = [
        (r["phase"], Variant(r["form"], r["head_width"], r["sigma"]))
        for r in results.tables.runs
        if r["task"] == task
    ]
    return list(dict.fromkeys(found))


def run_table(results: Results, task: str) -> Table:
    """Each variant's parameters and mean scores on the test part, with 95 % intervals if there are seeds."""
    metrics = _metrics(results, task)
    table = Table(title=f"{task}: means over seeds [Student's 95 % interval]")
    for name in ("variant", "phase", "seeds", "parameters", *metrics):
        table.add_column(
            name, justify="left" if name in ("variant", "phase") else "right", no_wrap=name == "variant"
        )
    for phase, variant in _phases(results, task):
        means = [results.mean(m, variant, phase=phase, task=task).text(d) for m, d in metrics.items()]
        parameters = results.final("parameters", variant, phase=phase, task=task)
        count = f"{next(iter(parameters.values())):,}"
        table.add_row(variant.name, phase, str(len(parameters)), count, *means)
    return table


def difference_table(results: Results, task: str) -> Table:
    """Each variant less the standard form, paired by seed."""
    metrics = _metrics(results, task)
    table = Table(title=f"{task}: less the standard form, paired by seed [Student's 95 % interval]")
    for name in ("variant", "phase", *metrics):
        table.add_column(
            name, justify="left" if name in ("variant", "phase") else "right", no_wrap=name == "variant"
        )
    for phase, variant in _phases(results, task):
        if variant.form == "standard":
            continue
        cells = [results.difference(m, variant, phase=phase, task=task).text(d) for m, d in metrics.items()]
        table.add_row(variant.name, phase, *cells)
    return table


def timing_table(results: Results) -> Table:
    """Milliseconds of a step and of its parts, and the ratios, measured and predicted."""
    table = Table(
        title="one training step: least of all rounds; ratios to the standard form and same core, by round"
    )
    columns = ("variant", "core", "step ms", "attention ms", "optimizer ms", "rest ms")
    for name in (*columns, "ratio", "counted", "attention ratio", "counted"):
        table.add_column(
            name, justify="left" if name in ("variant", "core") else "right", no_wrap=name == "variant"
        )
    for row in results.tables.timing:
        parts = [f"{1e3 * row[k]:.2f}" for k in ("step", "attention", "optimizer", "rest")]
        names = ("step_ratio", "predicted_step_ratio", "attention_ratio", "predicted_attention_ratio")
        table.add_row(row["variant"], row["core"], *parts, *(f"{row[k]:.2f}" for k in names))
    return table


def conclusions(results: Results) -> list[str]:
    """Sentences that follow from the tables: the reported ratio, and whether scores differ beyond noise."""
    lines = [speed.text() for speed in results.speeds()]
    words = {
        True: "differs beyond noise",
        False: "does not differ beyond noise",
        None: "one seed: no verdict",
    }
    for task in results.tasks:
        metric = "test_accuracy" if "test_accuracy" in _metrics(results, task) else "test_loss"
        for phase, variant in _phases(results, task):
            if variant.form != "standard":
                found = results.difference(metric, variant, phase=phase, task=task)
                verdict = words[found.beyond_noise]
                lines.append(f"{task}, {phase}, {variant.name}: {metric} {found.text(4)}: {verdict}")
        lines += _baselines(results, task)
    return lines


def _baselines(results: Results, task: str) -> list[str]:
    """What simple predictors of a series reach, to be held against test_rmse."""
    runs = results.tables.about.get("runs", {})
    found = [x for name, x in runs.items() if name.startswith(f"{task}.") and "baselines" in x]
    return [
        f"{task}: {name.replace('_', ' ')} has test_rmse {rmse:.4f} ({found[0]['unit']})"
        for name, rmse in (found[0]["baselines"] if found else {}).items()
    ]
