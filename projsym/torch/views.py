"""One memory, two libraries: tensors as NumPy arrays and back, and PyTorch's threads and allocator for a
call."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from projsym.runtime.host import hosted
from projsym.runtime.layout import Array

__all__ = ["array", "blas_in_torch", "in_torch", "tensor", "tensors"]

_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def array(x: Tensor) -> Array:
    """The elements of a CPU tensor in place, whatever its strides; a negated view is evaluated first."""
    found: Array
    try:
        found = x.numpy()
    except RuntimeError:  # it requires a gradient, or is negated; asking first would cost each call
        found = x.detach().resolve_neg().numpy()
    return found


def tensor(a: Array) -> Tensor:
    """An array as a tensor: the one that PyTorch allocated for it, or else one on the array's memory."""
    made = a.base
    if isinstance(made, Tensor) and made.shape == a.shape and made.is_contiguous():
        return made
    return torch.from_numpy(np.ascontiguousarray(a))


def tensors(arrays: Iterator[Array] | tuple[Array, ...]) -> tuple[Tensor, ...]:
    """`tensor` of each."""
    return tuple(tensor(a) for a in arrays)


def in_torch() -> AbstractContextManager[None]:
    """Kernels called meanwhile use PyTorch's number of threads and write to tensors that PyTorch
    allocated."""
    return hosted(torch.get_num_threads(), _empty)


def blas_in_torch() -> AbstractContextManager[Any]:
    """NumPy's products meanwhile use PyTorch's number of threads, if its BLAS is an OpenBLAS. That number is
    the process's, so other threads' products share it until the end."""
    found, n = _openblas(), torch.get_num_threads()
    if all(x.num_threads == n for x in found.lib_controllers):
        return nullcontext()
    return found.limit(limits=n)


@functools.cache
def _openblas() -> Any:
    return ThreadpoolController().select(internal_api="openblas")


def _empty(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    made: Array = torch.empty(shape, dtype=_DTYPES[dtype]).numpy()
    return made
