"""How far a float evaluation of an attention layer can be from the exact one, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from projsym.audit.ball import Ball
from projsym.bounds import forward_bound
from projsym.folding import fold_formula
from projsym.torch.weights import Weights

Array = np.ndarray[Any, Any]
Maps = Mapping[str, tuple[Ball, Ball]]

# What evaluates a layer has its own middles, each within two radii of ours. That changes a radius by a part
# of it that is of the order of the radii, here below 2**-14; the rounding of a radius is far smaller still.
SLACK = 1 + 2.0**-10


def exact_maps(maps: Mapping[str, tuple[Array, Array]]) -> Maps:
    """Stored weights (inputs, outputs) and biases as exact numbers."""
    return {name: (Ball.exact(w), Ball.exact(b)) for name, (w, b) in maps.items()}


def folded_maps(w: Weights, layer: Any) -> Maps:
    """The stored weights of a folded layer with their distance from the exact ones: that of the folding in
    float64, by ball arithmetic on the formula itself, and that of the cast to the dtype of the layer."""
    parts = [Ball.exact(x.numpy()) for x in (w.w_q, w.w_k, w.w_v, w.w_o, w.b_q, w.b_v)]
    width, context = w.w_q.shape[1], w.w_k.shape[1]
    gains = [Ball.exact(np.ones((n, 1))) for n in (width, context)]
    shifts = [Ball.exact(np.zeros((1, n))) for n in (width, context)]
    a, offset, b, constants = fold_formula(*parts, gains[0], shifts[0], gains[1], shifts[1])
    u = np.finfo(layer.query.weight.detach().numpy().dtype).eps / 2

    def cast(stored: Any, rad: Array) -> Ball:
        mid = stored.detach().numpy()
        return Ball(mid, 2 * rad + 2 * u * np.abs(mid).astype(np.float64))

    # The heads' constants and the bias are added in float64, at most heads + 1 roundings of the sum of sizes.
    lost = (w.heads + 8) * 2.0**-53
    sizes = constants.magnitude.sum(axis=(0, 1)) + np.abs(w.b_o.numpy())
    query = np.moveaxis(a.rad, 0, 1).reshape(width, -1), offset.rad.reshape(-1)
    output = b.rad.reshape(-1, b.shape[2]), constants.rad.sum(axis=(0, 1)) + lost * sizes
    return {
        "query": (cast(layer.query.weight.T, query[0]), cast(layer.query.bias, query[1])),
        "output": (cast(layer.output.weight.T, output[0]), cast(layer.output.bias, output[1])),
    }


def layer_balls(layer: Any) -> dict[str, tuple[Ball, Ball]]:
    """The stored weights of a `projsym.torch.ProjectionAttention` as exact numbers."""
    found = {n: getattr(layer, n) for n in ("query", "key", "value", "output")}
    return {
        n: (Ball.exact(m.weight.detach().numpy().T), Ball.exact(m.bias.detach().numpy()))
        for n, m in found.items()
        if m is not None
    }


def linear(x: Ball, w: Ball, b: Ball) -> Ball:
    made = x @ w + b
    return Ball(made.mid, made.rad * SLACK)


def average(q: Ball, k: Ball, v: Ball, scale: float, exp_error: float | None) -> Ball:
    """Σ softmax(scale q kᵀ) v: the kernel's own bound at the middles, the move of the scores by the radii of
    q and k [II.9], and the radius of the values. A row's scores are off by at most `moved`."""
    sizes = abs(scale) * SLACK
    moved = sizes * (q.rad @ k.magnitude.mT + (q.magnitude + q.rad) @ k.rad.mT)
    moved = moved.max(axis=-1, keepdims=True)
    high, low = ((v.mid + s * v.rad).astype(np.float64) for s in (1, -1))
    spread = high.max(axis=-2, keepdims=True) - low.min(axis=-2, keepdims=True)
    own = forward_bound(q.mid, k.mid, v.mid, scale=scale, block=1, exp_error=exp_error)
    mid = mean(q.mid, k.mid, v.mid, scale)
    rad = own[..., None] + spread * np.tanh(moved / 2) + v.rad.max(axis=-2, keepdims=True)
    return Ball(mid, rad * SLACK)


def mean(q: Array, k: Array, v: Array, scale: float) -> Array:
    scores = scale * (q @ k.mT)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(e @ v / e.sum(axis=-1, keepdims=True)).astype(q.dtype)


def layer_ball(
    maps: Maps,
    x: Array,
    heads: int,
    scale: float,
    exp_error: float | None = None,
    context: Array | None = None,
) -> Ball:
    """The output of a layer as `projsym.torch.ProjectionAttention` has it, (B, n, D) -> (B, n, O).
    context: (B, m, C), x by default.

    maps: query, key, value and output, weights (inputs, outputs) and biases; without key the inputs are the
    keys, without value the keys are the values. exp_error: as in `forward_bound`.

    Guarantees: an evaluation in the dtype of x, whatever the order of its sums, is within `rad` of the exact
    output for any weights in the balls.
    """
    context = x if context is None else context

    def split(name: str, inputs: Array) -> Ball:
        rows = linear(Ball.exact(inputs), *maps[name])
        shape = (*inputs.shape[:-1], heads, -1)
        parts = (np.moveaxis(a.reshape(shape), -2, -3) for a in (rows.mid, rows.rad))
        return Ball(*parts)

    q = split("query", x)
    keys = context[:, None]
    k = split("key", context) if "key" in maps else Ball(keys, np.zeros(keys.shape))
    k = Ball(*(np.broadcast_to(a, (*q.shape[:2], *a.shape[2:])) for a in (k.mid, k.rad)))
    v = split("value", context) if "value" in maps else k
    out = average(q, k, v, scale, exp_error)
    joined = (np.moveaxis(a, -3, -2).reshape(*x.shape[:-1], -1) for a in (out.mid, out.rad))
    return linear(Ball(*joined), *maps["output"])
