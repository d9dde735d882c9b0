"""Training runs as jobs: one process each, resumable, with their progress in the parent."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from queue import Empty
from typing import Any

from .sizes import Sizes, Variant

__all__ = ["Job", "run_job", "run_jobs", "task_of"]

Report = Callable[[int], None]
EVERY = 10  # steps between two reports of a job


@dataclass(frozen=True)
class Job:
    """task: 'translation' or the name of a series. limit, held_out, decoded: how many training pairs,
    held-out pairs, and test pairs to translate (translation only; None: all).

    phase: 'main', or 'continued' for more epochs from the end of the standard run in `origin`, with a new
    optimiser: as it is, or converted to the tied form with equal outputs. folder: of the checkpoint.
    """

    task: str
    variant: Variant
    sizes: Sizes
    seed: int
    epochs: int
    folder: Path
    limit: int | None = None
    held_out: int | None = None
    decoded: int | None = None
    learning_rate: float = 1e-3
    device: str = "cpu"
    threads: int = 1
    core: str = "torch"
    precision: str = "highest"
    phase: str = "main"
    origin: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.task}.{self.phase}.{self.variant.name}.{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """Plain data of everything but where the files are."""
        plain = asdict(replace(self, folder=Path(), origin=None))
        return {k: v for k, v in plain.items() if k not in ("folder", "origin")}


@lru_cache(maxsize=2)
def _splits(limit: int | None, held_out: int | None) -> Any:
    from .corpus import load_splits

    return load_splits(limit=limit, held_out=held_out)


def task_of(job: Job) -> Any:
    """The `Task` that a job trains on."""
    from .attention import CORES

    core = CORES[job.core]
    if job.task == "translation":
        from .translation import Translation

        return Translation(job.sizes, job.variant, _splits(job.limit, job.held_out), core)
    from .series import SeriesTask, load_series

    return SeriesTask(job.sizes, job.variant, load_series(job.task), core)


def run_job(job: Job, report: Report | None = None) -> dict[str, Any]:
    """Train, or go on training, and score: {'run': a row, 'curve': rows, 'extra': …}.

    A finished job is read from result.json; it is run again if its settings are not the same.
    report(steps) is called as steps are done, with all steps of a finished or resumed part at once.
    """
    from . import checkpoint
    from .train import Run, fit, reproducible

    path = job.folder / "result.json"
    task = None
    if path.is_file():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["settings"] == job.settings:
            if report:
                report(saved["steps"])
            return dict(saved["result"])
    task = task_of(job)
    a_epoch = -(-task.examples // task.batch)
    done = [0]

    def on_step(epoch: int, step: int) -> None:
        now = (epoch - 1) * a_epoch + step + 1
        if report and now - done[0] >= EVERY:
            report(now - done[0])
            done[0] = now

    run = Run(job.seed, job.epochs, job.learning_rate, job.device, job.threads, job.precision)
    extra: dict[str, Any] = {}

    start = None
    if job.origin:
        start, extra["condition"] = _from_origin(job, task)
    model, rows = fit(task, run, job.folder, start=start, on_step=on_step)
    if report:
        report(job.epochs * a_epoch - done[0])
    key = {"phase": job.phase, "task": job.task, **asdict(job.variant), "seed": job.seed}
    with reproducible(run):
        scores, more = _scores(job, task, model)
    extra |= more
    parameters = sum(p.numel() for p in model.parameters())
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    result = {
        "run": {**key, "parameters": parameters, "seconds": seconds, **scores},
        "curve": [{**key, **{k: int(v) if k == "epoch" else v for k, v in row.items()}} for row in rows],
        "extra": extra,
    }
    saved = {"settings": job.settings, "steps": job.epochs * a_epoch, "result": result}
    checkpoint.write_atomically(path, json.dumps(saved, allow_nan=False).encode())
    return result


def _from_origin(job: Job, task: Any) -> tuple[Any, float | None]:
    """The standard model at the end of `origin`, tied if the variant is, and its condition number then."""
    import torch

    from .convert import tied_model

    assert job.origin is not None
    state = torch.load(job.origin / "checkpoint.pt", map_location="cpu", weights_only=True)
    standard = type(task.build(job.seed))(job.sizes, replace(job.variant, form="standard"), task.core)
    standard.load_state_dict(state["model"])
    return tied_model(standard) if job.variant.form == "tied" else (standard, None)


def _scores(job: Job, task: Any, model: Any) -> tuple[dict[str, float], dict[str, Any]]:
    if job.task == "translation":
        from .evaluate import scores_on_test

        scores = dict(scores_on_test(task, model, job.decoded))
        return scores, {"signatures": scores.pop("signatures")}
    loss, rmse = task.scores(model, task.test)
    return {"test_loss": loss, "test_rmse": rmse}, {"baselines": task.baselines(), "unit": task.series.unit}


_queue: Any = None


def _begin(queue: Any) -> None:
    global _queue
    _queue = queue


def _work(job: Job) -> dict[str, Any]:
    return run_job(job, _queue.put)


def run_jobs(jobs: Sequence[Job], workers: int, report: Report | None = None) -> list[dict[str, Any]]:
    """Run jobs in `workers` new processes (1: in this one), results in the order of the jobs.

    The first error stops what has not begun and is raised; what is finished stays on the disk.
    """
    if workers < 1:
        raise ValueError(f"workers: given {workers}; allowed: an integer of at least 1")
    if workers == 1:
        return [run_job(job, report) for job in jobs]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with ProcessPoolExecutor(workers, context, _begin, (queue,)) as pool:
        futures = [pool.submit(_work, job) for job in jobs]
        left: set[Future[dict[str, Any]]] = set(futures)
        try:
            while left:
                ended, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
                _drain(queue, report)
                for future in ended:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        _drain(queue, report)
    return [future.result() for future in futures]


def _drain(queue: Any, report: Report | None) -> None:
    while True:
        try:
            steps = queue.get_nowait()
        except Empty:
            return
        if report:
            report(steps)
