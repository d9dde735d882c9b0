"""The gradient by a mask: by its definition in float64, in any blocks, with little memory, without NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import projsym.torch as pt
from projsym.torch import mask_gradient as formula
from projsym.torch.attention_op import attention as attention_op

SHAPES = ((9, 7), (2, 3, 9, 7), (3, 1, 7), (2, 1, 9, 1), (1, 7), (), (7,), (2, 1, 1, 1))


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(np.random.default_rng(shape).standard_normal(shape), dtype=dtype)


def given(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return normal(2, 3, 9, 4, dtype=dtype), normal(2, 1, 7, 4, dtype=dtype), normal(3, 7, 5, dtype=dtype)


def reference(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, g: Tensor, seen: Tensor
) -> tuple[Tensor, Tensor]:
    """By automatic differentiation of the definition in float64; and the sum of the absolute values of what
    is added up."""
    q, k, v, mask, g = (x.detach().double() for x in (q, k, v, mask, g))
    every = mask.expand(*g.shape[:-1], k.shape[-2]).clone().requires_grad_()
    scores = (q @ k.mT / 2 + every).masked_fill(~seen, -torch.inf)
    (grad,) = torch.autograd.grad((g * (scores.softmax(-1) @ v)).sum(), every)
    weights = scores.detach().softmax(-1)
    size = weights * ((g.abs() @ v.abs().mT) + (g.abs() * (weights @ v.abs())).sum(-1, keepdim=True))
    return grad.sum_to_size(mask.shape), size.sum_to_size(mask.shape)


@pytest.mark.parametrize("pairs", [2**20, 40, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_blocks(
    shape: tuple[int, ...], dtype: torch.dtype, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and log-sum-exp are below 8 and off by fewer than 20 roundings of that, and a product and a sum
    through the pairs goes through fewer than 400: 800 u of the sum of sizes."""
    monkeypatch.setattr(formula, "PAIRS", pairs)
    largest = []
    real = formula._Block.lead.fget

    def lead(block: Any) -> Any:
        made = real(block)
        largest.append(made)
        return made

    monkeypatch.setattr(formula._Block, "lead", property(lead))
    q, k, v = given(dtype)
    mask = normal(*shape, dtype=dtype).requires_grad_()
    seen = torch.ones(9, 7, dtype=torch.bool).tril(1)
    out = pt.attention(q, k, v, mask, window=(None, 1))
    g = normal(*out.shape, dtype=dtype)
    (made,) = torch.autograd.grad(out, mask, g)
    want, size = reference(q, k, v, mask, g, seen)
    assert made.shape == mask.shape and made.dtype == dtype
    assert ((made.double() - want).abs() <= 800 * torch.finfo(dtype).eps / 2 * size).all()
    assert (len(largest) > 1) == (pairs < 2 * 3 * 9 * 7)


@pytest.mark.parametrize("gaussian", [True, False])
def test_opcheck(gaussian: bool) -> None:
    q, k, v = given(torch.float64)
    q, k, v = q[:, :2], k.expand(2, 2, 7, 4), v[:2].expand(2, 2, 7, 5)
    bias, lengths, mask = normal(7), torch.tensor([3, 7]), normal(2, 9, 1)
    out, lse = attention_op(q, k, v, mask, bias, lengths, False, [2, 1], None, None, False, 0.3, 2.0, True)
    g, scale = normal(*out.shape), torch.tensor(0.3, dtype=torch.float64)
    args = (
        g,
        q,
        k,
        v,
        out,
        lse,
        lse if gaussian else None,
        mask,
        bias,
        lengths,
        False,
        [2, 1],
        0,
        scale,
        2.0,
    )
    torch.library.opcheck(formula.mask_gradient, args)


@pytest.mark.parametrize("form", ["attention", "project"])
def test_what_a_mask_hides_may_be_nan(form: str) -> None:
    """Keys and values that no row sees reach no gradient, and the mask has none there."""
    q, k, v = (x.expand(2, 3, *x.shape[-2:]).clone() for x in given(torch.float64))
    k[..., 4:, :], v[..., 4:, :] = torch.nan, torch.inf
    mask = torch.zeros(9, 7, dtype=torch.float64)
    mask[:, 4:] = -torch.inf
    mask.requires_grad_()
    out = pt.attention(q, k, v, mask) if form == "attention" else pt.project(q, k, sigma=1.2, attn_mask=mask)
    (made,) = torch.autograd.grad(out.square().sum(), mask)
    assert made.isfinite().all() and made[:, :4].any() and not made[:, 4:].any()


def test_memory_of_a_mask_that_is_broadcast() -> None:
    """A number for each of 8 heads and 4096² pairs would be 512 MB; PyTorch's peak stays below a tenth."""
    q, k, v = torch.randn(3, 8, 4096, 8)
    mask = torch.zeros(4096, requires_grad=True)
    out = pt.attention(q, k, v, mask)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as p:
        (made,) = torch.autograd.grad(out.square().sum(), mask)
    held, peak = 0, 0
    for event in p.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert made.shape == (4096,) and 0 < peak < 51_200_000
