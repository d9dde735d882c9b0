"""The functions: arguments checked, axes expanded, the operator called. All of it traces under torch.compile.

Tensors are ``(..., rows, features)`` on the CPU, float32 or float64, read in place. Leading axes broadcast;
what is shared by several heads gets the sum of their gradients. Gradients are those of
`projsym.attention_backward` and `projsym.project_backward`; they can be taken once, not twice.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, overload

import torch
from torch import Tensor

from projsym.errors import refused
from projsym.torch import arguments as check
from projsym.torch.attention_op import attention as attention_op
from projsym.torch.project_op import project as project_op

__all__ = ["attention", "project"]

Real: TypeAlias = "float | Tensor"


@overload
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: Real | None = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: Real | None = ..., return_lse: Literal[True]
) -> tuple[Tensor, Tensor]: ...
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: Real | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scaled dot-product attention, ``softmax(scale query keyᵀ) value``, as an operator of PyTorch.

    >>> import torch
    >>> q, k, v = torch.randn(8, 100, 64, requires_grad=True), torch.randn(8, 50, 64), torch.randn(8, 50, 32)
    >>> attention(q, k, v).shape
    torch.Size([8, 100, 32])
    >>> attention(q, k, v).sum().backward()
    >>> q.grad.shape
    torch.Size([8, 100, 64])

    query (..., n, d), key (..., m, d), value (..., m, dv).
    scale: a finite number or a tensor of one number (with a gradient, if it requires one); default 1/sqrt(d).
    return_lse: also return the natural log of the sum of exp(score), (..., n), differentiable.

    Returns (..., n, dv), and (..., n) with `return_lse`, of the dtype of the query. Raises TypeError or
    ValueError naming the argument, and from the kernel what :func:`projsym.attention` raises;
    NotImplementedError where a gradient is differentiated again.
    """
    check.vectors({"query": query, "key": key, "value": value})
    d, m = query.shape[-1], key.shape[-2]
    check.size("key", key, -1, d, f"(..., m, {d})", "query")
    check.size("value", value, -2, m, f"(..., {m}, dv)", "key")
    if isinstance(scale, Tensor):
        check.scalar("scale", scale)
        query, scale = query * scale.to(query.dtype).reshape(()), 1.0
    elif scale is not None:
        scale = check.real("scale", scale)
    query, key, value = check.expanded({"query": query, "key": key, "value": value})
    out, lse = attention_op(query, key, value, scale, return_lse or _recording(query, key, value))
    return (out, lse) if return_lse else out


@overload
def project(
    q: Tensor,
    k: Tensor,
    *,
    scale: Real | None = ...,
    sigma: Real | None = ...,
    key_bias: Tensor | None = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def project(
    q: Tensor,
    k: Tensor,
    *,
    scale: Real | None = ...,
    sigma: Real | None = ...,
    key_bias: Tensor | None = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def project(
    q: Tensor,
    k: Tensor,
    *,
    scale: Real | None = None,
    sigma: Real | None = None,
    key_bias: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Project queries onto the surface of the keys, as an operator of PyTorch; see :func:`projsym.project`.

    >>> import torch
    >>> q, k = torch.randn(8, 100, 64), torch.randn(8, 50, 64)
    >>> sigma = torch.tensor(8.0, requires_grad=True)
    >>> project(q, k, sigma=sigma).shape      # weights exp(-|q - k|^2 / (2 sigma^2)), normalised
    torch.Size([8, 100, 64])
    >>> project(q, k, sigma=sigma).sum().backward()
    >>> sigma.grad.shape
    torch.Size([])

    q (..., n, d), k (..., m, d), key_bias (..., m): added to the scores of a key, finite or -inf.
    scale: of dot products, default 1/sqrt(d), or sigma: bandwidth > 0 of the Gaussian form; not both. A
    number, or a tensor of one number, with a gradient if it requires one.
    return_lse: also return the natural log of the sum of exp(score), (..., n), differentiable.

    Returns (..., n, d), and (..., n) with `return_lse`. Errors as in :func:`attention`.
    """
    check.vectors({"q": q, "k": k})
    d = q.shape[-1]
    check.size("k", k, -1, d, f"(..., m, {d})", "q")
    if scale is not None and sigma is not None:
        raise ValueError(refused("scale, sigma", f"{scale!r} and {sigma!r}", "one of them"))
    gaussian = sigma is not None
    name, value = ("sigma", sigma) if gaussian else ("scale", scale)
    if value is None:
        value = d**-0.5 if d else 1.0
    if isinstance(value, Tensor):
        check.scalar(name, value)
        parameter = value.to(torch.float64).reshape(())
    else:
        parameter = torch.full((), check.real(name, value, positive=gaussian), dtype=torch.float64)
    if key_bias is None:
        q, k = check.expanded({"q": q, "k": k})
    else:
        check.scalars("key_bias", key_bias, k, f"(..., {k.shape[-2]})", "k")
        q, k, key_bias = check.expanded({"q": q, "k": k, "key_bias": key_bias}, {"key_bias": 1})
    needed = return_lse or _recording(q, k, key_bias, parameter)
    out, lse = project_op(q, k, key_bias, parameter, gaussian, needed)
    return (out, lse) if return_lse else out


def _recording(*tensors: Tensor | None) -> bool:
    """Whether a gradient may be asked for, which the log-sum-exp is saved for."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
