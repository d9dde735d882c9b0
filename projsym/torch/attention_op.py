"""``projsym::attention`` and its backward pass, registered with PyTorch.

The operators take what `projsym.torch.attention` has checked and expanded: query, key and value have the same
leading axes, and the mask broadcasts to the scores. Their kernels are those of `projsym.attention` and
`projsym.attention_backward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from projsym.attention import attention as forward
from projsym.backward import attention_backward as backward
from projsym.torch import masks
from projsym.torch.double import refuse_double_backward
from projsym.torch.views import array, in_torch, tensor, tensors

__all__ = ["attention", "attention_backward"]

torch.library.define(
    "projsym::attention",
    f"(Tensor query, Tensor key, Tensor value, {masks.SCHEMA}, float? scale, bool with_lse)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "projsym::attention_backward",
    "(Tensor g, Tensor query, Tensor key, Tensor value, Tensor out, Tensor lse, Tensor? g_lse,"
    f" {masks.SCHEMA}, float? scale) -> (Tensor, Tensor, Tensor)",
)
attention = torch.ops.projsym.attention.default
attention_backward = torch.ops.projsym.attention_backward.default


@torch.library.impl("projsym::attention", "cpu")
def _attention(query: Tensor, key: Tensor, value: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    """query (..., n, d), key (..., m, d), value (..., m, dv) -> out (..., n, dv) and lse (..., n), or lse
    (0,) unless `with_lse`. The gradient needs the lse."""
    *mask, scale, with_lse = more
    given = array(query), array(key), array(value)
    options = {"scale": scale, **masks.keywords(*mask)}
    with in_torch():
        if with_lse:
            out, lse = forward(*given, **options, return_lse=True)
            return tensor(out), tensor(lse)
        return tensor(forward(*given, **options)), query.new_empty(0)


@torch.library.register_fake("projsym::attention")
def _(query: Tensor, key: Tensor, value: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    lead = query.shape[:-1]
    return query.new_empty((*lead, value.shape[-1])), query.new_empty(lead if more[-1] else 0)


@torch.library.impl("projsym::attention_backward", "cpu")
def _attention_backward(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    g_lse: Tensor | None,
    *more: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by query, key and value from that by out (..., n, dv) and, if any, by lse (..., n)."""
    *mask, scale = more
    given = (array(x) for x in (g, query, key, value, out, lse))
    options = {"scale": scale, "g_lse": None if g_lse is None else array(g_lse), **masks.keywords(*mask)}
    with in_torch():
        dq, dk, dv = tensors(backward(*given, **options))
    return dq, dk, dv


@torch.library.register_fake("projsym::attention_backward")
def _(g: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *saved, ctx.is_causal, ctx.window, ctx.scale, ctx.with_lse = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*saved, *output)


def _gradients(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    if not ctx.with_lse:
        raise RuntimeError("projsym::attention: with_lse is False; a gradient needs with_lse=True")
    query, key, value, *mask, out, lse = ctx.saved_tensors
    nothing = (None,) * 7
    if g is None and g_lse is None:
        return (None, None, None, *nothing)
    g = torch.zeros_like(out) if g is None else g
    made = attention_backward(
        g, query, key, value, out, lse, g_lse, *mask, ctx.is_causal, ctx.window, ctx.scale
    )
    return (*made, *nothing)


torch.library.register_autograd("projsym::attention", _gradients, setup_context=_save)
refuse_double_backward("projsym::attention_backward")
