"""Proven bounds on the rounding error of the forward kernels [IV.5], per query, before a kernel is run.

**The kernel.** Any float evaluation of the following, in a type with unit roundoff ``u`` (2**-24 or 2**-53):
``c`` is ``scale * log2(e)``, or ``log2(e) / sigma**2``, computed in double and cast; the scores are

    s_j = <c q, k_j>  [- c/2 ‖k_j‖² in the Gaussian form]  [+ log2(e) key_bias_j],

their terms added in any order, ``c`` applied to the query or to the product; keys go through in blocks; in
each the running maximum ``M`` is raised to cover the block, the sums so far are multiplied by
``exp2(M_old - M_new)``, and ``p_j = exp2(s_j - M_new)`` and ``p_j v_j`` are added to them in any order, with
or without FMA; the output is the one sum over the other, by division or by the reciprocal.

**The bound**, ``γ_r = r u / (1 - r u)`` as in Higham, *Accuracy and Stability of Numerical Algorithms*
(2002), chapter 3: a number that goes through ``r`` roundings is off by a factor within ``1 ± γ_r``.

1. *Scores.* A product ``c q_a k_ja`` is rounded at most ``d + 1 + x`` times (twice as a product, then
   ``d - 1 + x`` additions), ``x`` the number of further terms. A key norm is rounded ``d`` times, then once
   by ``c``, then added; a bias once by ``log2(e)``, then added. ``c`` itself is off by ``6·2**-53`` (at most
   five double operations) and the cast. So the score is off by at most ``E_j``, ``γ`` times the sum of
   absolute values of its terms, which is what `forward_bound` computes, pair by pair. Where the order of
   the additions is known (`sequential`), the partial sums take the place of ``γ_d`` times all products.
2. *Weights.* The arguments of the exponentials that act on key ``j``, first ``s_j - M``, then the
   differences of maxima, telescope, and have one sign: their rounding errors sum to at most
   ``u (M_last - s_j)`` however many blocks there are. Each exponential is off by a factor
   ``1 ± exp_error``, and there are at most as many as blocks. So the weight of key ``j`` is off by a factor
   within ``exp(±δ_j)``, ``δ_j = ln 2 (E_j + u (M_last - s_j)) - blocks·ln(1 - exp_error)``, shared by both
   sums.
3. *Output.* With ``h_j = exp(δ_j) - 1`` and ``p = Σ w_j v_j`` exact, the perturbed mean is
   ``p + Σ w_j η_j (v_j - p) / (1 + Σ w_j η_j)`` with ``|η_j| <= h_j``; by Cauchy-Schwarz the difference is at
   most ``sqrt(Σ w h²) sqrt(Σ w (v - a)²) / (1 - Σ w h)`` for any ``a``, as the variance is least about the
   mean. By [II.9] it is also at most ``diam(V) tanh(max δ / 2)``. The lesser of the two is taken. The
   weights ``w_j`` are replaced by upper bounds, which float64 gives with its own ``E_j``.
4. *Sums.* What the two sums do not share: an addend goes through ``depth`` additions, ``blocks - 1``
   rescalings and a product, and the quotient through two roundings. This scales with ``Σ w_j |v_j|``.
5. *Underflow.* A key whose score is so far below the maximum that its weight is below ``floor``
   (`projsym.codegen.exp2_certificate`) is off by at most ``2 floor`` in absolute terms, and so is a rescaling
   that flushes; the sum of weights is at least 1/2. Other operations lose at most the least normal number
   each. Such keys do not enter ``max δ``: a bias of -1e9 as a mask costs nothing.

The bound itself is evaluated in float64. All its terms are non-negative, the longest chain (a product over
``d`` features, a sum over ``m`` keys, some fifty operations more) is below 2·10**5 roundings for
``m + d < 10**5``, that is a relative error below 3·10**-11; the last factor ``1 + 10**-10`` covers it and
``np.exp2``, ``np.expm1`` and ``np.tanh`` being within 10**-13 in double.

What it cannot see: miscompiled code, flags that reassociate or drop roundings beyond the above, an ``exp2``
that is worse than `exp_error` (pass the right one for a library's), and hardware faults. Where a kernel may
overflow the bound is infinite, never NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from projsym.bound_arguments import LOG2E, Array, Doubles, Kernel, arguments, heads

_SAFETY: Final = 1 + 1e-10
_U64: Final = 2.0**-53
_UNDERFLOW: Final = 1e-280  # more than what underflow in double takes from a weight or a variance
_LOG_ERROR: Final = 4  # units of roundoff allowed to a logarithm, relative


@dataclass(frozen=True)
class _Rows:
    """Bounds for a chunk of rows over the keys that have any weight; arrays (rows, keys) or (rows,)."""

    weight: Doubles  # upper bounds of the exact weights
    delta: Doubles  # log of the factor by which a weight may be off; 0 for a key that may flush
    fits: NDArray[np.bool_]  # no overflow is possible in the row's scores
    maximum: Doubles  # bound on the magnitude of the last running maximum, base 2


def forward_bound(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    sigma: float | None = None,
    key_bias: Array | None = None,
    dtype: DTypeLike | None = None,
    block: int = 128,
    depth: int | None = None,
    exp_error: float | None = None,
    sequential: bool = False,
) -> Doubles:
    """Bound on ``max_f |kernel output - exact mean|`` for every query, the inputs taken as exact.

    q, k, v: (..., n, d), (..., m, d), (..., m, d_v), real floating; leading axes broadcast.
    scale: of the dot product, by default ``1/sqrt(d)``; or sigma: bandwidth of the Gaussian form,
        ``w_j ∝ exp(-‖q - k_j‖²/2σ² + key_bias_j)``, which the kernel expands. Not both.
    key_bias: (..., m), added to the scores in natural units; ``-inf`` hides a key.
    dtype: of the kernel, float32 or float64; by default that of `q`.
    block: keys in a block at least (fewer only in the last one).
    depth: additions that an addend of a sum goes through at most; by default `m`, which holds for any order.
    exp_error: relative error of the kernel's ``exp2``; by default the certified one of the generated kernels,
        with or without FMA (computed on first use).
    sequential: the products of a score are added in the order of the features, to one accumulator, as the
        generated C kernels do; gives a smaller bound and takes about `d` times as long.

    Returns float64 of shape (..., n). Rows that see no key, or all of them when ``m = 0``, have the defined
    output 0 and bound 0. Infinite where a kernel may overflow. The module docstring has the proof.

    Raises TypeError for a type that is not real floating or a kernel type that is not float32/float64;
    ValueError for shapes that do not match, values that are not finite, `scale` together with `sigma`, and
    parameters out of range; OverflowError if the scale factor does not fit the kernel's type.
    """
    kernel, lead = arguments(q, k, v, scale, sigma, key_bias, dtype, block, depth, exp_error, sequential)
    out = np.zeros((math.prod(lead), q.shape[-2]))
    if v.shape[-1] > 0:
        with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
            for at, qs, ks, bias, vs in heads(q, k, v, key_bias, lead):
                out[at] = _mean_bound(_row_bounds(qs, ks, bias, kernel), vs, kernel) * _SAFETY
    return out.reshape(*lead, q.shape[-2])


def lse_bound(
    q: Array,
    k: Array,
    *,
    scale: float | None = None,
    sigma: float | None = None,
    key_bias: Array | None = None,
    dtype: DTypeLike | None = None,
    block: int = 128,
    depth: int | None = None,
    exp_error: float | None = None,
    sequential: bool = False,
) -> Doubles:
    """Bound on the absolute error of a kernel's log-sum-exp (natural logarithm), (..., n), float64.

    Arguments and errors as in `forward_bound`. With `sigma` it holds for ``log Σ exp(-‖q-k_j‖²/2σ² + b_j)``
    and for the same without the row's ``-‖q‖²/2σ²``. The kernel's logarithm is assumed to be within 4 units
    of roundoff, relative, in base e or 2. A row without keys, minus infinity both times, has bound 0.
    """
    none = k[..., :0] if k.ndim > 1 else k  # values without features
    kernel, lead = arguments(q, k, none, scale, sigma, key_bias, dtype, block, depth, exp_error, sequential)
    out = np.zeros((math.prod(lead), q.shape[-2]))
    with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
        for at, qs, ks, bias, _ in heads(q, k, none, key_bias, lead):
            out[at] = _log_bound(_row_bounds(qs, ks, bias, kernel), qs, kernel) * _SAFETY
    return out.reshape(*lead, q.shape[-2])


def _row_bounds(q: Doubles, k: Doubles, bias: Doubles, kernel: Kernel) -> _Rows:
    """Steps 1 and 2: (rows, d), (keys, d), (keys,) to bounds on every weight."""
    d, c, extra = q.shape[1], abs(kernel.scale), kernel.gaussian + kernel.biased
    square = np.square(k).sum(1) if kernel.gaussian else np.zeros(len(k))
    # A bias this low makes the kernel overflow unless its key is flushed, which is then so for the true one.
    shift = np.maximum(LOG2E * bias, -kernel.largest / 4)
    norm, unscaled = c / 2 * square, np.abs(q) @ np.abs(k).T
    score, product = kernel.scale * (q @ k.T) - norm + shift, c * unscaled
    cast = 6 * _U64 + (kernel.u if kernel.u > _U64 else 0.0) + (kernel.least / c if c else 0.0)
    error = (
        _dot_error(q, k, product, cast, d + 1 + extra, kernel)
        + _both(cast, kernel.gamma(2 * d + 1 + extra)) * norm
        + _both(kernel.u + 2 * _U64, kernel.gamma(d + 1 + extra)) * np.abs(shift)
        + 4 * kernel.least * (np.abs(k).sum(1) + (3 * d + 4) * max(1.0, c))
    )
    top = score.max(1, keepdims=True)
    # `own` bounds the error of `score` as it is computed here, and of its differences.
    own = (2 * d + 32) * _U64 * (product + norm + np.abs(shift) + np.abs(top))
    reach = error + own
    low, high = (score - reach).max(1, keepdims=True), (score + reach).max(1, keepdims=True)
    flushed = score + reach - low <= kernel.lowest
    gap = np.where(flushed, 0.0, high - (score - reach))
    delta = math.log(2) * (error + kernel.u * gap) - kernel.blocks * math.log1p(-kernel.exp_error)
    least_sum = np.exp2(score - own - top).sum(1, keepdims=True)
    weight = np.minimum(np.exp2(np.minimum(score + own - top, 1000.0)) / least_sum, 1.0)
    limit = kernel.largest / 8
    partial = np.maximum(product.max(1), c * np.abs(q).max(1, initial=0.0)) + norm.max()
    heavy = np.where(flushed, 0.0, np.abs(shift)).max(1) + max(float(shift.max()), 0.0)
    fits = (partial + heavy < limit) & (unscaled.max(1) + square.max() < limit) & kernel.sum_is_positive
    return _Rows(
        weight=np.where(least_sum > 0, weight + _UNDERFLOW, 1.0),
        delta=np.where(flushed, 0.0, delta),
        fits=fits,
        maximum=np.maximum(np.abs(low), np.abs(high))[:, 0],
    )


def _dot_error(
    q: Doubles, k: Doubles, product: Doubles, cast: float, roundings: int, kernel: Kernel
) -> Doubles:
    """The part of a score's error that its inner product brings; `product` is ``c Σ |q_a k_a|``.

    With `sequential`, the accumulator after feature ``a`` is the exact partial sum ``s_a`` up to
    ``γ Σ |q k|``, and each operation loses at most ``u`` of it: in all ``u Σ_a |s_a|`` instead of
    ``γ_d Σ |q k|``. Two more ``u Σ |q k|`` stand for the packed query and for products that are rounded
    before they are added, one for each further term of the score.
    """
    any_order = kernel.gamma(roundings)
    if not kernel.sequential:
        return _both(cast, any_order) * product
    d, u = q.shape[1], kernel.u
    partial, total = np.zeros_like(product), np.zeros_like(product)
    for a in range(d):
        partial += q[:, a, None] * k[None, :, a]
        total += np.abs(partial)
    running = abs(kernel.scale) * total + d * (any_order + d * _U64) * product
    fixed = cast + (roundings - d + 2) * u
    ordered = (fixed * product + u * running) * (1 + 16 * u * d)
    out: Doubles = np.minimum(_both(cast, any_order) * product, ordered)
    return out


def _mean_bound(rows: _Rows, v: Doubles, kernel: Kernel) -> Doubles:
    """Steps 3 to 5: the bound for every row, v (keys, features)."""
    size, spread = np.abs(v).max(0), v.max(0) - v.min(0)
    centred = (v - v.mean(0)) / np.where(spread > 0, spread, 1.0)
    h = np.expm1(rows.delta)
    lost = (rows.weight * h).sum(1)
    variance = rows.weight @ np.square(centred) + _UNDERFLOW
    kept = np.where(lost < 0.5, 1 - lost, 0.0)[:, None]
    cauchy = np.sqrt((rows.weight * h * h).sum(1)[:, None] * variance) * spread / kept
    cap = spread * np.tanh(rows.delta.max(1) / 2)[:, None]
    moved = np.fmin(cauchy, cap)
    magnitude = np.fmin((rows.weight * (1 + h)) @ np.abs(v) / kept, size)
    sums, keys = kernel.gamma(kernel.depth + kernel.blocks), len(v)
    quotient = (1 + sums) * (1 + kernel.u) ** 2 / (1 - sums) - 1
    tail = 32 * kernel.floor * keys * (1 + 2 * kernel.blocks) * size
    tail = tail + 16 * kernel.least * (2 * keys + kernel.blocks)
    bound: Doubles = (moved + quotient * magnitude + tail).max(1)
    return np.where(rows.fits & bool((size * 4 * keys < kernel.largest).all()), bound, math.inf)


def _log_bound(rows: _Rows, q: Doubles, kernel: Kernel) -> Doubles:
    """The bound on the logarithm of the sum of weights, every row."""
    d, keys = q.shape[1], rows.weight.shape[1]
    lost = (rows.weight * np.expm1(rows.delta)).sum(1)
    # The log of a mean of factors within exp(±δ_j): at most max δ, and at most -log(1 - Σ w h).
    moved = np.where(lost < 0.5, -np.log1p(-np.minimum(lost, 0.5)), math.inf)
    moved = np.minimum(moved, rows.delta.max(1))
    summed = -np.log1p(-kernel.gamma(kernel.depth + kernel.blocks))
    row = abs(kernel.scale) / 2 * math.log(2) * np.square(q).sum(1) if kernel.gaussian else np.zeros(len(q))
    last = math.log(2) * rows.maximum + math.log(4 * keys) + row
    rounding = kernel.gamma(_LOG_ERROR + 8) * last + kernel.gamma(d + 12) * row
    tail = 64 * kernel.floor * keys * (1 + 2 * kernel.blocks) + 16 * kernel.least * (1 + d)
    bound: Doubles = moved + summed + rounding + tail
    return np.where(rows.fits & (row < kernel.largest / 8), bound, math.inf)


def _both(a: float, b: float) -> float:
    """The relative error of a factor ``1 + a`` times a factor ``1 + b``."""
    return a + b + a * b
