"""Masks: which keys a query sees, and what is added to its scores.

What `is_causal`, `window` and `kv_lengths` say is a range of keys for each query [I.10w]; the kernels look at
those keys alone, so causal attention takes about half the time and a window needs no matrix. `attn_mask` is a
number or a yes for each pair, read in place wherever it broadcasts.

*Positions.* Query i stands at position ``p = i + offset`` among the keys: the offset is the number of past
keys where there are any, ``kv_length - n`` with `kv_lengths` (the queries are the last of the sequence), else
0. A causal query sees the keys ``j <= p``, a window ``(left, right)`` those with ``p - left <= j <= p +
right``, a length those with ``j < kv_length``. Restrictions add up: a query sees what all of them leave.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from projsym.errors import refused
from projsym.runtime.layout import Array, Ranges

Window = tuple[int | None, int | None]
WINDOW = "a pair (left, right), each an integer of at least 0 or None for no limit"


@dataclass(frozen=True)
class Mask:
    """What restricts and biases the scores of n queries and m keys; leading axes broadcast.

    ranges: of every query, (..., n), or None if all see all keys. pairs: (..., n, m) in the dtype of the
    scores, with strides 0 where it is broadcast. key_bias: (..., m).
    """

    n: int
    m: int
    ranges: Ranges | None = None
    pairs: Array | None = None
    key_bias: Array | None = None

    @property
    def leading(self) -> tuple[int, ...]:
        """The leading axes over which it differs what is seen."""
        parts = [] if self.ranges is None else [self.ranges[0].shape[:-1]]
        parts += [] if self.pairs is None else [self.pairs.shape[:-2]]
        parts += [] if self.key_bias is None else [self.key_bias.shape[:-1]]
        return np.broadcast_shapes((), *parts)

    def seen(self, index: tuple[int, ...]) -> Array:
        """Which pairs count at an index of `leading`, (n, m), bool."""
        seen = np.ones((self.n, self.m), bool)
        if self.ranges is not None:
            lo, hi = (np.broadcast_to(x, (*self.leading, self.n))[index][:, None] for x in self.ranges)
            j = np.arange(self.m)
            seen &= (lo <= j) & (j < hi)
        if self.pairs is not None:
            seen &= ~np.isneginf(np.broadcast_to(self.pairs, (*self.leading, self.n, self.m))[index])
        if self.key_bias is not None:
            seen &= ~np.isneginf(np.broadcast_to(self.key_bias, (*self.leading, self.m))[index])
        return seen

    def hidden(self) -> Array:
        """The keys that no query sees, booleans of shape (..., m)."""
        return self._over(0)

    def blind(self) -> Array:
        """The queries that see no key, booleans of shape (..., n)."""
        if self.ranges is not None and self.pairs is None and self.key_bias is None:
            return self.ranges[0] >= self.ranges[1]
        return self._over(1)

    def _over(self, axis: int) -> Array:
        out = np.empty((*self.leading, self.n if axis else self.m), bool)
        for index in np.ndindex(self.leading):
            out[index] = ~self.seen(index).any(axis=axis)
        return out

    def grouped(self, groups: Groups | None) -> Mask:
        """The same for queries and keys whose heads are grouped."""
        if groups is None:
            return self
        ranges = (
            None
            if self.ranges is None
            else (groups.query(self.ranges[0], 1), groups.query(self.ranges[1], 1))
        )
        pairs = None if self.pairs is None else groups.query(self.pairs, 2)
        bias = None if self.key_bias is None else groups.key(self.key_bias, 1)
        return replace(self, ranges=ranges, pairs=pairs, key_bias=bias)


@dataclass(frozen=True)
class Groups:
    """Grouped queries: each of `heads` heads of keys is read by `size` heads of queries in place [I.10g]."""

    heads: int
    size: int

    def query(self, x: Array, core: int) -> Array:
        """Axis of heads (heads*size, or 1) before the `core` last axes as two axes; none stays none."""
        if x.ndim == core:
            return x
        at = x.ndim - core - 1
        pair = (1, 1) if x.shape[at] == 1 != self.heads * self.size else (self.heads, self.size)
        return x.reshape(*x.shape[:at], *pair, *x.shape[at + 1 :])

    def key(self, x: Array, core: int) -> Array:
        """An axis of length 1 after that of heads, if there is one."""
        return x if x.ndim == core else np.expand_dims(x, x.ndim - core)

    def lead(self, lead: tuple[int, ...]) -> tuple[int, ...]:
        """Leading axes of queries as two axes of heads."""
        return (*lead[:-1], self.heads, self.size)

    def join(self, x: Array, core: int) -> Array:
        """The two axes of heads as one again."""
        at = x.ndim - core - 2
        return x.reshape(*x.shape[:at], self.heads * self.size, *x.shape[at + 2 :])


def groups(first: str, q: Array, others: dict[str, Array]) -> Groups:
    """The groups of `enable_gqa`: axis -3 is that of heads, of the queries a multiple of that of the others.

    Raises ValueError for arrays without that axis, and for numbers of heads that differ or do not divide.
    """
    for name, x in ({first: q} | others).items():
        if x.ndim < 3:
            raise ValueError(
                refused(
                    name, f"shape {x.shape}", "at least 3 axes with enable_gqa: (..., heads, rows, features)"
                )
            )
    heads = {name: x.shape[-3] for name, x in others.items()}
    count = next(iter(heads.values()))
    given = f"{q.shape[-3]} heads of {first}, " + ", ".join(f"{h} of {name}" for name, h in heads.items())
    if any(h != count for h in heads.values()) or count < 1 or q.shape[-3] % count:
        allowed = f"with enable_gqa one number of heads of {' and '.join(heads)} that divides that of {first}"
        raise ValueError(refused(", ".join((first, *heads)), given, allowed))
    return Groups(count, q.shape[-3] // count)


def resolve(
    lead: tuple[int, ...],
    n: int,
    m: int,
    dtype: np.dtype[Any],
    *,
    attn_mask: Any = None,
    is_causal: bool = False,
    window: Any = None,
    kv_lengths: Any = None,
    key_bias: Array | None = None,
    past: int | None = None,
) -> Mask | None:
    """The mask that these arguments mean for queries ``(*lead, n)`` and m keys; None if there is none.

    past: how many of the keys are past ones, None if that was not said. key_bias: checked already.
    Raises TypeError and ValueError naming the argument.
    """
    if not isinstance(is_causal, bool | np.bool_):
        raise TypeError(
            refused("is_causal", f"{is_causal!r} of type {type(is_causal).__name__}", "True or False")
        )
    pairs = None if attn_mask is None else _pairs(attn_mask, lead, n, m, dtype)
    left, right = (None, None) if window is None else _window(window)
    lengths = None if kv_lengths is None else _lengths(kv_lengths, lead, m)
    if lengths is not None and past is not None:
        raise ValueError(refused("kv_lengths", "together with past_key", "one of the two"))
    ranges = None
    if is_causal or lengths is not None or left is not None or right is not None:
        offset: Any = past or 0 if lengths is None else lengths - n
        position = np.arange(n, dtype=np.int64) + offset
        lo, hi = np.zeros_like(position), np.full_like(position, m)
        if lengths is not None:
            hi = np.minimum(hi, lengths)
        if is_causal:
            hi = np.minimum(hi, position + 1)
        if right is not None:
            hi = np.minimum(hi, position + (right + 1))
        if left is not None:
            lo = np.maximum(lo, position - left)
        ranges = (np.clip(lo, 0, m), np.clip(hi, 0, m))
    if ranges is None and pairs is None and key_bias is None:
        return None
    return Mask(n, m, ranges, pairs, key_bias)


def _pairs(value: Any, lead: tuple[int, ...], n: int, m: int, dtype: np.dtype[Any]) -> Array:
    """`attn_mask` as numbers for pairs (..., n, m), broadcast without a copy; False is -inf."""
    allowed = f"booleans, or numbers of {dtype}, that broadcast to {(*lead, n, m)}"
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(refused("attn_mask", "a masked array", allowed))
    try:
        x = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise TypeError(refused("attn_mask", f"{type(value).__name__} ({e})", allowed)) from e
    if x.dtype != np.bool_ and x.dtype != dtype:
        raise TypeError(refused("attn_mask", f"{x.dtype} array", allowed))
    try:
        if np.broadcast_shapes(x.shape, (*lead, n, m)) != (*lead, n, m):
            raise ValueError("it has more or longer axes than the scores")
    except ValueError as e:
        raise ValueError(refused("attn_mask", f"shape {x.shape}", allowed)) from e
    if x.dtype == np.bool_:
        x = np.where(x, dtype.type(0), dtype.type(-math.inf))
    return np.broadcast_to(x, (*x.shape[:-2], n, m))


def _window(value: Any) -> tuple[int | None, int | None]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(refused("window", repr(value), WINDOW))
    sides: list[int | None] = []
    for side in value:
        if side is not None and (isinstance(side, bool) or not hasattr(side, "__index__")):
            raise TypeError(refused("window", repr(value), WINDOW))
        if side is not None and operator.index(side) < 0:
            raise ValueError(refused("window", repr(value), WINDOW))
        # No sequence is longer than 2**40, so that sums stay in range.
        sides.append(None if side is None else min(operator.index(side), 2**40))
    return sides[0], sides[1]


def _lengths(value: Any, lead: tuple[int, ...], m: int) -> Array:
    """`kv_lengths` with an axis for every leading axis, and one for the queries."""
    allowed = (
        f"integers from 0 to {m}, of a shape that the leading axes {lead} begin with (1 where all share it)"
    )
    try:
        x = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise TypeError(refused("kv_lengths", f"{type(value).__name__} ({e})", allowed)) from e
    if x.dtype.kind not in "iu":
        raise TypeError(refused("kv_lengths", f"{x.dtype} array", allowed))
    fits = x.ndim <= len(lead) and all(a in (1, b) for a, b in zip(x.shape, lead, strict=False))
    if not fits:
        raise ValueError(refused("kv_lengths", f"shape {x.shape}", allowed))
    if x.size and not (x.min() >= 0 and x.max() <= m):
        raise ValueError(refused("kv_lengths", f"numbers from {x.min()} to {x.max()}", allowed))
    return x.astype(np.int64).reshape(*x.shape, *(1,) * (len(lead) - x.ndim + 1))
