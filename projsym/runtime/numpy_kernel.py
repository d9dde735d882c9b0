"""A kernel as its committed NumPy module."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from projsym.runtime import storage
from projsym.runtime.layer_manifest import LayerEntry
from projsym.runtime.layout import Array, Ranges
from projsym.runtime.manifest import Entry


def load_function(entry: Entry | LayerEntry) -> Callable[..., tuple[Any, ...]]:
    """The function of a generated NumPy file."""
    path = entry.folder / entry.files["numpy"]
    module: dict[str, Any] = {"__name__": f"projsym.kernels.{entry.name}"}
    exec(compile(entry.source("numpy"), str(path), "exec"), module)
    function: Callable[..., tuple[Any, ...]] = module[entry.name]
    return function


class NumpyKernel:
    """Calls the generated function on views `(H, rows, features)`. BLAS threads are NumPy's own."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._function = load_function(entry)

    def __call__(
        self,
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        parameters: Sequence[float],
        skip: Collection[str] = (),
        ranges: Ranges | None = None,
    ) -> tuple[list[Array], int]:
        """As :meth:`projsym.runtime.c_kernel.CKernel.__call__`, with status 0 or the number of rows; nothing
        is skipped. Vectors of bfloat16 are widened to float32, and vectors that are made rounded."""
        given = next(iter(arrays.values())).dtype
        if storage.narrow(given):
            wide = {x: storage.widened(a) for x, a in arrays.items()}
            outputs, bad = self(lead, wide, parameters, skip, ranges)
            vectors = [bool(feature) for _, feature in self.entry.outputs]
            made = zip(outputs, vectors, strict=True)
            return [storage.rounded(o, given) if vector else o for o, vector in made], bad
        core = {x.name: 2 if x.feature or x.axes == "ij" else 1 for x in self.entry.inputs if x.axes}
        views = {x: np.broadcast_to(arrays[x], lead + arrays[x].shape[-c:]) for x, c in core.items()}
        ends = [np.broadcast_to(x, lead + x.shape[-1:]) for x in ranges or ()]
        return self._run(lead, views, core, parameters, ends)

    def _run(
        self,
        lead: tuple[int, ...],
        views: dict[str, Array],
        core: dict[str, int],
        parameters: Sequence[float],
        ends: list[Array],
    ) -> tuple[list[Array], int]:
        """One call if the leading axes of every array merge into one without a copy, else one per index."""
        count = math.prod(lead)
        try:
            flat = {x: v.reshape((count, *v.shape[-core[x] :]), copy=False) for x, v in views.items()}
        except ValueError:
            parts = [
                self._run(
                    lead[1:], {x: v[i] for x, v in views.items()}, core, parameters, [e[i] for e in ends]
                )
                for i in range(lead[0])
            ]
            return [np.stack(o) for o in zip(*(p for p, _ in parts), strict=True)], sum(b for _, b in parts)
        values = iter(parameters)
        args = [flat[x.name] if x.axes else next(values) for x in self.entry.inputs]
        limits = zip(("_lo", "_hi"), (e.reshape(count, -1) for e in ends), strict=False)
        *outputs, bad = self._function(*args, **dict(limits))
        return [o.reshape((*lead, *o.shape[1:])) for o in outputs], bad
