"""Whole layers: maps, attention and output of all heads in one kernel, generated from theorems IV.6l.

Where sequences are short a layer is its products with weights; the folded form has two for a head and the
tied form three where the standard layer has four. Between them nothing leaves the cache.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from projsym.attention import Backend
from projsym.errors import refused
from projsym.folding import Folded
from projsym.runtime import arguments as check
from projsym.runtime.layer_kernel import run_layer
from projsym.runtime.layout import Array
from projsym.tied import Tied

Weights: TypeAlias = Folded | Tied


@overload
def layer(
    x: ArrayLike,
    weights: Weights,
    *,
    context: ArrayLike | None = ...,
    return_lse: Literal[False] = ...,
    backend: Backend = ...,
) -> Array: ...
@overload
def layer(
    x: ArrayLike,
    weights: Weights,
    *,
    context: ArrayLike | None = ...,
    return_lse: Literal[True],
    backend: Backend = ...,
) -> tuple[Array, Array]: ...
def layer(
    x: ArrayLike,
    weights: Weights,
    *,
    context: ArrayLike | None = None,
    return_lse: bool = False,
    backend: Backend = None,
) -> Array | tuple[Array, Array]:
    """A projection layer: maps of the inputs, attention of every head, and the sum of what the heads give.

    >>> from projsym import fold, tie
    >>> x, w_q, w_k, w_v, w_o = np.random.default_rng(0).standard_normal((5, 8, 8))
    >>> layer(x, fold(w_q, w_k, w_v, w_o, heads=2)).shape    # Σ_h softmax(scale (x A + a) xᵀ) x B + b
    (8, 8)
    >>> layer(x, tie(w_q, w_k, w_o, heads=2)).shape          # keys x W_K + b_K as values, W_O after them
    (8, 8)

    x: tokens (..., n, D), normalised first where the weights were folded with a norm. weights: of
    :func:`projsym.fold` or :func:`projsym.tie`. context: tokens (..., m, C) that are attended to, with
    leading axes that broadcast with those of x; None: x itself. backend: "c", "numpy", or None (C if a
    compiler works, else NumPy, said once by BackendWarning).
    return_lse: also return the log-sum-exp of the scores of every head, (H, ..., n), natural logarithm; of
    the folded form it lacks what is the same for all keys and cancels (b_K).

    Returns (..., n, O), of the dtype of x, which must be that of the weights. A token that sees no other
    (m = 0) gets the layer's constant and lse = -inf. Results do not depend on the number of threads, bit by
    bit, for "c". Source: theorems IV.6l/layer_folded and IV.6l/layer_tied.
    Raises TypeError or ValueError naming the argument, also for NaN and infinity; OverflowError if a score or
    an output is outside the range of the dtype; CompilerError for backend "c" without a working compiler.
    """
    given, seen = checked(x, weights, context)
    out, lse, _ = forward(given, seen, weights, backend, return_lse)
    return (out, lse) if return_lse and lse is not None else out


def forward(
    x: Array, seen: Array, weights: Weights, backend: Backend, scalars: bool, save: bool = False
) -> tuple[Array, Array | None, dict[str, Array] | None]:
    """The output, and where wanted the log-sum-exps and what a backward pass needs; arguments are checked."""
    name, arrays = _weights(weights)
    lead = check.leading({"x": x.shape[:-2], "context": seen.shape[:-2]})
    arrays |= {"z": x, "x": seen}
    kind = "float32" if x.dtype == check.FLOAT32 else "float64"
    call = (name, lead, arrays, (float(weights.scale),), kind, backend)
    out, lse, saved, status = run_layer(*call, scalars, save)
    if lse is None and status > 0:
        # The log tells rows without keys from rows out of range.
        out, lse, saved, status = run_layer(*call, True, save)
    if status < 0:
        raise MemoryError(f"layer: no memory for the work space of x of shape {x.shape}")
    # A kernel counts rows without keys too; there is nothing that could be out of range in them.
    if seen.shape[-2] and (status or (lse is not None and lse.size and lse.min() == -np.inf)):
        _explain(arrays, x.dtype)
    return out, lse, saved


def checked(x: ArrayLike, weights: Weights, context: ArrayLike | None) -> tuple[Array, Array]:
    """The tokens that ask and those that are seen, or the error about an argument."""
    if not isinstance(weights, Folded | Tied):
        allowed = "a Folded of projsym.fold or a Tied of projsym.tie"
        raise TypeError(refused("weights", type(weights).__name__, allowed))
    width = (weights.A if isinstance(weights, Folded) else weights.W_Q).shape[1]
    wide = weights.A.shape[2] if isinstance(weights, Folded) else weights.W_K.shape[1]
    given = check.array("x", x, 2)
    seen = given if context is None else check.array("context", context, 2)
    for argument, a, size in (("x", given, width), ("x" if context is None else "context", seen, wide)):
        if a.dtype != weights.dtype:
            raise TypeError(refused(argument, a.dtype, f"{weights.dtype}, the dtype of the weights"))
        if a.shape[-1] != size:
            hint = " (and a context of its own)" if context is None and width != wide else ""
            allowed = f"shape (..., tokens, {size}) as in the weights{hint}"
            raise ValueError(refused(argument, f"shape {a.shape}", allowed))
    return given, seen


def _weights(weights: Weights) -> tuple[str, dict[str, Array]]:
    """The name of the kernel, and its arrays."""
    if isinstance(weights, Folded):
        return "layer_folded", {"A": weights.A, "B": weights.B, "a": weights.a, "y": weights.b}
    w = weights
    return "layer_tied", {
        "W_Q": w.W_Q, "W_K": w.W_K, "W_O": w.W_O, "b_Q": w.b_Q, "b_K": w.b_K, "y": w.b,
    }  # fmt: skip


def _explain(arrays: dict[str, Array], dtype: np.dtype[Any]) -> None:
    """Raise the error behind rows that are not finite."""
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            public = {"z": "x", "x": "context"}.get(name, "weights")
            raise ValueError(refused(public, "NaN or infinite entries", "finite numbers"))
    advice = "use float64, or smaller inputs" if dtype == np.float32 else "use smaller inputs"
    raise OverflowError(
        f"a score or an output is outside the range of {dtype} (up to {np.finfo(dtype).max:.2e}): {advice}"
    )
