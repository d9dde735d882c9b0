"""A kernel compiled from its committed C source for given feature sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from projsym.errors import CompilerError
from projsym.runtime import cache, compiler, host
from projsym.runtime.layout import Array, address, heads, ready
from projsym.runtime.manifest import Entry
from projsym.runtime.threads import threads_for_call

Result = tuple[list[Array | None], int]


class CKernel:
    """Calls the C function; the GIL is released meanwhile.

    entry: which kernel. dtype: "float32" or "float64". sizes: length of each feature, all at least 1.
    Raises CompilerError if there is no compiler, or it fails, or the result cannot be loaded.
    """

    def __init__(self, entry: Entry, dtype: str, sizes: Mapping[str, int]) -> None:
        self.entry, self.dtype, self.sizes = entry, np.dtype(dtype), dict(sizes)
        macros = tuple(f"-DD_{name}={size}" for name, size in sorted(sizes.items()))
        tag = "-".join([entry.name, dtype, *(f"{n}{s}" for n, s in sorted(sizes.items()))])
        source = entry.source(f"c/{dtype}")
        tools = compiler.find()
        library = _open(source, tag, macros, tools)
        function = getattr(library, entry.name)
        word, pointer = ctypes.c_long, ctypes.c_void_p
        function.argtypes = [
            *(word,) * 3,
            *(pointer, pointer, word) * len(entry.vectors),
            *(pointer, pointer) * len(entry.scalars),
            *(ctypes.c_double,) * len(entry.parameters),
            *(pointer,) * len(entry.outputs),
            ctypes.c_int,
        ]
        function.restype = ctypes.c_int
        self._function = function
        self._terms = sum(sizes.values())

    def __call__(
        self,
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        parameters: Sequence[float],
        skip: Collection[str] = (),
    ) -> Result:
        """Outputs, each of shape `(*lead, n, size)` or `(*lead, n)`, None if in `skip`, and the status.

        An output of keys has m in place of n.

        arrays: by input name, of this kernel's dtype, `(..., rows, features)` or `(..., keys)`, with leading
        axes that broadcast to `lead`. Status: 0, -1 for no memory, or the number of rows with a normaliser
        that is NaN or infinite, or 0 where a scalar output is skipped.
        """
        keep: list[Array] = []  # tables and copies live until the call has returned
        arguments: list[object] = []
        n = m = 0
        for x in self.entry.vectors:
            a = ready(arrays[x.name], 2)
            table, at = heads(a, lead, 2)
            keep += (a, table)
            arguments += (address(a), at, a.strides[-2] // a.itemsize)
            if x.axes == "i":
                n = a.shape[-2]
            else:
                m = a.shape[-2]
        for x in self.entry.scalars:
            a = ready(arrays[x.name], 1)
            table, at = heads(a, lead, 1)
            keep += (a, table)
            arguments += (address(a), at)
        arguments += parameters
        outputs: list[Array | None] = []
        for (name, feature), axes in zip(self.entry.outputs, self.entry.output_axes, strict=True):
            rows = n if axes == "i" else m
            shape = (*lead, rows, self.sizes[feature]) if feature else (*lead, rows)
            outputs.append(None if name in skip else host.empty(shape, self.dtype))
        arguments += [None if o is None else address(o) for o in outputs]
        count = 1
        for length in lead:
            count *= length
        return outputs, self._function(count, n, m, *arguments, threads_for_call(count * n * m * self._terms))


def _open(source: str, tag: str, macros: tuple[str, ...], tools: compiler.Compiler) -> ctypes.CDLL:
    """Compile and load; a cached file that does not load (a damaged disk) is compiled once more."""
    path = cache.compiled(source, tag, macros, tools)
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)
    path = cache.compiled(source, tag, macros, tools)
    try:
        return ctypes.CDLL(str(path))
    except OSError as e:
        raise CompilerError(f"cannot load the compiled kernel {path}: {e}") from e
