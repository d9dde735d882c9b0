"""One layer: every head's standard output against its folded projection, with a proven error bound.

Both forms compute, from the same x̂ (n, D), weights and scale taken as exact numbers, the same exact
quantity [I.7]. Each is run in ball arithmetic (`projsym.audit.ball`), which bounds its distance from that
quantity entry by entry; the bound of the difference is the sum of the two. The distance form P_σ drops
‖x̂_j‖², which is constant only up to the norm's ε and rounding; half the measured range of scale·‖x̂_j‖²/2 over
the keys is one more move of its scores [I.2, II.9].

The bounds cover the products with weights, the folding itself, softmax and output; not the token embedding,
LayerNorm or feed-forward parts, which are the same input to both. No tolerance is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projsym.audit.ball import Ball, softmax_average
from projsym.audit.bert import Bert
from projsym.audit.defect import value_defect
from projsym.audit.report import HeadReport, LayerReport
from projsym.folding import fold_formula

__all__ = ["bandwidth", "compare_layer"]

Array = NDArray[Any]


@dataclass(frozen=True)
class _Weights:
    """A layer's weights with heads stacked: (H, D, d), (H, d, O), (H, 1, d)."""

    w_q: Ball
    w_k: Ball
    w_v: Ball
    w_o: Ball
    b_q: Ball
    b_k: Ball
    b_v: Ball
    gain: Ball
    shift: Ball
    scale: Ball

    @classmethod
    def of(cls, model: Bert, index: int) -> _Weights:
        layer, heads, norm = model.layers[index], model.config.heads, model.input_norm(index)

        def columns(w: Array) -> Ball:
            return Ball.exact(np.ascontiguousarray(w.reshape(len(w), heads, -1).swapaxes(0, 1)))

        def rows(b: Array) -> Ball:
            return Ball.exact(b.reshape(heads, 1, -1))

        return cls(
            columns(layer.w_q), columns(layer.w_k), columns(layer.w_v),
            Ball.exact(layer.w_o.reshape(heads, -1, layer.w_o.shape[1])),
            rows(layer.b_q), rows(layer.b_k), rows(layer.b_v),
            Ball.exact(norm.gain[:, None]), Ball.exact(norm.shift[None, :]),
            Ball.exact(model.dtype.type(model.config.head_width**-0.5)),
        )  # fmt: skip


def _join(parts: Sequence[Ball]) -> Ball:
    mids = np.concatenate([part.mid for part in parts], axis=-2)
    return Ball(mids, np.concatenate([part.rad for part in parts], axis=-2))


def bandwidth(queries: Array, keys: Array, scale: float) -> Array:
    """Bandwidth of each query over the root-mean-square distance of two keys; (H, n, D), (n, D) -> (H, n).

    With keys on the sphere of radius r = √D, weights exp(scale·⟨q, k⟩) are Gaussian in the distance from q's
    image r·q/‖q‖ on that sphere, with σ_eff² = r/(scale·‖q‖) [I.4]. LayerNorm's keys sum to zero, so the part
    of q along (1, …, 1) has no effect and is dropped first. Small: the head picks near neighbours on the
    surface; above 1: it averages nearly all keys. NaN where there is one key only, infinite for a zero query.
    """
    count = len(keys)
    if count < 2:
        return np.full(queries.shape[:-1], np.nan)
    centred = keys - keys.mean(axis=0)
    distance = np.sqrt(2 * (centred**2).sum() / (count - 1))
    seen = queries - queries.mean(axis=-1, keepdims=True)
    radius = np.sqrt((keys**2).sum(axis=-1).mean())
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(radius / (scale * np.linalg.norm(seen, axis=-1))) / distance)


def compare_layer(model: Bert, index: int, x_hat: Array, cuts: Sequence[int]) -> LayerReport:
    """Compare all heads of layer `index` on x̂ (Σ n, D), sentences cut at `cuts`, in the model's dtype."""
    w = _Weights.of(model, index)
    inputs = Ball.exact(x_hat)
    x = inputs * w.gain.mT + w.shift
    q, k, v = x @ w.w_q + w.b_q, x @ w.w_k + w.b_k, x @ w.w_v + w.b_v
    a_matrix, a_vector, b_matrix, constant = fold_formula(
        w.w_q, w.w_k, w.w_v, w.w_o, w.b_q, w.b_v, w.gain, w.shift, w.gain, w.shift
    )
    folded_q = inputs @ a_matrix + a_vector
    ones = Ball.exact(np.ones((x_hat.shape[1], 1), x_hat.dtype))
    half = Ball.exact(x_hat.dtype.type(-0.5))
    squares = ((inputs * inputs) @ ones) * half

    standard: list[Ball] = []
    dot: list[Ball] = []
    distance: list[Ball] = []
    unfolded: list[Array] = []
    weight_gap, entropy, sigma = [], [], []
    scale = float(w.scale.mid)
    for start, stop in zip([0, *cuts], [*cuts, len(x_hat)], strict=True):
        rows = np.s_[..., start:stop, :]
        keys, raw = inputs[rows], k[rows]
        scores = (q[rows] @ raw.mT) * w.scale
        average, weights = softmax_average(scores, v[rows])
        standard.append(average)

        folded = folded_q[rows] @ keys.mT
        average, folded_weights = softmax_average(folded * w.scale, keys)
        dot.append(average)

        bias = squares[rows].mT
        high, low = (bias.mid + bias.rad).max(), (bias.mid - bias.rad).min()
        centre = (high + low) / 2
        lost = 4 * 2.0**-53 * (abs(high) + abs(low))  # the rounding of mid ± rad and of the centre
        unequal = scale * (max(high - centre, centre - low) + lost)
        average, _ = softmax_average(((folded + bias) * w.scale).widen(unequal), keys)
        distance.append(average)

        near = scores.mid - scale / 2 * (raw.mid**2).sum(axis=-1)[:, None, :]
        e = np.exp(near - near.max(axis=-1, keepdims=True))
        unfolded.append((e / e.sum(axis=-1, keepdims=True)) @ v.mid[rows])
        weight_gap.append(np.abs(weights - folded_weights).max(axis=(1, 2)))
        entropy.append(-(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=-1))
        sigma.append(bandwidth(folded_q.mid[rows], keys.mid, scale))

    exact = _join(standard) @ w.w_o
    by_dot = _join(dot) @ b_matrix + constant
    by_distance = _join(distance) @ b_matrix + constant
    dot_err, dot_bound, dot_ok = _difference(exact, by_dot)
    near_err, near_bound, near_ok = _difference(exact, by_distance)
    wrong = np.abs(np.concatenate(unfolded, axis=1) @ w.w_o.mid - exact.mid).max(axis=(1, 2))
    key_spread = _spread(np.linalg.norm(k.mid, axis=-1))
    folded_spread = float(_spread(np.linalg.norm(x_hat, axis=-1)))
    lengths = np.diff([0, *cuts, len(x_hat)])
    perplexity = np.exp(np.concatenate(entropy, axis=1)).mean(axis=1)
    with_neighbours = np.repeat(lengths > 1, lengths)
    ratio = np.concatenate(sigma, axis=1)[:, with_neighbours]
    reports = []
    for h in range(model.config.heads):
        defect = value_defect(w.w_k.mid[h], w.w_v.mid[h], w.w_o.mid[h])
        reports.append(
            HeadReport(
                head=h,
                fold_max_abs_err=float(dot_err[h]),
                err_bound=float(dot_bound[h]),
                distance_max_abs_err=float(near_err[h]),
                distance_err_bound=float(near_bound[h]),
                within_bound=bool(dot_ok[h] and near_ok[h]),
                unfolded_distance_err=float(wrong[h]),
                output_max_abs=float(np.abs(exact.mid[h]).max()),
                weights_max_abs_err=float(np.max([gap[h] for gap in weight_gap])),
                key_norm_spread=float(key_spread[h]),
                key_norm_spread_folded=folded_spread,
                value_rank_condition=defect.droppable,
                value_defect=defect.defect,
                value_defect_lower=defect.lower,
                value_defect_upper=defect.upper,
                effective_keys=float(perplexity[h]),
                keys_seen=float((lengths**2).sum() / lengths.sum()),
                effective_bandwidth=_mean(ratio[h]),
            )
        )
    return LayerReport(index, tuple(reports))


def _difference(left: Ball, right: Ball) -> tuple[Array, Array, Array]:
    """Per head: largest difference, largest bound, and whether every entry is within its own bound."""
    gap = np.abs(left.mid.astype(np.float64) - right.mid.astype(np.float64))
    bound = left.rad + right.rad
    bound = bound + 2.0**-52 * (gap + bound)  # the rounding of this subtraction and this sum
    within = np.asarray((gap <= bound).all(axis=(1, 2)))
    return gap.max(axis=(1, 2)), bound.max(axis=(1, 2)), within


def _mean(values: Array) -> float | None:
    return float(values.mean()) if values.size and np.isfinite(values).all() else None


def _spread(norms: Array) -> Array:
    return np.asarray(norms.std(axis=-1) / norms.mean(axis=-1))
