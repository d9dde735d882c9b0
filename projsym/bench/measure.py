"""The measurement: gate, then interleaved timing, for every shape, kernel and number of threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from projsym.bench import backward, jitted
from projsym.bench import peers as implementations
from projsym.bench.environment import available_cpus
from projsym.bench.gate import Agreement, Gate, kept
from projsym.bench.memory import work_bytes
from projsym.bench.peak import fma_peak
from projsym.bench.predict import flops
from projsym.bench.problems import Problem, problem
from projsym.bench.rows import IN_NUMPY, SHAPES, Row, Shape, multiplied
from projsym.bench.timing import Times, interleave
from projsym.runtime import storage
from projsym.runtime.threads import default_threads, get_num_threads, set_num_threads

Progress: TypeAlias = Callable[[str], None]

KERNELS = ("attention", "project", backward.KERNEL)
"""What is measured of every shape."""


def run(
    shapes: Iterable[Shape] | None = None,
    threads: Iterable[int] | None = None,
    seconds: float = 0.4,
    progress: Progress | None = None,
    peers: Collection[str] | None = None,
    gates: Path | None = None,
    *,
    more: Mapping[str, Iterable[Shape]] | None = None,
) -> list[Row]:
    """Compare `projsym.attention` and `projsym.project` with every peer that is installed.

    shapes: by default `SHAPES`. threads: by default 1 and 2, as far as this process has the CPUs.
    seconds: of timing for one shape, kernel and number of threads, all peers together.
    progress: called with a line before each of these. peers: those to compare with; default: all.
    gates: a folder that holds the references and bounds of these shapes, or where they are to be kept.
    more: shapes at which further kernels are measured, as in `projsym.bench.MORE`.

    Inputs are standard normal, the same in every run. Ours and the peers use the same number of threads and
    are timed in turns (`interleave`), after `Gate` has passed both outputs; a pair that it did not pass gives
    a row marked "refused: …" without times. Prefill has as many operations with V = K as without, so
    `project` is compared with the peers' attention on (q, k, k). In bfloat16 the peer is PyTorch, without
    gradients. The kernel in NumPy is compared with NumPy and PyTorch; its BLAS has as many threads as theirs,
    and beside NumPy the memory of both is measured too.

    Raises ValueError for a number of threads below 1 or above the CPUs of this process, for `seconds` that is
    not positive, or for a shape in `more` that its kernel is not measured at; CompilerError without a C
    compiler.
    """
    counts = thread_counts(threads)
    if not seconds > 0:
        raise ValueError(f"seconds: got {seconds!r}, allowed are positive numbers")
    cells = [
        (kernel, shape)
        for shape in (SHAPES if shapes is None else shapes)
        for kernel in KERNELS
        if kernel != backward.KERNEL or shape.dtype != storage.BFLOAT16
    ]
    cells += [(kernel, shape) for kernel, found in (more or {}).items() for shape in found]
    rates: dict[str, float] = {}
    rows: list[Row] = []
    for kernel, shape in cells:
        case = problem(kernel, shape)
        gate = kept(gates, f"{kernel} {shape}", case.gate)
        for n in counts:
            if progress:
                progress(f"{kernel} {'x'.join(map(str, shape.sizes))} {shape.dtype}, threads: {n}")
            # The rate is the best that is seen all through the run: other load can only lower it.
            kind = shape.multiplied
            rates[kind] = max(rates.get(kind, 0.0), fma_peak(kind))
            rows += _compare(kernel, shape, n, case, gate, seconds, peers)
    return [_with_fraction(row, row.threads * rates[multiplied(row.dtype)]) for row in rows]


def _with_fraction(row: Row, rate: float) -> Row:
    """The row with its fraction of `rate`, that of all its threads together; without times if the peer was
    faster than that, for then it had more threads than the row says."""
    if row.ours_min_s is None or row.peer_min_s is None:
        return row
    needed = flops(row.kernel, row.shape)
    alone = " on " not in row.peer  # else its name says that it has other threads
    if alone and needed / row.peer_min_s > rate:
        verdict = f"refused: {row.peer} above the rate of {row.threads} thread{'s' * (row.threads > 1)}"
        return replace(
            row, ours_min_s=None, peer_min_s=None, ratio_min=None, ratio_median=None, verdict=verdict
        )
    return replace(row, peak_fraction=needed / row.ours_min_s / rate)


def _compare(
    kernel: str,
    shape: Shape,
    threads: int,
    case: Problem,
    gate: Gate | backward.GradientGate,
    seconds: float,
    only: Collection[str] | None,
) -> list[Row]:
    """Rows for one cell, a row a peer."""
    prepared = {x: make(threads) for x, make in case.peers.items() if only is None or x in only}
    with _kernel_threads(threads), implementations.limited(threads):
        own = gate.check(case.ours(), peer=False)
        others = {name: gate.check(call(), peer=True) for name, call in prepared.items()}
    times: dict[str, Times] = {}
    memory: dict[str, int] = {}
    # Once more: a peer's first call may start its threads, and with them set the number for all.
    with _kernel_threads(threads), implementations.limited(threads):
        if own.equal and any(x.equal for x in others.values()):
            passed = {name: call for name, call in prepared.items() if others[name].equal}
            times = interleave({"": case.ours, **passed}, seconds)
            if kernel == IN_NUMPY and "numpy" in passed:
                memory = {"": work_bytes(case.ours), "numpy": work_bytes(passed["numpy"])}
    return [_row(kernel, shape, threads, x, times, memory, own, others[x]) for x in prepared]


def _row(
    kernel: str,
    shape: Shape,
    threads: int,
    peer: str,
    times: dict[str, Times],
    memory: dict[str, int],
    own: Agreement,
    other: Agreement,
) -> Row:
    ours, theirs = times.get(""), times.get(peer)
    verdict = "equal"
    if not (own.equal and other.equal):
        who = " and ".join(n for n, x in (("projsym", own), (peer, other)) if not x.equal)
        verdict = f"refused: {who} beyond the error bound"
    return Row(
        kernel=kernel,
        shape=shape.sizes,
        dtype=shape.dtype,
        threads=threads,
        peer=jitted.label(peer, threads, available_cpus()),
        ours_min_s=ours.least if ours and theirs else None,
        peer_min_s=theirs.least if ours and theirs else None,
        ratio_min=theirs.least / ours.least if ours and theirs else None,
        ratio_median=theirs.median_ratio(ours) if ours and theirs else None,
        peak_fraction=None,
        max_abs_err=own.max_abs_err,
        err_bound=own.err_bound,
        peer_max_abs_err=other.max_abs_err,
        peer_err_bound=other.err_bound,
        verdict=verdict,
        ours_work_bytes=memory[""] if peer in memory else None,
        peer_work_bytes=memory.get(peer),
    )


def thread_counts(threads: Iterable[int] | None) -> list[int]:
    """The numbers of threads to measure with; ValueError for one that this process has not the CPUs for."""
    cpus = available_cpus()
    if threads is None:
        return [n for n in (1, 2) if n <= cpus]
    counts = list(threads)
    for n in counts:
        if not 1 <= n <= cpus:
            raise ValueError(f"threads: got {n}, allowed are 1 to {cpus}, the CPUs of this process")
    return counts


@contextmanager
def _kernel_threads(n: int) -> Iterator[None]:
    # A number that is the default goes back to being one, which follows the environment.
    before = None if get_num_threads() == default_threads() else get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)
