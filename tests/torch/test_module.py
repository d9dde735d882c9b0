"""The layer in its three forms against PyTorch's own, within the proven bound of a whole layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _layer_ball import folded_maps, layer_ball, layer_balls
from torch import nn

import projsym.torch as pt
from projsym.audit.ball import Ball
from projsym.torch.weights import bert_weights, multihead_weights

TORCH_EXP = 20 * 2.0**-52  # what the gate of the benchmark grants a library's exponential


def multihead(width: int, heads: int, dtype: torch.dtype, seed: int = 0) -> nn.MultiheadAttention:
    torch.manual_seed(seed)
    layer = nn.MultiheadAttention(width, heads, batch_first=True, dtype=dtype).eval()
    with torch.no_grad():
        for x in (layer.in_proj_bias, layer.out_proj.bias):
            x.normal_()
    return layer


def reference(layer: nn.MultiheadAttention, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's own layer in float64 with the same weights, and how far it may be from the exact one."""
    double = multihead(layer.embed_dim, layer.num_heads, torch.float64)
    double.load_state_dict(layer.state_dict())
    wide = x.double()
    exact = pt.ProjectionAttention.from_multihead(double)
    with torch.no_grad():
        out = double(wide, wide, wide, need_weights=False)[0].numpy()
    return out, layer_ball(layer_balls(exact), wide.numpy(), exact.heads, exact.scale, TORCH_EXP).rad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standard_form(dtype: torch.dtype) -> None:
    source = multihead(12, 3, dtype)
    layer = pt.ProjectionAttention.from_multihead(source)
    x = torch.randn(2, 7, 12, dtype=dtype)
    want, slack = reference(source, x)
    bound = layer_ball(layer_balls(layer), x.numpy(), 3, layer.scale).rad
    error = np.abs(layer(x).detach().numpy() - want)
    assert (error <= bound + slack).all() and error.max() > 0
    assert bound.max() < 1e4 * torch.finfo(dtype).eps  # not vacuous
    assert layer(x).dtype == dtype and not layer.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folded_form(dtype: torch.dtype) -> None:
    """Folded weights are within balls of the exact ones: those of the folding, and of a cast to the dtype."""
    source = multihead(12, 3, dtype)
    layer = pt.ProjectionAttention.from_multihead(source, "folded")
    maps = folded_maps(multihead_weights(source), layer)
    x = torch.randn(2, 7, 12, dtype=dtype)
    want, slack = reference(source, x)
    bound = layer_ball(maps, x.numpy(), 3, layer.scale).rad
    error = np.abs(layer(x).detach().numpy() - want)
    assert (error <= bound + slack).all() and error.max() > 0
    assert bound.max() < 1e4 * torch.finfo(dtype).eps
    assert layer.key is None and layer.value is None


def test_tied_form_where_values_can_be_dropped() -> None:
    """One head of full width: W_K is invertible. The error is that of solving, which its condition bounds."""
    source = multihead(12, 1, torch.float64)
    layer = pt.ProjectionAttention.from_multihead(source, "tied")
    assert layer.value is None
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    want, slack = reference(source, x)
    w = multihead_weights(source)
    stored = layer.output.weight.detach().numpy().T
    # M is off by at most ‖W_K⁻¹‖ times the residual, which ball arithmetic encloses.
    target = Ball.exact(w.w_v[0].numpy()) @ Ball.exact(w.w_o[0].numpy())
    residual = Ball.exact(w.w_k[0].numpy()) @ Ball.exact(-stored) + target
    inverse = np.linalg.norm(np.linalg.inv(w.w_k[0].numpy()), 2) * 1.001
    off = inverse * np.linalg.norm(residual.magnitude)
    maps = layer_balls(layer)
    spread = np.abs(w.b_k[0].numpy()).sum() * off + 100 * 2.0**-53 * np.abs(stored).max() * 12
    maps["output"] = (
        Ball(stored, np.full(stored.shape, off)),
        Ball(layer.output.bias.detach().numpy(), np.full(12, spread + 100 * 2.0**-53)),
    )
    bound = layer_ball(maps, x.numpy(), 1, layer.scale).rad
    error = np.abs(layer(x).detach().numpy() - want)
    assert (error <= bound + slack).all()
    assert bound.max() < 1e6 * 2.0**-53 * inverse


def test_tied_form_is_refused_where_it_would_be_another_function() -> None:
    with pytest.raises(ValueError, match="mode: given 'tied', with W_V of head 0 not droppable"):
        pt.ProjectionAttention.from_multihead(multihead(12, 3, torch.float32), "tied")


def test_weights_of_bert() -> None:
    """Names as Hugging Face writes them; without biases too."""
    source = multihead(12, 3, torch.float32)
    q, k, v = source.in_proj_weight.chunk(3)
    tensors = {f"layer.self.{n}.weight": w for n, w in (("query", q), ("key", k), ("value", v))}
    tensors["layer.output.dense.weight"] = source.out_proj.weight
    bare = pt.ProjectionAttention.from_bert(tensors, 3, prefix="layer.")
    assert not bare.query.bias.any() and torch.equal(bare.value.weight, v)
    for n, b in zip(("query", "key", "value"), source.in_proj_bias.chunk(3), strict=True):
        tensors[f"layer.self.{n}.bias"] = b
    tensors["layer.output.dense.bias"] = source.out_proj.bias
    layer, other = pt.ProjectionAttention.from_bert(tensors, 3, prefix="layer."), multihead_weights(source)
    again = layer.weights()
    for name in ("w_q", "w_k", "w_v", "w_o", "b_q", "b_k", "b_v", "b_o"):
        assert torch.equal(getattr(again, name), getattr(other, name)), name
    with pytest.raises(KeyError, match=r"tensors: given no 'self\.query\.weight'; allowed"):
        bert_weights(tensors, 3)


@pytest.mark.parametrize("mode", ["standard", "tied", "folded"])
def test_every_parameter_learns(mode: Any) -> None:
    """Gradients reach every weight but the key bias of the standard form, which cancels [I.2]."""
    torch.manual_seed(1)
    layer = pt.ProjectionAttention(8, 2, mode=mode, context_width=6).double()
    layer(torch.randn(3, 5, 8).double(), torch.randn(3, 4, 6).double()).square().sum().backward()
    for name, p in layer.named_parameters():
        zero = name == "key.bias" and mode == "standard"
        assert p.grad is not None and (p.grad.abs().max() > 1e-9) != zero, name


@pytest.mark.parametrize("mode", ["standard", "tied", "folded"])
def test_masks(mode: Any) -> None:
    """A row under a mask is the row without one over the keys that it sees; each within its bound of that."""
    torch.manual_seed(2)
    layer = pt.ProjectionAttention(12, 3, mode=mode).double().requires_grad_(False)
    x = torch.randn(2, 5, 12).double()
    n = x.shape[1]
    causal = layer(x, is_causal=True)
    masks = torch.ones(n, n, dtype=torch.bool).tril(), torch.zeros(3, n, n).double()
    masks[1].masked_fill_(~masks[0], -torch.inf)
    for mask in masks:
        made = layer(x, attn_mask=mask)
        for i in range(n):
            seen = x[:, : i + 1]
            want = layer(seen)[:, -1]
            allowed = 2 * layer_ball(layer_balls(layer), seen.numpy(), 3, layer.scale).rad[:, -1]
            for rows in (causal, made):
                assert ((rows[:, i] - want).abs().numpy() <= allowed).all()
    hidden = torch.arange(n) < 3
    want = layer(x, x[:, :3])
    allowed = 2 * layer_ball(layer_balls(layer), x.numpy(), 3, layer.scale, context=x[:, :3].numpy()).rad
    for mask in (hidden, hidden[None, None], hidden.expand(2, 1, 1, n), hidden.expand(2, 3, 1, n)):
        assert ((layer(x, attn_mask=mask) - want).abs().numpy() <= allowed).all()
    weights = layer.attention_weights(x, attn_mask=hidden)
    assert weights.shape == (2, 3, n, n) and not weights[..., 3:].any()


def test_separate_values() -> None:
    source = nn.MultiheadAttention(12, 3, batch_first=True, kdim=5, vdim=4).double().eval()
    layer = pt.ProjectionAttention.from_multihead(source)
    x, k, v = torch.randn(2, 7, 12).double(), torch.randn(2, 3, 5).double(), torch.randn(2, 3, 4).double()
    # Fewer than 1000 roundings of numbers below 10.
    assert (layer(x, k, v) - source(x, k, v, need_weights=False)[0]).abs().max() < 1000 * 10 * 2.0**-53
    with pytest.raises(ValueError, match="mode: given 'folded' with 5 features of keys and 4 of values"):
        pt.ProjectionAttention.from_multihead(source, "folded")


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: pt.ProjectionAttention(8, 3), "heads: given 3; allowed: a divisor of the width 8"),
        (lambda: pt.ProjectionAttention(8, 2, mode="other"), "mode: given 'other'; allowed: one of"),
        (lambda: pt.ProjectionAttention(8, 2, head_width=0), "head_width: given 0; allowed: an integer of"),
        (
            lambda: pt.ProjectionAttention(8, 2, mode="tied")(torch.ones(2, 8), values=torch.ones(2, 8)),
            "values: given a tensor; allowed: None: in the tied form",
        ),
        (
            lambda: pt.ProjectionAttention(8, 2, mode="tied").weights(),
            "mode: given 'tied'; allowed: 'standard'",
        ),
        (
            lambda: pt.ProjectionAttention.from_multihead(nn.MultiheadAttention(4, 2, add_zero_attn=True)),
            "layer: given a MultiheadAttention with add_bias_kv or add_zero_attn; allowed",
        ),
    ],
)
def test_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
