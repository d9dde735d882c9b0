"""What `projsym.fold` and `projsym.tie` check of a layer's weights; every error names the argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def heads(given: Any) -> None:
    """Raises ValueError unless the number of heads is an integer of at least 1."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise ValueError(f"heads: got {given!r}; allowed is an integer >= 1")


def floats(given: Mapping[str, ArrayLike | None], dtype: DTypeLike | None) -> dict[str, Array]:
    """The weights that were given, in one dtype: that of w_q, or `dtype`. Raises TypeError and ValueError."""
    arrays = {name: np.asarray(value) for name, value in given.items() if value is not None}
    target = arrays["w_q"].dtype if dtype is None else np.dtype(dtype)
    if target not in FLOATS:
        name = "w_q" if dtype is None else "dtype"
        raise TypeError(f"{name}: got dtype {target}; allowed are float32 and float64")
    for name, array in arrays.items():
        if dtype is not None and array.dtype.kind == "f":
            arrays[name] = array.astype(target)
        elif array.dtype != target:
            hint = f"{target} as w_q (or dtype= to convert)" if dtype is None else "a floating-point array"
            raise TypeError(f"{name}: got dtype {array.dtype}; allowed is {hint}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name}: got a NaN or an infinity; allowed are finite numbers")
    return arrays


def matrices(arrays: Mapping[str, Array], names: Iterable[str]) -> None:
    """Raises ValueError unless each is a matrix that is not empty."""
    for name in names:
        if arrays[name].ndim != 2 or arrays[name].size == 0:
            raise ValueError(f"{name}: got shape {arrays[name].shape}; allowed is a non-empty matrix")


def divided(number: int, size: int, name: str) -> None:
    """Raises ValueError unless the heads divide the joint width `size` of a matrix."""
    if size % number:
        raise ValueError(
            f"heads: got {number}; allowed is a divisor of {size}, the joint head width of {name}"
        )


def shaped(arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless those of the arrays that were given have these shapes."""
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{name}: got shape {arrays[name].shape}; allowed is {shape}")


def scale_of(scale: Any, width: int) -> float:
    """The scale of scores: 1/√width where none is given. Raises ValueError."""
    if scale is None:
        return float(width**-0.5)
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.floating) or not isfinite(scale):
        raise ValueError(f"scale: got {scale!r}; allowed is a finite real number")
    return float(scale)


def columns(matrix: Array, heads: int) -> Array:
    """(D, H·d) -> (H, D, d): the heads' blocks of columns."""
    return np.ascontiguousarray(matrix.reshape(len(matrix), heads, -1).transpose(1, 0, 2))
