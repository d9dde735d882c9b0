"""The commands, at sizes of a second: what they write, resume and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from projsym.cli import cli
from projsym.learning import experiment, jobs, plans, timing
from projsym.learning.corpus import Splits
from projsym.learning.results import load
from projsym.learning.series import SERIES_SIZES, SeriesTask, load_series
from projsym.learning.sizes import FORMS, QUICK, Sizes, Variant

TINY = Sizes(8, 12, 2, 24, 8, 8)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, splits: Splits) -> plans.Plan:
    """The quick plan on a toy language."""
    plan = plans.Plan("translate-quick", (("translation", TINY),), plans.variants(), 1, 2, 1, decoded=4)
    monkeypatch.setattr(plans, "PLANS", {"quick": plan})
    monkeypatch.setattr(jobs, "_splits", lambda *_: splits)
    counts = {"training": len(splits.training), "validation": 12, "test": 12, "dropped": 0}
    monkeypatch.setattr(experiment, "describe_data", lambda _: counts)
    return plan


def test_quick_translation_end_to_end(tiny: plans.Plan, tmp_path: Path) -> None:
    command = ["learn", "translate", "--quick", "--seeds", "2", "--jobs", "1", "--work", str(tmp_path)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    found = load(tmp_path / "tables", "translate-quick")
    assert [v.form for v in found.variants] == list(FORMS)
    assert all(set(found.final("chrf", v)) == {0, 1} for v in found.variants)
    assert found.difference("test_loss", Variant("tied")).low is not None
    assert len(found.tables.timing) == 2 * len(FORMS)  # around the kernels and around PyTorch's operator
    about = found.tables.about
    assert about["data"]["training"] == 40 and about["estimated_seconds"] > 0
    for step in about["descent_step"]:
        assert step["apart_after"] > 100 * step["apart_before"]

    # The converted model starts where the standard one ended.
    ends = found.curve("validation_loss", Variant("standard"))
    starts = found.curve("validation_loss", Variant("tied"), phase="continued")
    for seed in (0, 1):
        assert starts[seed][0] == pytest.approx(ends[seed][2], rel=1e-4)

    # Run again: everything is read, nothing is trained, the tables are the same but for the times.
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoint.pt")}
    assert len(stamps) == 2 * (4 + 2)
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 0 and {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert load(tmp_path / "tables", "translate-quick").tables.curves == found.tables.curves

    shown = CliRunner().invoke(cli, ["learn", "results", str(tmp_path / "tables"), "translate-quick"])
    assert shown.exit_code == 0 and "1.35x" in shown.output


def test_timing_only(tiny: plans.Plan, tmp_path: Path) -> None:
    command = ["learn", "translate", "--quick", "--steps", "1", "--out", str(tmp_path), "--heads", "both"]
    command += ["--core", "explicit"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    found = load(tmp_path, "translate-quick-input+split")
    assert not found.tables.runs and len(found.tables.timing) == 3 * 2 * len(FORMS)


def test_series(tmp_path: Path) -> None:
    command = ["learn", "series", "sunspots", "--seeds", "1", "--epochs", "1", "--jobs", "1"]
    done = CliRunner().invoke(cli, [*command, "--work", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = load(tmp_path / "tables", "series")
    assert all(found.final("test_rmse", v)[0] > 0 for v in found.variants) and len(found.variants) == 4
    simple = SeriesTask(SERIES_SIZES["sunspots"], Variant("tied"), load_series("sunspots")).baselines()
    assert f"autoregression has test_rmse {simple['autoregression']:.4f} (sunspot number)" in done.output
    assert all("autoregression" in extra["baselines"] for extra in found.tables.about["runs"].values())


def test_a_job_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The same curve as in this process, and every step reported."""
    plan = plans.Plan(
        "x", (("translation", TINY),), (Variant("tied"),), 1, 1, limit=200, held_out=8, decoded=2
    )
    done: list[int] = []
    there = jobs.run_jobs(plan.jobs(tmp_path / "there")[0], 2, done.append)
    here = jobs.run_jobs(plan.jobs(tmp_path / "here")[0], 1)
    assert sum(done) == plan.steps(200) == 25
    for result in (*there, *here):
        for row in result["curve"]:
            row.pop("seconds", None)
    assert there[0]["curve"] == here[0]["curve"]


def test_a_failing_run_fails_the_command(
    tiny: plans.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no scores")

    monkeypatch.setattr(jobs, "_scores", broken)
    command = ["learn", "translate", "--quick", "--jobs", "1", "--work", str(tmp_path)]
    assert CliRunner().invoke(cli, command).exit_code != 0
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "--device", "abacus"], "allowed are cpu and cuda"),
        (["translate", "--seeds", "0"], "x>=1"),
        (["translate", "--precision", "high"], "allowed on a CPU is highest"),
        (["series", "weather"], "some of co2, sunspots"),
        (["results", ".", "nothing"], "no results of 'nothing'"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["learn", *arguments])
    assert done.exit_code != 0 and message in done.output


def test_timing_needs_the_standard_form_first() -> None:
    with pytest.raises(ValueError, match="standard form first"):
        timing.time_steps(TINY, [Variant("tied")], 1)


def test_results_of_other_settings_are_not_reused(tiny: plans.Plan, tmp_path: Path) -> None:
    job = tiny.jobs(tmp_path)[0][0]
    jobs.run_job(job)
    saved = json.loads((job.folder / "result.json").read_text())
    assert saved["settings"] == job.settings
    longer = jobs.Job(**{**job.__dict__, "epochs": 3})
    assert len(jobs.run_job(longer)["curve"]) == 4


def test_a_plan_is_named_after_what_is_unusual_in_it() -> None:
    def name(**changes: object) -> str:
        return plans.translation_plan("reduced", **changes).experiment

    assert name() == name(seeds=2, epochs=3, core="explicit") == "translate"
    assert name(variants=plans.variants(("split",)), device="cuda") == "translate-split-cuda"
    both = plans.variants(("input",), ("fixed", "learned"))
    assert name(variants=both, device="cuda:1", precision="high") == "translate-fixed+learned-cuda1-high"


def test_the_estimate_counts_every_step() -> None:
    plan = plans.PLANS["quick"]
    seconds = {v.name: 1.0 for v in plan.variants}
    steps = plan.steps(3_200)
    assert steps == (4 * 3 + 2 * 1) * 50 and plan.tasks[0][1] == QUICK
    assert steps / 2 < plans.estimate(plan, seconds, 3_200, 2) < steps
