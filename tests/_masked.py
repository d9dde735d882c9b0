"""Attention under any mask by the definition, and the proven bounds, row by row: a mask is a bias of its
row."""

from __future__ import annotations

from typing import Any

import numpy as np

from projsym.bounds import forward_bound
from projsym.bounds_backward import backward_bound

Array = np.ndarray[Any, Any]


def full(x: Array, lead: tuple[int, ...], core: int = 2) -> Array:
    return np.broadcast_to(x, (*lead, *x.shape[x.ndim - core :]))


def exact(
    g: Array, q: Array, k: Array, v: Array, bias: Array, scale: float
) -> tuple[Array, dict[str, Array]]:
    """The output and the gradients of ⟨g, output⟩ in extended precision; all arrays have the leading axes.

    bias (..., n, m): added to the scores, −inf where a row does not see a key. NaN in what no row sees is
    nothing. A row that sees nothing is 0.
    """
    wide = np.longdouble
    g, q, k, v, bias = (np.asarray(x, wide) for x in (g, q, k, v, bias))
    scores = scale * (q @ k.mT) + bias
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(bias).any(-1, keepdims=True), top, 0)
    w = np.exp(scores - top)
    total = w.sum(-1, keepdims=True)
    w = w / np.where(total == 0, 1, total)
    upstream = g @ v.mT
    p = w * (upstream - (w * upstream).sum(-1, keepdims=True))
    return w @ v, {"q": scale * (p @ k), "k": scale * (p.mT @ q), "v": w.mT @ g, "bias": p}


def bounds(
    g: Array, q: Array, k: Array, v: Array, bias: Array, scale: float, exp_error: float | None = None
) -> tuple[Array, dict[str, Array]]:
    """Bounds on the output (..., n) and on the gradients of an evaluation in the dtype of q.

    Every row is a problem of its own with its bias as that of the keys, so the proven bound holds for it. The
    gradients of keys and values add the rows' parts, in any order: one γ_n of their sizes more.
    """
    lead, n = q.shape[:-2], q.shape[-2]
    u = float(np.finfo(q.dtype).eps) / 2
    out = np.zeros((*lead, n))
    made = {x: np.zeros(a.shape) for x, a in (("q", q), ("k", k), ("v", v))}
    for i in range(n):
        row = np.s_[..., i : i + 1, :]
        own: dict[str, Any] = {"scale": scale, "key_bias": np.ascontiguousarray(bias[..., i, :])}
        out[..., i] = forward_bound(q[row], k, v, block=1, exp_error=exp_error, **own)[..., 0]
        part = backward_bound(g[row], q[row], k, v, exp_error=exp_error, **own)
        made["q"][row] = part["dq"]
        _, size = exact(g[row], q[row], k, v, bias[row], scale)
        for x in ("k", "v"):
            made[x] += part[f"d{x}"] + 2 * n * u * (np.abs(size[x]).astype(np.float64) + part[f"d{x}"])
    return out, made


def summed(x: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of what was broadcast from `shape`: the sum over what it was repeated along."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(a for a, size in enumerate(shape) if size == 1 != x.shape[a]), keepdims=True)
