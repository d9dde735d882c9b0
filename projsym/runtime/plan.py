"""A call of a C kernel prepared for one layout of its arguments: another call only fills in addresses."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from projsym.runtime import host, manifest, storage
from projsym.runtime.layout import Array, Ranges, address, heads, ready, usable
from projsym.runtime.threads import SMALL, threads_for_call

Result: TypeAlias = tuple[list[Array | None], int]
Key: TypeAlias = tuple[object, ...]

MOST = 1024
"""Layouts that are remembered at most."""

_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
_FLAGS = _CONTIGUOUS | _ALIGNED | _WRITEABLE
"""Bits of `ndarray.flags.num` by NumPy's C interface: what decides how an array is read."""

_memory: Callable[[Any], Any] = (ctypes.c_char * 0).from_buffer
"""The memory of a contiguous, writable array as an argument, at a quarter of the cost of `address`."""


def _copied(x: Array) -> Any:
    return _memory(x.copy(order="C"))


def _copied_bits(x: Array) -> Any:
    return _memory(x.view(np.uint16).copy(order="C"))


def _addressed(x: Array) -> Any:
    return ctypes.c_void_p(address(x))


_Pointer: TypeAlias = Callable[[Any], Any]
_Output: TypeAlias = "tuple[int, tuple[int, ...] | None, np.dtype[Any], _Pointer]"
_Short: TypeAlias = """tuple[
    int, _Pointer, int, _Pointer, int, _Pointer,
    int, tuple[int, ...], np.dtype[Any], _Pointer, tuple[None, ...],
]"""


class Plan:
    """One kernel and one layout. Holds no contents of arrays: several threads may call it at once.

    constants: arrays that a caller keeps here because every call with the layout takes them.
    """

    constants: tuple[Array, ...] = ()

    def __init__(
        self,
        entry: manifest.Entry,
        function: Callable[..., int],
        sizes: Mapping[str, int],
        lead: tuple[int, ...],
        arrays: Mapping[str, Array],
        skip: Collection[str] = (),
        ranges: Ranges | None = None,
    ) -> None:
        """function: of the compiled library, without declared argument types.
        arrays: by input name, of one dtype, `(..., rows, features)` or `(..., keys)`, with leading axes
        that broadcast to `lead`. skip: outputs that are not wanted. ranges: of the keys that queries see,
        which such a plan does hold."""
        self.folder = entry.folder
        self._function = function
        self._tables: list[Array] = []  # the kernel reads them, so they live as long as the plan
        count, n, m = math.prod(lead), 0, 0
        words: list[Any] = [count, n, m]
        take: dict[str, tuple[int, Callable[[Array], Any]]] = {}
        for x in entry.arrays:
            given, core = arrays[x.name], 2 if x.feature or x.axes == "ij" else 1
            a = ready(given, core)
            table, at = heads(a, lead, core)
            self._tables.append(table)
            take[x.name] = len(words), _pointer(given, core)
            words += [None, ctypes.c_void_p(at)]
            if core == 2:
                words.append(a.strides[-2] // a.itemsize)
            if x.feature:
                words[1 if x.axes == "i" else 2] = a.shape[-2]
        self._take = [take[name] for name in arrays]
        self._parameter = len(words)
        words += [None] * len(entry.parameters)
        _, n, m = words[:3]
        first = next(iter(arrays.values()))
        self.scale = 1 / math.sqrt(first.shape[-1]) if first.shape[-1] else 1.0  # of dot products, by default
        self._number = (math.nan, ctypes.c_double(math.nan))
        self._outputs: list[_Output] = []
        for (name, feature), axes in zip(entry.outputs, entry.output_axes, strict=True):
            shape = (*lead, n if axes == "i" else m, *((sizes[feature],) if feature else ()))
            dtype = first.dtype if feature else storage.arithmetic(first.dtype)
            made = _memory if dtype.kind == "f" else _addressed
            self._outputs.append((len(words), None if name in skip else shape, dtype, made))
            words.append(None)
        if ranges is not None:
            table, at = heads(ranges[0], lead, 1)
            self._tables += (*ranges, table)
            words += [ctypes.c_void_p(x) for x in (address(ranges[0]), address(ranges[1]), at)]
        elif entry.ranged:
            words += [ctypes.c_void_p(None)] * 3
        # ctypes is faster without declared types, and passes each argument as it is: all must have one here.
        ready_made = (ctypes.c_long(x) if isinstance(x, int) else x for x in words)
        self._words = [*ready_made, ctypes.c_int(1)]
        self._work = count * n * m * sum(sizes.values())
        self._short = self._shorter(len(entry.parameters))

    def _shorter(self, parameters: int) -> _Short | None:
        """What a call on one thread with two or three arrays, a parameter and one output takes; else None."""
        (at, shape, dtype, made), *others = self._outputs
        if self._work > SMALL or parameters != 1 or not shape or any(o[1] for o in others):
            return None
        if len(self._take) not in (2, 3):
            return None
        (a, take_a), (b, take_b), *rest = self._take
        c, take_c = rest[0] if rest else (0, _memory)
        return a, take_a, b, take_b, c, take_c, at, shape, dtype, made, (None,) * len(others)

    def __call__(self, arrays: Sequence[Array], parameters: Sequence[float]) -> Result:
        """Outputs in the kernel's order, None for those skipped, and its status; the GIL is released.

        arrays: of the layouts and in the order of those that the plan was made from.
        """
        words = self._words.copy()
        if self._short is not None:  # written out: loops would take as long as what they do
            a, take_a, b, take_b, c, take_c, at, shape, dtype, made, others = self._short
            words[a] = take_a(arrays[0])
            words[b] = take_b(arrays[1])
            if c:
                words[c] = take_c(arrays[2])
            number, word = self._number
            if number != parameters[0]:
                self._number = number, word = parameters[0], ctypes.c_double(parameters[0])
            words[self._parameter] = word
            empty = host.here.empty
            out = np.empty(shape, dtype) if empty is None else empty(shape, dtype)
            words[at] = made(out)
            return [out, *others], self._function(*words)
        for (at, take), x in zip(self._take, arrays, strict=True):
            words[at] = take(x)
        at = self._parameter
        for number in parameters:
            words[at] = ctypes.c_double(number)
            at += 1
        outputs: list[Array | None] = []
        for at, wanted, dtype, made in self._outputs:
            if wanted:
                out = host.empty(wanted, dtype)
                words[at] = made(out)
                outputs.append(out)
            else:
                outputs.append(None)
        if self._work > SMALL:
            words[-1] = ctypes.c_int(threads_for_call(self._work))
        return outputs, self._function(*words)


def _pointer(x: Array, core: int) -> Callable[[Array], Any]:
    """What makes an argument of arrays like `x`; it keeps a copy alive where one is needed."""
    if not usable(x, core):
        return _copied if x.dtype.kind == "f" else _copied_bits
    # Python's buffers know nothing of types that NumPy has not.
    return _memory if x.flags.c_contiguous and x.flags.writeable and x.dtype.kind == "f" else _addressed


_plans: dict[Key, Plan] = {}


def recall(arrays: tuple[Any, ...], options: Key) -> tuple[Key | None, Plan | None]:
    """What a plan depends on, which is the options and every array's shape, strides, dtype and flags, and the
    plan remembered for that. No key if an argument is not a plain NumPy array."""
    if len(arrays) == 3 and type(arrays[0]) is type(arrays[1]) is type(arrays[2]) is np.ndarray:
        q, k, v = arrays  # written out, since a loop would take as long as what it does
        a, b, c = q.flags.num & _FLAGS, k.flags.num & _FLAGS, v.flags.num & _FLAGS
        key: Key = (options, q.dtype, q.shape, a, k.dtype, k.shape, b, v.dtype, v.shape, c)
        # The shape of a contiguous array determines all strides that are used.
        if not a & b & c & _CONTIGUOUS:
            key = (*key, q.strides, k.strides, v.strides)
    else:
        found: list[object] = [options]
        for x in arrays:
            if type(x) is not np.ndarray:
                return None, None
            flags = x.flags.num & _FLAGS
            found += (
                (x.dtype, x.shape, flags) if flags & _CONTIGUOUS else (x.dtype, x.shape, flags, x.strides)
            )
        key = tuple(found)
    plan = _plans.get(key)
    return key, plan if plan is not None and plan.folder is manifest.KERNELS else None


def remember(key: Key, plan: Plan) -> None:
    """Keep a plan for a layout; all are forgotten once there are too many."""
    if len(_plans) >= MOST:
        _plans.clear()
    _plans[key] = plan
