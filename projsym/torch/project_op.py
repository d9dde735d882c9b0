"""``projsym::project`` and its backward pass, registered with PyTorch; as in `projsym.torch.attention_op`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from projsym.attention import project as forward
from projsym.backward import project_backward as backward
from projsym.torch import masks
from projsym.torch.double import refuse_double_backward
from projsym.torch.mask_gradient import mask_gradient
from projsym.torch.views import array, in_torch, tensor

__all__ = ["project", "project_backward"]

torch.library.define(
    "projsym::project",
    f"(Tensor q, Tensor k, {masks.SCHEMA}, Tensor parameter, bool gaussian, bool with_lse)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "projsym::project_backward",
    f"(Tensor g, Tensor q, Tensor k, Tensor out, Tensor lse, Tensor? g_lse, {masks.SCHEMA}, Tensor parameter,"
    " bool gaussian) -> (Tensor, Tensor, Tensor, Tensor)",
)
project = torch.ops.projsym.project.default
project_backward = torch.ops.projsym.project_backward.default


@torch.library.impl("projsym::project", "cpu")
def _project(q: Tensor, k: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    """q (..., n, d), k (..., m, d) -> out (..., n, d) and lse (..., n), or lse (0,) unless `with_lse`.
    parameter (), float64: sigma if `gaussian`, else scale; or bandwidths of keys (..., m), of the dtype of
    q."""
    *options, with_lse = more
    with in_torch():
        given = _options(*options)
        if with_lse:
            out, lse = forward(array(q), array(k), return_lse=True, **given)
            return tensor(out), tensor(lse)
        return tensor(forward(array(q), array(k), **given)), q.new_empty(0)


@torch.library.register_fake("projsym::project")
def _(q: Tensor, k: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
    key_bias, parameter, with_lse = more[1], more[-3], more[-1]
    leads = [q.shape[:-2], k.shape[:-2], *(x.shape[:-1] for x in (key_bias, parameter) if x is not None)]
    rows = (*torch.broadcast_shapes(*leads), q.shape[-2])
    return q.new_empty((*rows, q.shape[-1])), q.new_empty(rows if with_lse else 0)


@torch.library.impl("projsym::project_backward", "cpu")
def _project_backward(
    g: Tensor, q: Tensor, k: Tensor, out: Tensor, lse: Tensor, g_lse: Tensor | None, *more: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by q, k, parameter and key_bias, the last (0,) where there is none."""
    options = _options(*more)
    options["g_lse"] = None if g_lse is None else array(g_lse)
    with in_torch():
        made = backward(*(array(x) for x in (g, q, k, out, lse)), **options)
    dq, dk, by_head = made[:3]
    if more[-2].ndim:
        whole = tensor(by_head)
    else:
        # One parameter for all heads: its gradient is the sum of theirs, in double.
        whole = torch.full((), float(by_head.sum(dtype="float64")), dtype=torch.float64)
    return tensor(dq), tensor(dk), whole, tensor(made[3]) if len(made) == 4 else q.new_empty(0)


@torch.library.register_fake("projsym::project_backward")
def _(
    g: Tensor, q: Tensor, k: Tensor, out: Tensor, lse: Tensor, g_lse: Tensor | None, *more: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    key_bias, parameter = more[1], more[-2]
    bias = q.new_empty(0 if key_bias is None else key_bias.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), parameter.new_empty(parameter.shape), bias


def _options(*more: Any) -> dict[str, Any]:
    *mask, parameter, gaussian = more
    value = array(parameter) if parameter.ndim else float(parameter)
    return {"sigma" if gaussian else "scale": value, **masks.keywords(*mask)}


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *saved, ctx.is_causal, ctx.window, parameter, ctx.gaussian, ctx.with_lse = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*saved, parameter, *output)


def _gradients(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    if not ctx.with_lse:
        raise RuntimeError("projsym::project: with_lse is False; a gradient needs with_lse=True")
    q, k, *mask, parameter, out, lse = ctx.saved_tensors
    if g is None and g_lse is None:
        return (None,) * 10
    g = torch.zeros_like(out) if g is None else g
    options = (*mask, ctx.is_causal, ctx.window, parameter, ctx.gaussian)
    dq, dk, whole, bias = project_backward(g, q, k, out, lse, g_lse, *options)
    dmask = None
    if ctx.needs_input_grad[2]:
        dmask = _by_mask(ctx, g, g_lse)
    return dq, dk, dmask, None if mask[1] is None else bias, None, None, None, whole, None, None


def _by_mask(ctx: Any, g: Tensor, g_lse: Tensor | None) -> Tensor:
    q, k, attn_mask, key_bias, lengths, parameter, out, lse = ctx.saved_tensors
    scale, query, key = parameter, q, k
    if parameter.ndim:
        # The norm of the query as one more of its features [V.2].
        inverse = parameter**-2
        query = torch.cat([q, q.square().sum(-1, keepdim=True)], -1)
        lead = torch.broadcast_shapes(k.shape[:-1], inverse.shape)
        halves = (-inverse / 2)[..., None].expand(*lead, 1)
        key = torch.cat([k * inverse[..., None], halves], -1)
        norms = -k.square().sum(-1) * inverse / 2
        key_bias = _with(key_bias, norms)
        scale = torch.ones((), dtype=torch.float64)
    elif ctx.gaussian:
        # −‖q − k‖²/2σ² as a dot product, a bias of the key, and a constant of the row, which the log-sum-exp
        # takes up.
        scale = parameter**-2
        half = scale.to(q.dtype) / 2
        norms = -k.square().sum(-1) * half
        key_bias = _with(key_bias, norms)
        lse = lse + q.square().sum(-1) * half
    mask = attn_mask, key_bias, lengths, ctx.is_causal, ctx.window
    return mask_gradient(g, query, key, k, out, lse, g_lse, *mask, 0, scale, None)


def _with(key_bias: Tensor | None, norms: Tensor) -> Tensor:
    """The bias of the keys with what their norms add; a key that it hides may have any norm."""
    if key_bias is None:
        return norms
    return torch.where(torch.isneginf(key_bias), key_bias, norms + key_bias)


torch.library.register_autograd("projsym::project", _gradients, setup_context=_save)
refuse_double_backward("projsym::project_backward")
