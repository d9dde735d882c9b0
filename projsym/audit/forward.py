"""The forward pass of a BERT encoder in NumPy, with the attention of every layer as a parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projsym.audit.bert import Bert, BertLayer, Norm
from projsym.folding import Backend, Folded, Form, fold, normalise

__all__ = ["Attend", "embed", "fold_layer", "gelu", "projection", "run", "sentence_embeddings", "standard"]

Array = NDArray[Any]
Attend = Callable[[int, Array, Array, Sequence[int]], Array]
"""(layer index, x (Σ n, D), x̂ (Σ n, D), cuts between sentences) -> attention output (Σ n, D), before the
residual sum. Tokens attend within their own sentence."""


def gelu(x: Array) -> Array:
    """x·Φ(x) with Φ by the C library's erf (below one ulp in float64), rounded once to the dtype of x."""
    flat = (x.astype(np.float64).ravel() * math.sqrt(0.5)).tolist()
    erf = np.fromiter(map(math.erf, flat), np.float64, len(flat)).reshape(x.shape)
    return np.asarray(x * (0.5 * (1.0 + erf)).astype(x.dtype))


def standard(model: Bert) -> Attend:
    """Multi-head scaled dot-product attention as the model defines it."""
    config = model.config
    scale = model.dtype.type(config.head_width**-0.5)

    def attend(index: int, x: Array, x_hat: Array, cuts: Sequence[int]) -> Array:
        layer = model.layers[index]
        q, k, v = (
            (x @ w + b).reshape(len(x), config.heads, -1).swapaxes(0, 1)
            for w, b in ((layer.w_q, layer.b_q), (layer.w_k, layer.b_k), (layer.w_v, layer.b_v))
        )
        averages = []
        for rows in _sentences(cuts, len(x)):
            scores = (q[:, rows] @ k[:, rows].mT) * scale
            e = np.exp(scores - scores.max(axis=-1, keepdims=True))
            averages.append((e @ v[:, rows]) / e.sum(axis=-1, keepdims=True))
        heads = np.concatenate(averages, axis=1).swapaxes(0, 1)
        return np.asarray(heads.reshape(len(x), -1) @ layer.w_o + layer.b_o)

    return attend


def fold_layer(model: Bert, index: int) -> Folded:
    """Layer `index` folded onto x̂, the output of the LayerNorm in front of it before gain and shift [I.7]."""
    layer, norm = model.layers[index], model.input_norm(index)
    return fold(
        layer.w_q, layer.w_k, layer.w_v, layer.w_o,
        b_q=layer.b_q, b_k=layer.b_k, b_v=layer.b_v, b_o=layer.b_o,
        heads=model.config.heads, norm="layernorm", norm_gain=norm.gain, norm_shift=norm.shift,
    )  # fmt: skip


def projection(folded: Sequence[Folded], *, form: Form = "distance", backend: Backend = None) -> Attend:
    """Every head as the projection P_σ(x̂ A + a; x̂) B + b; "dot" or "distance" weights, see `Folded`."""

    def attend(index: int, x: Array, x_hat: Array, cuts: Sequence[int]) -> Array:
        layer = folded[index]
        queries = layer.query(x_hat)
        points = [
            layer.project(queries[:, rows], x_hat[rows], form=form, backend=backend)
            for rows in _sentences(cuts, len(x_hat))
        ]
        return layer.combine(np.concatenate(points, axis=1))

    return attend


def _sentences(cuts: Sequence[int], tokens: int) -> Iterator[slice]:
    return (slice(*ends) for ends in pairwise([0, *cuts, tokens]))


def embed(model: Bert, sentences: Sequence[Sequence[int]]) -> Array:
    """Token, position and type-0 embeddings of all sentences, stacked: (Σ n, D), before LayerNorm."""
    rows = [
        model.words[list(tokens)] + model.positions[: len(tokens)] + model.types[0] for tokens in sentences
    ]
    return np.concatenate(rows)


def run(
    model: Bert,
    sentences: Sequence[Sequence[int]],
    attend: Attend,
    capture: Callable[[int, Array], None] | None = None,
) -> list[Array]:
    """Hidden states of the last layer, one (n, D) array for each sentence of token ids.

    Sentences are stacked for the products with weights and separate in attention: no padding, no mask.
    capture(layer, x̂ (Σ n, D)) sees the input of each layer before gain and shift.
    """
    cuts = np.cumsum([len(tokens) for tokens in sentences])[:-1].tolist()
    x_hat = normalise(embed(model, sentences), "layernorm", eps=model.config.eps)
    norm = model.norm
    for index, layer in enumerate(model.layers):
        if capture is not None:
            capture(index, x_hat)
        x = x_hat * norm.gain + norm.shift
        x_hat, norm = _block(layer, x + attend(index, x, x_hat, cuts), model.config.eps)
    return np.split(x_hat * norm.gain + norm.shift, cuts)


def _block(layer: BertLayer, residual: Array, eps: float) -> tuple[Array, Norm]:
    """The rest of a block after attention: LayerNorm, feed-forward, and the last norm before its gain."""
    middle = normalise(residual, "layernorm", eps=eps)
    middle = middle * layer.attention_norm.gain + layer.attention_norm.shift
    wide = gelu(middle @ layer.w_up + layer.b_up) @ layer.w_down + layer.b_down
    return normalise(middle + wide, "layernorm", eps=eps), layer.output_norm


def sentence_embeddings(hidden: Sequence[Array]) -> Array:
    """Mean over tokens, scaled to length 1, as the model card does: (sentences, D)."""
    means = np.stack([rows.mean(axis=0) for rows in hidden])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))
