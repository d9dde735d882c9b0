"""How the proof engine itself is tested: random terms, mutants, hypotheses left out, chains without steps.

Guarantees, for what was tried: wherever the normal form accepted an equation, ball arithmetic on random
instances did not disprove it; and no theorem holds without one of its hypotheses as far as the normal form
can tell. It cannot see an unsoundness that neither the random terms nor the single-node changes of our own
theorems meet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from projsym.proof import ledger
from projsym.proof.fuzz import FuzzReport, fuzz
from projsym.proof.mutants import MutationReport, kill
from projsym.proof.prove import Need, prove
from projsym.proof.text import text
from projsym.proof.theorem import REGISTRY

Progress = Callable[[str], None]
CHUNK = 250
"""Random terms for one task of a process."""


@dataclass(frozen=True)
class Left:
    """What becomes of a theorem without one hypothesis: "refuted" with a witness, "unknown", or "proved"."""

    theorem: str
    hypothesis: str
    verdict: str


@dataclass(frozen=True)
class Soundness:
    """All reports. seconds: wall time of fuzzing, of the mutants, and of leaving out hypotheses."""

    fuzz: FuzzReport
    mutants: tuple[MutationReport, ...]
    left_out: tuple[Left, ...]
    empty: tuple[str, ...]
    seconds: tuple[float, float, float]

    @property
    def idle(self) -> tuple[Left, ...]:
        """Hypotheses without which the theorem is still proved."""
        return tuple(x for x in self.left_out if x.verdict == "proved")

    @property
    def good(self) -> bool:
        """Nothing was accepted and disproved, no hypothesis is idle, no theorem has an empty chain."""
        return self.fuzz.good and not (any(m.unsound for m in self.mutants) or self.idle or self.empty)

    def mutation_totals(self) -> dict[str, int]:
        """Mutants of all theorems by what became of them."""
        names = ("killed", "equivalent", "unknown")
        totals = {name: sum(getattr(m, name) for m in self.mutants) for name in names}
        return totals | {"unsound": sum(len(m.unsound) for m in self.mutants)}

    def as_dict(self) -> dict[str, Any]:
        """The reports for JSON."""
        f = self.fuzz
        counts = ("seed", "terms", "proved", "missed", "refuted", "equal", "unknown", "undefined")
        return {
            "good": self.good,
            "seconds": dict(zip(("fuzz", "mutants", "hypotheses"), self.seconds, strict=True)),
            "fuzz": {name: getattr(f, name) for name in counts}
            | {
                name: [
                    {"seed": x.seed, "what": x.what, "left": text(x.left), "right": text(x.right)}
                    for x in getattr(f, name)
                ]
                for name in ("unsound", "broken")
            },
            "mutants": self.mutation_totals()
            | {
                "theorems": [
                    {
                        "id": m.theorem,
                        "killed": m.killed,
                        "equivalent": m.equivalent,
                        "unknown": m.unknown,
                        "unsound": [
                            {"line": u.mutant.line, "edit": u.mutant.edit, "accepted": u.accepted}
                            for u in m.unsound
                        ],
                    }
                    for m in self.mutants
                ]
            },
            "hypotheses": [
                {"theorem": x.theorem, "hypothesis": x.hypothesis, "without": x.verdict}
                for x in self.left_out
            ],
            "empty_chains": list(self.empty),
        }


def examine(
    terms: int, mutants: int | None, jobs: int = 1, seed: int = 0, progress: Progress | None = None
) -> Soundness:
    """Fuzz with `terms` random terms, judge `mutants` of each theorem (None: all), leave out each hypothesis.

    jobs: processes. progress: called with a line before each part. ValueError for a number below what makes
    sense.
    """
    for name, value, least in (("terms", terms, 1), ("mutants", 1 if mutants is None else mutants, 1)):
        if value < least:
            raise ValueError(f"{name}: got {value}, at least {least} is needed")
    if jobs < 1:
        raise ValueError(f"jobs: got {jobs}, at least 1 is needed")
    ids = [t.id for t in ledger.select()[0]]
    say = progress or (lambda line: None)
    times = [perf_counter()]
    with _workers(jobs) as run:
        say(f"fuzzing with {terms} random terms")
        starts = range(0, terms, CHUNK)
        parts = [(min(CHUNK, terms - n), 1_000_000 * seed + n) for n in starts]
        fuzzed = _joined(list(run(_fuzz, parts)))
        times.append(perf_counter())
        say(f"mutants of {len(ids)} theorems")
        killed = tuple(run(_kill, [(id, mutants, seed) for id in ids]))
        times.append(perf_counter())
        say("hypotheses left out")
        left = tuple(x for found in run(_needs, ids) for x in found)
        times.append(perf_counter())
    empty = tuple(id for id in ids if not REGISTRY[id].steps)
    spent = (times[1] - times[0], times[2] - times[1], times[3] - times[2])
    return Soundness(fuzzed, killed, left, empty, spent)


def summary(s: Soundness) -> str:
    """The reports as a few lines, and every finding."""
    f, m = s.fuzz, s.mutation_totals()
    pairs = f.refuted + f.equal + f.unknown
    without = Counter(x.verdict for x in s.left_out)
    lines = [
        f"fuzz        {f.terms} terms, {s.seconds[0]:.0f} s: {f.proved} rewritings proved, {f.missed} "
        f"missed; of {pairs} changed pairs {f.refuted} refuted, {f.equal} equal, {f.unknown} unknown; "
        f"unsound {len(f.unsound)}, broken {len(f.broken)}",
        f"mutants     {sum(m.values())} of {len(s.mutants)} theorems, {s.seconds[1]:.0f} s: {m['killed']} "
        f"killed, {m['equivalent']} equivalent, {m['unknown']} unknown; unsound {m['unsound']}",
        f"hypotheses  {len(s.left_out)} left out, {s.seconds[2]:.0f} s: {without['refuted']} theorems "
        f"refuted without, {without['unknown']} not proved; idle {without['proved']}",
        f"chains      {len(s.mutants)} theorems; without a step {len(s.empty)}",
    ]
    lines += [f"UNSOUND {x.what}, seed {x.seed}: {text(x.left)} = {text(x.right)}" for x in f.unsound]
    lines += [f"BROKEN {x.what}, seed {x.seed}: {text(x.left)} = {text(x.right)}" for x in f.broken]
    for report in s.mutants:
        lines += [
            f"UNSOUND {report.theorem}, line {u.mutant.line}: {u.mutant.edit}, {u.accepted} is accepted"
            for u in report.unsound
        ]
    lines += [f"IDLE {x.theorem}: {x.hypothesis}" for x in s.idle]
    lines += [f"EMPTY {id}" for id in s.empty]
    return "\n".join(lines)


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """``map`` in this process, or over several."""
    if jobs == 1:
        yield map
        return
    pool: Executor
    with ProcessPoolExecutor(jobs, initializer=ledger.load) as pool:
        yield pool.map


def _fuzz(part: tuple[int, int]) -> FuzzReport:
    count, seed = part
    return fuzz(count, seed=seed, changes=1)


def _kill(task: tuple[str, int | None, int]) -> MutationReport:
    id, limit, seed = task
    return kill(REGISTRY[id], limit, seed)


def _needs(id: str) -> list[Left]:
    needs: tuple[Need, ...] = prove(REGISTRY[id], instances=1).needs
    return [Left(id, n.hypothesis.name, n.verdict.name) for n in needs]


def _joined(reports: list[FuzzReport]) -> FuzzReport:
    """Reports on consecutive seeds as one."""
    names = ("terms", "proved", "missed", "refuted", "equal", "unknown", "undefined")
    counts = {name: sum(getattr(r, name) for r in reports) for name in names}
    unsound = tuple(x for r in reports for x in r.unsound)
    broken = tuple(x for r in reports for x in r.broken)
    return FuzzReport(reports[0].seed, **counts, unsound=unsound, broken=broken)
