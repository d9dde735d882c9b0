"""Folded and tied layers against the standard layer that they are made from, within proven bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from projsym.learning.agreement import folding_bound, tying_bound
from projsym.learning.attention import Attention, explicit_core, projsym_core, torch_core
from projsym.learning.convert import tie_into, tied_model
from projsym.learning.model import Translator, causal
from projsym.learning.sizes import Variant

DTYPES = [torch.float32, torch.float64]
CORES = [explicit_core, projsym_core, torch_core]
Build = Callable[..., Translator]
Layers = Callable[[nn.Module], list[Attention]]


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = 2 * torch.randn(3, 8, 12, generator=generator, dtype=dtype)
    return x, causal(8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("head_width", ["input", "split"])
def test_folded_layers_agree_within_the_bound(
    dtype: torch.dtype, core: object, head_width: str, build: Build, layers: Layers
) -> None:
    standard, folded = (build(form, head_width, dtype=dtype, core=core) for form in ("standard", "folded"))
    x, visible = inputs(dtype)
    for first, second in zip(layers(standard), layers(folded), strict=True):
        apart = (first(x, x, visible) - second(x, x, visible)).abs()
        assert (apart <= folding_bound(first, second, x, x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("core", CORES)
def test_tied_layers_agree_within_the_bound(
    dtype: torch.dtype, core: object, build: Build, layers: Layers
) -> None:
    standard = build("standard", dtype=dtype, core=core)
    tied, condition = tied_model(standard)
    assert condition >= 1
    x, visible = inputs(dtype)
    for first, second in zip(layers(standard), layers(tied), strict=True):
        apart = (first(x, x, visible) - second(x, x, visible)).abs()
        assert (apart <= tying_bound(first, second, x)).all()


def test_the_bounds_notice_a_wrong_layer(build: Build, layers: Layers) -> None:
    """A change of one part in a million of one weight is outside, in float64."""
    standard, folded = build("standard"), build("folded")
    tied, _ = tied_model(standard)
    x, visible = inputs(torch.float64)
    first = layers(standard)[0]
    for model, bound in (
        (folded, lambda layer: folding_bound(first, layer, x, x)),
        (tied, lambda layer: tying_bound(first, layer, x)),
    ):
        layer = layers(model)[0]
        with torch.no_grad():
            layer.output.weight[0, 0] *= 1 + 1e-6
        broken = layer(x, x, visible)
        # The bound of the tied form measures the residual itself, so it is taken of the layer as it was.
        with torch.no_grad():
            layer.output.weight[0, 0] /= 1 + 1e-6
        assert ((broken - first(x, x, visible)).abs() > bound(layer)).any()


def test_the_whole_tied_model_agrees(build: Build) -> None:
    """Equal in exact arithmetic, since every layer is; for its rounding no bound is proven, so the one stated
    here is the unit 2⁻⁵³ times the condition number times 10⁴ operations."""
    standard = build("standard")
    tied, condition = tied_model(standard)
    generator = torch.Generator().manual_seed(4)
    source, target = torch.randint(4, 30, (2, 4, 8), generator=generator)
    logits = standard(source, target)
    stated = condition * 1e4 * 2.0**-53
    assert stated < 1e-8 and (logits - tied(source, target)).abs().max() < stated
    with torch.no_grad():
        tied.encoder_attention.output.bias[0] += 1e-6
    assert (logits - tied(source, target)).abs().max() > stated


def test_narrow_heads_cannot_be_tied(build: Build) -> None:
    with pytest.raises(ValueError, match=r"head_width: given 4; allowed: 12, the input's width \[I.8\]"):
        tied_model(build("standard", "split"))


def test_a_singular_key_matrix_cannot_be_tied(build: Build, layers: Layers) -> None:
    standard = build("standard")
    layer = layers(standard)[0]
    with torch.no_grad():
        assert layer.key is not None
        layer.key.weight[0] = layer.key.weight[1]
    with pytest.raises(ValueError, match="W_K: given condition number"):
        tied_model(standard)


def test_only_a_tied_layer_is_set(build: Build) -> None:
    folded, standard = build("folded"), build("standard")
    with pytest.raises(ValueError, match="form: given"):
        tie_into(folded.cross_attention, standard.cross_attention)


def test_learned_sigma_is_carried_over(build: Build) -> None:
    standard = build("standard", "input", "learned")
    tied, _ = tied_model(standard)
    assert tied.variant == Variant("tied", "input", "learned")
    assert torch.equal(tied.cross_attention.sigma, standard.cross_attention.sigma)
    x, visible = inputs(torch.float64)
    folded = build("folded", "input", "learned").cross_attention
    apart = folded(x, x, visible) - standard.cross_attention(x, x, visible)
    assert apart.abs().max() < 1e-9  # the proven bound is for fixed σ
