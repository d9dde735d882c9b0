"""Loader of BERT-layout safetensors: weights as rows-times-matrix NumPy arrays of one dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projsym.audit.config import BertConfig, read_config
from projsym.audit.package import check_sha256

__all__ = ["Bert", "BertLayer", "Norm", "load_bert"]

Array = NDArray[Any]
Read = Callable[..., Array]
_PREFIXES = ("", "bert.", "model.")
_PROBE = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Norm:
    """Gain γ and shift β (D,) of a LayerNorm."""

    gain: Array
    shift: Array


@dataclass(frozen=True)
class BertLayer:
    """One post-LayerNorm block; matrices act on rows from the right: (inputs, outputs)."""

    w_q: Array
    w_k: Array
    w_v: Array
    w_o: Array
    b_q: Array
    b_k: Array
    b_v: Array
    b_o: Array
    attention_norm: Norm
    w_up: Array
    b_up: Array
    w_down: Array
    b_down: Array
    output_norm: Norm


@dataclass(frozen=True)
class Bert:
    """A BERT encoder without pooler: embeddings (vocabulary, D), (positions, D), (types, D) and layers."""

    config: BertConfig
    words: Array
    positions: Array
    types: Array
    norm: Norm
    layers: tuple[BertLayer, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.words.dtype

    def input_norm(self, layer: int) -> Norm:
        """The LayerNorm whose output is the input of `layer`: its gain and shift fold into that layer."""
        return self.norm if layer == 0 else self.layers[layer - 1].output_norm


def load_bert(
    path: str | Path, *, dtype: str = "float64", heads: int | None = None, sha256: str | None = None
) -> Bert:
    """Load `path`, a .safetensors file or a folder with model.safetensors, as float32 or float64 arrays.

    The conversion to dtype is the one asked for here; float32 -> float64 is exact. Raises FileNotFoundError,
    KeyError naming a missing tensor, TypeError for stored types other than float32 and float64 or for
    narrowing, ValueError for wrong shapes, a wrong SHA-256 or an unsupported configuration.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(
            f"model: no file {file}; allowed is a .safetensors file or a folder that has one"
        )
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: got {dtype!r}; allowed are 'float32' and 'float64'")
    if sha256 is not None:
        check_sha256(file, sha256)
    try:
        from safetensors import safe_open
    except ModuleNotFoundError:
        raise ModuleNotFoundError("safetensors is not installed: `pip install 'projsym[audit]'`") from None

    with safe_open(str(file), framework="np") as store:
        names = set(store.keys())
        prefix = next((p for p in _PREFIXES if p + _PROBE in names), None)
        if prefix is None:
            raise KeyError(f"{file.name}: tensor {_PROBE!r} is missing: not a BERT-layout model")
        sizes = {n.removeprefix(prefix): tuple(store.get_slice(n).get_shape()) for n in names}
        for required in (_PROBE.replace("word", "position"), "encoder.layer.0.output.dense.weight"):
            if required not in sizes:
                raise KeyError(f"{file.name}: tensor {required!r} is missing")
        config = read_config(file.with_name("config.json"), sizes, heads)

        def read(name: str, *shape: int | None) -> Array:
            """The tensor `name`; None in shape allows any size."""
            if name not in sizes:
                raise KeyError(f"{file.name}: tensor {name!r} is missing")
            found = sizes[name]
            if len(found) != len(shape) or any(w not in (None, f) for w, f in zip(shape, found, strict=True)):
                raise ValueError(f"{file.name}: tensor {name!r} has shape {found}; allowed is {shape}")
            stored = store.get_slice(prefix + name).get_dtype()
            if stored not in ("F32", "F64") or (stored == "F64" and dtype == "float32"):
                raise TypeError(
                    f"{file.name}: tensor {name!r} is {stored}; allowed is F32, or F64 as float64"
                )
            return np.asarray(store.get_tensor(prefix + name)).astype(dtype, copy=False)

        return Bert(
            config,
            read(_PROBE, None, config.width),
            read(_PROBE.replace("word", "position"), None, config.width),
            read(_PROBE.replace("word", "token_type"), None, config.width),
            _norm(read, "embeddings", config.width),
            tuple(_layer(read, index, config.width) for index in range(config.layers)),
        )


def _norm(read: Read, name: str, width: int) -> Norm:
    return Norm(read(f"{name}.LayerNorm.weight", width), read(f"{name}.LayerNorm.bias", width))


def _dense(read: Read, name: str, inputs: int | None, outputs: int | None) -> tuple[Array, Array]:
    """A linear layer stored as (outputs, inputs): its transpose and its bias."""
    weight = np.ascontiguousarray(read(f"{name}.weight", outputs, inputs).T)
    return weight, read(f"{name}.bias", weight.shape[1])


def _layer(read: Read, index: int, width: int) -> BertLayer:
    base = f"encoder.layer.{index}"
    query, key, value = (
        _dense(read, f"{base}.attention.self.{part}", width, width) for part in ("query", "key", "value")
    )
    out = _dense(read, f"{base}.attention.output.dense", width, width)
    up = _dense(read, f"{base}.intermediate.dense", width, None)
    down = _dense(read, f"{base}.output.dense", up[0].shape[1], width)
    return BertLayer(
        w_q=query[0], w_k=key[0], w_v=value[0], w_o=out[0],
        b_q=query[1], b_k=key[1], b_v=value[1], b_o=out[1],
        attention_norm=_norm(read, f"{base}.attention.output", width),
        w_up=up[0], b_up=up[1], w_down=down[0], b_down=down[1],
        output_norm=_norm(read, f"{base}.output", width),
    )  # fmt: skip
