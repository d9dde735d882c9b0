"""How far the outputs of two forms of one layer may lie apart: proven rounding bounds.

In the standard model of rounding (unit u, no underflow) a sum of n products in any order, with or without
fused operations, has an error of at most γ_n = nu/(1−nu) times the sum of absolute values; factors multiply
as γ_a + γ_b + γ_a γ_b ≤ γ_{a+b}. Both layers are taken to run one core on one device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import Attention
from .convert import head_matrices

__all__ = ["folding_bound", "tying_bound"]

CORE_ROUNDINGS = 8  # beyond the m of a sum over keys: exponential (4), shift, normaliser, product, final


def _gamma(count: int, dtype: torch.dtype) -> float:
    unit = torch.finfo(dtype).eps / 2
    return count * unit / (1 - count * unit)


def _magnitudes(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """(|x| |W_V| + |b_V|) |W_O| for each head, context row and output: (B, H, m, D)."""
    values = x.abs().unsqueeze(1) @ w["W_V"].abs() + w["b_V"].abs()
    return values @ w["W_O"].abs()


@torch.no_grad()
def tying_bound(standard: Attention, tied: Attention, context: Tensor) -> Tensor:
    """(B, 1, D): no row of the two outputs differs by more, for layers with equal queries and keys.

    Equal queries and keys give bitwise equal weights, which sum to 1 + γ_{m+8} at most. What remains is
    Σ_h w_h x (W_V W_O − W_K M), the same of the constants (both residuals are computed here, with their own
    rounding), and the rounding of the two evaluations: D + m + 8 + H d_h + 2 operations deep.
    Sees neither underflow nor a core that drops terms.
    """
    dtype, x = standard.output.weight.dtype, context.double()
    s, t = head_matrices(standard), head_matrices(tied)
    m, width, inner = x.shape[1], standard.width, standard.heads * standard.head_width
    depth = _gamma(width + m + CORE_ROUNDINGS + inner + 2, dtype)
    weights = 1 + _gamma(m + CORE_ROUNDINGS, dtype)
    own = _gamma(2 * inner + 2, torch.float64)  # of the residuals below

    sizes = s["W_V"].abs() @ s["W_O"].abs() + t["W_K"].abs() @ t["W_O"].abs()
    residual = (s["W_V"] @ s["W_O"] - t["W_K"] @ t["W_O"]).abs() + own * sizes
    linear = (x.abs().unsqueeze(1) @ residual).amax(2).sum(1)  # (B, D)

    constants = s["b_V"].abs() @ s["W_O"].abs() + t["b_K"].abs() @ t["W_O"].abs()
    difference = (s["b_V"] @ s["W_O"] - t["b_K"] @ t["W_O"]).sum(dim=(0, 1)) + s["b_O"] - t["b_O"]
    total = constants.sum(dim=(0, 1))
    constant = difference.abs() + own * (total + s["b_O"].abs() + t["b_O"].abs()) + (weights - 1) * total

    evaluation = depth * (
        (_magnitudes(x, s) + _magnitudes(x, t)).amax(2).sum(1) + s["b_O"].abs() + t["b_O"].abs()
    )
    return (weights * (linear + evaluation) + constant).unsqueeze(1) * _SLACK


@torch.no_grad()
def folding_bound(standard: Attention, folded: Attention, x: Tensor, context: Tensor) -> Tensor:
    """(B, n, D): no output of a layer and of its folded form [I.7] differs by more.

    Scores differ by rounding, at most δ (B, n); the weights then move the output by at most its range over
    the keys times tanh(δ/2) [II.9]. A, a, B and b are exact up to γ_{d_h+2} of their terms and one rounding
    to the dtype. Sees neither underflow nor a core that drops terms. Fixed σ only.
    """
    dtype, rows, keys = standard.output.weight.dtype, x.double(), context.double()
    w, m, width, inner = head_matrices(standard), keys.shape[1], standard.width, standard.head_width
    w_q = standard.query.weight.double().T.reshape(width, standard.heads, -1).transpose(0, 1)
    b_q = standard.query.bias.double().reshape(standard.heads, 1, -1)
    u = torch.finfo(dtype).eps / 2

    left = rows.abs().unsqueeze(1) @ w_q.abs() + b_q.abs()
    right = keys.abs().unsqueeze(1) @ w["W_K"].abs() + w["b_K"].abs()
    scores = standard.scale * (left @ right.mT).amax(-1)  # (B, H, n), above every |score| on the way
    roundings = _gamma(2 * (width + 1) + inner + 2, dtype) + _gamma(2 * width + inner + 6, dtype)
    δ = scores * (roundings + 4 * u) + 2 * _gamma(m + CORE_ROUNDINGS, dtype)

    values = (keys.unsqueeze(1) @ w["W_V"] + w["b_V"]) @ w["W_O"]  # (B, H, m, D)
    diameter = values.amax(2) - values.amin(2)  # (B, H, D)
    moved = torch.einsum("bhn,bhd->bnd", torch.tanh(δ / 2), diameter)

    depth = width + m + CORE_ROUNDINGS + standard.heads * (inner + width) + 8
    size = _magnitudes(keys, w).amax(2).sum(1) + w["b_O"].abs() + folded.output.bias.double().abs()
    return (moved + 2 * _gamma(depth, dtype) * size.unsqueeze(1)) * _SLACK


_SLACK = 1 + 2.0**-20  # above the rounding of these bounds themselves
