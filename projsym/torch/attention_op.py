"""``projsym::attention`` and its backward pass, registered with PyTorch.

The operators take what `projsym.torch.attention` has checked. Their kernels are those of `projsym.attention`
and `projsym.attention_backward`, which read what several heads share in place and add its gradient up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from projsym.attention import attention as forward
from projsym.backward import attention_backward as backward
from projsym.torch import masks
from projsym.torch.double import refuse_double_backward
from projsym.torch.mask_gradient import mask_gradient
from projsym.torch.views import array, in_torch, tensor

__all__ = ["attention", "attention_backward"]

OPTIONS = (
    f"{masks.SCHEMA}, Tensor? past_key, Tensor? past_value, bool enable_gqa, float? scale, float? softcap"
)

torch.library.define(
    "projsym::attention",
    f"(Tensor query, Tensor key, Tensor value, {OPTIONS}, bool with_lse) -> (Tensor, Tensor)",
)
torch.library.define(
    "projsym::attention_backward",
    f"(Tensor g, Tensor query, Tensor key, Tensor value, Tensor out, Tensor lse, Tensor? g_lse, {OPTIONS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
attention = torch.ops.projsym.attention.default
attention_backward = torch.ops.projsym.attention_backward.default


@torch.library.impl("projsym::attention", "cpu")
def _attention(query: Tensor, key: Tensor, value: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    """query (..., n, d), key (..., m, d), value (..., m, dv) -> out (..., n, dv) and lse (..., n), or lse
    (0,) unless `with_lse`. The gradient needs the lse."""
    *options, with_lse = more
    given, named = (array(query), array(key), array(value)), _keywords(*options)
    with in_torch():
        if with_lse:
            out, lse = forward(*given, **named, return_lse=True)
            return tensor(out), tensor(lse)
        return tensor(forward(*given, **named)), query.new_empty(0)


@torch.library.register_fake("projsym::attention")
def _(query: Tensor, key: Tensor, value: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    *options, with_lse = more
    key_bias, enable_gqa = options[1], options[7]
    leads = [x.shape[:-2] for x in (query, key, value)]
    leads += [] if key_bias is None else [key_bias.shape[:-1]]
    heads = query.shape[-3:-2] if enable_gqa else ()
    rows = (*torch.broadcast_shapes(*(x[:-1] if enable_gqa else x for x in leads)), *heads, query.shape[-2])
    return query.new_empty((*rows, value.shape[-1])), query.new_empty(rows if with_lse else 0)


@torch.library.impl("projsym::attention_backward", "cpu")
def _attention_backward(
    g: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    g_lse: Tensor | None,
    *options: Any,
) -> tuple[Tensor, ...]:
    """The gradients by query, key, value, key_bias, past_key and past_value, of which the last three are (0,)
    where they are not given."""
    given: tuple[Any, ...] = tuple(array(x) for x in (g, query, key, value, out, lse))
    named = _keywords(*options) | {"g_lse": None if g_lse is None else array(g_lse)}
    with in_torch():
        made = iter(backward(*given, **named))
    wanted = ("query", "key", "value", *(n for n in OPTIONAL if named[n] is not None))
    found = {name: tensor(x) for name, x in zip(wanted, made, strict=True)}
    return tuple(found.get(n, query.new_empty(0)) for n in ("query", "key", "value", *OPTIONAL))


OPTIONAL = ("key_bias", "past_key", "past_value")
"""Arguments with a gradient that may be absent, in the order of `projsym.attention_backward`."""


@torch.library.register_fake("projsym::attention_backward")
def _(g: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    key_bias, past_key, past_value = rest[4], rest[8], rest[9]
    absent = (query.new_empty(0 if x is None else x.shape) for x in (key_bias, past_key, past_value))
    return (*(x.new_empty(x.shape) for x in (query, key, value)), *absent)


def _keywords(*options: Any) -> dict[str, Any]:
    *mask, past_key, past_value, enable_gqa, scale, softcap = options
    past = {"past_key": past_key, "past_value": past_value}
    arrays = {name: None if x is None else array(x) for name, x in past.items()}
    more = {"enable_gqa": enable_gqa, "scale": scale, "softcap": softcap}
    return {**masks.keywords(*mask), **arrays, **more}


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors = (*inputs[:6], *inputs[8:10])  # those of the mask come before its two other arguments
    ctx.is_causal, ctx.window = inputs[6:8]
    ctx.enable_gqa, ctx.scale, ctx.softcap, ctx.with_lse = inputs[10:]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output)


def _gradients(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    if not ctx.with_lse:
        raise RuntimeError("projsym::attention: with_lse is False; a gradient needs with_lse=True")
    query, key, value, attn_mask, key_bias, kv_lengths, *past, out, lse = ctx.saved_tensors
    if g is None and g_lse is None:
        return (None,) * 14
    g = torch.zeros_like(out) if g is None else g
    mask = attn_mask, key_bias, kv_lengths, ctx.is_causal, ctx.window
    made = attention_backward(
        g, query, key, value, out, lse, g_lse, *mask, *past, ctx.enable_gqa, ctx.scale, ctx.softcap
    )
    bias, *old = (
        x if given is not None else None for x, given in zip(made[3:], (key_bias, *past), strict=True)
    )
    dmask = None
    if ctx.needs_input_grad[3]:
        dmask = _by_mask(ctx, g, g_lse)
    return (*made[:3], dmask, bias, None, None, None, *old, None, None, None, None)


def _by_mask(ctx: Any, g: Tensor, g_lse: Tensor | None) -> Tensor:
    query, key, value, attn_mask, key_bias, lengths, past_key, past_value, out, lse = ctx.saved_tensors
    past = 0 if past_key is None else past_key.shape[-2]
    if past_key is not None:
        key, value = torch.cat([past_key, key], -2), torch.cat([past_value, value], -2)
    if ctx.enable_gqa:
        group = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(group, -3) for x in (key, value))
        if key_bias is not None and key_bias.ndim > 1 and key_bias.shape[-2] > 1:
            key_bias = key_bias.repeat_interleave(group, -2)
    scale = query.shape[-1] ** -0.5 if ctx.scale is None else ctx.scale
    mask = attn_mask, key_bias, lengths, ctx.is_causal, ctx.window
    factor = torch.full((), scale, dtype=torch.float64)
    return mask_gradient(g, query, key, value, out, lse, g_lse, *mask, past, factor, ctx.softcap)


torch.library.register_autograd("projsym::attention", _gradients, setup_context=_save)
refuse_double_backward("projsym::attention_backward")
