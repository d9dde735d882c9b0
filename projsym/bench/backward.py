"""Forward and backward together: ours against peers that differentiate attention, behind the same gate."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from projsym.attention import attention
from projsym.backward import attention_backward
from projsym.bench.environment import available_cpus
from projsym.bench.gate import PEER_EXP_ERROR, Agreement
from projsym.bench.jitted import jax_gradients
from projsym.bounds_backward import backward_bound

Array: TypeAlias = NDArray[Any]
Gradients: TypeAlias = tuple[Array, Array, Array]
Call: TypeAlias = Callable[[], Gradients]
Prepare: TypeAlias = Callable[[Array, Array, Array, Array], Call]

KERNEL = "attention with gradients"
CONTRACTIONS = 7
"""Two of the forward pass and the five that the gradients need: scores again, ⟨g, v⟩, dq, dk, dv."""
_NAMES = ("dq", "dk", "dv")


def ours(g: Array, q: Array, k: Array, v: Array) -> Call:
    """The forward pass and the gradients by the C kernels."""

    def call() -> Gradients:
        out, lse = attention(q, k, v, return_lse=True, backend="c")
        dq, dk, dv = attention_backward(g, q, k, v, out, lse, backend="c")
        return dq, dk, dv

    return call


def numpy_peer(g: Array, q: Array, k: Array, v: Array) -> Call:
    """Whole arrays in NumPy, with the weights kept from the forward pass."""
    return lambda: whole_arrays(g, q, k, v)


def torch_peer(g: Array, q: Array, k: Array, v: Array) -> Call:
    """`scaled_dot_product_attention` on (1, H, n, d), as installed, and its own backward."""
    import torch

    upstream, *inputs = (torch.from_numpy(x)[None] for x in (g, q, k, v))
    leaves = [x.requires_grad_() for x in inputs]

    def call() -> Gradients:
        out = torch.nn.functional.scaled_dot_product_attention(*leaves)
        dq, dk, dv = (x[0].numpy() for x in torch.autograd.grad(out, leaves, upstream))
        return dq, dk, dv

    return call


def peers() -> dict[str, Prepare]:
    """The peers that can run here, by name. ONNX Runtime and the loops in Numba have no gradients."""
    found: dict[str, Prepare] = {"numpy": numpy_peer}
    if importlib.util.find_spec("torch"):
        found["torch"] = torch_peer
    if importlib.util.find_spec("jax"):
        found["jax"] = jax_gradients
    return found


def whole_arrays(g: Array, q: Array, k: Array, v: Array) -> Gradients:
    """The gradients of ``softmax(q kᵀ / sqrt(d)) v``, same dtype, as one writes them in NumPy."""
    scale = q.dtype.type(1 / math.sqrt(q.shape[-1]))
    w = np.matmul(q, k.swapaxes(-1, -2)) * scale
    w -= w.max(axis=-1, keepdims=True)
    np.exp(w, out=w)
    w /= w.sum(axis=-1, keepdims=True)
    out = np.matmul(w, v)
    dv = np.matmul(w.swapaxes(-1, -2), g)
    p = np.matmul(g, v.swapaxes(-1, -2))
    p -= (g * out).sum(axis=-1, keepdims=True)
    p *= w
    return np.matmul(p, k) * scale, np.matmul(p.swapaxes(-1, -2), q) * scale, dv


class GradientGate:
    """Reference and bounds for the gradients of one problem; scale ``1/sqrt(d)``.

    Guarantees: gradients that pass differ from the exact ones by at most the bound of `backward_bound` for
    their dtype, plus that of the reference, a float64 evaluation. Cannot see: an error below the bound.
    """

    def __init__(self, g: Array, q: Array, k: Array, v: Array) -> None:
        wide = [x.astype(np.float64) for x in (g, q, k, v)]
        self.reference = dict(zip(_NAMES, whole_arrays(*wide), strict=True))
        cases: list[tuple[list[Array], dict[str, Any]]] = [
            (wide, {"exp_error": PEER_EXP_ERROR["float64"]}),
            ([g, q, k, v], {}),
            ([g, q, k, v], {"exp_error": PEER_EXP_ERROR[q.dtype.name]}),
        ]
        with ThreadPoolExecutor(available_cpus()) as pool:
            own, mine, theirs = pool.map(lambda case: backward_bound(*case[0], **case[1]), cases)
        self.ours = {x: mine[x] + own[x] for x in _NAMES}
        self.peer = {x: theirs[x] + own[x] for x in _NAMES}

    def check(self, made: Gradients, *, peer: bool) -> Agreement:
        """Compare gradients with the reference; NaN anywhere is a disagreement."""
        bounds = self.peer if peer else self.ours
        equal, worst = True, 0.0
        for name, x in zip(_NAMES, made, strict=True):
            want, bound = self.reference[name], bounds[name]
            if x.shape != want.shape:
                return Agreement(False, math.inf, float(bound.max()))
            error = np.abs(x - want)
            error = np.where(np.isnan(error), np.inf, error)
            equal &= bool((error <= bound).all() and np.isfinite(bound).all())
            worst = max(worst, float(error.max()))
        return Agreement(equal, worst, max(float(b.max()) for b in bounds.values()))
