"""Which backend runs a kernel; compiled kernels are kept for the life of the process."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Collection, Mapping, Sequence

from projsym.errors import BackendWarning, CompilerError, refused
from projsym.runtime import manifest
from projsym.runtime import plan as plans
from projsym.runtime.c_kernel import CKernel
from projsym.runtime.layout import Array, Ranges
from projsym.runtime.numpy_kernel import NumpyKernel

Kernel = CKernel | NumpyKernel
BACKENDS = (None, "c", "numpy")

_kernels: dict[tuple[object, ...], Kernel] = {}
_said: set[str] = set()
_lock = threading.Lock()


def run(
    name: str,
    lead: tuple[int, ...],
    arrays: Mapping[str, Array],
    parameters: Sequence[float],
    dtype: str,
    sizes: tuple[tuple[str, int], ...],
    backend: str | None,
    skip: Collection[str] = (),
    ranges: Ranges | None = None,
    key: plans.Key | None = None,
) -> tuple[Sequence[Array | None], int]:
    """Outputs and status of kernel `name`; see :class:`projsym.runtime.c_kernel.CKernel`.

    sizes: pairs of a feature and its length. backend: "c", "numpy", or None: C where a compiler works, else
    NumPy after one BackendWarning. key: under which a plan of this call, with its ranges, is kept, for a C
    kernel whose inputs are `arrays`, all of them and in this order.
    Raises ValueError for another backend, CompilerError for "c" without a working compiler.
    """
    kernel = _kernels.get((name, dtype, sizes, backend, manifest.KERNELS))
    if kernel is None:
        with _lock:
            kernel = _make(name, dtype, sizes, backend)
    if key is None or isinstance(kernel, NumpyKernel):
        return kernel(lead, arrays, parameters, skip, ranges)
    plan = kernel.plan(lead, arrays, skip, ranges)
    plans.remember(key, plan)
    return plan(tuple(arrays.values()), parameters)


def _make(name: str, dtype: str, sizes: tuple[tuple[str, int], ...], backend: str | None) -> Kernel:
    if backend not in BACKENDS:
        raise ValueError(refused("backend", repr(backend), "'c', 'numpy' or None"))
    key = (name, dtype, sizes, backend, manifest.KERNELS)
    if key in _kernels:
        return _kernels[key]
    kernel = _kernels[key] = make(manifest.load(manifest.KERNELS)[name], dtype, sizes, backend)
    return kernel


def make(
    entry: manifest.Entry, dtype: str, sizes: tuple[tuple[str, int], ...], backend: str | None
) -> Kernel:
    """A kernel of an entry; arguments and errors as in :func:`run`."""
    if backend not in BACKENDS:
        raise ValueError(refused("backend", repr(backend), "'c', 'numpy' or None"))
    if backend == "numpy":
        return NumpyKernel(entry)
    try:
        return CKernel(entry, dtype, dict(sizes))
    except CompilerError as e:
        if backend == "c":
            raise
        _say(f"using the slower NumPy kernels: {e}")
        return NumpyKernel(entry)


def _say(message: str) -> None:
    """Warn once in a process about one cause, at the line outside this package that called it."""
    if message not in _said:
        _said.add(message)
        level, frame = 1, sys._getframe()
        while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "projsym":
            level, frame = level + 1, frame.f_back
        warnings.warn(message, BackendWarning, stacklevel=level)
