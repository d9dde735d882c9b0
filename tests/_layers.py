"""Layers for the tests: random weights, and the layer in long double."""

from __future__ import annotations

from typing import Any

import numpy as np

from projsym import Folded, Tied, fold, tie


def folded(rng: np.random.Generator, width: int, d: int, out: int, heads: int, dtype: str) -> Folded:
    """A folded layer of `heads` heads of size `d`, with all biases."""

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / shape[0] ** 0.5).astype(dtype)

    inner = heads * d
    biases = {"b_q": draw(inner), "b_k": draw(inner), "b_v": draw(inner), "b_o": draw(out)}
    return fold(*(draw(width, inner) for _ in "qkv"), draw(inner, out), heads=heads, **biases)


def tied(rng: np.random.Generator, width: int, d: int, out: int, heads: int, dtype: str) -> Tied:
    """A tied layer of `heads` heads of size `d`, with all biases."""

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / shape[0] ** 0.5).astype(dtype)

    inner = heads * d
    biases = {"b_q": draw(inner), "b_k": draw(inner), "b_o": draw(out)}
    return tie(draw(width, inner), draw(width, inner), draw(inner, out), heads=heads, **biases)


FORMS = {"folded": folded, "tied": tied}


def exact(x: np.ndarray, weights: Folded | Tied, context: np.ndarray | None = None) -> tuple[Any, Any]:
    """Output and log-sum-exps in long double, whose error is 2**-11 of the bound for float64 at most."""
    wide = np.longdouble
    z, y = x.astype(wide), (x if context is None else context).astype(wide)
    out: Any = weights.b.astype(wide)
    logs = []
    for h in range(weights.heads):
        if isinstance(weights, Folded):
            q, k = z @ weights.A[h].astype(wide) + weights.a[h], y
            after = weights.B[h]
        else:
            q = z @ weights.W_Q[h].astype(wide) + weights.b_Q[h]
            k = y @ weights.W_K[h].astype(wide) + weights.b_K[h]
            after = weights.W_O[h]
        scores = wide(weights.scale) * (q @ k.swapaxes(-1, -2))
        top = scores.max(-1, keepdims=True)
        w = np.exp(scores - top)
        total = w.sum(-1, keepdims=True)
        out = out + (w / total) @ k @ after.astype(wide)
        logs.append((np.log(total) + top)[..., 0])
    return out, np.array(logs)
