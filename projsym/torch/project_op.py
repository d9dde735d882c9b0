"""``projsym::project`` and its backward pass, registered with PyTorch; as in `projsym.torch.attention_op`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from projsym.attention import project as forward
from projsym.backward import project_backward as backward
from projsym.torch.double import refuse_double_backward
from projsym.torch.views import array, in_torch, tensor

__all__ = ["project", "project_backward"]

torch.library.define(
    "projsym::project",
    "(Tensor q, Tensor k, Tensor? key_bias, Tensor parameter, bool gaussian, bool with_lse)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "projsym::project_backward",
    "(Tensor g, Tensor q, Tensor k, Tensor out, Tensor lse, Tensor? g_lse, Tensor? key_bias,"
    " Tensor parameter, bool gaussian) -> (Tensor, Tensor, Tensor, Tensor)",
)
project = torch.ops.projsym.project.default
project_backward = torch.ops.projsym.project_backward.default


@torch.library.impl("projsym::project", "cpu")
def _project(
    q: Tensor, k: Tensor, key_bias: Tensor | None, parameter: Tensor, gaussian: bool, with_lse: bool
) -> tuple[Tensor, Tensor]:
    """q (..., n, d), k (..., m, d), key_bias (..., m) -> out (..., n, d) and lse (..., n), or lse (0,) unless
    `with_lse`. parameter (), float64: sigma if `gaussian`, else scale."""
    with in_torch():
        options = _options(key_bias, parameter, gaussian)
        if with_lse:
            out, lse = forward(array(q), array(k), return_lse=True, **options)
            return tensor(out), tensor(lse)
        return tensor(forward(array(q), array(k), **options)), q.new_empty(0)


@torch.library.register_fake("projsym::project")
def _(
    q: Tensor, k: Tensor, key_bias: Tensor | None, parameter: Tensor, gaussian: bool, with_lse: bool
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1] if with_lse else 0)


@torch.library.impl("projsym::project_backward", "cpu")
def _project_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    out: Tensor,
    lse: Tensor,
    g_lse: Tensor | None,
    key_bias: Tensor | None,
    parameter: Tensor,
    gaussian: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by q, k, parameter () and key_bias, the last (0,) where there is none."""
    options = _options(key_bias, parameter, gaussian)
    options["g_lse"] = None if g_lse is None else array(g_lse)
    with in_torch():
        made = backward(*(array(x) for x in (g, q, k, out, lse)), **options)
    dq, dk, by_head = made[:3]
    # One parameter for all heads: its gradient is the sum of theirs, in double.
    whole = torch.full((), float(by_head.sum(dtype="float64")), dtype=torch.float64)
    return tensor(dq), tensor(dk), whole, tensor(made[3]) if len(made) == 4 else q.new_empty(0)


@torch.library.register_fake("projsym::project_backward")
def _(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    out: Tensor,
    lse: Tensor,
    g_lse: Tensor | None,
    key_bias: Tensor | None,
    parameter: Tensor,
    gaussian: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bias = q.new_empty(0 if key_bias is None else key_bias.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), parameter.new_empty(()), bias


def _options(key_bias: Tensor | None, parameter: Tensor, gaussian: bool) -> dict[str, Any]:
    name = "sigma" if gaussian else "scale"
    return {name: float(parameter), "key_bias": None if key_bias is None else array(key_bias)}


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, key_bias, parameter, ctx.gaussian, ctx.with_lse = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, key_bias, parameter, *output)


def _gradients(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    if not ctx.with_lse:
        raise RuntimeError("projsym::project: with_lse is False; a gradient needs with_lse=True")
    q, k, key_bias, parameter, out, lse = ctx.saved_tensors
    if g is None and g_lse is None:
        return (None,) * 6
    g = torch.zeros_like(out) if g is None else g
    made = project_backward(g, q, k, out, lse, g_lse, key_bias, parameter, ctx.gaussian)
    dq, dk, whole, bias = made
    return dq, dk, None if key_bias is None else bias, whole, None, None


torch.library.register_autograd("projsym::project", _gradients, setup_context=_save)
refuse_double_backward("projsym::project_backward")
