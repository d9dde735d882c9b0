"""The gradient by a mask that is added to the scores, formed by PyTorch: w_ij (⟨g_i, v_j⟩ − ⟨g_i, out_i⟩ +
g_lse_i).

It has a number for every pair, so nothing is gained by a kernel that never stores the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mask_gradient", "seen"]


def mask_gradient(
    scores: Tensor,
    value: Tensor,
    g: Tensor,
    out: Tensor,
    lse: Tensor,
    g_lse: Tensor | None,
    shape: torch.Size,
) -> Tensor:
    """scores (..., n, m) with everything added and −inf where a pair is hidden, value (..., m, dv), the
    others as the operators have them; summed over what the mask's `shape` is broadcast along."""
    residual = g @ value.mT - (g * out).sum(-1, keepdim=True)
    residual = residual if g_lse is None else residual + g_lse[..., None]
    # A row that sees nothing has lse = −inf; hidden values may be NaN.
    blind = torch.isneginf(lse)[..., None]
    weights = torch.exp(scores - lse[..., None].masked_fill(blind, torch.inf))
    made = torch.where(weights == 0, 0.0, weights * residual)
    return made.sum_to_size(shape)


def seen(
    scores: Tensor, past: int, lengths: Tensor | None, is_causal: bool, window: list[int] | None
) -> Tensor:
    """The scores with −inf where position hides a pair; see `projsym.masks` for what a position is."""
    n, m = scores.shape[-2:]
    offset = torch.tensor(past)
    if lengths is not None:
        lengths = lengths.reshape(*lengths.shape, *(1,) * (scores.ndim - lengths.ndim))
        offset = lengths - n
    position, j = torch.arange(n)[:, None] + offset, torch.arange(m)
    left, right = (-1, -1) if window is None else window
    hidden = torch.zeros((), dtype=torch.bool)
    hidden = hidden if lengths is None else hidden | (j >= lengths)
    hidden = hidden | (j > position) if is_causal else hidden
    hidden = hidden | (j < position - left) if left >= 0 else hidden
    hidden = hidden | (j > position + right) if right >= 0 else hidden
    return scores.masked_fill(hidden, -torch.inf)
