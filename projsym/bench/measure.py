"""The measurement: gate, then interleaved timing, for every shape, kernel and number of threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from projsym.attention import attention, project
from projsym.bench import backward, jitted
from projsym.bench import peers as implementations
from projsym.bench.environment import available_cpus
from projsym.bench.gate import Agreement, Gate, kept
from projsym.bench.peak import fma_peak
from projsym.bench.rows import SHAPES, Row, Shape, computed
from projsym.bench.timing import Times, interleave
from projsym.runtime import manifest, storage
from projsym.runtime.threads import default_threads, get_num_threads, set_num_threads

Array: TypeAlias = NDArray[Any]
Progress: TypeAlias = Callable[[str], None]

SEED = 20260202
KERNELS = ("attention", "project", backward.KERNEL)
"""What is measured of every shape."""


def run(
    shapes: Iterable[Shape] | None = None,
    threads: Iterable[int] | None = None,
    seconds: float = 0.4,
    progress: Progress | None = None,
    peers: Collection[str] | None = None,
    gates: Path | None = None,
) -> list[Row]:
    """Compare `projsym.attention` and `projsym.project` with every peer that is installed.

    shapes: by default `SHAPES`. threads: by default 1 and 2, as far as this process has the CPUs.
    seconds: of timing for one shape, kernel and number of threads, all peers together.
    progress: called with a line before each of these. peers: those to compare with; default: all.
    gates: a folder that holds the references and bounds of these shapes, or where they are to be kept.

    Inputs are standard normal, the same in every run. Ours and the peers use the same number of threads and
    are timed in turns (`interleave`), after `Gate` has passed both outputs; a pair that it did not pass gives
    a row marked "refused: …" without times. Prefill has as many operations with V = K as without, so
    `project` is compared with the peers' attention on (q, k, k). In bfloat16 the peer is PyTorch, without
    gradients.

    Raises ValueError for a number of threads below 1 or above the CPUs of this process, or for `seconds` that
    is not positive; CompilerError without a C compiler.
    """
    counts = thread_counts(threads)
    if not seconds > 0:
        raise ValueError(f"seconds: got {seconds!r}, allowed are positive numbers")
    chosen = list(SHAPES if shapes is None else shapes)
    rates: dict[str, float] = {}
    rows: list[Row] = []
    for shape in chosen:
        for kernel in KERNELS[:2]:
            q, k, v = _inputs(shape, kernel)
            gate = kept(gates, f"{kernel} {shape}", partial(Gate, q, k, v, _order(kernel, shape)))
            for n in counts:
                if progress:
                    progress(f"{kernel} {'x'.join(map(str, shape.sizes))} {shape.dtype}, threads: {n}")
                # The rate is the best that is seen all through the run: other load can only lower it.
                kind = shape.computed
                rates[kind] = max(rates.get(kind, 0.0), fma_peak(kind))
                rows += _compare(kernel, shape, n, (q, k, v), gate, seconds, peers)
        if shape.dtype != storage.BFLOAT16:
            rows += _gradients(shape, counts, seconds, progress, peers, gates)
    return [_with_fraction(row, row.threads * rates[computed(row.dtype)]) for row in rows]


def _with_fraction(row: Row, rate: float) -> Row:
    """The row with its fraction of `rate`, that of all its threads together; without times if the peer was
    faster than that, for then it had more threads than the row says."""
    if row.ours_min_s is None or row.peer_min_s is None:
        return row
    flops = Shape(*row.shape, row.dtype).flops
    if row.kernel == backward.KERNEL:
        flops = flops * backward.CONTRACTIONS // 2
    alone = " on " not in row.peer  # else its name says that it has other threads
    if alone and flops / row.peer_min_s > rate:
        verdict = f"refused: {row.peer} above the rate of {row.threads} thread{'s' * (row.threads > 1)}"
        return replace(
            row, ours_min_s=None, peer_min_s=None, ratio_min=None, ratio_median=None, verdict=verdict
        )
    return replace(row, peak_fraction=flops / row.ours_min_s / rate)


def _gradients(
    shape: Shape,
    counts: list[int],
    seconds: float,
    progress: Progress | None,
    only: Collection[str] | None,
    gates: Path | None,
) -> list[Row]:
    """Rows for the forward pass with gradients."""
    q, k, v = _inputs(shape, "attention")
    g = np.random.default_rng(SEED + 1).standard_normal(q.shape).astype(q.dtype)
    gate = kept(gates, f"{backward.KERNEL} {shape}", partial(backward.GradientGate, g, q, k, v))
    rows: list[Row] = []
    for n in counts:
        if progress:
            progress(f"{backward.KERNEL} {'x'.join(map(str, shape.sizes))} {shape.dtype}, threads: {n}")
        prepared = {x: make(g, q, k, v) for x, make in backward.peers().items() if only is None or x in only}
        ours = backward.ours(g, q, k, v)
        with _kernel_threads(n), implementations.limited(n):
            own = gate.check(ours(), peer=False)
            others = {name: gate.check(call(), peer=True) for name, call in prepared.items()}
            passed = {name: call for name, call in prepared.items() if others[name].equal}
            times = interleave({"": ours, **passed}, seconds) if own.equal and passed else {}
        rows += [_row(backward.KERNEL, shape, n, x, times, own, others[x]) for x in prepared]
    return rows


def _compare(
    kernel: str,
    shape: Shape,
    threads: int,
    inputs: tuple[Array, Array, Array],
    gate: Gate,
    seconds: float,
    only: Collection[str] | None,
) -> list[Row]:
    """Rows for one cell, a row a peer."""
    q, k, v = inputs
    ours: implementations.Call = partial(attention, q, k, v, backend="c")
    if kernel == "project":
        ours = partial(project, q, k, backend="c")
    found = implementations.available(shape.dtype)[0]
    prepared = {x: make(q, k, v, threads) for x, make in found.items() if only is None or x in only}
    with _kernel_threads(threads), implementations.limited(threads):
        own = gate.check(ours(), peer=False)
        others = {name: gate.check(call(), peer=True) for name, call in prepared.items()}
    times: dict[str, Times] = {}
    # Once more: a peer's first call may start its threads, and with them set the number for all.
    with _kernel_threads(threads), implementations.limited(threads):
        if own.equal and any(x.equal for x in others.values()):
            passed = {name: call for name, call in prepared.items() if others[name].equal}
            times = interleave({"": ours, **passed}, seconds)
    return [_row(kernel, shape, threads, x, times, own, others[x]) for x in prepared]


def _row(
    kernel: str,
    shape: Shape,
    threads: int,
    peer: str,
    times: dict[str, Times],
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
    )


def _inputs(shape: Shape, kernel: str) -> tuple[Array, Array, Array]:
    heads, n, m, d = shape.sizes
    if shape.dtype == storage.BFLOAT16:
        drawn = _inputs(replace(shape, dtype="float32"), kernel)
        q, k, v = (storage.rounded(x, storage.BITS) for x in drawn)
        return q, k, v
    rng = np.random.default_rng(SEED)
    dtype: Any = np.float32 if shape.dtype == "float32" else np.float64
    q = rng.standard_normal((heads, n, d), dtype=dtype)
    k = rng.standard_normal((heads, m, d), dtype=dtype)
    v = k if kernel == "project" else rng.standard_normal((heads, m, d), dtype=dtype)
    return q, k, v


def _order(kernel: str, shape: Shape) -> dict[str, Any]:
    """How the committed kernel sums over the keys, which its error bound depends on."""
    name = "project_dot" if kernel == "project" else kernel
    return manifest.load(manifest.KERNELS)[name].order(f"c/{shape.dtype}", *shape.sizes[1:])


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
