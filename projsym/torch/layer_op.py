"""``projsym::layer`` and its backward pass, registered with PyTorch; as in `projsym.torch.attention_op`.

Matrices act on rows from the right, (H, inputs, outputs), one a head; without `w_k` and `b_k` the layer is a
folded one, else a tied one. What `torch.nn.Linear` holds, transposed, is read in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from projsym.errors import refused
from projsym.folding import Folded
from projsym.layers import Weights
from projsym.layers import layer as forward
from projsym.layers_backward import LayerSaved, layer_forward
from projsym.layers_backward import layer_backward as backward
from projsym.runtime.layout import Array
from projsym.tied import Tied
from projsym.torch.double import refuse_double_backward
from projsym.torch.views import array, blas_in_torch, in_torch, tensor

__all__ = ["layer", "layer_backward"]

WEIGHTS = "Tensor w_q, Tensor? w_k, Tensor w_o, Tensor b_q, Tensor? b_k, Tensor b_o, float scale"

torch.library.define(
    "projsym::layer",
    f"(Tensor x, Tensor? context, {WEIGHTS}, bool with_saved) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "projsym::layer_backward",
    f"(Tensor g, Tensor x, Tensor? context, {WEIGHTS}, Tensor queries, Tensor keys, Tensor means, Tensor lse)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
layer = torch.ops.projsym.layer.default
layer_backward = torch.ops.projsym.layer_backward.default

NAMES = ("w_q", "w_k", "w_o", "b_q", "b_k", "b_o")
FIELDS = {"w_q": "W_Q", "w_k": "W_K", "w_o": "W_O", "b_q": "b_Q", "b_k": "b_K", "b_o": "b"}
FOLDED_FIELDS = {"w_q": "A", "w_o": "B", "b_q": "a", "b_o": "b"}


@torch.library.impl("projsym::layer", "cpu")
def _layer(x: Tensor, context: Tensor | None, *more: Any) -> tuple[Tensor, ...]:
    """x (..., n, D), context (..., m, C) with the same leading axes, w_q (H, D, d), w_k (H, C, d), w_o
    (H, d, O), b_q and b_k (H, d), b_o (O,) -> out (..., n, O), and what the gradient needs: queries and means
    (H, ..., n, d), keys (H, ..., m, d) of a tied layer, lse (H, ..., n); (0,) unless `with_saved`."""
    *given, with_saved = more
    weights = _weights(*given)
    seen = None if context is None else array(context)
    kept: tuple[Array | None, ...] = (None,) * 4
    try:
        with in_torch():
            if with_saved:
                out, saved = layer_forward(array(x), weights, context=seen)
                kept = (saved.queries, saved.keys, saved.means, saved.lse)
            else:
                out = forward(array(x), weights, context=seen)
    except ValueError as e:
        for name, t in zip(NAMES, given, strict=False):
            if t is not None and not t.isfinite().all():
                raise ValueError(refused(name, "NaN or infinite entries", "finite numbers")) from e
        raise
    return tensor(out), *(x.new_empty(0) if a is None else tensor(a) for a in kept)


@torch.library.register_fake("projsym::layer")
def _(x: Tensor, context: Tensor | None, *more: Any) -> tuple[Tensor, ...]:
    (heads, _, d), w_k, w_o, with_saved = more[0].shape, more[1], more[2], more[-1]
    rows = (heads, *x.shape[:-1])
    keys = (heads, *(x if context is None else context).shape[:-1], d)
    kept: tuple[Any, ...] = ((*rows, d), 0 if w_k is None else keys, (*rows, d), rows)
    out = x.new_empty((*x.shape[:-1], w_o.shape[2]))
    return out, *(x.new_empty(shape if with_saved else 0) for shape in kept)


@torch.library.impl("projsym::layer_backward", "cpu")
def _layer_backward(g: Tensor, x: Tensor, context: Tensor | None, *more: Any) -> tuple[Tensor, ...]:
    """The gradients by x, context, w_q, w_k, w_o, b_q, b_k and b_o, (0,) for what is not given."""
    *given, queries, keys, means, lse = more
    weights = _weights(*given)
    saved = LayerSaved(array(queries), None if given[1] is None else array(keys), array(means), array(lse))
    seen = None if context is None else array(context)
    with in_torch(), blas_in_torch():
        made = backward(array(g), array(x), weights, context=seen, saved=saved)
    fields = FIELDS if isinstance(weights, Tied) else FOLDED_FIELDS
    found: list[Array | None] = [made.x, made.context]
    found += [made.weights[fields[name]] if name in fields else None for name in NAMES]
    return tuple(x.new_empty(0) if a is None else tensor(np.ascontiguousarray(a)) for a in found)


@torch.library.register_fake("projsym::layer_backward")
def _(g: Tensor, x: Tensor, context: Tensor | None, *more: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(0 if a is None else a.shape) for a in (x, context, *more[:6]))


def _weights(
    w_q: Tensor,
    w_k: Tensor | None,
    w_o: Tensor,
    b_q: Tensor,
    b_k: Tensor | None,
    b_o: Tensor,
    scale: float,
) -> Weights:
    """The layer on the memory of the tensors."""
    if w_k is None or b_k is None:
        constants = np.zeros((len(w_q), w_o.shape[2]), array(b_o).dtype)
        return Folded(array(w_q), array(b_q), array(w_o), constants, array(b_o), scale)
    return Tied(array(w_q), array(w_k), array(w_o), array(b_q), array(b_k), array(b_o), scale)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.with_saved = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[1:])


def _gradients(ctx: Any, g: Tensor | None, *others: None) -> tuple[Tensor | None, ...]:
    if not ctx.with_saved:
        raise RuntimeError("projsym::layer: with_saved is False; a gradient needs with_saved=True")
    if g is None:
        return (None,) * 10
    *tensors, queries, keys, means, lse = ctx.saved_tensors
    made = layer_backward(g, *tensors, ctx.scale, queries, keys, means, lse)
    return *(None if a is None else d for a, d in zip(tensors, made, strict=True)), None, None


torch.library.register_autograd("projsym::layer", _gradients, setup_context=_save)
refuse_double_backward("projsym::layer_backward")
