"""What a library that calls us decides for its own thread: how many threads to use, where outputs are made.

PyTorch has a number of threads of its own and an allocator of its own; a kernel that runs as one of its
operators keeps to both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from projsym.runtime.layout import Array

Empty: TypeAlias = "Callable[[tuple[int, ...], np.dtype[np.generic]], Array]"
"""(shape, dtype) -> an array in C order, not initialised."""


class _Host(threading.local):
    threads: int | None = None
    empty: Empty | None = None


here = _Host()
"""What the caller of this thread has set."""


class hosted:
    """In this thread, C kernels use at most `threads` threads and put their outputs into arrays from `empty`.

    The NumPy kernels use the threads of NumPy's BLAS and NumPy's own arrays. A class, since a generator would
    take longer than the rest of a small call's checks.
    """

    __slots__ = ("_before", "_wanted")

    def __init__(self, threads: int, empty: Empty) -> None:
        self._wanted = threads, empty

    def __enter__(self) -> None:
        self._before = here.threads, here.empty
        here.threads, here.empty = self._wanted

    def __exit__(self, *error: object) -> None:
        here.threads, here.empty = self._before


def threads() -> int | None:
    """The number that the caller has set, or None."""
    return here.threads


def empty(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """An array for an output."""
    return np.empty(shape, dtype) if here.empty is None else here.empty(shape, dtype)
