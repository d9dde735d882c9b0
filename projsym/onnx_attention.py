"""The ONNX operator ``Attention``, opset 23 to 25, by the kernels of this package.

For programs that hold an ONNX graph, and for the conformance tests of the operator's specification. Inputs of
half precision (float16, and bfloat16 of `ml_dtypes`) are computed in float32 and rounded once at the end,
which the specification allows; all others keep their dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from projsym.attention import Backend, attention
from projsym.errors import refused
from projsym.runtime.layout import Array

__all__ = ["onnx_attention"]

WITH_CAP, WITH_BIAS, WEIGHTS = 1, 2, 3
"""Values of `qk_matmul_output_mode` other than 0, the scaled products alone."""


def onnx_attention(
    Q: Array,
    K: Array,
    V: Array,
    attn_mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad_kv_seqlen: Array | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output: bool = False,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    backend: Backend = None,
) -> tuple[Array, Array, Array, Array | None]:
    """``(Y, present_key, present_value, qk_matmul_output)`` as ONNX ``Attention`` defines them.

    >>> import numpy as np
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 5, 12), dtype=np.float32)
    >>> y, *_ = onnx_attention(q, k, v, q_num_heads=3, kv_num_heads=3, is_causal=1)
    >>> y.shape
    (2, 5, 12)

    Q, K, V: (batch, heads, length, size), or (batch, length, heads*size) with `q_num_heads` and
    `kv_num_heads`. The other arguments and attributes have the names and the meaning of the specification; a
    mask whose last axis is shorter than the keys hides the rest. `softmax_precision` is accepted: weights are
    computed in the dtype of the kernel, in float32 at least.
    qk_matmul_output: whether the fourth output is wanted; else it is None. The kernels never hold that
    matrix, so NumPy computes it apart.

    Raises TypeError and ValueError as :func:`projsym.attention`, and ValueError for a mode or heads that are
    not in the specification. Source: https://onnx.ai/onnx/operators/onnx__Attention.html
    """
    if qk_matmul_output_mode not in (0, WITH_CAP, WITH_BIAS, WEIGHTS):
        raise ValueError(refused("qk_matmul_output_mode", qk_matmul_output_mode, "0, 1, 2 or 3"))
    flat, kind = Q.ndim == 3, Q.dtype
    if flat:
        Q, K, V = _heads("Q", Q, q_num_heads), _heads("K", K, kv_num_heads), _heads("V", V, kv_num_heads)
    present = [
        x if p is None else np.concatenate((p, x), axis=2) for x, p in ((K, past_key), (V, past_value))
    ]
    n, m = Q.shape[2], present[0].shape[2]
    mask = attn_mask
    if mask is not None and mask.shape[-1] < m:
        hidden: Any = False if mask.dtype == np.bool_ else -math.inf
        missing = np.full((*mask.shape[:-1], m - mask.shape[-1]), hidden, mask.dtype)
        mask = np.concatenate((mask, missing), axis=-1)
    wide = np.dtype(np.float64) if kind == np.float64 else np.dtype(np.float32)
    q, k, v = (x.astype(wide, copy=False) for x in (Q, K, V))
    if mask is not None and mask.dtype != np.bool_:
        mask = mask.astype(wide, copy=False)
    options: dict[str, Any] = {
        "attn_mask": mask,
        "is_causal": bool(is_causal),
        "scale": scale,
        "softcap": softcap or None,
        "enable_gqa": q.shape[1] != k.shape[1],
        "kv_lengths": nonpad_kv_seqlen,
        "backend": backend,
    }
    if left_window_size >= 0 or right_window_size >= 0:
        options["window"] = tuple(None if x < 0 else x for x in (left_window_size, right_window_size))
    if past_key is not None and past_value is not None:
        options["past_key"] = past_key.astype(wide, copy=False)
        options["past_value"] = past_value.astype(wide, copy=False)
    out, lse = attention(q, k, v, return_lse=True, **options)
    products = None
    if qk_matmul_output:
        keys = present[0].astype(wide, copy=False)
        products = _products(q, keys, lse, qk_matmul_output_mode, n, options).astype(kind)
    if flat:
        out = out.swapaxes(1, 2).reshape(out.shape[0], n, -1)
    return out.astype(kind, copy=False), present[0], present[1], products


def _heads(name: str, x: Array, heads: int | None) -> Array:
    """(batch, length, heads*size) as (batch, heads, length, size), a view."""
    if not heads or x.shape[2] % heads:
        allowed = "3 axes only with q_num_heads and kv_num_heads that divide the last"
        raise ValueError(refused(name, f"shape {x.shape} with {heads} heads", allowed))
    return x.reshape(x.shape[0], x.shape[1], heads, -1).swapaxes(1, 2)


def _products(q: Array, keys: Array, lse: Array, mode: int, n: int, options: dict[str, Any]) -> Array:
    """The matrix of scores as far as the mode says, or of weights."""
    from projsym.masks import resolve

    scale = 1 / math.sqrt(q.shape[-1]) if options["scale"] is None else options["scale"]
    keys = np.repeat(keys, q.shape[1] // keys.shape[1], axis=1)
    scores: Array = q.dtype.type(scale) * (q @ keys.swapaxes(-1, -2))
    cap = options["softcap"]
    if mode and cap is not None:
        scores = q.dtype.type(cap) * np.tanh(scores / q.dtype.type(cap))
    if mode < WITH_BIAS:
        return scores
    past = options["past_key"].shape[2] if "past_key" in options else None
    names = ("attn_mask", "is_causal", "window", "kv_lengths")
    given = {x: options[x] for x in names if options.get(x) is not None}
    mask = resolve(q.shape[:2], n, keys.shape[2], q.dtype, past=past, **given)
    if mask is not None:
        seen = np.empty((*mask.leading, n, keys.shape[2]), bool)
        for index in np.ndindex(mask.leading):
            seen[index] = mask.seen(index)
        scores = np.where(seen, scores if mask.pairs is None else scores + mask.pairs, -math.inf)
    if mode == WEIGHTS:
        scores = np.exp(scores - np.where(np.isneginf(lse), 0, lse)[..., None])
    return scores
