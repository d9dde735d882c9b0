"""Where the elements of an array are, in the terms of a kernel: base address, head offsets, row stride."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Ranges: TypeAlias = tuple[Array, Array]
"""The first key that a query sees, and the one after the last: int64 of one shape, contiguous."""


def usable(x: Array, core: int) -> bool:
    """Whether a kernel can read `x` in place.

    core: 2 for vectors (rows, features), 1 for scalars. It can if elements are aligned, the last axis has
    unit stride, rows do not run backwards, and every stride is a whole number of elements. Leading axes may
    have any such stride, negative and zero too.
    """
    flags = x.flags
    if not flags.aligned:
        return False
    if flags.c_contiguous:
        return True
    item, shape, strides = x.itemsize, x.shape, x.strides
    if shape[-1] > 1 and strides[-1] != item:
        return False
    if core == 2 and shape[-2] > 1 and strides[-2] < 0:
        return False
    return all(n <= 1 or s % item == 0 for n, s in zip(shape, strides, strict=True))


def ready(x: Array, core: int) -> Array:
    """`x` itself if `usable`, else a contiguous copy."""
    return x if usable(x, core) else x.copy(order="C")


@functools.lru_cache(maxsize=128)
def head_offsets(
    lead: tuple[int, ...], shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[Array, int]:
    """Offset of each head in elements, in C order of `lead`, and the address of that table.

    shape, strides: leading axes of the array and their strides in elements; they broadcast to `lead` as
    NumPy does, without a copy: an axis of length 1 has stride 0. The table is kept as long as the cache holds
    it, so the caller must keep a reference during a call.
    """
    table = np.zeros((1,) * len(lead), np.int_)
    first = len(lead) - len(shape)
    for axis, (n, s) in enumerate(zip(shape, strides, strict=True), first):
        if n > 1:
            steps = np.arange(n, dtype=np.int_) * s
            table = table + steps.reshape((-1,) + (1,) * (len(lead) - 1 - axis))
    table = np.ascontiguousarray(np.broadcast_to(table, lead).reshape(-1))
    return table, table.ctypes.data


def heads(x: Array, lead: tuple[int, ...], core: int) -> tuple[Array, int]:
    """`head_offsets` of the array `x`."""
    n, item = x.ndim - core, x.itemsize
    return head_offsets(lead, x.shape[:n], tuple(s // item for s in x.strides[:n]))


def address(x: Array) -> int:
    """The address of the first element."""
    return int(x.__array_interface__["data"][0])
