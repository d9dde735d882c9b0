"""Running a plan, and its tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .jobs import Job, Report, run_jobs, task_of
from .plans import Plan
from .tables import Tables

__all__ = ["default_workers", "descent_step", "describe_data", "run_plan", "timing_only"]


def default_workers(device: str) -> int:
    """As many jobs at a time as cores, one thread each; on a GPU one, which has it to itself."""
    return len(os.sched_getaffinity(0)) if device == "cpu" else 1


def _environment(device: str) -> dict[str, Any]:
    """The machine, and the name of the GPU if one is used."""
    from projsym.bench.environment import environment

    if device == "cpu":
        return environment()
    import torch

    return environment() | {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}


def describe_data(plan: Plan) -> dict[str, int]:
    """How many pairs each part has, and how many held-out ones repeat something and were dropped."""
    from .corpus import load_splits

    found = load_splits(limit=plan.limit, held_out=plan.held_out)
    counts = {name: len(getattr(found, name)) for name in ("training", "validation", "test")}
    return counts | {"dropped": found.dropped}


def run_plan(
    plan: Plan,
    work: Path,
    workers: int | None = None,
    report: Report | None = None,
    timing: Sequence[dict[str, Any]] = (),
    about: dict[str, Any] | None = None,
) -> Tables:
    """Run everything that is not finished in `work` and gather the tables.

    workers: jobs at a time; by default as many as there are cores, on a GPU one. report(steps) is called as
    steps are done.
    """
    workers = workers or default_workers(plan.device)
    main, more = plan.jobs(work)
    results = run_jobs(main, workers, report) + run_jobs(more, workers, report)
    described = {
        **(about or {}),
        "plan": plan.described,
        "workers": workers,
        "environment": _environment(plan.device),
        "runs": {job.name: r["extra"] for job, r in zip(main + more, results, strict=True)},
    }
    if more:
        described["descent_step"] = descent_step(main[0])
    curves = [row for r in results for row in r["curve"]]
    return Tables(curves, [r["run"] for r in results], list(timing), described)


def timing_only(plan: Plan, timing: Sequence[dict[str, Any]], data: dict[str, int]) -> Tables:
    """Tables of an experiment in which nothing was trained."""
    about = {
        "plan": plan.described, "data": data, "environment": _environment(plan.device), "timing_only": True,
    }  # fmt: skip
    return Tables([], [], list(timing), about)


def descent_step(job: Job, rates: Sequence[float] = (1e-5, 1e-4, 1e-3)) -> list[dict[str, Any]]:
    """One step of plain descent in float64 from the end of a standard run and from its tied twin [VI.10]."""
    import torch

    from .convert import tied_model
    from .divergence import model_step
    from .vocabulary import PAD

    task = task_of(job)
    state = torch.load(job.folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    source, given, wanted = (getattr(task.training, x)[: task.batch] for x in ("source", "given", "wanted"))

    def loss(out: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(out.flatten(0, 1), wanted.flatten(), ignore_index=PAD)

    found = []
    for rate in rates:
        standard = task.build(job.seed)
        standard.load_state_dict(state["model"])
        standard = standard.double()
        twin, _ = tied_model(standard)
        found.append(asdict(model_step(standard, twin, lambda model: model(source, given), loss, rate)))
    return found
