"""``projsym::mask_gradient``: the gradient by a mask that is added to the scores, formed by PyTorch:
w_ij (⟨g_i, v_j⟩ − ⟨g_i, out_i⟩ + g_lse_i), with weights from the saved log-sum-exp [IV.6b].

A mask with a number for every pair has that many gradients, so a kernel that never stores weights would gain
nothing. A mask that is broadcast has few; pairs are gone through in blocks, and beside the gradient itself
no more than a few arrays of `PAIRS` numbers are held at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from projsym.torch import masks
from projsym.torch.double import refuse_double_backward

__all__ = ["PAIRS", "mask_gradient"]

PAIRS = 2**20
"""Pairs of a query and a key in a block, at most, but for a block of one row."""

torch.library.define(
    "projsym::mask_gradient",
    "(Tensor g, Tensor query, Tensor key, Tensor value, Tensor out, Tensor lse, Tensor? g_lse, "
    f"{masks.SCHEMA}, int past, Tensor scale, float? softcap) -> Tensor",
)
mask_gradient = torch.ops.projsym.mask_gradient.default


@dataclass(frozen=True)
class _Block:
    """Some queries and all keys. Every tensor has the same number of axes, of length 1 where it is broadcast:
    those of `rows` end in (queries, any), those of `keys` in (any, keys) or (keys, any).

    rows: query, g, ⟨g, out⟩ − g_lse, lse, and the ranges of keys. mask: the mask and its gradient. lead: the
    leading axes and the number of queries, those of the lse, which is not broadcast.
    """

    rows: dict[str, Tensor]
    keys: dict[str, Tensor]
    mask: tuple[Tensor, Tensor]

    @property
    def lead(self) -> tuple[int, ...]:
        return tuple(self.rows["lse"].shape[:-1])

    def part(self, axis: int, start: int, length: int) -> _Block:
        """Of the queries at an axis of `lead`."""
        last = axis == len(self.lead) - 1

        def cut(x: Tensor) -> Tensor:
            return x if x.shape[axis] == 1 else x.narrow(axis, start, length)

        rows = {n: cut(x) for n, x in self.rows.items()}
        keys = self.keys if last else {n: cut(x) for n, x in self.keys.items()}
        return replace(self, rows=rows, keys=keys, mask=(cut(self.mask[0]), cut(self.mask[1])))


@torch.library.impl("projsym::mask_gradient", "cpu")
def _mask_gradient(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    g_lse: Tensor | None,
    attn_mask: Tensor,
    key_bias: Tensor | None,
    kv_lengths: Tensor | None,
    is_causal: bool,
    window: list[int] | None,
    past: int,
    scale: Tensor,
    softcap: float | None,
) -> Tensor:
    """query (..., n, d), key (..., m, d), value (..., m, dv), g and out (..., n, dv), lse (..., n), the
    gradients by the results, what they were computed from, scale (), float64 -> the shape of attn_mask,
    summed over what it is broadcast along."""
    made = torch.zeros_like(attn_mask, memory_format=torch.contiguous_format)
    n, m, axes = query.shape[-2], key.shape[-2], lse.ndim + 1
    loss = (g * out).sum(-1) if g_lse is None else (g * out).sum(-1) - g_lse
    # A row that sees nothing has lse = −inf.
    log = lse.masked_fill(torch.isneginf(lse), torch.inf)
    rows = {"query": query, "g": g, "loss": loss[..., None], "lse": log[..., None]}
    rows |= _ranges(n, m, axes, past, kv_lengths, is_causal, window)
    keys = {"key": key, "value": value}
    keys |= {} if key_bias is None else {"bias": key_bias[..., None, :]}

    def whole(x: Tensor) -> Tensor:
        return x.reshape(*(1,) * (axes - x.ndim), *x.shape)

    if made.numel() and lse.numel() and m:
        rows, keys = ({name: whole(x) for name, x in found.items()} for found in (rows, keys))
        _add(_Block(rows, keys, (whole(attn_mask), whole(made))), m, float(scale), softcap)
    return made


@torch.library.register_fake("projsym::mask_gradient")
def _(g: Tensor, *more: Any) -> Tensor:
    return more[6].new_empty(more[6].shape)


def _add(block: _Block, m: int, scale: float, softcap: float | None) -> None:
    """Add what the pairs of a block give; those of one that is too large half by half."""
    lead = block.lead
    if math.prod(lead) * m > PAIRS and max(lead) > 1:
        axis = next(n for n, size in enumerate(lead) if size > 1)
        half = lead[axis] // 2
        _add(block.part(axis, 0, half), m, scale, softcap)
        _add(block.part(axis, half, lead[axis] - half), m, scale, softcap)
        return
    rows, keys, (mask, made) = block.rows, block.keys, block.mask
    scores = rows["query"] @ keys["key"].mT * scale
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    hidden = torch.isneginf(mask)
    scores = scores + mask
    if "bias" in keys:
        scores, hidden = scores + keys["bias"], hidden | torch.isneginf(keys["bias"])
    if "first" in rows:
        j = torch.arange(m)
        hidden = hidden | (j < rows["first"]) | (j >= rows["end"])
    # Hidden keys and values may be NaN.
    weights = torch.exp(scores.masked_fill(hidden, -torch.inf) - rows["lse"])
    parts = weights * (rows["g"] @ keys["value"].mT - rows["loss"])
    made += parts.masked_fill(weights == 0, 0.0).sum_to_size(made.shape)


def _ranges(
    n: int,
    m: int,
    axes: int,
    past: int,
    lengths: Tensor | None,
    is_causal: bool,
    window: list[int] | None,
) -> dict[str, Tensor]:
    """The first key that position lets a query see, and the one after the last, each (..., n, 1); nothing
    where all see all. See `projsym.masks` for what a position is."""
    left, right = (-1, -1) if window is None else window
    if lengths is None and not is_causal and left < 0 and right < 0:
        return {}
    offset = torch.tensor(past)
    if lengths is not None:
        lengths = lengths.reshape(*lengths.shape, *(1,) * (axes - lengths.ndim))
        offset = lengths - n
    position = torch.arange(n)[:, None] + offset
    first, end = torch.zeros_like(position), torch.full_like(position, m)
    end = end if lengths is None else torch.minimum(end, lengths)
    end = torch.minimum(end, position + 1) if is_causal else end
    end = torch.minimum(end, position + right + 1) if right >= 0 else end
    first = torch.maximum(first, position - left) if left >= 0 else first
    return {"first": first, "end": end}


refuse_double_backward("projsym::mask_gradient")
