"""Timing variants of a kernel that differ in their register tiles, after an equality gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import numpy as np

from projsym.attention import attention
from projsym.bench.backward import GradientGate
from projsym.bench.environment import available_cpus
from projsym.bench.gate import Gate
from projsym.errors import refused
from projsym.runtime import isa, manifest, tuned
from projsym.runtime.c_kernel import CKernel
from projsym.runtime.layout import Array
from projsym.runtime.threads import get_num_threads, set_num_threads
from projsym.schedules import DTYPES, PASSES, Row
from projsym.tune.candidates import candidates, committed

MARGIN = 0.01
"""By how much, in least time and in median, a tile must be faster than the committed one to replace it."""
ROWS = 384
SEED = 20260202


@dataclass(frozen=True)
class Measured:
    """One tile at one size: seconds of CPU time for a call on one thread, over all turns."""

    way: str
    isa: str
    dtype: str
    features: int
    row: Row
    least: float
    median: float


def measure(way: str, dtype: str, features: int, seconds: float = 4.0) -> tuple[Row, list[Measured]]:
    """The tile to use for vectors of `features` features, and every tile's times, the committed one first.

    way: "forward" or "backward". seconds: of timing, all tiles together. Variants of the attention kernel are
    compiled with each tile for the instruction set in force, checked by the benchmark's gate (outputs within
    the proven bound of a reference), and run in turns on one thread. Two tiles, that of the scores and that
    of the sums, are chosen apart; their pair is measured too if both are new.

    Raises ValueError for an argument that is not allowed, CompilerError without a compiler, and RuntimeError
    if a variant's output is outside its bound.
    """
    for name, value, allowed in (("way", way, PASSES), ("dtype", dtype, DTYPES)):
        if value not in allowed:
            raise ValueError(refused(name, repr(value), " or ".join(allowed)))
    if type(features) is not int or features < 1:
        raise ValueError(refused("features", repr(features), "an integer of at least 1"))
    if not seconds > 0:
        raise ValueError(refused("seconds", repr(seconds), "a positive number"))
    here = isa.chosen()
    first = committed(way, here, dtype, features)
    problem = _Problem(way, dtype, features)
    tiles = candidates(here, first)
    times = problem.times(tiles, seconds)
    chosen = _combine(first, times)
    if chosen not in times:
        again = problem.times([first, chosen], seconds / 2)
        times |= {chosen: again[chosen]}
        chosen = chosen if _faster(again[chosen], again[first]) else first
    found = [Measured(way, here, dtype, features, row, min(t), median(t)) for row, t in times.items()]
    return chosen, found


def _faster(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(f(one) < (1 - MARGIN) * f(other) for f in (min, median))


def _combine(first: Row, times: dict[Row, list[float]]) -> Row:
    """The best tile of the scores with the best tile of the sums."""
    scores = [row for row in times if row[3:] == first[3:]]
    sums = [row for row in times if row[1:3] == first[1:3]]
    best = []
    for rows in (scores, sums):
        least = min(rows, key=lambda row: min(times[row]))
        best.append(least if _faster(times[least], times[first]) else first)
    return (first[0], *best[0][1:3], *best[1][3:])


class _Problem:
    """Inputs, gate and variants for one pass, dtype and size."""

    def __init__(self, way: str, dtype: str, features: int) -> None:
        self.dtype, self.features = dtype, features
        rng = np.random.default_rng(SEED)
        g, q, k, v = (rng.standard_normal((1, ROWS, features)).astype(dtype) for _ in range(4))
        name = "attention" if way == "forward" else "attention_backward"
        self.entry = manifest.load(manifest.KERNELS)[name]
        arrays = {"q": q, "k": k, "v": v}
        self.check: Callable[[list[Array | None]], bool]
        if way == "forward":
            gate = Gate(q, k, v, self.entry.order(f"c/{dtype}", ROWS, ROWS, features))
            self.check = lambda made: made[0] is not None and gate.check(made[0], peer=False).equal
        else:
            out, lse = attention(q, k, v, return_lse=True, backend="c")
            arrays |= {"g": g, "out": out, "lse": lse, "g_lse": np.zeros_like(lse)}
            gradients = GradientGate(g, q, k, v)
            self.check = lambda made: gradients.check(tuple(made), peer=False).equal  # type: ignore[arg-type]
        self.arrays = {x.name: arrays[x.name] for x in self.entry.arrays}

    def times(self, rows: Sequence[Row], seconds: float) -> dict[Row, list[float]]:
        """Seconds of every turn, by tile; all are compiled and checked before."""
        with ThreadPoolExecutor(available_cpus()) as pool:
            kernels = list(pool.map(self._kernel, rows))
        before = get_num_threads()
        set_num_threads(1)
        try:
            plans = [kernel.plan((1,), self.arrays) for kernel in kernels]
            given, parameters = tuple(self.arrays.values()), (self.features**-0.5,)
            for row, plan in zip(rows, plans, strict=True):
                made, status = plan(given, parameters)
                if status or not self.check(made):
                    raise RuntimeError(f"{self.entry.name}, tile {row[1:]}: outside its error bound")
            found: dict[Row, list[float]] = {row: [] for row in rows}
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or not found[rows[0]]:
                for row, plan in zip(rows, plans, strict=True):
                    start = time.thread_time()
                    plan(given, parameters)
                    found[row].append(time.thread_time() - start)
            return found
        finally:
            set_num_threads(before)

    def _kernel(self, row: Row) -> CKernel:
        sizes = {x.feature: self.features for x in self.entry.vectors}
        return CKernel(self.entry, self.dtype, sizes, tuned.definitions(row))
