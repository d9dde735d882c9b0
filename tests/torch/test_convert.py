"""Converted models: PyTorch's encoder, Hugging Face's BERT, and all-MiniLM-L6-v2 layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from _layer_ball import exact_maps, folded_maps, layer_ball
from torch import Tensor, nn

import projsym.torch as pt
from projsym.audit.bert import load_bert
from projsym.audit.package import default_model_folder
from projsym.torch.weights import bert_weights

TORCH_EXP = 20 * 2.0**-52  # what the gate of the benchmark grants a library's exponential


def encoder(batch_first: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()


def bert(**options: Any) -> nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 32}
    config = BertConfig(**sizes, vocab_size=30, max_position_embeddings=16, **options)
    return BertModel(config, add_pooling_layer=False).double().eval()


def limit(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> float:
    """Stated bound: rounding in float64 grows as PyTorch's own does in float32, within a factor of 100."""
    narrow = copy.deepcopy(model).float()
    return 100 * float((run(narrow).double() - run(model)).abs().max()) * 2.0 ** (24 - 53)


@pytest.mark.parametrize("mode", ["standard", "folded"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_encoder(batch_first: bool, mode: Any) -> None:
    model = encoder(batch_first)

    def run(m: nn.Module, **masks: Any) -> Tensor:
        dtype = next(m.parameters()).dtype
        with torch.no_grad():
            return m(torch.tensor(X).to(dtype), **masks)

    made = copy.deepcopy(model)
    assert pt.convert(made, mode) == ["layers.0.self_attn", "layers.1.self_attn"]
    allowed = limit(model, run)
    assert 0 < allowed < 1e-10
    assert (run(made) - run(model)).abs().max() <= allowed
    assert not any(isinstance(m, nn.MultiheadAttention) for m in made.modules())
    padding = torch.zeros(5, 5, dtype=torch.bool)
    padding[1, 3:] = True
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    for masks in (
        {"src_key_padding_mask": padding},
        {"mask": causal, "is_causal": True},
        {"mask": causal.isneginf()},
        {"mask": causal, "src_key_padding_mask": padding},
        {"mask": causal.expand(20, 5, 5)},
    ):
        # Rows of padding are as PyTorch's too: they see the others.
        assert (run(made, **masks) - run(model, **masks)).abs().max() <= allowed, masks


X = np.random.default_rng(0).standard_normal((5, 5, 16))


def test_multihead_gives_weights_where_they_are_asked_for() -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, 4, batch_first=True).double().eval()
    model = nn.ModuleDict({"a": copy.deepcopy(layer)})
    pt.convert(model)
    x, y = torch.tensor(X), torch.tensor(X[:, :3])
    for average in (True, False):
        want = layer(x, y, y, average_attn_weights=average)
        made = model["a"](x, y, y, average_attn_weights=average)
        assert made[1].shape == want[1].shape
        # Fewer than 1000 roundings of numbers below 10.
        assert all((a - b).abs().max() < 1000 * 10 * 2.0**-53 for a, b in zip(made, want, strict=True))
    assert model["a"](x[0], y[0], y[0], need_weights=False)[0].shape == (5, 16)


@pytest.mark.parametrize("mode", ["standard", "folded"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_bert(implementation: str, mode: Any) -> None:
    model = bert(attn_implementation=implementation)
    ids = torch.randint(0, 30, (3, 9), generator=torch.Generator().manual_seed(1))
    padding = torch.ones_like(ids)
    padding[1, 5:] = 0

    def run(m: nn.Module, mask: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            return m(input_ids=ids, attention_mask=mask).last_hidden_state

    made = copy.deepcopy(model)
    assert pt.convert(made, mode) == ["encoder.layer.0.attention", "encoder.layer.1.attention"]
    allowed = limit(model, run)
    assert 0 < allowed < 1e-10
    for mask in (None, padding):
        assert (run(made, mask) - run(model, mask)).abs().max() <= allowed


def test_converted_models_learn() -> None:
    """Gradients of a converted model, by the generated kernels, are those of the model."""
    model = bert(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0).train()
    made = copy.deepcopy(model)
    pt.convert(made)
    ids = torch.arange(18).reshape(2, 9)
    for m in (model, made):
        (m(input_ids=ids).last_hidden_state * torch.tensor(X[:2, :1])).sum().backward()
    for old, new in (("attention.self.query", "attention.self.core.query"), ("intermediate.dense",) * 2):
        a, b = (m.get_parameter(f"encoder.layer.0.{n}.weight").grad for m, n in ((model, old), (made, new)))
        # In float64, where 1e-9 of the largest entry is millions of roundings, and a wrong term far more.
        assert a.abs().max() > 0 and (a - b).abs().max() <= 1e-9 * a.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_of_minilm_is_within_the_proven_bound(dtype: torch.dtype) -> None:
    """The first layer on word embeddings, against PyTorch's in float64 with the same weights."""
    model = load_bert(default_model_folder(), dtype="float32")
    layer, heads = model.layers[0], model.config.heads
    maps = {"query": (layer.w_q, layer.b_q), "key": (layer.w_k, layer.b_k)}
    maps |= {"value": (layer.w_v, layer.b_v), "output": (layer.w_o, layer.b_o)}
    places = ("self.query", "self.key", "self.value", "output.dense")
    tensors = {}
    for place, (w, b) in zip(places, maps.values(), strict=True):
        tensors[f"{place}.weight"], tensors[f"{place}.bias"] = torch.tensor(w.T), torch.tensor(b)
    rows = model.words[[[101, 2023, 2003, 1037, 102], [101, 7592, 2088, 999, 102]]]
    x = torch.tensor(rows / np.linalg.norm(rows, axis=-1, keepdims=True) * 384**0.5)

    wide = {n: w.double() for n, w in tensors.items()}
    q, k, v = (
        nn.functional.linear(x.double(), wide[f"{n}.weight"], wide[f"{n}.bias"])
        .unflatten(-1, (heads, -1))
        .transpose(1, 2)
        for n in places[:3]
    )
    out = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    want = nn.functional.linear(out, wide["output.dense.weight"], wide["output.dense.bias"]).numpy()

    def bound(dtype: str, exp_error: float | None) -> np.ndarray:
        cast = {n: (w.astype(dtype), b.astype(dtype)) for n, (w, b) in maps.items()}
        return layer_ball(exact_maps(cast), x.numpy().astype(dtype), heads, 32**-0.5, exp_error).rad

    given, slack = {n: w.to(dtype) for n, w in tensors.items()}, bound("float64", TORCH_EXP)
    inputs = x.to(dtype)
    for mode in ("standard", "folded"):
        ours = pt.ProjectionAttention.from_bert(given, heads, mode)
        error = np.abs(ours(inputs).detach().numpy() - want)
        allowed = bound(str(dtype)[6:], None)
        if mode == "folded":
            stored = folded_maps(bert_weights(given, heads), ours)
            allowed = layer_ball(stored, inputs.numpy(), heads, 32**-0.5).rad
        assert (error <= allowed + slack).all() and error.max() > 0
        # Not vacuous: sums of 384 terms, twice, and their exponentials.
        assert allowed.max() <= 2**24 * torch.finfo(dtype).eps


def test_names_dropout_and_refusals() -> None:
    model = encoder()
    pt.convert(model)
    with pytest.raises(ValueError, match=r"dropout: given 0\.1 in training; allowed: 0, or eval\(\)"):
        model.train()(torch.tensor(X))
    with pytest.raises(ValueError, match="model: given Linear; allowed: a model with "):
        pt.convert(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="mode: given 'tied', with W_V of head 0 not droppable"):
        pt.convert(encoder(), "tied")
    with pytest.raises(
        ValueError, match="model: given a decoder, or relative positions; allowed: an encoder"
    ):
        pt.convert(bert(is_decoder=True))
    inner = bert()
    pt.convert(inner)
    with pytest.raises(
        ValueError, match="attention: given head_mask; allowed: hidden_states and attention_m"
    ):
        inner.encoder.layer[0].attention.self(torch.tensor(X), head_mask=torch.ones(4))
