"""Checks of what a user passes. Every refusal names the argument, what was given and what is allowed."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from projsym.errors import refused
from projsym.runtime import storage
from projsym.runtime.layout import Array

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
ALLOWED = "an array of float32 or float64"


def array(name: str, value: Any, ndim: int, narrow: bool = False) -> Array:
    """`value` as a NumPy array of float32 or float64 with at least `ndim` axes; never converts a dtype.

    narrow: whether bfloat16 will do as well.

    Raises TypeError for another dtype, a masked array, or an object that NumPy cannot view as an array (a
    tensor that requires a gradient or lives on a GPU), ValueError for too few axes.
    """
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(refused(name, "a masked array", f"{ALLOWED} (exclude keys by key_bias = -inf)"))
        if narrow and storage.is_tensor(value):
            value = storage.bits(name, value)
        try:
            value = _shared(value)
        except (TypeError, ValueError, RuntimeError, BufferError) as e:
            raise TypeError(refused(name, f"{type(value).__name__} ({e})", ALLOWED)) from e
    if value.dtype != FLOAT32 and value.dtype != FLOAT64 and not (narrow and storage.narrow(value.dtype)):
        swapped = value.dtype.kind == "f" and not value.dtype.isnative
        also = ", or of bfloat16" if narrow else ""
        allowed = f"{ALLOWED}, in native byte order{also}; convert it with .astype"
        raise TypeError(refused(name, f"{value.dtype.str if swapped else value.dtype} array", allowed))
    if value.ndim < ndim:
        axes = "at least 2 axes: (..., rows, features)" if ndim == 2 else "at least 1 axis: (..., keys)"
        raise ValueError(refused(name, f"shape {value.shape}", axes))
    return value  # type: ignore[no-any-return]


def _shared(value: Any) -> Array:
    """`value` as NumPy sees it: by its own protocols where it has one, else by DLPack, which never copies."""
    numpys = any(hasattr(value, name) for name in ("__array__", "__array_interface__", "__buffer__"))
    if not numpys and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def same_dtype(first: str, x: Array, name: str, y: Array) -> None:
    """Raises TypeError if the dtypes differ."""
    if x.dtype != y.dtype:
        given, wanted = storage.kind(y.dtype), storage.kind(x.dtype)
        of_torch = " of PyTorch" if given == wanted else ""
        told = (f"{a}{of_torch if z.dtype == storage.BITS else ''}" for a, z in ((given, y), (wanted, x)))
        given, wanted = told
        raise TypeError(refused(name, given, f"{wanted}, the dtype of {first}"))


def computed(name: str, value: Any, ndim: int, first: str, x: Array) -> Array:
    """Numbers of the type that the arrays are computed in whose first is `x`: of its dtype, or for bfloat16
    also float32; bfloat16 numbers are widened by a copy. Raises TypeError or ValueError as `array`."""
    if storage.narrow(x.dtype):
        value, x = storage.widened(value, name), np.empty(0, FLOAT32)
    found = array(name, value, ndim)
    same_dtype(first, x, name, found)
    return found


def length(first: str, name: str, y: Array, axis: int, size: int, pattern: str) -> None:
    """Raises ValueError unless axis `axis` of `y` has length `size`, which it shares with `first`."""
    if y.shape[axis] != size:
        allowed = f"shape {pattern} as in {first}"
        raise ValueError(refused(name, f"shape {y.shape}", allowed))


def leading(parts: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Leading axes of the result. Raises ValueError, naming every argument, if they do not broadcast."""
    shapes = list(parts.values())
    if all(s == shapes[0] for s in shapes[1:]):
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as e:
        given = ", ".join(f"{s} of {name}" for name, s in parts.items())
        allowed = "axes that broadcast as in NumPy"
        raise ValueError(refused("leading axes of " + ", ".join(parts), given, allowed)) from e


def real(name: str, value: Any, positive: bool = False, also: str = "") -> float:
    """A finite real number as a float. Raises TypeError (also for bool and arrays) or ValueError; also: what
    else its caller takes, in words."""
    allowed = "a finite real number" + (" greater than 0" if positive else "") + also
    if type(value) is not float:
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
            raise TypeError(refused(name, f"{value!r} of type {type(value).__name__}", allowed))
        try:
            value = float(value)
        except OverflowError as e:
            raise ValueError(refused(name, "a number outside the range of float64", allowed)) from e
    if not math.isfinite(value) or (positive and value <= 0):
        raise ValueError(refused(name, repr(value), allowed))
    return float(value)


def bandwidth(value: Any) -> float:
    """`sigma` as one number. Raises TypeError or ValueError."""
    return real("sigma", value, positive=True, also=", or an array (..., m) of one number a key")


def bandwidths(value: Any, q: Array, m: int) -> Array:
    """`sigma` as an array: one number greater than 0 for each of m keys, of the dtype of q, or as
    `computed` takes it. Raises TypeError or ValueError."""
    x = computed("sigma", value, 1, "q", q)
    if x.shape[-1] != m:
        allowed = f"shape (..., {m}), one number a key, or a number"
        raise ValueError(refused("sigma", f"shape {x.shape}", allowed))
    if x.size and not (x.min() > 0 and x.max() < math.inf):
        bad = "NaN" if np.isnan(x).any() else f"numbers from {x.min()} to {x.max()}"
        raise ValueError(refused("sigma", bad, "finite numbers greater than 0"))
    return x


def per_key(sigma: Any) -> bool:
    """Whether `sigma` is an array with axes, a bandwidth for each key, rather than one number."""
    return type(sigma) is not float and (isinstance(sigma, list | tuple) or getattr(sigma, "ndim", 0) > 0)


def no_dropout(value: Any) -> None:
    """Raises TypeError or ValueError unless the probability of dropout is 0."""
    if real("dropout_p", value) != 0:
        allowed = (
            "0: dropout multiplies weights by random numbers, and what is proved is the mean without them"
        )
        raise ValueError(refused("dropout_p", value, allowed))


def bias(x: Array) -> None:
    """Raises ValueError if a key bias holds NaN or plus infinity."""
    if not (x < math.inf).all():
        given = "NaN" if np.isnan(x).any() else "+inf"
        raise ValueError(refused("key_bias", given, "finite numbers and -inf (which excludes a key)"))
