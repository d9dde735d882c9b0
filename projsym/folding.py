"""Folding a layer's weights [I.7]: every head becomes a projection onto the inputs themselves.

With rows as tokens, q_i = x_i W_Q + b_Q, k_j = x_j W_K + b_K, v_j = x_j W_V + b_V, and x = x̂ diag(γ) + β:

    SDPA(x) W_O + b_O = Σ_h softmax_j(⟨x̂_i A_h + a_h, x̂_j⟩ · scale) x̂_j B_h + b

    A_h = diag(γ) W_Q W_Kᵀ diag(γ)      a_h = (β W_Q + b_Q) W_Kᵀ diag(γ)
    B_h = diag(γ) W_V W_O               b   = Σ_h (β W_V + b_V) W_O + b_O

b_K and β W_K add a constant to each row of scores, so they cancel by [I.2]. The keys and the values of the
folded head are the normalised inputs x̂: one array, read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from projsym import layer_weights as check
from projsym.layer_weights import Array

__all__ = ["Backend", "Folded", "Form", "fold", "fold_formula", "normalise"]

Norm = Literal["layernorm", "rmsnorm"]
Form = Literal["dot", "distance"]
Backend = Literal["c", "numpy"] | None
T = TypeVar("T")

_NORMS = ("layernorm", "rmsnorm", None)


def fold_formula(
    w_q: T, w_k: T, w_v: T, w_o: T, b_q: T, b_v: T, gain: T, shift: T, context_gain: T, context_shift: T
) -> tuple[T, T, T, T]:
    """The four products of [I.7] for all heads at once, for any type with `@`, `*`, `+` and `.mT`.

    Shapes: w_q (H, D, d), w_k (H, C, d), w_v (H, C, e), w_o (H, e, O), b_q (H, 1, d), b_v (H, 1, e), gain
    (D, 1), shift (1, D), context_gain (C, 1), context_shift (1, C). Returns A (H, D, C), a (H, 1, C),
    B (H, C, O) and the heads' constants (H, 1, O). Written once, so that the error bound of
    `projsym.audit.ball` is about exactly these operations.
    """
    wq, wk, wv, wo, bq, bv = (cast(Any, term) for term in (w_q, w_k, w_v, w_o, b_q, b_v))
    keys = context_gain * wk
    a_matrix = (gain * wq) @ keys.mT
    a_vector = (shift @ wq + bq) @ keys.mT
    b_matrix = (context_gain * wv) @ wo
    constant = (context_shift @ wv + bv) @ wo
    return a_matrix, a_vector, b_matrix, constant


@dataclass(frozen=True)
class Folded:
    """A layer in folded form: `Σ_h P(x̂ A_h + a_h; keys x̂) B_h + b` [I.7].

    >>> folded = fold(*np.random.default_rng(0).standard_normal((4, 8, 8)), heads=2, norm="layernorm")
    >>> x_hat = normalise(np.random.default_rng(1).standard_normal((5, 8)), "layernorm", eps=1e-12)
    >>> folded(x_hat).shape
    (5, 8)
    >>> bool(abs(folded(x_hat) - folded(x_hat, form="distance")).max() < 1e-9)    # as ε is small [I.4]
    True

    A (H, D, C), a (H, C), B (H, C, O), constants (H, O) per head, b (O,) = Σ constants + b_O; C = D for
    self-attention. `scale` multiplies the scores (1/τ). `norm` names the normalisation that the inputs
    have been through, None if nothing is known about their norms.
    """

    A: Array
    a: Array
    B: Array
    constants: Array
    b: Array
    scale: float
    norm: Norm | None = None

    @property
    def heads(self) -> int:
        return int(self.A.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.A.dtype

    @property
    def hypotheses(self) -> tuple[str, ...]:
        """What holds exactly for the keys of this layer, in words, and by which theorem."""
        width = self.A.shape[2]
        always = "dot-product weights on the folded keys: exact for every input, no hypothesis [I.7]"
        if self.norm is None:
            return (
                always,
                "distance weights: exact only if all inputs have one norm [I.4–5], or with bias [I.3]",
            )
        moment = "variance" if self.norm == "layernorm" else "mean square"
        return (
            always,
            f"‖x̂_j‖² = {width}·v_j/(v_j+ε), v_j the row's {moment} before the norm: equal for ε = 0 [I.4]",
            "distance weights: exact for ε = 0; "
            f"else scores move by at most scale·{width}·max_j ε/(v_j+ε)/4 [II.9]",
        )

    def query(self, x_hat: ArrayLike) -> Array:
        """x̂ A_h + a_h for every head: x_hat (..., n, D) -> (H, ..., n, C)."""
        x = self._input("x_hat", x_hat, int(self.A.shape[1]))
        heads, width, context = self.A.shape
        flat = self.A.swapaxes(0, 1).reshape(width, heads * context)  # one product for all heads
        rows = (x @ flat).reshape(*x.shape[:-1], heads, context) + self.a
        return np.moveaxis(rows, -2, 0)

    def combine(self, points: Array) -> Array:
        """Σ_h points_h B_h + b: the projected points (H, ..., n, C) -> the layer's output (..., n, O)."""
        heads, context, out = self.B.shape
        rows = np.moveaxis(points, 0, -2)
        return np.asarray(rows.reshape(*rows.shape[:-2], heads * context) @ self.B.reshape(-1, out) + self.b)

    def project(self, queries: Array, keys: Array, *, form: Form = "dot", backend: Backend = None) -> Array:
        """Project queries (H, ..., n, C) onto keys (..., m, C) by the weights of `form`: (H, ..., n, C).

        backend goes to `projsym.project`. Raises ValueError for an unknown form, and for "distance" with
        scale <= 0, where no bandwidth σ² = 1/scale exists.
        """
        from projsym.attention import project

        if form == "dot":
            return project(queries, keys, scale=self.scale, backend=backend)
        if form != "distance":
            raise ValueError(f"form: got {form!r}; allowed are 'dot' and 'distance'")
        if not self.scale > 0:
            raise ValueError(
                f"form: 'distance' needs scale > 0 (σ² = 1/scale); this layer has {self.scale!r}"
            )
        return project(queries, keys, sigma=self.scale**-0.5, backend=backend)

    def __call__(
        self,
        x_hat: ArrayLike,
        context: ArrayLike | None = None,
        *,
        form: Form = "dot",
        backend: Backend = None,
    ) -> Array:
        """The layer's output, (..., n, O).

        x_hat (..., n, D) are the inputs before gain and shift (as `normalise` returns them); context
        (..., m, C) likewise for cross-attention, x_hat itself by default. form "dot" is exact for all
        inputs [I.7]; "distance" weighs keys by exp(−‖q−x̂_j‖²·scale/2), exact under [I.4] (see `hypotheses`).
        backend goes to `projsym.project`. Raises TypeError for another dtype, ValueError for shapes, for an
        unknown form, and for "distance" with scale <= 0.
        """
        source, name = (x_hat, "x_hat") if context is None else (context, "context")
        keys = self._input(name, source, int(self.A.shape[2]))
        return self.combine(self.project(self.query(x_hat), keys, form=form, backend=backend))

    def _input(self, name: str, value: ArrayLike, width: int) -> Array:
        x = np.asarray(value)
        if x.dtype != self.dtype:
            raise TypeError(f"{name}: got dtype {x.dtype}; the folded layer is {self.dtype}")
        if x.ndim < 2 or x.shape[-1] != width:
            raise ValueError(f"{name}: got shape {x.shape}; allowed is (..., tokens, {width})")
        return x


def normalise(x: ArrayLike, norm: Norm, *, eps: float) -> Array:
    """LayerNorm or RMSNorm without gain and shift, over the last axis of x (..., n, D), float32 or float64.

    >>> normalise(np.array([[1.0, 2.0, 3.0, 6.0]]), "rmsnorm", eps=0.0) @ np.ones(4)   # 12/√(50/4)
    array([3.39411255])

    Rows come out with ‖x̂‖ = √(D·v/(v+eps)), v the variance (layernorm) or the mean square (rmsnorm).
    A row with v + eps = 0 has no direction: ValueError.
    """
    rows = np.asarray(x)
    if rows.dtype not in check.FLOATS:
        raise TypeError(f"x: got dtype {rows.dtype}; allowed are float32 and float64")
    if norm not in _NORMS[:2]:
        raise ValueError(f"norm: got {norm!r}; allowed are 'layernorm' and 'rmsnorm'")
    if not (isfinite(eps) and eps >= 0):
        raise ValueError(f"eps: got {eps!r}; allowed is a finite number >= 0")
    if norm == "layernorm":
        rows = rows - rows.mean(axis=-1, keepdims=True)
    spread = (rows * rows).mean(axis=-1, keepdims=True) + rows.dtype.type(eps)
    if rows.size and not bool((spread > 0).all()):
        raise ValueError(
            "x: a row has zero (or NaN) spread and eps = 0 cannot repair it; allowed is v + eps > 0"
        )
    return np.asarray(rows / np.sqrt(spread))


def fold(
    w_q: ArrayLike,
    w_k: ArrayLike,
    w_v: ArrayLike,
    w_o: ArrayLike,
    *,
    b_q: ArrayLike | None = None,
    b_k: ArrayLike | None = None,
    b_v: ArrayLike | None = None,
    b_o: ArrayLike | None = None,
    heads: int = 1,
    norm: Norm | None = None,
    norm_gain: ArrayLike | None = None,
    norm_shift: ArrayLike | None = None,
    cross: bool = False,
    context_gain: ArrayLike | None = None,
    context_shift: ArrayLike | None = None,
    scale: float | None = None,
    dtype: DTypeLike | None = None,
) -> Folded:
    """Fold the weights of an attention layer into projection form, exactly (up to rounding) [I.7].

    >>> w_q, w_k, w_v, w_o = np.random.default_rng(0).standard_normal((4, 8, 8))
    >>> folded = fold(w_q, w_k, w_v, w_o, heads=2, norm="layernorm")
    >>> folded.A.shape, folded.B.shape, folded.scale
    ((2, 8, 8), (2, 8, 8), 0.5)

    w_q (D, H·d), w_k (C, H·d), w_v (C, H·e), w_o (H·e, O) act on row vectors from the right (PyTorch stores
    the transposes); b_q, b_k (H·d,), b_v (H·e,), b_o (O,); heads = H lie side by side. norm_gain γ and
    norm_shift β (D,) are those of the normalisation in front of the layer; the folded layer is then a
    function of x̂, the inputs before gain and shift. cross=True: queries and keys come from different
    sequences, and context_gain, context_shift (C,) belong to the latter. scale defaults to 1/√d.
    b_k is checked and then has no effect: it cancels.

    All arrays must have one dtype, float32 or float64; with dtype= they are converted to it explicitly.
    Raises TypeError (dtypes) and ValueError (shapes, heads, norm, scale, non-finite weights).
    """
    if norm not in _NORMS:
        raise ValueError(f"norm: got {norm!r}; allowed are 'layernorm', 'rmsnorm' and None")
    check.heads(heads)
    given = {
        "w_q": w_q, "w_k": w_k, "w_v": w_v, "w_o": w_o, "b_q": b_q, "b_k": b_k, "b_v": b_v, "b_o": b_o,
        "norm_gain": norm_gain, "norm_shift": norm_shift,
        "context_gain": context_gain, "context_shift": context_shift,
    }  # fmt: skip
    arrays = check.floats(given, dtype)
    if not cross:
        for name in ("context_gain", "context_shift"):
            if name in arrays:
                raise ValueError(f"{name}: given for self-attention; allowed only with cross=True")
    width, context, inner, value, out = _widths(arrays, heads, cross)
    shapes = {
        "w_k": (context, inner), "w_v": (context, value), "w_o": (value, out),
        "b_q": (inner,), "b_k": (inner,), "b_v": (value,), "b_o": (out,), "norm_gain": (width,),
        "norm_shift": (width,), "context_gain": (context,), "context_shift": (context,),
    }  # fmt: skip
    check.shaped(arrays, shapes)
    scale = check.scale_of(scale, inner // heads)

    kind = arrays["w_q"].dtype

    def vector(name: str, default: float, size: int) -> Array:
        return arrays.get(name, np.full(size, default, kind))

    gain, shift = vector("norm_gain", 1, width), vector("norm_shift", 0, width)
    c_gain, c_shift = (
        (vector("context_gain", 1, context), vector("context_shift", 0, context)) if cross else (gain, shift)
    )
    q, k, v = (check.columns(arrays[name], heads) for name in ("w_q", "w_k", "w_v"))
    a_matrix, a_vector, b_matrix, constants = fold_formula(
        q, k, v,
        arrays["w_o"].reshape(heads, value // heads, out),
        vector("b_q", 0, inner).reshape(heads, 1, -1), vector("b_v", 0, value).reshape(heads, 1, -1),
        gain[:, None], shift[None, :], c_gain[:, None], c_shift[None, :],
    )  # fmt: skip
    bias = constants.sum(axis=(0, 1)) + vector("b_o", 0, out)
    # (D, H, C) in memory, so that all heads' queries are one matrix product without a copy
    a_matrix = np.ascontiguousarray(a_matrix.swapaxes(0, 1)).swapaxes(0, 1)
    return Folded(a_matrix, a_vector[:, 0], b_matrix, constants[:, 0], bias, scale, norm)


def _widths(arrays: Mapping[str, Array], heads: int, cross: bool) -> tuple[int, int, int, int, int]:
    check.matrices(arrays, ("w_q", "w_k", "w_v", "w_o"))
    (width, inner), context = arrays["w_q"].shape, arrays["w_k"].shape[0]
    value, out = arrays["w_o"].shape
    if context != width and not cross:
        raise ValueError(f"w_k: got {context} rows; allowed is {width} as w_q, or any number with cross=True")
    for name, size in (("w_q", inner), ("w_o", value)):
        check.divided(heads, size, name)
    return int(width), int(context), int(inner), int(value), int(out)
