"""Which keys a query sees, as the operators take it and as the functions of `projsym` do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from projsym.errors import refused
from projsym.torch import arguments as check
from projsym.torch.views import array

__all__ = ["SCHEMA", "keywords", "mask"]

SCHEMA = "Tensor? attn_mask, Tensor? key_bias, Tensor? kv_lengths, bool is_causal, int[]? window"
"""The arguments of an operator that restrict and bias its scores. window: left and right, −1 for no limit."""


def mask(
    query: Tensor,
    m: int,
    attn_mask: Tensor | None,
    key_bias: Tensor | None,
    kv_lengths: Tensor | None,
    is_causal: bool,
    window: object,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, bool, list[int] | None]:
    """The arguments of `SCHEMA`, checked as far as tracing can. Raises TypeError or ValueError by name."""
    if not isinstance(is_causal, bool):
        raise TypeError(
            refused("is_causal", f"{is_causal!r} of type {type(is_causal).__name__}", "True or False")
        )
    if attn_mask is not None:
        check.pairs("attn_mask", attn_mask, query, m)
    if key_bias is not None:
        check.biases("key_bias", key_bias, query, m)
    if kv_lengths is not None and not isinstance(kv_lengths, Tensor):
        raise TypeError(refused("kv_lengths", type(kv_lengths).__name__, "a CPU tensor of integers"))
    return attn_mask, key_bias, kv_lengths, is_causal, _sides(window)


def keywords(
    attn_mask: Tensor | None,
    key_bias: Tensor | None,
    kv_lengths: Tensor | None,
    is_causal: bool,
    window: list[int] | None,
) -> dict[str, Any]:
    """The keyword arguments of `projsym.attention` that these are, on the same memory."""
    tensors = {"attn_mask": attn_mask, "key_bias": key_bias, "kv_lengths": kv_lengths}
    found: dict[str, Any] = {name: None if x is None else array(x) for name, x in tensors.items()}
    sides = None if window is None else tuple(None if side < 0 else side for side in window)
    return {**found, "is_causal": is_causal, "window": sides}


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
