"""A small random BERT-layout model on disk, with a word tokenizer: everything that an audit needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WIDTH, HEADS, LAYERS, WIDE, WORDS, POSITIONS = 12, 3, 2, 20, 9, 8
VOCABULARY = ["[UNK]", *"abcdefgh"]

Tensors = dict[str, np.ndarray[Any, Any]]


def tensors(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    out: Tensors = {}

    def put(name: str, *shape: int) -> None:
        out[name] = rng.normal(size=shape).astype("float32")

    for part, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 2)):
        put(f"embeddings.{part}_embeddings.weight", rows, WIDTH)
    norms = ["embeddings"]
    for layer in range(LAYERS):
        base = f"encoder.layer.{layer}"
        norms += [f"{base}.attention.output", f"{base}.output"]
        dense = [f"{base}.attention.self.{part}" for part in ("query", "key", "value")]
        for name in (*dense, f"{base}.attention.output.dense"):
            put(f"{name}.weight", WIDTH, WIDTH)
            put(f"{name}.bias", WIDTH)
        for name, rows, columns in (("intermediate", WIDE, WIDTH), ("output", WIDTH, WIDE)):
            put(f"{base}.{name}.dense.weight", rows, columns)
            put(f"{base}.{name}.dense.bias", rows)
    for name in norms:
        put(f"{name}.LayerNorm.weight", WIDTH)
        put(f"{name}.LayerNorm.bias", WIDTH)
    return out


Write = Callable[..., Path]


@pytest.fixture
def write_model(tmp_path: Path) -> Write:
    """Write a model folder: tensors changed by `change`, entries of config.json (None: no file)."""

    def write(
        change: Callable[[Tensors], None] | None = None, config: dict[str, Any] | None = {}  # noqa: B006
    ) -> Path:  # fmt: skip
        values = tensors()
        if change is not None:
            change(values)
        save_file(values, str(tmp_path / "model.safetensors"))
        if config is not None:
            entries = {"num_attention_heads": HEADS, "hidden_act": "gelu", **config}
            (tmp_path / "config.json").write_text(json.dumps(entries))
        words = {word: number for number, word in enumerate(VOCABULARY)}
        tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.enable_padding(length=POSITIONS)
        tokenizer.enable_truncation(2)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        return tmp_path

    return write
