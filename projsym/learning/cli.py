"""The commands `projsym learn …`. They exit with 0 only if everything that was asked for ran."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from .plans import Plan
    from .results import Results
    from .sizes import HeadWidth, Sigma
    from .tables import Tables

WORK = Path("build") / "learning"

work_option = click.option(
    "--work", default=WORK, show_default=True, type=click.Path(path_type=Path, file_okay=False),
    help="Checkpoints and logs; run again with the same folder to go on after an interruption.",
)  # fmt: skip
out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Result tables; default WORK/tables."
)
core_option = click.option(
    "--core", type=click.Choice(["projsym", "torch", "explicit"]),
    help="What computes attention: the kernels of projsym.torch [default on a CPU], PyTorch's operator "
    "[default on a GPU], or the definition with stored weights. On a CPU the first two are timed anyway.",
)  # fmt: skip
precision_option = click.option(
    "--precision", type=click.Choice(["highest", "high"]), default="highest", show_default=True,
    help="Of float32 products: full, or TF32 (GPU only).",
)  # fmt: skip
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1),
    help="Runs at a time, one thread each; default: all cores, or one on a GPU.",
)  # fmt: skip
device_option = click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")


@click.group()
def learn() -> None:
    """Train a small transformer with attention in four forms and compare (extra: learning)."""


@learn.command()
@click.option("--quick", "size", flag_value="quick", help="Two minutes from end to end: tiny, one seed.")
@click.option(
    "--reduced", "size", flag_value="reduced", default=True, help="Five seeds on two cores [default]."
)
@click.option("--full", "size", flag_value="full", help="The layers of the Keras example: 10 epochs.")
@click.option(
    "--steps", type=click.IntRange(min=1), help="Time about so many steps of each form; no training."
)
@click.option("--seeds", type=click.IntRange(min=1))
@click.option("--epochs", type=click.IntRange(min=1))
@click.option(
    "--heads", type=click.Choice(["input", "split", "both"]), default="input", show_default=True,
    help="Width of a head: the input's, as in the Keras example, or split among heads.",
)  # fmt: skip
@click.option("--sigma", type=click.Choice(["fixed", "learned", "both"]), default="fixed", show_default=True)
@jobs_option
@core_option
@device_option
@precision_option
@work_option
@out_option
def translate(
    size: str, steps: int | None, seeds: int | None, epochs: int | None, heads: str, sigma: str,
    jobs: int | None, core: str | None, device: str, precision: str, work: Path, out: Path | None,
) -> None:  # fmt: skip
    """English to Spanish: all forms from equal starts, timed, trained and scored."""
    with _needs_extra():
        from . import experiment, plans, timing

        core = _core(core, device, precision)
        widths: dict[str, tuple[HeadWidth, ...]] = {
            "input": ("input",), "split": ("split",), "both": ("input", "split"),
        }  # fmt: skip
        sigmas: dict[str, tuple[Sigma, ...]] = {
            "fixed": ("fixed",), "learned": ("learned",), "both": ("fixed", "learned"),
        }  # fmt: skip
        chosen = plans.variants(widths[heads], sigmas[sigma])
        plan = plans.translation_plan(
            size, seeds=seeds, epochs=epochs, variants=chosen,
            device=device, core=core, precision=precision,
        )  # fmt: skip
        sizes = plan.tasks[0][1]
        _say("timing one step of each variant …")
        workers = jobs or experiment.default_workers(device)
        threads = None if size == "full" else plan.threads
        begin = time.perf_counter()
        cores = (core,) if device != "cpu" else tuple(dict.fromkeys((core, "projsym", "torch")))
        rows = timing.time_steps(sizes, chosen, steps or 10, device, threads, cores, precision)
        timed = [row.as_dict() for row in rows]
        data = experiment.describe_data(plan)
        if steps is not None:
            tables = experiment.timing_only(plan, timed, data)
        else:
            seconds = {row.variant: row.step for row in rows if row.core == core}
            expected = plans.estimate(plan, seconds, data["training"], workers)
            _say(f"about {expected / 60:.1f} minutes, {workers} at a time on idle cores")
            about = {"data": data, "estimated_seconds": expected}
            tables = _run(plan, work, workers, timed, about, data["training"])
        _say(f"{time.perf_counter() - begin:.0f} s in all")
    _show(tables, plan.experiment, out or work / "tables")


@learn.command()
@click.argument("names", nargs=-1, metavar="[co2 | sunspots]…")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--epochs", default=60, show_default=True, type=click.IntRange(min=1))
@jobs_option
@core_option
@device_option
@precision_option
@work_option
@out_option
def series(
    names: tuple[str, ...],
    seeds: int,
    epochs: int,
    jobs: int | None,
    core: str | None,
    device: str,
    precision: str,
    work: Path,
    out: Path | None,
) -> None:
    """Predict the next value of measured series, all forms from equal starts."""
    with _needs_extra():
        from . import experiment, plans
        from .series import SERIES

        core = _core(core, device, precision)
        try:
            plan = plans.series_plan(names or SERIES, seeds, epochs, device, core, precision)
        except ValueError as e:
            raise click.BadParameter(str(e), param_hint="NAMES") from e
        tables = _run(plan, work, jobs or experiment.default_workers(device), [], {}, None)
    _show(tables, plan.experiment, out or work / "tables")


@learn.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("experiment", default="translate")
@click.option("--date", help="YYYY-MM-DD; default: the last day there is.")
def results(folder: Path, experiment: str, date: str | None) -> None:
    """Show result tables that were written before."""
    from .results import load

    try:
        found = load(folder, experiment, date)
    except (FileNotFoundError, ValueError) as e:
        raise click.ClickException(str(e)) from e
    _print(found)


def _run(
    plan: Plan,
    work: Path,
    jobs: int,
    timing: list[dict[str, Any]],
    about: dict[str, Any],
    examples: int | None,
) -> Tables:
    from .experiment import run_plan

    with _bar(plan.experiment, plan.steps(examples)) as report:
        return run_plan(plan, work, jobs, report, timing, about)


@contextmanager
def _bar(title: str, steps: int) -> Iterator[Callable[[int], None]]:
    """A bar of steps on the terminal's error stream; nothing where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=steps)
        yield lambda done: progress.advance(task, done)


@contextmanager
def _needs_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name == "torch":
            raise click.ClickException("PyTorch is missing; pip install 'projsym[learning]'") from e
        raise click.ClickException(str(e)) from e


def _core(core: str | None, device: str, precision: str) -> str:
    """What computes attention, once the device is checked."""
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as e:
        raise click.BadParameter(f"{device!r}: allowed are cpu and cuda", param_hint="--device") from e
    if kind not in ("cpu", "cuda"):
        raise click.BadParameter(f"{device!r}: allowed are cpu and cuda", param_hint="--device")
    if kind == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device cuda: PyTorch sees no GPU here")
    if kind == "cpu" and precision != "highest":
        raise click.BadParameter("high is for a GPU; allowed on a CPU is highest", param_hint="--precision")
    if kind == "cuda" and core == "projsym":
        raise click.BadParameter(
            "projsym runs on the CPU; allowed with a GPU are torch and explicit", param_hint="--core"
        )
    return core or ("torch" if kind == "cuda" else "projsym")


def _show(tables: Tables, experiment: str, folder: Path) -> None:
    from .results import Results

    date = datetime.date.today().isoformat()
    for path in tables.write(folder, experiment, date):
        _say(str(path))
    _print(Results(tables, experiment, date))


def _print(found: Results) -> None:
    from .report import conclusions, difference_table, run_table, timing_table

    console = Console(width=None if sys.stdout.isatty() else 150)
    if found.tables.timing:
        console.print(timing_table(found))
    for task in found.tasks:
        console.print(run_table(found, task))
        console.print(difference_table(found, task))
    for line in conclusions(found):
        click.echo(line)


def _say(line: str) -> None:
    click.echo(line, err=True)
