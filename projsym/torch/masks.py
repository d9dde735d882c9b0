"""Which keys a query sees, as the operators take it and as the functions of `projsym` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from projsym.errors import refused
from projsym.torch import arguments as check
from projsym.torch.views import array

__all__ = ["SCHEMA", "Mask", "grouped", "keywords"]

SCHEMA = "Tensor? attn_mask, Tensor? key_bias, Tensor? kv_lengths, bool is_causal, int[]? window"
"""The arguments of an operator that restrict and bias its scores. window: left and right, −1 for no limit."""


@dataclass(frozen=True)
class Mask:
    """The arguments of `SCHEMA`, checked as far as tracing can: what a value must be is for the kernels'
    caller."""

    attn_mask: Tensor | None
    key_bias: Tensor | None
    kv_lengths: Tensor | None
    is_causal: bool
    window: list[int] | None

    @classmethod
    def of(
        cls,
        query: Tensor,
        key: Tensor,
        attn_mask: Tensor | None,
        key_bias: Tensor | None,
        kv_lengths: Tensor | None,
        is_causal: bool,
        window: object,
    ) -> Mask:
        """Raises TypeError or ValueError naming the argument."""
        if not isinstance(is_causal, bool):
            raise TypeError(refused("is_causal", f"{is_causal!r}", "True or False"))
        if attn_mask is not None:
            check.pairs("attn_mask", attn_mask, query, key)
        if key_bias is not None:
            check.scalars("key_bias", key_bias, key, f"(..., {key.shape[-2]})", "the keys")
        if kv_lengths is not None and not isinstance(kv_lengths, Tensor):
            raise TypeError(refused("kv_lengths", type(kv_lengths).__name__, "a CPU tensor of integers"))
        return cls(attn_mask, key_bias, kv_lengths, is_causal, _sides(window))

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.attn_mask, self.key_bias, self.kv_lengths, self.is_causal, self.window

    @property
    def biases(self) -> dict[str, Tensor]:
        """The key bias by name, if there is one: it has the leading axes of the keys."""
        return {} if self.key_bias is None else {"key_bias": self.key_bias}

    def with_biases(self, biases: Sequence[Tensor]) -> Mask:
        return self if not biases else replace(self, key_bias=biases[0])


def grouped(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor, Mask]:
    """Heads of queries as two axes, (heads of keys, queries a key head), that of keys with an axis 1 beside
    it."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.ndim < 3:
            allowed = "at least 3 axes with enable_gqa: (..., heads, rows, features)"
            raise ValueError(refused(name, f"shape {tuple(x.shape)}", allowed))
    count, heads = key.shape[-3], query.shape[-3]
    if value.shape[-3] != count or count < 1 or heads % count:
        given = f"{heads} heads of query, {count} of key, {value.shape[-3]} of value"
        allowed = "with enable_gqa one number of heads of key and value that divides that of query"
        raise ValueError(refused("query, key, value", given, allowed))
    split = (count, heads // count)
    pairs, lengths, bias = mask.attn_mask, mask.kv_lengths, mask.key_bias
    if pairs is not None and pairs.ndim > 2:
        pairs = pairs.unsqueeze(-3) if pairs.shape[-3] == 1 else pairs.unflatten(-3, split)
    if lengths is not None and lengths.ndim == query.ndim - 2:
        lengths = lengths.unsqueeze(-1) if lengths.shape[-1] == 1 else lengths.unflatten(-1, split)
    if bias is not None and bias.ndim > 1:
        bias = bias.unsqueeze(-2)
    mask = replace(mask, attn_mask=pairs, kv_lengths=lengths, key_bias=bias)
    return query.unflatten(-3, split), key.unsqueeze(-3), value.unsqueeze(-3), mask


def keywords(
    attn_mask: Tensor | None,
    key_bias: Tensor | None,
    kv_lengths: Tensor | None,
    is_causal: bool,
    window: list[int] | None,
) -> dict[str, Any]:
    """The keyword arguments of `projsym.attention` that are given, on the same memory."""
    tensors = {"attn_mask": attn_mask, "key_bias": key_bias, "kv_lengths": kv_lengths}
    found: dict[str, Any] = {name: array(x) for name, x in tensors.items() if x is not None}
    if is_causal:
        found["is_causal"] = True
    if window is not None:
        found["window"] = tuple(None if side < 0 else side for side in window)
    return found


def _sides(window: Any) -> list[int] | None:
    """A window as the operators take it."""
    allowed = "a pair (left, right), each an integer of at least 0 or None for no limit"
    if window is None:
        return None
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise TypeError(refused("window", repr(window), allowed))
    for side in window:
        if side is not None and (isinstance(side, bool) or not isinstance(side, int | torch.SymInt)):
            raise TypeError(refused("window", repr(window), allowed))
        if side is not None and side < 0:
            raise ValueError(refused("window", repr(window), allowed))
    return [-1 if side is None else side for side in window]
