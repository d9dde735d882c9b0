"""The tied layer: keys serve as values, and a free output matrix after them [I.8]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from projsym import layer_weights as check
from projsym.layer_weights import Array

__all__ = ["Tied", "tie"]


@dataclass(frozen=True)
class Tied:
    """A layer in tied form: `Σ_h P(x W_Q + b_Q; keys x W_K + b_K) W_O + b`, keys as values [I.8].

    W_Q (H, D, d), W_K (H, C, d), W_O (H, d, O), b_Q and b_K (H, d), b (O,); C = D for self-attention. `scale`
    multiplies the scores (1/τ).

    >>> w_q, w_k, w_o = np.random.default_rng(0).standard_normal((3, 8, 8))
    >>> tie(w_q, w_k, w_o, heads=2).W_Q.shape
    (2, 8, 4)
    """

    W_Q: Array
    W_K: Array
    W_O: Array
    b_Q: Array
    b_K: Array
    b: Array
    scale: float

    @property
    def heads(self) -> int:
        return int(self.W_Q.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.W_Q.dtype


def tie(
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_o: ArrayLike,
    *,
    b_q: ArrayLike | None = None,
    b_k: ArrayLike | None = None,
    b_o: ArrayLike | None = None,
    heads: int = 1,
    scale: float | None = None,
    dtype: DTypeLike | None = None,
) -> Tied:
    """A tied layer from its weights.

    >>> w_q, w_k, w_o = np.random.default_rng(0).standard_normal((3, 8, 8))
    >>> tied = tie(w_q, w_k, w_o, heads=2)
    >>> tied.heads, tied.W_O.shape
    (2, (2, 4, 8))

    w_q (D, H·d), w_k (C, H·d), w_o (H·d, O) act on row vectors from the right (PyTorch stores the
    transposes); b_q, b_k (H·d,), b_o (O,), zero where not given; heads = H lie side by side. scale defaults
    to 1/√d. A standard layer is of this form, w_o = M, if and only if W_V W_O = W_K M for every head [I.8];
    its constant then goes into b_o [I.8b].

    All arrays must have one dtype, float32 or float64; with dtype= they are converted to it explicitly.
    Raises TypeError (dtypes) and ValueError (shapes, heads, scale, non-finite weights).
    """
    check.heads(heads)
    given = {"w_q": w_q, "w_k": w_k, "w_o": w_o, "b_q": b_q, "b_k": b_k, "b_o": b_o}
    arrays = check.floats(given, dtype)
    check.matrices(arrays, ("w_q", "w_k", "w_o"))
    inner, out, context = arrays["w_q"].shape[1], arrays["w_o"].shape[1], arrays["w_k"].shape[0]
    check.divided(heads, inner, "w_q")
    shapes = {
        "w_k": (context, inner), "w_o": (inner, out), "b_q": (inner,), "b_k": (inner,), "b_o": (out,),
    }  # fmt: skip
    check.shaped(arrays, shapes)
    scale = check.scale_of(scale, inner // heads)
    kind = arrays["w_q"].dtype

    def vector(name: str, size: int) -> Array:
        return arrays.get(name, np.zeros(size, kind))

    return Tied(
        check.columns(arrays["w_q"], heads),
        check.columns(arrays["w_k"], heads),
        arrays["w_o"].reshape(heads, inner // heads, out),
        vector("b_q", inner).reshape(heads, -1),
        vector("b_k", inner).reshape(heads, -1),
        vector("b_o", out),
        scale,
    )
