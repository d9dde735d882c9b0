"""Configuration of a BERT-layout encoder: from config.json, or from the shapes of its tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BertConfig", "read_config"]

_EXPECTED = {"hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a post-LayerNorm BERT encoder with exact GELU and absolute positions."""

    width: int
    layers: int
    heads: int
    positions: int
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"heads: got {self.heads}; allowed is a divisor of the width {self.width}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def read_config(file: Path, shapes: Mapping[str, tuple[int, ...]], heads: int | None = None) -> BertConfig:
    """Sizes from `file` (config.json) if it exists, the rest from tensor shapes (names without prefix).

    The number of heads is in no shape: without config.json it must be given. Raises ValueError when a
    configuration asks for what this forward pass does not compute, or disagrees with the tensors.
    """
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for key, expected in _EXPECTED.items():
        if config.get(key, expected) != expected:
            raise ValueError(f"{file.name}: {key} is {config[key]!r}; allowed is {expected!r}")
    positions, width = shapes["embeddings.position_embeddings.weight"]
    layers = 1 + max(
        (int(m[1]) for name in shapes if (m := re.match(r"encoder\.layer\.(\d+)\.", name))), default=-1
    )
    found = {"hidden_size": width, "num_hidden_layers": layers, "max_position_embeddings": positions}
    for key, value in found.items():
        if config.get(key, value) != value:
            raise ValueError(f"{file.name}: {key} is {config[key]}, but the tensors have {value}")
    count = heads if heads is not None else config.get("num_attention_heads")
    if count is None:
        raise ValueError(f"heads: no {file.name} beside the weights and no shape tells it; give heads=")
    return BertConfig(width, layers, int(count), positions, float(config.get("layer_norm_eps", 1e-12)))
