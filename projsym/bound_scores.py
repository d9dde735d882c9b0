"""Steps 1 and 2 of the bound of `projsym.bounds`: how far every score and every weight may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from projsym.bound_arguments import LOG2E, Doubles, Kernel

U64: Final = 2.0**-53
_IN_CACHE: Final = 1 << 14  # pairs whose partial sums stay in a core's cache
UNDERFLOW: Final = 1e-280  # more than what underflow in double takes from a weight or a variance


@dataclass(frozen=True)
class Rows:
    """Bounds for a chunk of rows over the keys that have any weight; arrays (rows, keys) or (rows,)."""

    near: Doubles  # the exact weights as float64 evaluates them
    slack: Doubles  # by which relative error those are off at most
    weight: Doubles  # upper bounds of the exact weights
    delta: Doubles  # log of the factor by which a kernel's weight may be off; 0 for a key that may flush
    fits: NDArray[np.bool_]  # no overflow is possible in the row's scores
    maximum: Doubles  # bound on the magnitude of the last running maximum, base 2


def row_bounds(
    q: Doubles,
    k: Doubles,
    bias: Doubles,
    place: NDArray[np.intp],
    kernel: Kernel,
    added: Doubles | None = None,
    widths: Doubles | None = None,
) -> Rows:
    """(rows, d), (keys, d), (keys,) and the keys' places in the kernel's input, to bounds on every weight.

    added: (rows, keys), what a mask adds to the scores, minus infinity where it hides a pair, which then has
    weight 0 in the kernel and here; every row sees a key. widths: (keys,), the bandwidths of the keys, whose
    scores then keep the query's norm.
    """
    d, extra = q.shape[1], kernel.gaussian + kernel.biases + (widths is not None)
    scale: Any = kernel.scale if widths is None else LOG2E / np.square(widths)
    c: Any = abs(scale)
    square = np.square(k).sum(1) if kernel.gaussian else np.zeros(len(k))
    if widths is not None:
        square = square + np.square(q).sum(1, keepdims=True)
    # A bias this low makes the kernel overflow unless its key is flushed, which is then so for the true one.
    shift = np.maximum(LOG2E * bias, -kernel.largest / 4)
    norm, unscaled = c / 2 * square, np.abs(q) @ np.abs(k).T
    dot, product = scale * (q @ k.T), c * unscaled
    hidden, size = None, np.abs(shift)
    if added is not None:
        hidden, extras = np.isneginf(added), np.maximum(LOG2E * added, -kernel.largest / 4)
        size = size + np.where(hidden, 0.0, np.abs(extras))
        shift = shift + extras
    score = dot - norm + (shift if kernel.cap is None else 0.0)
    # Scales of keys are computed in the kernel's type, and multiply what has been added up.
    cast = (
        6 * min(U64, kernel.u) + (kernel.u if kernel.u > U64 else 0.0) if widths is None else kernel.gamma(8)
    )
    cast = cast + np.divide(kernel.least, c, out=np.zeros(np.shape(c)), where=c > 0)
    error = (
        _dot_error(q, k, dot, product, c, cast, extra, kernel)
        + both(cast, kernel.gamma(2 * d + 1 + extra)) * norm
        + both(kernel.u + 2 * min(U64, kernel.u), kernel.gamma(d + 1 + extra)) * size
        + 4 * kernel.least * (np.abs(k).sum(1) + (3 * d + 4) * np.maximum(1.0, c))
        # Where a CPU takes subnormal numbers of a query or key for 0, the other factor is what is left.
        + kernel.least * c * (np.abs(k).sum(1) + np.abs(q).sum(1, keepdims=True))
    )
    top = score.max(1, keepdims=True)
    # `own` bounds the error of `score` as it is computed here, and of its differences.
    own = (2 * d + 32) * U64 * (product + norm + size + np.abs(top))
    if kernel.cap is not None:
        # The slope of cap*tanh(score/cap) is at most 1; its product with the cap has three roundings,
        # and one for each number added to it.
        cap, lost = kernel.cap, kernel.tanh_error
        score = cap * np.tanh(score / cap) + shift
        error = error + cap * (lost + kernel.gamma(3 + extra) * (1 + lost)) + kernel.least * (1 + cap)
        top = score.max(1, keepdims=True)
        own = own + 64 * U64 * cap
    if hidden is not None:
        score, error, own = (np.where(hidden, x, y) for x, y in ((-np.inf, score), (0.0, error), (0.0, own)))
        top = score.max(1, keepdims=True)
    reach = error + own
    low, high = (score - reach).max(1, keepdims=True), (score + reach).max(1, keepdims=True)
    flushed = score + reach - low <= kernel.lowest
    gap = np.where(flushed, 0.0, high - (score - reach))
    exponentials = _exponentials(score, reach, place // kernel.block, kernel)
    delta = math.log(2) * (error + kernel.u * gap) - exponentials * math.log1p(-kernel.exp_error)
    delta = delta - math.log1p(-kernel.weight_error)
    near = np.exp2(score - top)
    least_sum = np.exp2(score - own - top).sum(1, keepdims=True)
    most_sum = np.exp2(np.minimum(score + own - top, 1000.0)).sum(1, keepdims=True)
    weight = np.minimum(np.exp2(np.minimum(score + own - top, 1000.0)) / least_sum, 1.0)
    near_sum, off = near.sum(1, keepdims=True), np.exp2(np.minimum(own, 1000.0))
    slack = (
        np.maximum(off * near_sum / least_sum - 1, 1 - near_sum / (off * most_sum))
        + 1e-12
        + 64 * len(k) * U64
    )
    limit = kernel.largest / 8
    partial = np.maximum(product.max(1), np.max(c) * np.abs(q).max(1, initial=0.0)) + norm.max()
    heavy = np.where(flushed, 0.0, size).max(1) + max(float(shift.max()), 0.0)
    fits = (partial + heavy < limit) & (unscaled.max(1) + square.max() < limit) & kernel.sum_is_positive
    return Rows(
        near=near / near_sum,
        slack=slack,
        weight=np.where(least_sum > 0, weight + UNDERFLOW, 1.0),
        delta=np.where(flushed, 0.0, delta),
        fits=fits & (least_sum[:, 0] > 0),
        maximum=np.maximum(np.abs(low), np.abs(high))[:, 0],
    )


def _exponentials(score: Doubles, reach: Doubles, block: NDArray[np.intp], kernel: Kernel) -> Doubles | int:
    """How many inexact exponentials act on a key at most: its own and one for each later rescaling.

    In order, a block that cannot raise the running maximum rescales by ``exp2(0)``, which is exactly 1. With
    parts the maximum is that of a part, and each merge from the key's own part on brings one more.
    """
    if not kernel.sequential:
        return kernel.rescalings
    first = np.flatnonzero(np.diff(block, prepend=-1))
    highest = np.maximum.reduceat(score + reach, first, axis=1)
    lowest = np.maximum.reduceat(score - reach, first, axis=1)
    later = np.zeros(highest.shape)
    part = block[first] // (kernel.part // kernel.block) if kernel.part else np.zeros(len(first), int)
    for p in np.unique(part):
        own = part == p
        reached = np.maximum.accumulate(lowest[:, own], axis=1)
        raises = np.zeros(reached.shape)
        raises[:, 1:] = highest[:, own][:, 1:] > reached[:, :-1]
        merges = kernel.parts - p if kernel.part else 0
        later[:, own] = np.cumsum(raises[:, ::-1], axis=1)[:, ::-1] - raises + merges
    return 1 + np.repeat(later, np.diff(first, append=len(block)), axis=1)


def _dot_error(
    q: Doubles,
    k: Doubles,
    dot: Doubles,
    product: Doubles,
    c: Any,
    cast: Any,
    further: int,
    kernel: Kernel,
) -> Doubles:
    """The part of a score's error that its inner product brings; `product` is ``c Σ |q_a k_a|``, `c` and its
    relative error `cast` numbers or one for each key.

    further: the number of terms that are added to it.

    In order, the accumulator after feature ``a`` is the exact partial sum ``s_a`` up to ``γ Σ |q k|``, and
    each addition loses at most ``u`` of it: in all ``u Σ_a |s_a|`` instead of ``γ_d Σ |q k|``. Two more
    ``u Σ |q k|`` stand for the scaled query and for products that are rounded before they are added, one for
    each further term of the score. The error of ``c`` is one factor for the whole sum.
    """
    any_order = kernel.gamma(kernel.score_depth + 2 + further)
    crude: Doubles = both(cast, any_order) * product
    if not kernel.sequential:
        return crude
    d, u, columns = q.shape[1], kernel.u, np.ascontiguousarray(k.T)
    rows = max(1, _IN_CACHE // len(k))
    total = np.concatenate([_partial_sums(q[i : i + rows], columns) for i in range(0, len(q), rows)])
    running = c * total + d * (both(cast, any_order) + d * U64) * product
    ordered = (cast * np.abs(dot) + (2 + further) * u * product + u * running) * (1 + 16 * u * d)
    out: Doubles = np.minimum(crude, ordered)
    return out


def _partial_sums(q: Doubles, columns: Doubles) -> Doubles:
    """``Σ_a |Σ_{b <= a} q_b k_b|`` for all pairs, keys as columns."""
    shape = (len(q), columns.shape[1])
    partial, total, term = np.zeros(shape), np.zeros(shape), np.empty(shape)
    for a in range(q.shape[1]):
        np.multiply(q[:, a, None], columns[a], out=term)
        partial += term
        total += np.abs(partial, out=term)
    return total


def both(a: Any, b: float) -> Any:
    """The relative error of a factor ``1 + a`` times a factor ``1 + b``."""
    return a + b + a * b
