"""A proven bound on the rounding error of whole layers, per output, before a kernel is run.

**The kernel.** Any float evaluation of ``y + Σ_h mean_h W_h`` in which every image ``x W + b`` and the last
sum are added in any order with or without FMA, and a mean is taken as `projsym.bounds` says, with at least
`block` keys in a block.

**The bound**, with ``γ_r = r u/(1 - r u)`` and inputs and weights taken as exact:

1. *Images.* An image of D products goes through at most ``D + 3`` roundings, so it is off by at most
   ``E = γ_{D+3} (|x| |W| + |b|)``; an input that is no image has ``E = 0``.
2. *Scores.* For the images ``q`` and ``k``, off by ``E_q`` and ``E_k``, the exact inner product moves by at
   most ``⟨E_q, |k| + E_k⟩ + ⟨|q|, E_k⟩``, and its evaluation is off by ``γ_{d+4}`` times the sum of absolute
   products, which is at most ``⟨|q| + E_q, |k| + E_k⟩``. Both times the scale, whose own error of at most
   ``6 · 2**-53 + u`` is among the roundings.
3. *Weights.* As in `projsym.bounds`, steps 2 and 5: a weight is off by a factor within ``exp(±δ)``, ``δ`` the
   score's error, ``u`` times its distance to the maximum, and one exponential error a block; keys whose
   weight may flush to 0 do not enter and cost ``2 floor`` each.
4. *Mean.* Weights off by ``exp(±δ)`` are those of scores moved by ``δ``, so the mean moves by at most
   ``diam(V) tanh(δ/2)`` in every coordinate [II.9]; then by the values' own ``E_k``, and by ``γ`` of the two
   sums and the quotient, in units of the largest value.
5. *Output.* Errors of the means times ``|W_h|``, and ``γ`` of all additions times the sum of absolute terms.

It is evaluated in float64, whose own roundings the factor ``1 + 10**-9`` covers for sizes up to 10**5.
It is cruder than `projsym.bounds.forward_bound`: no variance of the values enters, only their diameter.

What it cannot see: as `projsym.bounds`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from projsym.bound_arguments import LOG2E, Array, Doubles
from projsym.folding import Folded
from projsym.layers import Weights

_SAFETY: Final = 1 + 1e-9
_U64: Final = 2.0**-53


@dataclass(frozen=True)
class LayerBound:
    """Bounds of absolute errors, out (..., n, O) and lse (H, ..., n); infinite where overflow is possible."""

    out: Doubles
    lse: Doubles


@dataclass(frozen=True)
class _Type:
    """The constants of a kernel's type."""

    u: float
    least: float
    largest: float
    lowest: int
    exp_error: float
    block: int

    def gamma(self, roundings: int) -> float:
        x = roundings * self.u
        return x / (1 - x) if x < 1 else math.inf


@dataclass(frozen=True)
class _Image:
    """An image as float64 has it, and by how much the kernel's may differ from the exact one."""

    value: Doubles
    error: Doubles

    @property
    def most(self) -> Doubles:
        """Bound of the magnitude of the kernel's and of the exact one."""
        return np.abs(self.value) + self.error


def layer_bound(
    x: Array,
    weights: Weights,
    *,
    context: Array | None = None,
    block: int = 16,
    exp_error: float | None = None,
) -> LayerBound:
    """Bound on ``|layer(x, weights) - exact|`` for every output, inputs and weights taken as exact.

    Arguments as in :func:`projsym.layer`, which checks them; the dtype of the kernel is that of the weights.
    block: at least so many keys in a block but the last; that of every generated kernel is larger.
    exp_error: relative error of the kernel's ``exp2``, below 1/2; by default the certified one of the
        generated C kernels.

    Raises ValueError for `block` and `exp_error` out of range, and for arrays that do not fit.
    """
    kind = _type(weights.dtype, block, exp_error)
    seen = x if context is None else context
    lead = np.broadcast_shapes(x.shape[:-2], seen.shape[:-2])
    n, m = x.shape[-2], seen.shape[-2]
    xs = np.broadcast_to(x, (*lead, *x.shape[-2:])).reshape(math.prod(lead), *x.shape[-2:])
    ys = np.broadcast_to(seen, (*lead, *seen.shape[-2:])).reshape(math.prod(lead), *seen.shape[-2:])
    last = weights.B if isinstance(weights, Folded) else weights.W_O
    out = np.zeros((len(xs), n, last.shape[2]))
    lse = np.zeros((weights.heads, len(xs), n))
    with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
        for at, (a, b) in enumerate(zip(xs.astype(np.float64), ys.astype(np.float64), strict=True)):
            error = np.zeros(out.shape[1:])
            size = np.abs(weights.b.astype(np.float64)) + np.zeros(out.shape[1:])
            for h in range(weights.heads):
                q, k = _images(a, b, weights, h, kind)
                matrix = np.abs(last[h].astype(np.float64))
                mean, off, lse[h, at] = _mean(q, k, weights.scale, kind)
                error += off @ matrix
                size += (mean + off) @ matrix
            additions = last.shape[1] + weights.heads * (last.shape[1] // 64 + 2) + 3
            out[at] = error + kind.gamma(additions) * size + additions * kind.least
            out[at][~(size < kind.largest / 4)] = math.inf
    out = np.where(np.isnan(out), math.inf, out) * _SAFETY
    lse = np.where(np.isnan(lse), math.inf, lse) * _SAFETY if m else np.zeros_like(lse)
    return LayerBound(out.reshape(*lead, *out.shape[1:]), lse.reshape(weights.heads, *lead, n))


def _type(dtype: np.dtype[np.floating], block: int, exp_error: float | None) -> _Type:
    if block < 1:
        raise ValueError(f"block: got {block}, allowed are integers from 1")
    if exp_error is None:
        from projsym.codegen.exp2 import certificate  # needs the symbolic packages, not needed otherwise

        exp_error = certificate(dtype.name).worst
    if not 0 <= exp_error < 0.5:
        raise ValueError(f"exp_error: got {exp_error}, allowed are numbers from 0 to below 1/2")
    info = np.finfo(dtype)
    return _Type(
        float(info.eps) / 2, float(info.tiny), float(info.max), int(info.minexp) + 2, exp_error, block
    )


def _images(a: Doubles, b: Doubles, weights: Weights, h: int, kind: _Type) -> tuple[_Image, _Image]:
    """Queries and keys of one head."""
    if isinstance(weights, Folded):
        return _image(a, weights.A[h], weights.a[h], kind), _Image(b, np.zeros_like(b))
    return _image(a, weights.W_Q[h], weights.b_Q[h], kind), _image(b, weights.W_K[h], weights.b_K[h], kind)


def _image(x: Doubles, weight: Array, offset: Array, kind: _Type) -> _Image:
    w, c = weight.astype(np.float64), offset.astype(np.float64)
    roundings = len(w) + 3
    size = np.abs(x) @ np.abs(w) + np.abs(c)
    # float64's own value is off too: by its own γ, which at most doubles the bound.
    own = 2 * roundings * _U64
    error = (kind.gamma(roundings) + own) * size + 2 * roundings * kind.least
    return _Image(x @ w + c, np.where(size < kind.largest / 4, error, math.inf))


def _mean(q: _Image, k: _Image, scale: float, kind: _Type) -> tuple[Doubles, Doubles, Doubles]:
    """Bounds: of the exact mean's magnitude and its kernel's error (n, d), of the lse's error (n,)."""
    (n, d), m = q.value.shape, len(k.value)
    if not m:
        return np.zeros((n, d)), np.zeros((n, d)), np.zeros(n)
    c, blocks = abs(scale), -(-m // kind.block)
    product = c * (q.most @ k.most.T)
    moved = c * (q.error @ k.most.T + np.abs(q.value) @ k.error.T)
    error = moved + (kind.gamma(d + 4) + 8 * _U64 + 2 * d * _U64) * product
    error += 4 * kind.least * (d + 2) * max(1.0, c) * (1 + k.most.max() + q.most.max())
    score = scale * (q.value @ k.value.T)
    low, high = (score - error).max(1, keepdims=True), (score + error).max(1, keepdims=True)
    flushed = (score + error - low) * LOG2E <= kind.lowest
    gap = high - (score - error)
    inexact = -(1 + blocks) * math.log1p(-kind.exp_error)
    delta = np.where(flushed, 0.0, error + 2 * kind.u * (gap + error) + inexact).max(1)
    sums = kind.gamma(m + 2 * blocks + 2)
    tail = 32 * math.ldexp(1.0, kind.lowest) * m * (1 + 2 * blocks)
    size, spread = k.most.max(0), k.value.max(0) - k.value.min(0) + 2 * k.error.max(0)
    relative = (2 * sums + 4 * kind.u) / (1 - sums)
    off = np.tanh(np.minimum(delta, 100.0) / 2)[:, None] * spread + k.error.max(0)
    off = off + (relative + tail) * size + 16 * kind.least * (2 * m + blocks)
    fits = (product.max(1) * LOG2E < kind.largest / 8) & (4 * m * size.max() < kind.largest)
    off = np.where(fits[:, None] & (sums < 0.5), off, math.inf)
    last = np.maximum(np.abs(low), np.abs(high))[:, 0] + math.log(4 * m)
    lse = delta + sums / (1 - sums) + kind.gamma(16) * last + 2 * tail + 16 * kind.least
    return np.broadcast_to(size, (n, d)), off, np.where(fits, lse, math.inf)
