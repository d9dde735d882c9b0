"""Gradients of a layer by automatic differentiation in float64, and how far rounding may move them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from projsym import Folded, Tied


def fields(weights: Folded | Tied) -> dict[str, np.ndarray]:
    names = ("A", "a", "B", "b") if isinstance(weights, Folded) else ("W_Q", "W_K", "W_O", "b_Q", "b_K", "b")
    return {name: getattr(weights, name) for name in names}


def reference(g: Any, x: Any, weights: Folded | Tied, context: Any = None) -> dict[str, np.ndarray]:
    """Gradients of ``sum(g * layer)`` by name; also "x", "context" and "scale"."""

    def leaf(a: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(a, np.float64), requires_grad=True)

    z, scale = leaf(x), leaf(weights.scale)
    y = z if context is None else leaf(context)
    w = {name: leaf(a) for name, a in fields(weights).items()}
    out: Any = w["b"]
    for h in range(weights.heads):
        if isinstance(weights, Folded):
            q, k, after = z @ w["A"][h] + w["a"][h], y, w["B"][h]
        else:
            q, k, after = z @ w["W_Q"][h] + w["b_Q"][h], y @ w["W_K"][h] + w["b_K"][h], w["W_O"][h]
        out = out + torch.softmax(scale * (q @ k.mT), -1) @ k @ after
    (out * torch.tensor(np.asarray(g, np.float64))).sum().backward()
    leaves = {"x": z, "scale": scale} | w | ({} if context is None else {"context": y})
    return {name: a.grad.numpy() for name, a in leaves.items()}


def tolerance(g: Any, x: Any, weights: Folded | Tied, context: Any = None) -> dict[str, np.ndarray]:
    """Twice the first-order bound of the rounding error of each gradient, by name.

    Every gradient is a sum of products of inputs, weights of the softmax and scores' residuals. A product
    goes through at most `r` roundings and two weights; a weight is off by the error of its score and of the
    log-sum-exp, at most `δ` each. With `S` the sum of the products' absolute values: ``(r u + 4 δ) S``.
    """
    u = float(np.finfo(x.dtype).eps) / 2
    z = np.abs(x.astype(np.float64))
    y = z if context is None else np.abs(context.astype(np.float64))
    up, w = (
        np.abs(g.astype(np.float64)),
        {n: np.abs(a.astype(np.float64)) for n, a in fields(weights).items()},
    )
    c, m = abs(weights.scale), y.shape[-2]
    rows = int(np.prod(x.shape[:-1]))
    sizes: dict[str, Any] = {n: np.zeros(a.shape) for n, a in w.items()}
    sizes |= {"x": np.zeros(z.shape), "seen": np.zeros(y.shape), "scale": 0.0}
    worst, folded = 0.0, isinstance(weights, Folded)
    for h in range(weights.heads):
        first, last = (w["A"][h], w["B"][h]) if folded else (w["W_Q"][h], w["W_O"][h])
        q = z @ first + (w["a"] if folded else w["b_Q"])[h]
        k = y if folded else y @ w["W_K"][h] + w["b_K"][h]
        d = up @ last.T
        prob = softmax(x, weights, h, context)
        p = prob @ k
        t = prob * (d @ k.mT + (d * p).sum(-1, keepdims=True))
        dq, dk = c * t @ k, c * t.mT @ q + prob.mT @ d
        sizes["x"] += dq @ first.T
        sizes["scale"] += (t * (q @ k.mT)).sum()
        flat = dq.reshape(rows, -1)
        sizes["A" if folded else "W_Q"][h] = z.reshape(rows, -1).T @ flat
        sizes["a" if folded else "b_Q"][h] = flat.sum(0)
        sizes["B" if folded else "W_O"][h] = p.reshape(rows, -1).T @ up.reshape(rows, -1)
        if folded:
            sizes["seen"] += dk
        else:
            sizes["seen"] += dk @ w["W_K"][h].T
            sizes["W_K"][h] = y.reshape(-1, y.shape[-1]).T @ dk.reshape(-1, dk.shape[-1])
            sizes["b_K"][h] = d.reshape(rows, -1).sum(0)
        worst = max(worst, float(c * (q @ k.mT).max()))
    sizes["b"] = up.reshape(rows, -1).sum(0)
    seen = sizes.pop("seen")
    if context is None:
        sizes["x"] += seen
    else:
        sizes["context"] = seen
    width = z.shape[-1] + y.shape[-1] + up.shape[-1] + last.shape[0]
    roundings = 2 * (width + m + x.shape[-2]) + rows + 40
    δ = u * ((width + 10) * (worst + 1) + m + 20)
    return {name: 2 * (roundings * u + 4 * δ) * s for name, s in sizes.items()}


def softmax(x: Any, weights: Folded | Tied, h: int, context: Any) -> np.ndarray:
    """The weights of one head."""
    z, y = x.astype(np.float64), (x if context is None else context).astype(np.float64)
    if isinstance(weights, Folded):
        scores = (z @ weights.A[h] + weights.a[h]) @ y.mT
    else:
        scores = (z @ weights.W_Q[h] + weights.b_Q[h]) @ (y @ weights.W_K[h] + weights.b_K[h]).mT
    e = np.exp(weights.scale * (scores - scores.max(-1, keepdims=True)))
    return e / e.sum(-1, keepdims=True)
