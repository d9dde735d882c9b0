"""Loader and forward pass: against PyTorch's own operators, and errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from projsym.audit.bert import load_bert
from projsym.audit.forward import fold_layer, gelu, projection, run, sentence_embeddings, standard
from projsym.audit.package import DEFAULT_SHA256, check_sha256

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]
TOKENS = [[1, 2, 3, 4, 5], [6], [7, 8, 1]]


def torch_forward(folder: Path, tokens: list[int], heads: int, dtype: torch.dtype) -> Array:
    """The encoder by torch.nn.functional, straight from the file: (n, D)."""
    from safetensors.torch import load_file

    w = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        name += ".LayerNorm"
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), heads, -1).transpose(0, 1)[None]

    x = F.embedding(torch.tensor(tokens), w["embeddings.word_embeddings.weight"])
    x = x + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings")
    layers = sum(name.endswith("attention.self.query.weight") for name in w)
    for index in range(layers):
        base = f"encoder.layer.{index}"
        q, k, v = (split(dense(x, f"{base}.attention.self.{p}")) for p in ("query", "key", "value"))
        attended = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).reshape(len(x), -1)
        x = norm(x + dense(attended, f"{base}.attention.output.dense"), f"{base}.attention.output")
        wide = F.gelu(dense(x, f"{base}.intermediate.dense"))
        x = norm(x + dense(wide, f"{base}.output.dense"), f"{base}.output")
    return x.numpy()


def amplification(folder: Path, heads: int, tokens: list[int]) -> float:
    """Error of PyTorch's float32 forward pass in units of float32 roundoff: what rounding grows to."""
    narrow = torch_forward(folder, tokens, heads, torch.float32)
    wide = torch_forward(folder, tokens, heads, torch.float64)
    return float(np.abs(narrow - wide).max()) * 2.0**24


@pytest.mark.parametrize("form", ["standard", "dot"])
def test_forward_agrees_with_torch(write_model: Write, form: str) -> None:
    """Stated bound: float64 rounding grows as float32 rounding does in PyTorch, within a factor 100."""
    folder = write_model()
    model = load_bert(folder)
    folded = [fold_layer(model, index) for index in range(model.config.layers)]
    attend = standard(model) if form == "standard" else projection(folded, form="dot")
    for tokens, hidden in zip(TOKENS, run(model, TOKENS, attend), strict=True):
        expected = torch_forward(folder, tokens, 3, torch.float64)
        limit = 100 * amplification(folder, 3, tokens) * 2.0**-53
        assert limit < 1e-11
        assert np.abs(hidden - expected).max() <= limit


def test_gelu_is_the_exact_one() -> None:
    x = np.linspace(-8, 8, 4001)
    # Φ is below one, its erf within one unit here and two in PyTorch; three more operations each
    limit = 10 * 2.0**-53 * np.abs(x)
    assert (np.abs(gelu(x) - F.gelu(torch.tensor(x)).numpy()) <= limit).all()
    tanh = F.gelu(torch.tensor(x), approximate="tanh").numpy()
    assert (np.abs(gelu(x) - tanh) > limit).any()
    assert gelu(x.astype("float32")).dtype == np.float32


def test_embeddings_are_means_of_length_one(write_model: Write) -> None:
    model = load_bert(write_model(), dtype="float32")
    hidden = run(model, TOKENS, standard(model))
    found = sentence_embeddings(hidden)
    assert found.dtype == np.float32 and found.shape == (3, 12)
    one = hidden[1][0] / np.linalg.norm(hidden[1][0])
    assert np.abs(found[1] - one).max() <= 4 * 2.0**-24
    # a sum of twelve squares, a root and a quotient
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() <= 20 * 2.0**-24


def test_sizes_come_from_the_tensors_and_heads_from_the_caller(write_model: Write) -> None:
    config = load_bert(write_model(config=None), heads=4).config
    assert (config.width, config.layers, config.heads, config.positions) == (12, 2, 4, 8)


def test_prefixed_names_are_read(write_model: Write) -> None:
    def prefix(tensors: dict[str, Array]) -> None:
        for name in list(tensors):
            tensors[f"bert.{name}"] = tensors.pop(name)

    assert len(load_bert(write_model(prefix)).layers) == 2


Change = Callable[[dict[str, Array]], None]


def drop(tensors: dict[str, Array], name: str) -> None:
    del tensors[name]


KEY = "encoder.layer.1.attention.self.key"
BAD: dict[str, tuple[Change | None, dict[str, Any] | None, type[Exception], str]] = {
    "missing tensor": (lambda t: drop(t, f"{KEY}.bias"), {}, KeyError, f"'{KEY}.bias' is missing"),
    "no embeddings": (
        lambda t: drop(t, "embeddings.word_embeddings.weight"), {}, KeyError, "not a BERT-layout model"
    ),
    "no positions": (
        lambda t: drop(t, "embeddings.position_embeddings.weight"), {}, KeyError, "position_embeddings"
    ),
    "shape": (lambda t: t.update({f"{KEY}.weight": np.ones((12, 5), "f4")}), {}, ValueError, r"\(12, 5\)"),
    "half precision": (lambda t: t.update({f"{KEY}.bias": np.ones(12, "f2")}), {}, TypeError, "is F16"),
    "no heads": (None, None, ValueError, "heads: no config.json beside the weights"),
    "heads": (None, {"num_attention_heads": 5}, ValueError, "heads: got 5; allowed is a divisor"),
    "gelu": (None, {"hidden_act": "gelu_new"}, ValueError, "hidden_act is 'gelu_new'; allowed is 'gelu'"),
    "positions": (None, {"position_embedding_type": "relative_key"}, ValueError, "position_embedding_type"),
    "layers": (None, {"num_hidden_layers": 3}, ValueError, "num_hidden_layers is 3, but the tensors have 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_models_get_a_clear_error(write_model: Write, name: str) -> None:
    change, config, error, message = BAD[name]

    def apply(tensors: dict[str, Array]) -> None:
        if change is not None:
            change(tensors)

    with pytest.raises(error, match=message):
        load_bert(write_model(apply, config))


def test_bad_arguments_get_a_clear_error(write_model: Write, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="model: no file"):
        load_bert(tmp_path / "absent")
    folder = write_model()
    with pytest.raises(ValueError, match="dtype: got 'float16'"):
        load_bert(folder, dtype="float16")
    with pytest.raises(ValueError, match=f"allowed is {DEFAULT_SHA256}"):
        load_bert(folder, sha256=DEFAULT_SHA256)


def test_sha256_of_a_known_file(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    check_sha256(file, "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD")  # FIPS 180-2, B.1
