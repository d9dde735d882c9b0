"""Memory that a call of NumPy works in, beside what it is given and what it returns."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


def work_bytes(call: Callable[[], Array]) -> int:
    """The most that is allocated at any time of a call, in bytes, less its result.

    NumPy tells `tracemalloc` of its arrays. What a library allocates by itself, as BLAS does for the blocks
    that it packs, is not seen. The function should have been called once before.
    """
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return tracemalloc.get_traced_memory()[1] - before - result.nbytes
    finally:
        if not traced:
            tracemalloc.stop()


def lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    """One line for every row of a benchmark's result that has both memories."""
    return [
        f"{r['kernel']} {'×'.join(map(str, r['shape']))} {r['dtype']}, threads: {r['threads']}: works in "
        f"{r['ours_work_bytes'] / 1e6:.2f} MB beside its output, {r['peer']} in "
        f"{r['peer_work_bytes'] / 1e6:.2f} MB, {r['peer_work_bytes'] / r['ours_work_bytes']:.1f} times that"
        for r in rows
        if r["ours_work_bytes"] and r["peer_work_bytes"]
    ]
