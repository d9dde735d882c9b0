"""The backward pass of whole layers, from theorems IV.6lb.

The attention inside is that of the kernel ``project_dot_backward``; products with maps are NumPy's, all rows
and heads at once, since they are as large as its BLAS wants them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod

import numpy as np
from numpy.typing import ArrayLike

from projsym.attention import Backend
from projsym.backward import project_backward
from projsym.errors import refused
from projsym.folding import Folded
from projsym.layers import Weights, checked, forward
from projsym.runtime.layout import Array


@dataclass(frozen=True)
class LayerGradients:
    """Gradients of a layer: each has the shape and dtype of what it belongs to.

    x: of the tokens, as queries, and as keys too where there is no context. context: of the context, or None.
    weights: by the name of the field of :class:`projsym.Folded` or :class:`projsym.Tied`. scale: of the
    factor of the scores.

    >>> import projsym
    >>> x, w_q, w_k, w_o = np.random.default_rng(0).standard_normal((4, 8, 8))
    >>> made = layer_backward(x, x, projsym.tie(w_q, w_k, w_o))
    >>> sorted(made.weights)
    ['W_K', 'W_O', 'W_Q', 'b', 'b_K', 'b_Q']
    """

    x: Array
    context: Array | None
    weights: dict[str, Array]
    scale: float


@dataclass(frozen=True)
class LayerSaved:
    """What the backward pass takes from the forward pass, for every head: queries and means
    (H, ..., n, d), keys (H, ..., m, d) or None where they are the tokens themselves, lse (H, ..., n).

    >>> import projsym
    >>> x, w_q, w_k, w_v, w_o = np.random.default_rng(0).standard_normal((5, 8, 8))
    >>> weights = projsym.fold(w_q, w_k, w_v, w_o, heads=2)
    >>> _, saved = layer_forward(x, weights)
    >>> saved.queries.shape, saved.keys is None, saved.lse.shape
    ((2, 8, 8), True, (2, 8))
    """

    queries: Array
    keys: Array | None
    means: Array
    lse: Array


def layer_forward(
    x: ArrayLike, weights: Weights, *, context: ArrayLike | None = None, backend: Backend = None
) -> tuple[Array, LayerSaved]:
    """The output of a layer, and what its backward pass needs; arguments, errors as in :func:`projsym.layer`.

    >>> import projsym
    >>> x, w_q, w_k, w_v, w_o = np.random.default_rng(0).standard_normal((5, 8, 8))
    >>> weights = projsym.fold(w_q, w_k, w_v, w_o, heads=2)
    >>> out, saved = layer_forward(x, weights)
    >>> bool((out == projsym.layer(x, weights)).all())
    True
    """
    out, saved = _forward(*checked(x, weights, context), weights, backend)
    return out, saved


def _forward(x: Array, seen: Array, weights: Weights, backend: Backend) -> tuple[Array, LayerSaved]:
    out, lse, saved = forward(x, seen, weights, backend, scalars=True, save=True)
    assert lse is not None and saved is not None  # both were asked for
    return out, LayerSaved(saved["q"], saved.get("k"), saved["mean"], lse)


def layer_backward(
    g: ArrayLike,
    x: ArrayLike,
    weights: Weights,
    *,
    context: ArrayLike | None = None,
    saved: LayerSaved | None = None,
    backend: Backend = None,
) -> LayerGradients:
    """Gradients of :func:`projsym.layer` with respect to tokens, context and all weights.

    >>> import projsym
    >>> x, w_q, w_k, w_v, w_o = np.random.default_rng(0).standard_normal((5, 8, 8))
    >>> weights = projsym.fold(w_q, w_k, w_v, w_o, heads=2)
    >>> out, saved = layer_forward(x, weights)
    >>> grads = layer_backward(np.ones_like(out), x, weights, saved=saved)      # of out.sum()
    >>> grads.x.shape, grads.weights["A"].shape
    ((8, 8), (2, 8, 8))

    g: gradient of a loss with respect to the output, (..., n, O). x (..., n, D), `weights`, context
    (..., m, C), `backend`: as in the forward pass, but leading axes do not broadcast. saved: what
    :func:`layer_forward` gave for them; None: it is computed again. Gradients of `Folded.constants` are left
    out: the output has them in `b` only.

    Source: theorems IV.6lb/layer_folded_backward and IV.6lb/layer_tied_backward. Unlike those of the kernels,
    the sums of NumPy's products may depend on its number of threads. Raises TypeError or ValueError naming
    the argument, also for NaN and infinity; OverflowError if a gradient is outside the range of the dtype.
    """
    given, seen = checked(x, weights, context)
    if given.shape[:-2] != seen.shape[:-2]:
        raise ValueError(
            refused("context", f"shape {seen.shape}", f"leading axes {given.shape[:-2]} as in x")
        )
    upstream = np.asarray(g)
    if upstream.dtype != given.dtype:
        raise TypeError(refused("g", upstream.dtype, f"{given.dtype}, the dtype of x"))
    shape = (*given.shape[:-1], len(weights.b))
    if upstream.shape != shape:
        raise ValueError(refused("g", f"shape {upstream.shape}", f"shape {shape}, that of the output"))
    if saved is None:
        _, saved = _forward(given, seen, weights, backend)
    elif saved.queries.shape[1:-1] != given.shape[:-1] or len(saved.queries) != weights.heads:
        wanted = (weights.heads, *given.shape[:-1])
        raise ValueError(refused("saved", f"queries {saved.queries.shape}", f"{wanted} and features"))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            made = _gradients(upstream, given, seen, weights, saved, context is None, backend)
        if all(map(_finite, (made.x, made.context, *made.weights.values()))):
            return made
    except (ValueError, OverflowError):
        _explain(upstream, given, seen)
        raise
    _explain(upstream, given, seen)
    raise OverflowError(f"a gradient is outside the range of {given.dtype}: use float64 or smaller inputs")


def _explain(g: Array, x: Array, seen: Array) -> None:
    """ValueError for the argument that is behind a gradient that is not finite, if one is."""
    for name, a in (("g", g), ("x", x), ("context", seen)):
        if not _finite(a):
            raise ValueError(refused(name, "NaN or infinite entries", "finite numbers"))


def _gradients(
    g: Array, x: Array, seen: Array, weights: Weights, saved: LayerSaved, own: bool, backend: Backend
) -> LayerGradients:
    if isinstance(weights, Folded):
        query, last, names = weights.A, weights.B, ("A", "a", "B")
    else:
        query, last, names = weights.W_Q, weights.W_O, ("W_Q", "b_Q", "W_O")
    heads, d, out = last.shape
    first, upstream = _flat(query), _rows(g)
    through = upstream @ last.reshape(heads * d, out).T
    keys = np.broadcast_to(seen, (heads, *seen.shape)) if saved.keys is None else saved.keys
    dq, dk, dscale, *_ = project_backward(
        _split(through, x.shape[:-1], heads),
        saved.queries,
        keys,
        saved.means,
        saved.lse,
        scale=float(weights.scale),
        backend=backend,
    )
    joined = _join(dq)
    made = {
        names[0]: _columns(_rows(x).T @ joined, heads),
        names[1]: _total(joined).reshape(heads, d),
        names[2]: (_join(saved.means).T @ upstream).reshape(heads, d, out),
        "b": _total(upstream),
    }
    dx = (joined @ first.T).reshape(x.shape)
    if isinstance(weights, Folded):
        dseen = dk[0] if heads == 1 else dk.sum(axis=0)
    else:
        along = _join(dk)
        dseen = (along @ _flat(weights.W_K).T).reshape(seen.shape)
        made["W_K"] = _columns(_rows(seen).T @ along, heads)
        # In the scores the offset of the keys cancels; as that of the values it reaches every query once, if
        # there are keys.
        made["b_K"] = _total(through).reshape(heads, d) * bool(seen.shape[-2])
    if own:
        dx += dseen
    return LayerGradients(dx, None if own else dseen, made, float(dscale.sum(dtype=np.float64)))


def _rows(x: Array) -> Array:
    """(..., n, D) -> (N, D)."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _flat(w: Array) -> Array:
    """(H, D, d) -> (D, H·d)."""
    return w.swapaxes(0, 1).reshape(w.shape[1], -1)


def _columns(w: Array, heads: int) -> Array:
    """(D, H·d) -> (H, D, d)."""
    return w.reshape(len(w), heads, -1).swapaxes(0, 1)


def _split(rows: Array, lead: tuple[int, ...], heads: int) -> Array:
    """(N, H·d) -> (H, ..., n, d), a view."""
    return np.moveaxis(rows.reshape(*lead, heads, rows.shape[1] // heads), -2, 0)


def _join(x: Array) -> Array:
    """(H, ..., n, d) -> (N, H·d)."""
    return np.moveaxis(x, 0, -2).reshape(prod(x.shape[1:-1]), len(x) * x.shape[-1])


def _total(rows: Array) -> Array:
    """The sum of all rows."""
    return np.ones(len(rows), rows.dtype) @ rows


def _finite(x: Array | None) -> bool:
    return x is None or not x.size or (isfinite(x.min()) and isfinite(x.max()))
