"""A kernel compiled from its committed C source for given feature sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from projsym.errors import CompilerError
from projsym.runtime import cache, compiler, isa, tuned
from projsym.runtime.layout import Array, Ranges
from projsym.runtime.manifest import Entry
from projsym.runtime.plan import Plan, Result
from projsym.runtime.storage import BFLOAT16


class CKernel:
    """Calls the C function; the GIL is released meanwhile.

    entry: which kernel. dtype: "float32", "float64", or "bfloat16" where the entry has a file for it.
    sizes: length of each feature, all at least 1.
    tiles: ``-D`` flags of register tiles; None: those that `projsym tune` chose, else the committed ones.
    tools: the compiler; None: `projsym.runtime.compiler.find`.
    Raises CompilerError if there is no compiler, or it fails, or the result cannot be loaded.
    """

    def __init__(
        self,
        entry: Entry,
        dtype: str,
        sizes: Mapping[str, int],
        tiles: tuple[str, ...] | None = None,
        tools: compiler.Compiler | None = None,
    ) -> None:
        self.entry, self.dtype, self.sizes = entry, dtype, dict(sizes)
        self._half: Any = None
        macros = tuple(f"-DD_{name}={size}" for name, size in sorted(sizes.items()))
        computed = "float32" if dtype == BFLOAT16 else dtype
        narrow = isa.narrower() if tiles is None and dtype == computed and _forward(entry) else None
        own = tuned.macros(entry, computed, max(sizes.values()), narrow) if narrow else ()
        self._narrow = (*macros, *own, *isa.without()) if narrow else ()
        macros += tuned.macros(entry, computed, max(sizes.values())) if tiles is None else tiles
        tag = "-".join([entry.name, dtype, *(f"{n}{s}" for n, s in sorted(sizes.items()))])
        source = entry.source(f"c/{dtype}")
        tools = tools or compiler.find()
        library = _open(source, tag, macros, tools)
        self._function = getattr(library, entry.name)
        self._source, self._tag, self._tools = source, tag, tools
        self._lanes = 8 if computed == "float64" else 16

    def plan(
        self,
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        skip: Collection[str] = (),
        ranges: Ranges | None = None,
    ) -> Plan:
        """The call for arrays of these layouts, in the order of this mapping, and for these very ranges."""
        n = next(arrays[x.name].shape[-2] for x in self.entry.vectors if x.axes == "i")
        return Plan(self.entry, self._for(n), self.sizes, lead, arrays, skip, ranges)

    def _for(self, n: int) -> Any:
        """The function for that many queries: with narrower vectors where few queries would leave half of a
        wide one empty, and a CPU loses nothing by it. Such a function is compiled when it is first needed."""
        lanes = self._lanes
        if not self._narrow or n <= lanes // 4 or n > 3 * lanes // 2 or not 0 < n % lanes <= lanes // 2:
            return self._function
        if self._half is None:
            try:
                library = _open(self._source, self._tag, self._narrow, self._tools)
                self._half = getattr(library, self.entry.name)
            except CompilerError:  # of a compiler that cannot leave instructions out
                self._half = self._function
        return self._half

    def __call__(
        self,
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        parameters: Sequence[float],
        skip: Collection[str] = (),
        ranges: Ranges | None = None,
    ) -> Result:
        """Outputs, each of shape `(*lead, n, size)` or `(*lead, n)`, None if in `skip`, and the status.

        An output of keys has m in place of n.

        arrays: by input name, of this kernel's dtype, `(..., rows, features)`, `(..., keys)` or, a number for
        each pair, `(..., rows, keys)`, with leading axes that broadcast to `lead`. ranges: the first key that
        a query sees and the one after the last, contiguous int64 `(..., rows)` of one shape, from 0 to m.
        Status: 0, -1 for no memory, or the number of rows to look at: a normaliser is NaN, infinite or zero
        (as without keys, but for an empty range), or a scalar output is not finite, or there is NaN in a mean
        of vectors that scores are made of; of gradients, of queries and of keys, those that are not finite.
        """
        read = {x.name: arrays[x.name] for x in self.entry.arrays}
        return self.plan(lead, read, skip, ranges)(tuple(read.values()), parameters)


def _forward(entry: Entry) -> bool:
    """Whether a kernel has no outputs of keys."""
    return "j" not in entry.output_axes


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
