"""Layers compiled from their committed C source for given feature sizes, or as their NumPy module."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from projsym.errors import CompilerError, refused
from projsym.runtime import compiler, host, manifest
from projsym.runtime.c_kernel import _open
from projsym.runtime.dispatch import BACKENDS, _say
from projsym.runtime.layer_manifest import LayerEntry, load_layers
from projsym.runtime.layout import Array, address, heads, ready, usable
from projsym.runtime.numpy_kernel import load_function
from projsym.runtime.threads import threads_for_call

Result = tuple[Array, Array | None, dict[str, Array] | None, int]
"""The vector output ``(*lead, n, D)``; the scalar output ``(H, *lead, n)`` and, by name, what a backward pass
needs, ``(H, *lead, rows, features)``, either perhaps None; and the status."""

_layers: dict[tuple[object, ...], CLayer | NumpyLayer] = {}
_lock = threading.Lock()


class CLayer:
    """Calls the C function; the GIL is released meanwhile. Raises CompilerError as `CKernel` does."""

    def __init__(self, entry: LayerEntry, dtype: str, sizes: Mapping[str, int]) -> None:
        self.entry, self.dtype, self.sizes = entry, np.dtype(dtype), dict(sizes)
        macros = tuple(f"-DD_{name}={size}" for name, size in sorted(sizes.items()))
        tag = "-".join([entry.name, dtype, *(f"{n}{s}" for n, s in sorted(sizes.items()))])
        function = getattr(_open(entry.source(f"c/{dtype}"), tag, macros, compiler.find()), entry.name)
        word, pointer = ctypes.c_long, ctypes.c_void_p
        function.argtypes = [
            *(word,) * 4,
            *(pointer, pointer, word) * len(entry.sources),
            *(pointer, word, word, word) * len(entry.weights),
            *(pointer, word) * len(entry.offsets),
            pointer,
            *(ctypes.c_double,) * len(entry.parameters),
            *(pointer,) * (len(entry.outputs) + len(entry.images) + 1),
            ctypes.c_int,
        ]
        function.restype = ctypes.c_int
        self._function = function

    def __call__(
        self,
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        parameters: Sequence[float],
        scalars: bool,
        save: bool,
    ) -> Result:
        """Status: 0, -1 for no memory, or the number of rows to look at, those without keys too.

        arrays: by name, of this layer's dtype: sources ``(..., rows, features)`` with leading axes that
        broadcast to `lead`, matrices ``(H, rows, columns)``, offsets ``(H, features)``, the start.
        """
        entry, keep, arguments = self.entry, [], []
        rows: dict[str, int] = {}
        for x in entry.sources:
            a = ready(arrays[x.name], 2)
            table, at = heads(a, lead, 2)
            keep += [a, table]
            arguments += [address(a), at, a.strides[-2] // a.itemsize]
            rows[x.axes] = a.shape[-2]
        for name, *_ in entry.weights:
            a, strides = _matrices(arrays[name])
            keep.append(a)
            arguments += [address(a), *strides]
        for name, _ in entry.offsets:
            a = ready(arrays[name], 1)
            keep.append(a)
            arguments += [address(a), a.strides[0] // a.itemsize]
        a = ready(arrays[entry.start[0]], 1)
        keep.append(a)
        count, n, m = math.prod(lead), rows["i"], rows["j"]
        number = len(arrays[entry.weights[0][0]])
        out = host.empty((*lead, n, self.sizes[entry.start[1]]), self.dtype)
        scalar = host.empty((number, *lead, n), self.dtype) if scalars else None
        saved = _room(entry, number, lead, rows, self.sizes, self.dtype) if save else None
        threads = threads_for_call(
            count * n * number * sum(self.sizes[f] * self.sizes[g] for _, f, g in entry.weights)
        )
        status = self._function(
            count, number, n, m, *arguments, address(a), *parameters,
            address(out), None if scalar is None else address(scalar),
            *([None] * (len(entry.images) + 1) if saved is None else map(address, saved.values())), threads,
        )  # fmt: skip
        return out, scalar, saved, status


class NumpyLayer:
    """Calls the generated function on arrays ``(L, rows, features)``."""

    def __init__(self, entry: LayerEntry) -> None:
        self.entry = entry
        self._function: Any = load_function(entry)

    def __call__(
        self,
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        parameters: Sequence[float],
        scalars: bool,
        save: bool,
    ) -> Result:
        """As :meth:`CLayer.__call__`, with status 0 or the number of rows; scalars are always computed, since
        rows whose scores are below the range show in their logarithm only."""
        entry, count = self.entry, math.prod(lead)
        given = []
        for x in entry.sources:
            a = arrays[x.name]
            given.append(np.broadcast_to(a, (*lead, *a.shape[-2:])).reshape(count, *a.shape[-2:]))
        names = [name for name, *_ in entry.weights] + [name for name, _ in entry.offsets] + [entry.start[0]]
        rows = {x.axes: a.shape[1] for x, a in zip(entry.sources, given, strict=True)}
        sizes = {f: arrays[w].shape[axis] for w, *pair in entry.weights for axis, f in enumerate(pair, 1)}
        number = len(arrays[entry.weights[0][0]])
        kept = _room(entry, number, (count,), rows, sizes, given[0].dtype) if save else None
        out, scalar, bad = self._function(*given, *(arrays[x] for x in names), *parameters, saved=kept)
        saved = {name: a.reshape(number, *lead, *a.shape[2:]) for name, a in kept.items()} if kept else None
        scalar = scalar.reshape(number, *lead, scalar.shape[-1])
        return out.reshape(*lead, *out.shape[1:]), scalar, saved, bad


def _matrices(a: Array) -> tuple[Array, tuple[int, int, int]]:
    """Matrices (H, rows, columns) and their strides in elements: in place where rows or columns are
    contiguous, as those of a transposed matrix are, else copied."""
    straight = usable(a, 2)
    if not straight and not usable(a.mT, 2):
        a, straight = a.copy(order="C"), True
    head, row, column = (s // a.itemsize for s in a.strides)
    return a, (head, row, 1 if straight else column)


def _room(
    entry: LayerEntry,
    heads: int,
    lead: tuple[int, ...],
    rows: Mapping[str, int],
    sizes: Mapping[str, int],
    dtype: np.dtype[Any],
) -> dict[str, Array]:
    """Arrays for what a backward pass needs, in the order of the C arguments."""
    shapes = {x.name: (rows[x.axes], sizes[x.feature]) for x in entry.images}
    shapes[entry.mean[0]] = (rows["i"], sizes[entry.mean[1]])
    return {name: host.empty((heads, *lead, *shape), dtype) for name, shape in shapes.items()}


def run_layer(
    name: str,
    lead: tuple[int, ...],
    arrays: Mapping[str, Array],
    parameters: Sequence[float],
    dtype: str,
    backend: str | None,
    scalars: bool,
    save: bool = False,
) -> Result:
    """Outputs and status of the layer `name`; see :meth:`CLayer.__call__`.

    backend: "c", "numpy", or None: C where a compiler works, else NumPy after one BackendWarning. Raises
    ValueError for another backend, CompilerError for "c" without a working compiler.
    """
    if backend not in BACKENDS:
        raise ValueError(refused("backend", repr(backend), "'c', 'numpy' or None"))
    entry = load_layers(manifest.KERNELS)[name]
    sizes = {x.feature: arrays[x.name].shape[-1] for x in entry.sources}
    sizes |= {f: n for w, *pair in entry.weights for f, n in zip(pair, arrays[w].shape[-2:], strict=True)}
    key = (name, dtype, tuple(sizes.values()), backend, manifest.KERNELS)
    layer = _layers.get(key)
    if layer is None:
        with _lock:
            layer = _layers.get(key) or _layers.setdefault(key, _made(entry, dtype, sizes, backend))
    return layer(lead, arrays, parameters, scalars, save)


def _made(
    entry: LayerEntry, dtype: str, sizes: Mapping[str, int], backend: str | None
) -> CLayer | NumpyLayer:
    if backend == "numpy":
        return NumpyLayer(entry)
    try:
        return CLayer(entry, dtype, sizes)
    except CompilerError as e:
        if backend == "c":
            raise
        _say(f"using the slower NumPy kernels: {e}")
        return NumpyLayer(entry)
