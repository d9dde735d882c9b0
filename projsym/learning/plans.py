"""Grids of trainings: which jobs an experiment is made of, and how long they should take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from projsym.errors import refused

from .jobs import Job, task_of
from .sizes import FORMS, FULL, QUICK, REDUCED, HeadWidth, Sigma, Sizes, Variant

__all__ = ["PLANS", "Plan", "estimate", "series_plan", "translation_plan", "variants"]


@dataclass(frozen=True)
class Plan:
    """A grid of trainings: each seed of each variant, for `epochs`.

    continued: for so many epochs more the standard runs with d_h = D go on, once as they are and once
    converted to the tied form. limit, held_out, decoded: as in `Job`.
    """

    experiment: str
    tasks: tuple[tuple[str, Sizes], ...]
    variants: tuple[Variant, ...]
    seeds: int
    epochs: int
    continued: int = 0
    limit: int | None = None
    held_out: int | None = None
    decoded: int | None = None
    device: str = "cpu"
    threads: int = 1
    core: str = "torch"
    precision: str = "highest"

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(refused(name, getattr(self, name), "an integer of at least 1"))

    @property
    def described(self) -> dict[str, Any]:
        """Plain data for the JSON file."""
        return {**asdict(self), "variants": [v.name for v in self.variants]}

    def jobs(self, work: Path) -> tuple[list[Job], list[Job]]:
        """The main runs, and those that continue them; checkpoints in folders below `work`."""
        main, more = [], []
        for task, sizes in self.tasks:
            for seed in range(self.seeds):
                for variant in self.variants:
                    job = Job(
                        task, variant, sizes, seed, self.epochs, Path(), self.limit, self.held_out,
                        self.decoded, device=self.device, threads=self.threads, core=self.core,
                        precision=self.precision,
                    )  # fmt: skip
                    main.append(replace(job, folder=work / self.experiment / job.name))
                    if self.continued and variant.form == "standard" and variant.head_width == "input":
                        more += self._continued(main[-1])
        return main, more

    def _continued(self, job: Job) -> list[Job]:
        new = replace(job, phase="continued", epochs=self.continued, origin=job.folder)
        both = [new, replace(new, variant=replace(job.variant, form="tied"))]
        return [replace(j, folder=job.folder.parent / j.name) for j in both]

    def steps(self, examples: int | None = None) -> int:
        """Training steps of all jobs; examples: of the translation."""
        total = 0
        for job in (job for part in self.jobs(Path()) for job in part):
            count = (examples or 0) if job.task == "translation" else task_of(job).examples
            total += job.epochs * -(-count // job.sizes.batch)
        return total


def variants(
    head_widths: Sequence[HeadWidth] = ("input",), sigmas: Sequence[Sigma] = ("fixed",)
) -> tuple[Variant, ...]:
    """Every form with every choice, the standard one first within each."""
    return tuple(Variant(form, width, sigma) for width in head_widths for sigma in sigmas for form in FORMS)


PLANS: Mapping[str, Plan] = {
    "quick": Plan("translate-quick", (("translation", QUICK),), variants(), 1, 3, 1, 3_200, 256, 64),
    "reduced": Plan("translate", (("translation", REDUCED),), variants(), 5, 10, 2, 12_800, 1_024, 512),
    "full": Plan("translate-full", (("translation", FULL),), variants(), 1, 10),
}


def translation_plan(name: str, **changes: Any) -> Plan:
    """A plan of `PLANS` with the fields that are not None replaced; its name says which variants, device and
    precision it has if they are not the usual ones, so that results of one never stand for another."""
    plan = replace(PLANS[name], **{k: v for k, v in changes.items() if v is not None})
    marks = []
    widths, sigmas = {v.head_width for v in plan.variants}, {v.sigma for v in plan.variants}
    if widths != {"input"}:
        marks.append("+".join(sorted(widths)))
    if sigmas != {"fixed"}:
        marks.append("+".join(sorted(sigmas)))
    if plan.device != "cpu":
        marks.append(plan.device.replace(":", ""))
    if plan.precision != "highest":
        marks.append(plan.precision)
    return replace(plan, experiment="-".join([plan.experiment, *marks]))


def series_plan(
    names: Sequence[str],
    seeds: int,
    epochs: int,
    device: str = "cpu",
    core: str = "torch",
    precision: str = "highest",
) -> Plan:
    """Next-step prediction of the series with these names."""
    from .series import SERIES_SIZES

    unknown = [name for name in names if name not in SERIES_SIZES]
    if unknown or not names:
        raise ValueError(refused("names", list(names), f"some of {', '.join(SERIES_SIZES)}"))
    tasks = tuple((name, SERIES_SIZES[name]) for name in names)
    return Plan("series", tasks, variants(), seeds, epochs, device=device, core=core, precision=precision)


def estimate(plan: Plan, seconds: Mapping[str, float], examples: int, workers: int) -> float:
    """Seconds that a translation plan should take, from the seconds of a step of each variant by its name.

    A step forward is taken for a third of a training step; a translated batch for ten of these, because its
    20 steps see half a sentence on average. On a machine that has `workers` idle cores.
    """
    total = 0.0
    for job in (job for part in plan.jobs(Path()) for job in part):
        held_out = job.held_out or 3_000
        training = job.epochs * -(-examples // job.sizes.batch)
        scoring = (job.epochs + 2) * held_out / job.sizes.batch / 3
        translating = 10 * (job.decoded or held_out) / job.sizes.batch / 3
        total += (training + scoring + translating) * seconds[job.variant.name]
    return total / workers
