"""The main job: from symbols to a report, every joint checked on the way."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from projsym.bench import Row
from projsym.bench.environment import available_cpus

if TYPE_CHECKING:
    from projsym.check import KernelCheck
    from projsym.compilation import Compilation
    from projsym.proof.prove import Proof
    from projsym.proof.theorem import Theorem

Advance = Callable[[str], None]


class Stages:
    """A progress display on a terminal, plain lines when piped, and one summary entry a stage."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.summary: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[tuple[Advance, dict[str, Any]]]:
        """Run a stage; the body fills in ``verdict``, ``detail`` and ``good``."""
        entry: dict[str, Any] = {"stage": name, "verdict": "", "detail": "", "good": False}
        start = time.perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}"),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(name, total=total, what="")
            yield lambda what: bar.update(task, advance=1, what=what), entry
            bar.update(task, what="")
        entry["seconds"] = round(time.perf_counter() - start, 2)
        self.summary.append(entry)
        if not self.console.is_terminal:
            self.console.print(f"{name}: {entry['verdict']}, {entry['detail']} ({entry['seconds']:.1f} s)")


def reproduce(out: Path, quick: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Carry out every stage and write ``report.json`` and ``report.html`` into `out`.

    Returns the report's data; ``summary`` has one entry a stage with ``good`` true only if everything in it
    was proved, checked, refuted as claimed or passed its gate.
    """
    from projsym.bench import environment
    from projsym.codegen.generate import kernels
    from projsym.compilation import Compilation, for_audit, for_bench, for_check
    from projsym.report import write_report

    stages = Stages(quiet)
    data: dict[str, Any] = {"environment": environment()}
    compilation = Compilation([*for_check(k.name for k in kernels()), *for_audit(), *for_bench()])
    # Proofs and the comparison of the files, which needs them, take one CPU. The compiler has the others: it
    # reads committed files, and the comparison decides whether they are those that the theorems give.
    compilation.start(max(1, available_cpus() - 1))
    data["derive"] = _derive(stages)
    data["kernels"] = _kernels(stages, compilation)
    data["audit"] = _audit(stages)
    data["claims"] = _claims(stages)
    data["bench"] = _bench(stages, quick)
    data["summary"] = stages.summary
    write_report(data, out)
    return data


def _derive(stages: Stages) -> list[dict[str, Any]]:
    from projsym.proof import ledger

    theorems, refusals = ledger.select()
    proofs, refutations = [], []
    with stages.stage("derive", len(theorems) + len(refusals)) as (advance, entry):
        for t in theorems:
            proofs.append(_proof(t))
            advance(t.id)
        for r in ledger.refute_all(refusals):
            refutations.append(r)
            advance(r.refusal.id)
        radius = max(getattr(p.checked, "worst_radius", float("inf")) for p in proofs)
        steps = sum(len(p.steps) for p in proofs)
        good = ledger.all_good(proofs, refutations)
        entry.update(
            good=good,
            verdict="proved" if good else "FAILED",
            detail=f"{len(proofs)} theorems in {steps} steps for all sizes, {len(refutations)} false claims "
            f"refuted; second opinion: balls overlap, radius at most {radius:.0e}",
        )
    return [ledger.proof_json(p) for p in proofs] + [ledger.refusal_json(r) for r in refutations]


def _proof(theorem: Theorem) -> Proof:
    """The proof, kept for the kernels that cite the theorem; what there is of it if it fails."""
    from projsym.codegen.kernel import required
    from projsym.proof.prove import prove
    from projsym.proof.verdict import ProofError

    try:
        return required(theorem)
    except (ProofError, TypeError):  # no hash: the witness of a contraposition is a mapping
        return prove(theorem)


def _kernels(stages: Stages, compilation: Compilation) -> list[dict[str, Any]]:
    from projsym.codegen.exp2 import certificate
    from projsym.codegen.generate import COMMITTED, MANIFEST, differences, kernels
    from projsym.compilation import for_check

    with stages.stage("generate", 1) as (advance, entry):
        different = differences(COMMITTED)
        advance(MANIFEST)
        entry.update(
            good=not different,
            verdict="proved" if not different else "FAILED",
            detail="every scheduled program validated, committed files agree byte for byte"
            if not different
            else "; ".join(different),
        )
    rows: list[dict[str, Any]] = []
    every = kernels()
    with stages.stage("compile", compilation.count) as (advance, entry):
        before = len(compilation.seconds)
        compilation.finish(1, lambda: advance(""))
        entry.update(
            good=True,
            verdict="checked",
            detail=f"{compilation.count} kernels compiled and loaded, {before} of them beside the proofs",
        )
    with stages.stage("check", len(every) * 4) as (advance, entry):
        seconds = {(w.kernel, w.dtype): compilation.seconds[w] for w in for_check(k.name for k in every)}
        theorems = {kernel.name: kernel.of.id for kernel in every}
        pairs = [(*which, backend) for which in seconds for backend in ("c", "numpy")]
        with ProcessPoolExecutor(available_cpus(), multiprocessing.get_context("spawn")) as pool:
            for c in pool.map(_check, *zip(*pairs, strict=True)):
                in_c = c.backend == "c"
                rows.append(
                    c.as_dict()
                    | {
                        "name": f"{c.kernel} ({c.backend})",
                        "file": f"{c.kernel}_{c.dtype}.c" if in_c else f"{c.kernel}.py",
                        "validated": not different,
                        "theorems": [theorems[c.kernel]],
                        "exp_error": certificate(c.dtype).total if in_c else None,
                        "compile_s": seconds[c.kernel, c.dtype] if in_c else None,
                    }
                )
                advance(f"{c.kernel} {c.dtype} {c.backend}")
        worst = max(r["worst_ratio"] for r in rows)
        good = all(r["verdict"] == "checked" for r in rows)
        entry.update(
            good=good,
            verdict="checked" if good else "FAILED",
            detail=f"{len(rows)} kernels in the balls of their theorems; worst error {worst:.2f} of bound",
        )
    return rows


def _check(name: str, dtype: str, backend: str) -> KernelCheck:
    from projsym.check import check_kernel
    from projsym.codegen.generate import kernels

    return check_kernel(next(k for k in kernels() if k.name == name), dtype, backend)


def _audit(stages: Stages) -> dict[str, Any]:
    from projsym.audit import audit

    with stages.stage("audit", 1) as (advance, entry):
        report = audit(backends=("c", "numpy"))
        end = report.end_to_end
        advance(report.model)
        entry.update(
            good=report.ok,
            verdict="checked" if report.ok else "FAILED",
            detail=f"{len(report.heads)} heads of {report.model} equal their projection within the bound; "
            f"whole model: embeddings differ by {end.max_abs_diff_float64:.0e} (float64), "
            f"{end.max_abs_diff_float32:.0e} (float32)",
        )
    return report.to_dict()


def _claims(stages: Stages) -> list[dict[str, Any]]:
    from projsym.claims import CLAIMS, support

    with stages.stage("claims", 1) as (advance, entry):
        standing = support()
        advance("")
        good = all(standing.values())
        counts = {
            v: sum(str(c.verdict) == v for c in CLAIMS) for v in dict.fromkeys(str(c.verdict) for c in CLAIMS)
        }
        entry.update(
            good=good,
            verdict="proved" if good else "FAILED",
            detail="what stands behind each claim does; the claims: "
            + ", ".join(f"{n} {v}" for v, n in counts.items()),
        )
    return [c.as_dict() for c in CLAIMS]


def _bench(stages: Stages, quick: bool) -> list[dict[str, Any]]:
    from projsym.bench import MAIN, run
    from projsym.bench.measure import KERNELS, thread_counts
    from projsym.bench.peers import FEW

    cells = len(MAIN) * len(KERNELS) * len(thread_counts(None))
    with stages.stage("measure", cells) as (advance, entry):
        rows = run(MAIN, seconds=0.1 if quick else 0.4, progress=advance, peers=FEW)
        good = bool(rows) and all(r.agreed for r in rows)
        best: dict[str, list[float]] = {}
        for r in rows:
            if r.ratio_min is not None:
                best.setdefault(r.peer, []).append(r.ratio_min)
        spread = ", ".join(f"{min(v):.2f}–{max(v):.2f}× {peer}" for peer, v in best.items())
        entry.update(
            good=good,
            verdict="measured" if good else "FAILED",
            detail=f"{len(rows)} comparisons, speed {spread}",
        )
    return [r.as_dict() for r in rows]


def summary_table(data: dict[str, Any]) -> Table:
    """The final table: a line a stage."""
    table = Table(title="projsym reproduce")
    for name in ("stage", "verdict", "detail"):
        table.add_column(name)
    table.add_column("seconds", justify="right")
    for s in data["summary"]:
        table.add_row(s["stage"], s["verdict"], s["detail"], f"{s['seconds']:.1f}")
    return table


def bench_table(rows: list[Row]) -> Table:
    """Our times against each peer's, ratios above 1 where ours is faster."""
    table = Table(title="kernels against peers (ratio: peer's time over ours)")
    for name in ("kernel", "shape", "dtype", "threads", "peer", "ours ms", "peer ms", "ratio min", "median"):
        table.add_column(name, justify="left" if name in ("kernel", "shape", "dtype", "peer") else "right")
    for name in ("of peak", "error", "bound"):
        table.add_column(name, justify="right")
    for r in rows:
        shape = "×".join(map(str, r.shape))
        head = (r.kernel, shape, r.dtype, str(r.threads), r.peer)
        if r.ours_min_s is None or r.peer_min_s is None:
            table.add_row(*head, r.verdict, *[""] * 4, f"{r.max_abs_err:.1e}", f"{r.err_bound:.1e}")
            continue
        table.add_row(
            *head,
            f"{1e3 * r.ours_min_s:.3f}",
            f"{1e3 * r.peer_min_s:.3f}",
            f"{r.ratio_min:.2f}",
            f"{r.ratio_median:.2f}",
            f"{r.peak_fraction:.0%}",
            f"{r.max_abs_err:.1e}",
            f"{r.err_bound:.1e}",
        )
    return table
