"""Can W_V be dropped inside a head? The rank condition of [I.8], decided with a certificate or not at all.

Dropping W_V (keys as values, a free output matrix after them) is exact iff W_K M = W_V W_O has a solution M.
The relative defect min_M ‖W_K M − W_V W_O‖_F / ‖W_V W_O‖_F is enclosed between two proven bounds:

* upper: the residual T = W_V W_O − W_K M₀ of the computed M₀, evaluated in ball arithmetic;
* lower: for every matrix R, ‖W_K M − T‖ >= (⟨R, T⟩ − ‖W_Kᵀ R‖‖M‖)/‖R‖, and the best M has
  ‖M‖ <= ‖T‖ ‖(W_KᵀW_K)⁻¹‖^½. R is the computed residual; ‖G⁻¹‖ <= ‖X‖_∞/(1 − ‖I − XG‖_∞) for an approximate
  inverse X of the Gram matrix (Rump, Verification methods, Acta Numerica 2010, §10).

Guaranteed: `droppable` is False only if the lower bound is positive, True only if W_K has proven rank D (or
W_V or W_O is zero). Otherwise None, undecided: floating point cannot show an exact solution. The question is
about the stored weights as exact numbers; it cannot see how much the model's output would suffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projsym.audit.ball import Ball

__all__ = ["ValueDefect", "value_defect"]

Array = NDArray[Any]
_SLACK = 1e-9  # far above the rounding of one Frobenius norm in float64, n·2⁻⁵³ for n <= 10⁶ entries


@dataclass(frozen=True)
class ValueDefect:
    """Relative least-squares defect, its proven bounds, and the verdict of [I.8] (None: undecided)."""

    defect: float
    lower: float
    upper: float
    droppable: bool | None


def value_defect(w_k: Array, w_v: Array, w_o: Array) -> ValueDefect:
    """Rank condition of one head: w_k (D, d), w_v (D, e), w_o (e, O), all float32 or float64 as stored.

    The computation is in float64, to which the stored numbers convert exactly.
    """
    key = w_k.astype(np.float64)
    target = Ball.exact(w_v.astype(np.float64)) @ Ball.exact(w_o.astype(np.float64))
    size_high = _norm_high(target)
    size_low = max(0.0, _norm(target.mid) * (1 - _SLACK) - _norm(target.rad) * (1 + _SLACK))
    if not (w_v.any() and w_o.any()):
        return ValueDefect(0.0, 0.0, 0.0, True)

    solution = np.linalg.lstsq(key, target.mid, rcond=None)[0]
    residual = Ball.exact(key) @ Ball.exact(-solution) + target
    defect = _norm(residual.mid) / _norm(target.mid) if size_low > 0 else 0.0
    upper = min(1.0, _norm_high(residual) / size_low) if size_low > 0 else 1.0
    lower = min(1.0, _lower(key, residual) / size_high)
    full_rank = key.shape[1] >= key.shape[0] and _inverse_gram_norm(key.T) is not None
    droppable = True if full_rank else False if lower > 0 else None
    return ValueDefect(defect, lower, upper, droppable)


def _lower(key: Array, target: Ball) -> float:
    """A proven lower bound of min_M ‖W_K M − T‖_F, T in the ball; 0 if nothing is proven."""
    direction = target.mid
    inverse = _inverse_gram_norm(key)
    length = _norm(direction) * (1 + _SLACK)
    if inverse is None or length == 0:
        return 0.0
    flat = Ball.exact(direction.reshape(1, -1))
    product = flat @ target.reshape(-1, 1)
    inner = float(product.mid[0, 0] - product.rad[0, 0])
    leak = _norm_high(Ball.exact(np.ascontiguousarray(key.T)) @ Ball.exact(direction))
    solution_norm = _norm_high(target) * float(np.sqrt(inverse)) * (1 + _SLACK)
    return max(0.0, (inner - leak * solution_norm) / length * (1 - _SLACK))


def _inverse_gram_norm(matrix: Array) -> float | None:
    """A proven upper bound of ‖(MᵀM)⁻¹‖₂ for M (rows, columns); None if full column rank is not proven."""
    columns = matrix.shape[1]
    if matrix.shape[0] < columns:
        return None
    gram = Ball.exact(np.ascontiguousarray(matrix.T)) @ Ball.exact(matrix)
    try:
        approximate = np.linalg.inv(gram.mid)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(approximate).all():
        return None
    gap = Ball.exact(approximate) @ gram + Ball.exact(-np.eye(columns))
    distance = float(gap.magnitude.sum(axis=1).max()) * (1 + _SLACK)
    if not distance < 1:
        return None
    return float(np.abs(approximate).sum(axis=1).max()) * (1 + _SLACK) / (1 - distance)


def _norm(matrix: Array) -> float:
    return float(np.linalg.norm(matrix))


def _norm_high(ball: Ball) -> float:
    return _norm(ball.magnitude) * (1 + _SLACK)
