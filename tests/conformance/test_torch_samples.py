"""PyTorch's own sample inputs for scaled dot-product attention: output and gradients within the proven bound.

The samples are those of the OpInfo of ``nn.functional.scaled_dot_product_attention``. Those with dropout are
outside
our scope: a kernel never stores the weights that would be dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _masked import bounds, exact, full, summed

import projsym.torch as pt


def samples(dtype: torch.dtype) -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    (info,) = (op for op in op_db if op.name == "nn.functional.scaled_dot_product_attention")
    return list(info.sample_inputs("cpu", dtype, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    passed = dropped = 0
    for sample in samples(dtype):
        given = (sample.input, *sample.args)
        if sample.kwargs["dropout_p"] > 0:
            with pytest.raises(ValueError, match=r"dropout_p: given 0\.5; allowed: 0\.0"):
                pt.attention(*given, **sample.kwargs)
            dropped += 1
            continue
        check(*given, **sample.kwargs)
        passed += 1
    assert (passed, dropped) == (13, 12)


def check(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> None:
    assert set(options) <= {"attn_mask", "is_causal", "dropout_p"}
    out = pt.attention(query, key, value, **options)
    g = torch.randn(out.shape, dtype=out.dtype)
    leaves = [x for x in (query, key, value) if x.requires_grad]
    made = torch.autograd.grad(out, leaves, g)
    assert len(leaves) == 3

    lead = tuple(out.shape[:-2])
    arrays = [full(x.detach().numpy(), lead) for x in (g, query, key, value)]
    n, m = out.shape[-2], key.shape[-2]
    bias = np.zeros((*lead, n, m), arrays[0].dtype)
    if options.get("is_causal"):
        bias[..., ~np.tri(n, m, dtype=bool)] = -np.inf
    mask = options.get("attn_mask")
    if mask is not None:
        bias = bias + (np.where(mask, 0, -np.inf) if mask.dtype == torch.bool else mask.detach().numpy())
        bias = bias.astype(arrays[0].dtype)
    scale = query.shape[-1] ** -0.5
    want, gradients = exact(*arrays, bias, scale)
    bound, gradient_bounds = bounds(*arrays, bias, scale)
    assert (np.abs(out.detach().numpy() - want) <= bound[..., None]).all()
    unit = 100 * torch.finfo(out.dtype).eps  # heads that share an array: at most 16, and their roundings
    for x, y, name in zip(leaves, made, ("q", "k", "v"), strict=True):
        shape = tuple(x.shape)
        off = summed(gradient_bounds[name], shape) + unit * summed(np.abs(gradients[name]), shape)
        assert (np.abs(y.numpy() - summed(gradients[name], shape)) <= off).all(), name
