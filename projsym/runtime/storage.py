"""Arrays of bfloat16, a type that NumPy itself has not: how they are recognised, widened and rounded.

An array may be of the NumPy extension type of that name (package ml_dtypes, which is not needed here), or a
CPU tensor of PyTorch. Where no extension type is at hand, elements are of `BITS`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from projsym.errors import refused
from projsym.runtime.layout import Array

BFLOAT16 = "bfloat16"
BITS = np.dtype([(BFLOAT16, np.uint16)])
"""Stands for bfloat16 in this package: the bits of a number, which no one's arithmetic takes for integers."""


def narrow(dtype: Any) -> bool:
    """Whether elements of a dtype are bfloat16."""
    return dtype == BITS or (getattr(dtype, "name", None) == BFLOAT16 and dtype.itemsize == 2)


def kind(dtype: np.dtype[Any]) -> str:
    """What a kernel's file for arrays of a dtype is called."""
    return BFLOAT16 if narrow(dtype) else dtype.name


def arithmetic(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that arrays of a dtype are computed in."""
    return np.dtype(np.float32) if narrow(dtype) else dtype


def is_tensor(value: Any) -> bool:
    """Whether `value` is a bfloat16 tensor of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16


def bits(name: str, value: Any) -> Array:
    """A bfloat16 tensor of PyTorch as an array of `BITS`, in place. TypeError for one that requires a
    gradient or is not on the CPU."""
    torch = sys.modules["torch"]
    if value.requires_grad or not value.is_cpu or value.layout is not torch.strided:
        given = "one that requires a gradient" if value.requires_grad else f"one on {value.device}"
        raise TypeError(refused(name, f"a bfloat16 tensor, {given}", "a dense CPU tensor without a gradient"))
    found: Array = value.view(torch.int16).numpy().view(BITS)
    return found


def tensor(x: Array) -> Any:
    """An array as a tensor of PyTorch on the same memory, one of `BITS` as bfloat16."""
    torch = sys.modules["torch"]
    if narrow(x.dtype):
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def widened(value: Any, name: str = "value") -> Any:
    """bfloat16 numbers as float32, which is exact; anything else as it is."""
    if is_tensor(value):
        value = bits(name, value)
    elif not narrow(getattr(value, "dtype", None)):
        return value
    return (np.asarray(value).view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def rounded(x: Array, dtype: np.dtype[Any]) -> Array:
    """float32 numbers as bfloat16 of that dtype: to the nearest, of two the even one; NaN stays NaN."""
    word = np.ascontiguousarray(x).view(np.uint32)
    high = word >> np.uint32(16)
    nearest = (word + np.uint32(0x7FFF) + (high & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), high | np.uint32(0x40), nearest).astype(np.uint16).view(dtype)


def finite(x: Array) -> bool:
    """Whether all of these bfloat16 numbers are finite."""
    exponent = np.uint16(0x7F80)
    return not ((x.view(np.uint16) & exponent) == exponent).any()
