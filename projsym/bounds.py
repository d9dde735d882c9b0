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
   absolute values of its terms, which is what `forward_bound` computes, pair by pair.
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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]
Doubles: TypeAlias = NDArray[np.float64]

_SAFETY: Final = 1 + 1e-10
_U64: Final = 2.0**-53
_LOG2E: Final = math.log2(math.e)
_UNDERFLOW: Final = 1e-280  # more than what underflow in double takes from a weight or a variance
_PAIRS: Final = 1 << 20  # (query, key) pairs at a time: about 100 MB of temporaries
_LOG_ERROR: Final = 4  # units of roundoff allowed to a logarithm, relative


@dataclass(frozen=True)
class _Kernel:
    """The constants of one kernel: its type's and those of the arguments that do not vary."""

    u: float
    least: float  # normal number
    largest: float
    floor: float
    lowest: int
    exp_error: float
    scale: float  # base 2, exact up to double rounding
    gaussian: bool
    biased: bool
    blocks: int
    depth: int

    @property
    def sum_is_positive(self) -> bool:
        """Whether the computed sum of weights is proven to be at least 1/2.

        The key that attains the maximum has weight ``exp2(0)``, and every later factor is ``exp2(0)`` too.
        """
        lost = self.gamma(self.depth + self.blocks)
        return lost < 0.5 and self.blocks * math.log1p(-self.exp_error) + math.log1p(-lost) > -math.log(2)

    def gamma(self, roundings: int) -> float:
        """``γ_r``; infinite when ``r u >= 1``."""
        x = roundings * self.u
        return x / (1 - x) if x < 1 else math.inf


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

    Returns float64 of shape (..., n). Rows that see no key, or all of them when ``m = 0``, have the defined
    output 0 and bound 0. Infinite where a kernel may overflow. The module docstring has the proof.

    Raises TypeError for a type that is not real floating or a kernel type that is not float32/float64;
    ValueError for shapes that do not match, values that are not finite, `scale` together with `sigma`, and
    parameters out of range; OverflowError if the scale factor does not fit the kernel's type.
    """
    kernel, lead = _arguments(q, k, v, scale, sigma, key_bias, dtype, block, depth, exp_error)
    out = np.zeros((math.prod(lead), q.shape[-2]))
    if v.shape[-1] > 0:
        with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
            for at, qs, ks, bias, vs in _heads(q, k, v, key_bias, lead):
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
) -> Doubles:
    """Bound on the absolute error of a kernel's log-sum-exp (natural logarithm), (..., n), float64.

    Arguments and errors as in `forward_bound`. With `sigma` it holds for ``log Σ exp(-‖q-k_j‖²/2σ² + b_j)``
    and for the same without the row's ``-‖q‖²/2σ²``. The kernel's logarithm is assumed to be within 4 units
    of roundoff, relative, in base e or 2. A row without keys, minus infinity both times, has bound 0.
    """
    none = k[..., :0] if k.ndim > 1 else k  # values without features
    kernel, lead = _arguments(q, k, none, scale, sigma, key_bias, dtype, block, depth, exp_error)
    out = np.zeros((math.prod(lead), q.shape[-2]))
    with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
        for at, qs, ks, bias, _ in _heads(q, k, none, key_bias, lead):
            out[at] = _log_bound(_row_bounds(qs, ks, bias, kernel), qs, kernel) * _SAFETY
    return out.reshape(*lead, q.shape[-2])


def _row_bounds(q: Doubles, k: Doubles, bias: Doubles, kernel: _Kernel) -> _Rows:
    """Steps 1 and 2: (rows, d), (keys, d), (keys,) to bounds on every weight."""
    d, c, extra = q.shape[1], abs(kernel.scale), kernel.gaussian + kernel.biased
    square = np.square(k).sum(1) if kernel.gaussian else np.zeros(len(k))
    # A bias this low makes the kernel overflow unless its key is flushed, which is then so for the true one.
    shift = np.maximum(_LOG2E * bias, -kernel.largest / 4)
    norm, unscaled = c / 2 * square, np.abs(q) @ np.abs(k).T
    score, product = kernel.scale * (q @ k.T) - norm + shift, c * unscaled
    cast = 6 * _U64 + (kernel.u if kernel.u > _U64 else 0.0) + (kernel.least / c if c else 0.0)
    error = (
        _both(cast, kernel.gamma(d + 1 + extra)) * product
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


def _mean_bound(rows: _Rows, v: Doubles, kernel: _Kernel) -> Doubles:
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


def _log_bound(rows: _Rows, q: Doubles, kernel: _Kernel) -> Doubles:
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


def _arguments(
    q: Array,
    k: Array,
    v: Array,
    scale: float | None,
    sigma: float | None,
    bias: Array | None,
    dtype: DTypeLike | None,
    block: int,
    depth: int | None,
    exp_error: float | None,
) -> tuple[_Kernel, tuple[int, ...]]:
    """The kernel's constants and the broadcast leading shape, or the errors that `forward_bound` names."""
    kind = np.dtype(q.dtype if dtype is None else dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype: got {kind}, allowed are float32 and float64")
    arrays = {"q": (q, 2), "k": (k, 2), "v": (v, 2)} | ({} if bias is None else {"key_bias": (bias, 1)})
    for name, (x, rank) in arrays.items():
        _checked(name, x, rank, kind)
    m, d = k.shape[-2:]
    if q.shape[-1] != d:
        raise ValueError(f"q, k: got {q.shape[-1]} and {d} features, they must be equal")
    if v.shape[-2] != m:
        raise ValueError(f"k, v: got {m} keys and {v.shape[-2]} values, they must be equal")
    if bias is not None and bias.shape[-1] != m:
        raise ValueError(f"key_bias: got {bias.shape[-1]} entries for {m} keys")
    for name, (x, _) in arrays.items():
        if not (np.isfinite(x) | (np.isneginf(x) & (name == "key_bias"))).all():
            allowed = "finite numbers and -inf" if name == "key_bias" else "finite numbers"
            raise ValueError(f"{name}: it holds NaN or infinity, allowed are {allowed}")
    try:
        lead = np.broadcast_shapes(*(x.shape[:-rank] for x, rank in arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {x.shape}" for name, (x, _) in arrays.items())
        raise ValueError(f"leading axes do not broadcast: {shapes}") from error
    return _kernel(d, m, scale, sigma, bias is not None, kind, block, depth, exp_error), lead


def _kernel(
    d: int,
    m: int,
    scale: float | None,
    sigma: float | None,
    biased: bool,
    dtype: np.dtype[Any],
    block: int,
    depth: int | None,
    exp_error: float | None,
) -> _Kernel:
    if scale is not None and sigma is not None:
        raise ValueError(f"scale, sigma: got {scale} and {sigma}, one of them at most is allowed")
    if sigma is not None and not (math.isfinite(sigma) and sigma > 0 and 1e-150 < sigma < 1e150):
        raise ValueError(f"sigma: got {sigma}, allowed are numbers between 1e-150 and 1e150")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: got {scale}, allowed are finite numbers")
    if scale is None and sigma is None and d == 0:
        scale = 1.0  # every score is 0 whatever it is
    if block < 1:
        raise ValueError(f"block: got {block}, allowed are integers >= 1")
    if depth is not None and depth < 0:
        raise ValueError(f"depth: got {depth}, allowed are integers >= 0")
    if exp_error is None:
        from projsym.codegen.exp2 import certificate  # generation-time packages, not needed otherwise

        exp_error = certificate(dtype.name).worst
    if not 0 <= exp_error < 0.5:
        raise ValueError(f"exp_error: got {exp_error}, allowed are numbers from 0 to below 1/2")
    natural = 1 / sigma**2 if sigma is not None else 1 / math.sqrt(d) if scale is None else scale
    info = np.finfo(dtype)
    if abs(natural) * _LOG2E >= float(info.max):
        raise OverflowError(f"{'scale' if sigma is None else 'sigma'}: scale * log2(e) exceeds {dtype.name}")
    lowest = int(info.minexp) + 2
    return _Kernel(
        u=float(info.eps) / 2,
        least=float(info.tiny),
        largest=float(info.max),
        floor=math.ldexp(1.0, lowest),
        lowest=lowest,
        exp_error=exp_error,
        scale=natural * _LOG2E,
        gaussian=sigma is not None,
        biased=biased,
        blocks=max(1, -(-m // block)),
        depth=m if depth is None else depth,
    )


def _checked(name: str, x: Array, rank: int, dtype: np.dtype[Any]) -> None:
    if x.dtype not in (np.dtype(np.float32), np.dtype(np.float64)) or x.dtype.itemsize > dtype.itemsize:
        raise TypeError(f"{name}: got {x.dtype}, a {dtype.name} kernel takes {dtype.name}")
    if x.ndim < rank:
        raise ValueError(f"{name}: got shape {x.shape}, at least {rank} axes are needed")


def _heads(
    q: Array, k: Array, v: Array, bias: Array | None, lead: tuple[int, ...]
) -> Iterator[tuple[tuple[int, slice], Doubles, Doubles, Doubles, Doubles]]:
    """Chunks of rows: where they go, queries, visible keys, their biases and values, as doubles."""
    n, m = q.shape[-2], k.shape[-2]
    for head, index in enumerate(np.ndindex(lead)):
        ks, vs = (np.broadcast_to(x, lead + x.shape[-2:])[index].astype(np.float64) for x in (k, v))
        qs = np.broadcast_to(q, lead + q.shape[-2:])[index].astype(np.float64)
        bs = np.zeros(m) if bias is None else np.broadcast_to(bias, (*lead, m))[index].astype(np.float64)
        seen = bs > -math.inf
        if not seen.any():
            continue
        step = max(1, _PAIRS // m)
        for i in range(0, n, step):
            yield (head, slice(i, i + step)), qs[i : i + step], ks[seen], bs[seen], vs[seen]
