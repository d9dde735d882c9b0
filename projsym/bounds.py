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
   absolute values of its terms, which is what `forward_bound` computes, pair by pair. Where the order is
   known (`sequential`), an addition loses at most ``u`` of its result, so that the partial sums take the
   place of ``γ_d`` times all products; ``c`` is one factor of the sum, not one of each product.
   A soft cap, ``s -> C tanh(s/C)`` with ``C = log2(e) softcap``, has slopes of at most 1 and adds ``C`` times
   the error of the tangent and three roundings (of ``C``, of the tangent's argument, of the product).
2. *Weights.* The arguments of the exponentials that act on key ``j``, first ``s_j - M``, then the
   differences of maxima, telescope, and have one sign: their rounding errors sum to at most
   ``u (M_last - s_j)`` however many blocks there are. Each exponential is off by a factor
   ``1 ± exp_error``; there are at most ``e_j`` of them, the number of blocks, or in the known order, where
   ``exp2(0)`` is exactly 1, one and the later blocks that can raise the maximum. So the weight of key ``j``
   is off by a factor within ``exp(±δ_j)``, ``δ_j = ln 2 (E_j + u (M_last - s_j)) - e_j ln(1 - exp_error)``,
   shared by both sums.
3. *Output.* With ``h_j = exp(δ_j) - 1`` and ``p = Σ w_j v_j`` exact, the perturbed mean ``p'`` is
   ``p + Σ w_j η_j (v_j - p) / (1 + Σ w_j η_j)`` with ``|η_j| <= h_j`` [IV.5]; by Cauchy-Schwarz [IV.5c] the
   difference is at most ``sqrt(Σ w h²) sqrt(Σ w (v - a)²) / (1 - Σ w h)`` for any ``a``, as the variance is
   least about the mean. By [II.9] it is also at most ``diam(V) tanh(max δ / 2)``. The lesser of the two is
   taken. The weights ``w_j`` are replaced by upper bounds, which float64 gives with its own ``E_j``.
4. *Sums.* The sum of values is off by ``e``, the sum of weights by a factor ``1 ± t``, so their quotient by
   at most ``(e + t |p'|)/(1 - t)`` [IV.5q], ``e`` in units of the exact sum, and two more roundings. In any
   order an addend goes through `depth` additions, ``blocks - 1`` rescalings and a product, which gives ``γ``
   times ``Σ w_j |v_j|``, and ``t = γ``. In the known order, ``e`` is ``u`` times the sum of the absolute
   partial sums (after every key of a block, from zero; after every block, twice, for adding and rescaling)
   and of the products, and ``t`` counts for each key the additions that are still to come. The partial sums
   are those of the exact weights, of which float64 gives every eighth, in between absolute values are added;
   that the kernel's differ from them is of second order: at most ``γ Σ w_j |v_j|`` for its rounding and
   ``Σ w_j ((1 + h_j)(1 + ω_j) - 1) |v_j|`` for its weights and ours, ``ω_j`` the error of ours.
5. *Underflow.* A key whose score is so far below the maximum that its weight is below ``floor``
   (`projsym.codegen.exp2_certificate`) is off by at most ``2 floor`` in absolute terms, and so is a rescaling
   that flushes; the sum of weights is at least 1/2. Other operations lose at most the least normal number
   each. Such keys do not enter ``max δ``: a bias of -1e9 as a mask costs nothing.
6. *No maximum.* Rows whose scores norms bound are summed without it [IV.2]: nothing is subtracted from a
   score, one exponential acts on a key and nothing is rescaled, so steps 2 and 4 only count too much. The sum
   may be below 1/2; that what underflows still moves the mean by less than the least normal number for each
   key is what the choice of such rows guarantees (`projsym.codegen.c_bounded`).

7. *Bandwidths of keys.* The scores are ``<q, k_j> t_j - (‖q‖² + ‖k_j‖²) t_j/2``, ``t_j = log2(e)/sigma_j²``,
   in which the query's norm stays [V.2]. What multiplies a sum is computed in the kernel's type by at most
   eight operations, the logarithm's cast among them, and a norm of the query is rounded as one of a key.
8. *Parts.* Where keys are in parts [IV.1], each with a maximum and sums of its own, a merge multiplies the
   sums of a part by ``exp2(M_part - M)`` and those so far by ``exp2(M_old - M)``; the first part is taken as
   it is. The arguments still telescope. A key of a part of ``b`` blocks, the last or ``p`` before the last,
   meets at most ``b - 1`` rescalings in its part, one factor of its own merge (not in the first part) and
   ``p`` of later ones, and as many additions of sums: with two blocks in a part at least, no more than the
   number of all blocks, nor than ``b`` and the number of parts: steps 2 and 4 count the lesser in any order.
   In the known order the partial sums are those of a part, then the merged ones.
9. *Masks.* A hidden pair has weight 0, exactly, in the kernel as in the mean over the keys that are seen
   [I.10m]: it drops out of all sums above, and blocks that no row sees only make them shorter. A number that
   is added to a score is rounded as a key bias is, once by ``log2(e)``, then added.
10. *bfloat16.* Vectors stored as bfloat16 are widened, which is exact, and all of the above is in float32; a
    result is then rounded to the nearest bfloat16, which is off by half a unit in the last place of the
    result at most: of the mean and the bound so far together, or less. The log-sum-exp stays float32. Where a
    CPU adds two products of bfloat16 numbers at once, these are exact, in any order; numbers below the least
    normal one count as 0, which takes the least normal number times the other factor at most; and weights of
    vectors are rounded to bfloat16, those of their sum being the same: one more factor within
    ``1 ± weight_error``, 2**-8, in step 2.

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
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from projsym.bound_arguments import Array, Doubles, Kernel, arguments, exact, half_ulp, heads
from projsym.bound_scores import U64, UNDERFLOW, Rows, row_bounds
from projsym.bound_sums import sum_errors
from projsym.masks import Window

_SAFETY: Final = 1 + 1e-10
_LOG_ERROR: Final = 4  # units of roundoff allowed to a logarithm, relative


def forward_bound(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    sigma: float | Array | None = None,
    key_bias: Array | None = None,
    dtype: DTypeLike | None = None,
    block: int = 128,
    depth: int | None = None,
    exp_error: float | None = None,
    sequential: bool = False,
    softcap: float | None = None,
    tanh_error: float | None = None,
    attn_mask: Array | None = None,
    is_causal: bool = False,
    window: Window | None = None,
    kv_lengths: Array | None = None,
    past: int | None = None,
    part: int | None = None,
    score_depth: int | None = None,
    weight_error: float | None = None,
) -> Doubles:
    """Bound on ``max_f |kernel output - exact mean|`` for every query, the inputs taken as exact.

    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 8, 16), dtype=np.float32)
    >>> bound = forward_bound(q, k, v, block=1)
    >>> bound.shape, bool((bound < 1e-4).all())
    ((8,), True)

    q, k, v: (..., n, d), (..., m, d), (..., m, d_v), real floating; leading axes broadcast.
    scale: of the dot product, by default ``1/sqrt(d)``; or sigma: bandwidth of the Gaussian form,
        ``w_j ∝ exp(-‖q - k_j‖²/2σ² + key_bias_j)``, which the kernel expands; an array (..., m) where every
        key has its own. Not both.
    key_bias: (..., m), added to the scores in natural units; ``-inf`` hides a key.
    attn_mask, is_causal, window, kv_lengths: as in `projsym.attention`. past: how many keys are past ones.
    dtype: of the kernel, float32, float64 or "bfloat16" (vectors; computed in float32, whose bound grows by
        half a unit in the last place of bfloat16 of the result); by default that of `q`. A long double of
        more precision than float64 may be given together with `exp_error`.
    weight_error: relative error of a weight when its vector is weighted, beyond that of the exponential; by
        default that of rounding to bfloat16 for such vectors, as kernels do on some CPUs, else 0.
    block: keys in a block, hidden ones counted; at least so many where the order is not known (fewer only in
        the last one).
    depth: additions that an addend of a sum goes through at most; by default `m`, which holds for any order.
    exp_error: relative error of the kernel's ``exp2``; by default the certified one of the generated kernels,
        with or without FMA (computed on first use).
    sequential: the order of the generated C kernels, which gives a much smaller bound: the products of a
        score are added in the order of the features, the keys of a block in their order, from zero, to one
        accumulator each; a block starts at every multiple of `block`; ``exp2(0)`` is 1.
    softcap: bound of soft-capped scores, ``softcap * tanh(scale ⟨q, k⟩ / softcap)``; not with `sigma`.
        tanh_error: absolute error of the kernel's ``tanh``, by default the certified one.
    part: keys in a part that has sums of its own, a multiple of `block` by at least 2; parts are merged in
        their order. With no more keys than that there is one part.
    score_depth: additions that a product of a score goes through at most, where the order is not known; by
        default one less than features.

    Returns float64 of shape (..., n). Rows that see no key, or all of them when ``m = 0``, have the defined
    output 0 and bound 0. Infinite where a kernel may overflow. The module docstring has the proof.

    Raises TypeError for a type that is not real floating or a kernel type that is not one of these;
    ValueError for shapes that do not match, values that are not finite, `scale` together with `sigma`, and
    parameters out of range; OverflowError if the scale factor does not fit the kernel's type.
    """
    given: dict[str, Any] = {
        "q": q,
        "k": k,
        "v": v,
        "sigma": sigma,
        "key_bias": key_bias,
        "attn_mask": attn_mask,
    }
    dtype, stored, given = exact(dtype, given)
    q, k, v, sigma, key_bias, attn_mask = given.values()
    mask: dict[str, Any] = {"attn_mask": attn_mask, "is_causal": is_causal, "window": window}
    mask |= {"kv_lengths": kv_lengths, "past": past}
    kernel, lead, shown = arguments(
        q,
        k,
        v,
        scale,
        sigma,
        key_bias,
        dtype,
        block,
        depth,
        exp_error,
        sequential,
        softcap,
        tanh_error,
        mask,
        part,
        score_depth,
        stored,
        weight_error,
    )
    out = np.zeros((math.prod(lead), q.shape[-2]))
    if v.shape[-1] > 0:
        with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
            for at, qs, ks, bias, vs, place, added, widths in heads(q, k, v, key_bias, lead, shown, sigma):
                rows = row_bounds(qs, ks, bias, place, kernel, added, widths)
                out[at] = _mean_bound(rows, vs, place, kernel) * _SAFETY
    return out.reshape(*lead, q.shape[-2])


def lse_bound(
    q: Array,
    k: Array,
    *,
    scale: float | None = None,
    sigma: float | Array | None = None,
    key_bias: Array | None = None,
    dtype: DTypeLike | None = None,
    block: int = 128,
    depth: int | None = None,
    exp_error: float | None = None,
    sequential: bool = False,
    softcap: float | None = None,
    tanh_error: float | None = None,
    attn_mask: Array | None = None,
    is_causal: bool = False,
    window: Window | None = None,
    kv_lengths: Array | None = None,
    past: int | None = None,
    part: int | None = None,
    score_depth: int | None = None,
    weight_error: float | None = None,
) -> Doubles:
    """Bound on the absolute error of a kernel's log-sum-exp (natural logarithm), (..., n), float64.

    >>> q, k = np.random.default_rng(0).standard_normal((2, 8, 16), dtype=np.float32)
    >>> bool((lse_bound(q, k, sigma=2.0, block=1) < 1e-4).all())
    True

    Arguments and errors as in `forward_bound`. With `sigma` it holds for ``log Σ exp(-‖q-k_j‖²/2σ² + b_j)``
    and for the same without the row's ``-‖q‖²/2σ²``. The kernel's logarithm is assumed to be within 4 units
    of roundoff, relative, in base e or 2. A row without keys, minus infinity both times, has bound 0. Its
    weights are those before any rounding for vectors: `weight_error` is checked, and changes nothing.
    """
    given: dict[str, Any] = {"q": q, "k": k, "sigma": sigma, "key_bias": key_bias, "attn_mask": attn_mask}
    dtype, _, given = exact(dtype, given)
    q, k, sigma, key_bias, attn_mask = given.values()
    none = k[..., :0] if k.ndim > 1 else k  # values without features
    mask: dict[str, Any] = {"attn_mask": attn_mask, "is_causal": is_causal, "window": window}
    mask |= {"kv_lengths": kv_lengths, "past": past}
    kernel, lead, shown = arguments(
        q,
        k,
        none,
        scale,
        sigma,
        key_bias,
        dtype,
        block,
        depth,
        exp_error,
        sequential,
        softcap,
        tanh_error,
        mask,
        part,
        score_depth,
        weight_error=weight_error,
    )
    kernel = replace(kernel, weight_error=0.0)
    out = np.zeros((math.prod(lead), q.shape[-2]))
    with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
        for at, qs, ks, bias, vs, place, added, widths in heads(q, k, none, key_bias, lead, shown, sigma):
            rows = row_bounds(qs, ks, bias, place, kernel, added, widths)
            lost = sum_errors(rows, vs, place, kernel).normaliser
            out[at] = _log_bound(rows, lost, qs, kernel) * _SAFETY
    return out.reshape(*lead, q.shape[-2])


def _mean_bound(rows: Rows, v: Doubles, place: NDArray[np.intp], kernel: Kernel) -> Doubles:
    """Steps 3 to 5: the bound for every row, v (keys, features)."""
    size, spread = np.abs(v).max(0), v.max(0) - v.min(0)
    centre = v.mean(0)
    centred = (v - centre) / np.where(spread > 0, spread, 1.0)
    errors, keys = sum_errors(rows, v, place, kernel), len(v)
    h, kept = np.expm1(rows.delta), errors.kept[:, None]
    wh = rows.weight * h
    variance = rows.weight @ np.square(centred) + UNDERFLOW
    cauchy = np.sqrt((wh * h).sum(1)[:, None] * variance) * spread / kept
    cap = spread * np.tanh(rows.delta.max(1) / 2)[:, None]
    moved = np.fmin(cauchy, cap)
    uncertain = (rows.near * (rows.slack + (keys + 8) * U64)) @ np.abs(v) + UNDERFLOW * size
    mean = np.fmin(np.abs(rows.near @ v) + uncertain + moved, size)
    crude = kernel.gamma(kernel.depth + kernel.blocks) * size
    lost = errors.normaliser[:, None]
    quotient = (np.fmin(errors.numerator / kept, crude) + lost * mean) / (1 - lost)
    rounding = (1 + kernel.u) ** 2 * (1 + 2 * min(U64, kernel.u)) - 1
    tail = 32 * kernel.floor * keys * (1 + 2 * kernel.blocks) * size
    tail = tail + 16 * kernel.least * (2 * keys + kernel.blocks)
    error: Doubles = moved + quotient + rounding * (mean + quotient) + tail
    if kernel.stored:
        error = error + half_ulp(_SAFETY * (mean + error))
    bound: Doubles = error.max(1)
    return np.where(rows.fits & bool((size * 4 * keys < kernel.largest).all()), bound, math.inf)


def _log_bound(rows: Rows, lost_sum: Doubles, q: Doubles, kernel: Kernel) -> Doubles:
    """The bound on the logarithm of the sum of weights, every row."""
    d, keys = q.shape[1], rows.weight.shape[1]
    lost = (rows.weight * np.expm1(rows.delta)).sum(1)
    # The log of a mean of factors within exp(±δ_j): at most max δ, and at most -log(1 - Σ w h).
    moved = np.where(lost < 0.5, -np.log1p(-np.minimum(lost, 0.5)), math.inf)
    moved = np.minimum(moved, rows.delta.max(1))
    summed = -np.log1p(-lost_sum)
    row = np.zeros(len(q))
    if kernel.gaussian and not kernel.widths:
        row = abs(kernel.scale) / 2 * math.log(2) * np.square(q).sum(1)
    last = math.log(2) * rows.maximum + math.log(4 * keys) + row
    rounding = kernel.gamma(_LOG_ERROR + 8) * last + kernel.gamma(d + 12) * row
    tail = 64 * kernel.floor * keys * (1 + 2 * kernel.blocks) + 16 * kernel.least * (1 + d)
    bound: Doubles = moved + summed + rounding + tail
    return np.where(rows.fits & (row < kernel.largest / 8), bound, math.inf)
