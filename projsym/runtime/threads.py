"""How many threads a C kernel may use."""

from __future__ import annotations

import os

from projsym.errors import refused
from projsym.runtime import host

SMALL = 2_000_000
"""Multiplications that one thread does in 50 to 100 µs: with less to do, waking a second one, which takes
tens of microseconds once it sleeps, costs more than it brings."""

_chosen: int | None = None
_used_here = False
_single = False


def default_threads() -> int:
    """The first number of ``OMP_NUM_THREADS``, else the number of CPUs that this process may run on."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isascii() and first.isdigit() and int(first) > 0:
        return int(first)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def set_num_threads(n: int | None) -> None:
    """Set the number of threads of the C kernels (results do not depend on it); None restores the default.

    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)

    Raises TypeError if `n` is not an integer and ValueError if it is less than 1. The NumPy kernels use the
    threads of NumPy's BLAS library, which this does not set.
    """
    global _chosen
    if n is None:
        _chosen = None
        return
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(
            refused("n", f"{n!r} of type {type(n).__name__}", "an integer of at least 1, or None")
        )
    value = n.__index__()
    if not 1 <= value <= 2**31 - 1:
        raise ValueError(refused("n", value, "an integer from 1 to 2**31 - 1, or None"))
    _chosen = value


def get_num_threads() -> int:
    """The number of threads that the next C kernel may use; one called by PyTorch uses as many as PyTorch.

    >>> get_num_threads() >= 1
    True
    """
    return (host.threads() or _chosen or default_threads()) if not _single else 1


def threads_for_call(work: int) -> int:
    """The threads worth waking for `work` multiplications; notes that a pool may have been started."""
    global _used_here
    n = get_num_threads() if work > SMALL else 1
    _used_here = _used_here or n > 1
    return n


def _after_fork_in_child() -> None:
    # A forked child has none of the threads of its parent's OpenMP pool, and GNU OpenMP waits for them for
    # ever. One thread needs no pool.
    global _single
    _single = _single or _used_here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
