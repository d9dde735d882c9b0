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
from projsym.torch import masks
from projsym.torch.attention_op import attention as attention_op
from projsym.torch.project_op import project as project_op

__all__ = ["attention", "project", "recording"]

Real: TypeAlias = "float | Tensor"
Window: TypeAlias = "tuple[int | None, int | None]"


@overload
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: Real | None = ...,
    enable_gqa: bool = ...,
    *,
    softcap: float | None = ...,
    window: Window | None = ...,
    key_bias: Tensor | None = ...,
    past_key: Tensor | None = ...,
    past_value: Tensor | None = ...,
    kv_lengths: Tensor | None = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: Real | None = ...,
    enable_gqa: bool = ...,
    *,
    softcap: float | None = ...,
    window: Window | None = ...,
    key_bias: Tensor | None = ...,
    past_key: Tensor | None = ...,
    past_value: Tensor | None = ...,
    kv_lengths: Tensor | None = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Real | None = None,
    enable_gqa: bool = False,
    *,
    softcap: float | None = None,
    window: Window | None = None,
    key_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    kv_lengths: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scaled dot-product attention, ``softmax(scale query keyᵀ) value``, as an operator of PyTorch.

    >>> import torch
    >>> q, k, v = torch.randn(8, 100, 16, requires_grad=True), torch.randn(8, 50, 16), torch.randn(8, 50, 16)
    >>> attention(q, k, v).shape
    torch.Size([8, 100, 16])
    >>> attention(q, k, v).sum().backward()
    >>> q.grad.shape
    torch.Size([8, 100, 16])
    >>> attention(q, q, q, is_causal=True).shape
    torch.Size([8, 100, 16])
    >>> attention(q, k[:2], v[:2], enable_gqa=True).shape       # each key head for four query heads
    torch.Size([8, 100, 16])

    The call of `torch.nn.functional.scaled_dot_product_attention`, with more arguments. Masks mean what they
    mean for :func:`projsym.attention`; a row that sees no key is 0, with gradient 0.

    query (..., n, d), key (..., m, d), value (..., m, dv).
    attn_mask: boolean (True: seen) or of the query's dtype (added to the scores, in natural units),
    broadcasts to (..., n, m). key_bias: (..., m), added to the scores of a key. Both are differentiable; the
    gradient by attn_mask is formed by PyTorch from recomputed weights, in blocks of at most 2**20 pairs, so a
    mask that is broadcast takes no array of n times m.
    dropout_p: 0 only: the weights that it would drop are never stored.
    is_causal, window (left, right), kv_lengths (integers, one a sequence): the range of keys that a row sees.
    scale: a finite number or a tensor of one number (with a gradient, if it requires one); default 1/sqrt(d).
    softcap: a number > 0; scores s become ``softcap * tanh(s / softcap)`` before anything is added.
    enable_gqa: axis -3 holds heads, those of the query a multiple of those of key and value.
    past_key, past_value: keys and values in front of the others, copied together with them; query i then
    stands at position past + i.
    return_lse: also return the natural log of the sum of exp(score), (..., n), differentiable.

    Returns (..., n, dv), and (..., n) with `return_lse`, of the dtype of the query. Raises TypeError or
    ValueError naming the argument, and from the kernel what :func:`projsym.attention` raises;
    NotImplementedError where a gradient is differentiated again.
    """
    check.vectors({"query": query, "key": key, "value": value})
    if dropout_p != 0:
        raise ValueError(refused("dropout_p", dropout_p, "0.0: the weights to drop are never stored"))
    d, m = query.shape[-1], key.shape[-2]
    check.size("key", key, -1, d, f"(..., m, {d})", "query")
    check.size("value", value, -2, m, f"(..., {m}, dv)", "key")
    past = past_key, past_value
    if past_key is not None or past_value is not None:
        m += check.past(key, value, past_key, past_value)
    if isinstance(scale, Tensor):
        check.scalar("scale", scale)
        query, scale = query * scale.to(query.dtype).reshape(()), 1.0
    elif scale is not None:
        scale = check.real("scale", scale)
    if softcap is not None:
        softcap = check.real("softcap", softcap, positive=True, tensors=False)
    mask = masks.mask(query, m, attn_mask, key_bias, kv_lengths, is_causal, window)
    check.leading({"query": query, "key": key, "value": value}, key_bias, enable_gqa)
    needed = return_lse or recording(query, key, value, *past, *mask[:2])
    out, lse = attention_op(query, key, value, *mask, *past, enable_gqa, scale, softcap, needed)
    return (out, lse) if return_lse else out


@overload
def project(
    q: Tensor,
    k: Tensor,
    *,
    scale: Real | None = ...,
    sigma: Real | None = ...,
    key_bias: Tensor | None = ...,
    attn_mask: Tensor | None = ...,
    is_causal: bool = ...,
    window: Window | None = ...,
    kv_lengths: Tensor | None = ...,
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
    attn_mask: Tensor | None = ...,
    is_causal: bool = ...,
    window: Window | None = ...,
    kv_lengths: Tensor | None = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def project(
    q: Tensor,
    k: Tensor,
    *,
    scale: Real | None = None,
    sigma: Real | None = None,
    key_bias: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    window: Window | None = None,
    kv_lengths: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Project queries onto the surface of the keys, as an operator of PyTorch; see :func:`projsym.project`.

    >>> import torch
    >>> q, k = torch.randn(8, 100, 16), torch.randn(8, 50, 16)
    >>> sigma = torch.tensor(8.0, requires_grad=True)
    >>> project(q, k, sigma=sigma).shape      # weights exp(-|q - k|^2 / (2 sigma^2)), normalised
    torch.Size([8, 100, 16])
    >>> project(q, k, sigma=sigma).sum().backward()
    >>> sigma.grad.shape
    torch.Size([])
    >>> project(q, k, sigma=torch.linspace(4, 8, 50)).shape      # a bandwidth for each key
    torch.Size([8, 100, 16])

    q (..., n, d), k (..., m, d).
    scale: of dot products, default 1/sqrt(d), or sigma: bandwidth > 0 of the Gaussian form; not both. A
    number, or a tensor of one number, with a gradient if it requires one; sigma also (..., m), of the dtype
    of q, a bandwidth for each key. key_bias, attn_mask, is_causal,
    window, kv_lengths, return_lse and errors are as in :func:`attention`.

    Returns (..., n, d), and (..., n) with `return_lse`.
    """
    check.vectors({"q": q, "k": k})
    d = q.shape[-1]
    check.size("k", k, -1, d, f"(..., m, {d})", "q")
    mask = masks.mask(q, k.shape[-2], attn_mask, key_bias, kv_lengths, is_causal, window)
    if scale is not None and sigma is not None:
        raise ValueError(refused("scale, sigma", f"{scale!r} and {sigma!r}", "one of them"))
    gaussian = sigma is not None
    name, value = ("sigma", sigma) if gaussian else ("scale", scale)
    if value is None:
        value = d**-0.5 if d else 1.0
    if isinstance(value, Tensor) and gaussian and value.ndim and value.numel() != 1:
        check.biases("sigma", value, q, k.shape[-2])
        parameter = value
    elif isinstance(value, Tensor):
        check.scalar(name, value)
        parameter = value.to(torch.float64).reshape(())
    else:
        parameter = torch.full((), check.real(name, value, positive=gaussian), dtype=torch.float64)
    check.leading({"q": q, "k": k}, key_bias, sigma=parameter if parameter.ndim else None)
    needed = return_lse or recording(q, k, parameter, *mask[:2])
    out, lse = project_op(q, k, *mask, parameter, gaussian, needed)
    return (out, lse) if return_lse else out


def recording(*tensors: Tensor | None) -> bool:
    """Whether a gradient may be asked for, which the log-sum-exp is saved for."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
