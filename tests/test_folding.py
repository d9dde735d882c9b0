"""Folding [I.7]: exact on integers, within the derived bound on random layers, wrong variants caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from projsym.audit.ball import Ball, gamma, softmax_average
from projsym.bounds import forward_bound
from projsym.folding import Folded, fold, fold_formula, normalise

Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """A random layer, as keyword arguments of `fold`, and normalised inputs."""

    arguments: dict[str, Any]
    x_hat: Array
    context: Array | None

    @property
    def keys(self) -> Array:
        return self.x_hat if self.context is None else self.context

    def fold(self, **changes: Any) -> Folded:
        return fold(**{**self.arguments, **changes})

    def get(self, name: str, default: Array) -> Array:
        value = self.arguments.get(name)
        return default if value is None else value


def make(
    seed: int, *, heads: int = 2, biases: bool = True, norm: str | None = "layernorm", cross: bool = False,
    eps: float = 1e-12, dtype: str = "float64",
) -> Case:  # fmt: skip
    rng = np.random.default_rng(seed)
    width, context, d, e, out, n, m = 7, 5 if cross else 7, 3, 4, 6, 6, 9

    def draw(*shape: int) -> Array:
        return rng.normal(size=shape).astype(dtype)

    arguments: dict[str, Any] = {
        "w_q": draw(width, heads * d), "w_k": draw(context, heads * d), "w_v": draw(context, heads * e),
        "w_o": draw(heads * e, out), "heads": heads, "norm": norm, "cross": cross,
    }  # fmt: skip
    if biases:
        arguments |= {
            "b_q": draw(heads * d), "b_k": draw(heads * d), "b_v": draw(heads * e), "b_o": draw(out)
        }  # fmt: skip
    if norm is not None:
        arguments |= {"norm_gain": draw(width), "norm_shift": draw(width)}
        if cross:
            arguments |= {"context_gain": draw(context), "context_shift": draw(context)}

    def inputs(rows: int, size: int) -> Array:
        x = draw(rows, size)
        return x if norm is None else normalise(x, norm, eps=eps)  # type: ignore[arg-type]

    return Case(arguments, inputs(n, width), inputs(m, context) if cross else None)


def rounded(number: float, kind: np.dtype[Any]) -> Ball:
    """A double, as a ball of type kind around its rounding."""
    mid = kind.type(number)
    return Ball(np.asarray(mid), np.asarray(abs(number - float(mid))))


def direct(case: Case) -> Ball:
    """Multi-head attention as textbooks write it, head by head, in ball arithmetic: (n, O)."""
    width, context = case.x_hat.shape[1], case.keys.shape[1]
    kind, cross, heads = case.x_hat.dtype, case.context is not None, case.arguments["heads"]

    def vector(name: str, default: float, size: int) -> Ball:
        return Ball.exact(case.get(name, np.full(size, default, kind)))

    gain, shift = vector("norm_gain", 1, width), vector("norm_shift", 0, width)
    x = Ball.exact(case.x_hat) * gain + shift
    if cross:
        gain, shift = vector("context_gain", 1, context), vector("context_shift", 0, context)
    y = Ball.exact(case.keys) * gain + shift
    w = {name: Ball.exact(case.arguments[name]) for name in ("w_q", "w_k", "w_v", "w_o")}
    d, e, out = w["w_q"].shape[1] // heads, w["w_v"].shape[1] // heads, w["w_o"].shape[1]
    bias = {
        "q": vector("b_q", 0, heads * d),
        "k": vector("b_k", 0, heads * d),
        "v": vector("b_v", 0, heads * e),
    }
    scale = rounded(d**-0.5, kind)
    total = Ball.exact(np.zeros((len(case.x_hat), out), kind)) + vector("b_o", 0, out)
    for h in range(heads):
        narrow, broad = slice(h * d, h * d + d), slice(h * e, h * e + e)
        q = x @ w["w_q"][:, narrow] + bias["q"][narrow]
        k = y @ w["w_k"][:, narrow] + bias["k"][narrow]
        v = y @ w["w_v"][:, broad] + bias["v"][broad]
        average, _ = softmax_average((q @ k.mT) * scale, v)
        total = total + average @ w["w_o"][broad]
    return total


def folded_bound(case: Case, layer: Folded) -> Array:
    """How far the folded layer's output may be from the exact one: (n, O), from the operations it makes."""
    args, heads, kind = case.arguments, layer.heads, case.x_hat.dtype
    width, context = case.x_hat.shape[1], case.keys.shape[1]

    def columns(name: str) -> Ball:
        return Ball.exact(args[name].reshape(len(args[name]), heads, -1).swapaxes(0, 1))

    def vector(name: str, default: float, *shape: int) -> Ball:
        return Ball.exact(case.get(name, np.full(np.prod(shape), default, kind)).reshape(shape))

    gain, shift = vector("norm_gain", 1, width, 1), vector("norm_shift", 0, 1, width)
    key_gain, key_shift = gain, shift
    if case.context is not None:
        key_gain, key_shift = vector("context_gain", 1, context, 1), vector("context_shift", 0, 1, context)
    out = args["w_o"].shape[1]
    a_matrix, a_vector, b_matrix, constant = fold_formula(
        columns("w_q"), columns("w_k"), columns("w_v"), Ball.exact(args["w_o"].reshape(heads, -1, out)),
        vector("b_q", 0, heads, 1, args["w_q"].shape[1] // heads),
        vector("b_v", 0, heads, 1, args["w_v"].shape[1] // heads), gain, shift, key_gain, key_shift,
    )  # fmt: skip
    keys = Ball.exact(case.keys)
    q = Ball.exact(case.x_hat) @ a_matrix + a_vector
    points, _ = softmax_average((q @ keys.mT) * rounded(layer.scale, kind), keys)
    kernel = forward_bound(layer.query(case.x_hat), case.keys, case.keys, scale=layer.scale)
    points = points.widen(kernel[..., None])
    flat = Ball(*(np.moveaxis(part, 0, 1).reshape(len(case.x_hat), -1) for part in (points.mid, points.rad)))
    bias = vector("b_o", 0, 1, out)
    for h in range(heads):
        bias = bias + constant[h]
    # sums of the heads' constants in any order: H + 1 roundings of at most their absolute sum
    bias = bias.widen(gamma(heads + 1, bias.unit) * np.abs(constant.mid).sum(axis=0))
    return (flat @ b_matrix.reshape(-1, out) + bias).rad


def excess(case: Case, layer: Folded) -> float:
    """Largest difference from direct attention in units of the bound: at most 1 if the fold is right."""
    reference = direct(case)
    gap = np.abs(layer(case.x_hat, case.context).astype(np.float64) - reference.mid)
    return float((gap / (reference.rad + folded_bound(case, case.fold()))).max())


CASES = {
    "one head": make(1, heads=1),
    "two heads": make(2, heads=2),
    "three heads": make(3, heads=3),
    "no biases": make(4, biases=False),
    "no norm": make(5, norm=None),
    "rmsnorm": make(6, norm="rmsnorm"),
    "large epsilon": make(7, eps=0.5),
    "cross-attention": make(8, cross=True),
    "cross-attention, rmsnorm": make(9, norm="rmsnorm", cross=True, heads=3),
    "float32": make(10, dtype="float32"),
}


@pytest.mark.parametrize("name", CASES)
def test_folded_layer_is_direct_attention(name: str) -> None:
    case = CASES[name]
    layer = case.fold()
    assert layer(case.x_hat, case.context).dtype == case.x_hat.dtype
    assert excess(case, layer) <= 1


WRONG: dict[str, Callable[[Case], Folded]] = {
    "A transposed": lambda c: replace(c.fold(), A=c.fold().A.mT),
    "query bias lost": lambda c: c.fold(b_q=None),
    "value bias lost": lambda c: c.fold(b_v=None),
    "output bias lost": lambda c: c.fold(b_o=None),
    "gain lost": lambda c: c.fold(norm_gain=None),
    "shift lost": lambda c: c.fold(norm_shift=None),
    "heads in another order": lambda c: replace(c.fold(), B=c.fold().B[::-1]),
    "scale of the width": lambda c: c.fold(scale=7**-0.5),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_fold_is_far_outside_the_bound(name: str) -> None:
    case = CASES["two heads"]
    assert excess(case, WRONG[name](case)) > 1e6


def test_key_bias_cancels_bit_for_bit() -> None:
    case = CASES["two heads"]
    without, layer = case.fold(b_k=None), case.fold()
    assert all(np.array_equal(getattr(without, part), getattr(layer, part)) for part in "AaBb")


def test_integer_weights_fold_exactly() -> None:
    """On small integers float64 makes no error: score differences and outputs agree exactly, key by key."""
    rng = np.random.default_rng(11)
    w_q, w_k, w_v, w_o = (
        rng.integers(-9, 10, size=s).astype(float) for s in ((4, 3), (4, 3), (4, 2), (2, 5))
    )
    b_q, b_k, b_v, b_o, gain, shift = (rng.integers(-9, 10, size=s).astype(float) for s in (3, 3, 2, 5, 4, 4))
    x_hat = rng.integers(-9, 10, size=(6, 4)).astype(float)
    layer = fold(
        w_q, w_k, w_v, w_o, b_q=b_q, b_k=b_k, b_v=b_v, b_o=b_o, norm_gain=gain, norm_shift=shift, scale=1
    )
    x = x_hat * gain + shift
    scores = (x @ w_q + b_q) @ (x @ w_k + b_k).T
    folded = layer.query(x_hat)[0] @ x_hat.T
    assert np.array_equal(scores - scores[:, :1], folded - folded[:, :1])
    assert np.array_equal((x @ w_v + b_v) @ w_o + b_o, x_hat @ layer.B[0] + layer.b)


@pytest.mark.parametrize("eps", [1e-12, 1e-3, 0.5])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_distance_form_is_off_by_no_more_than_epsilon_allows(norm: str, eps: float) -> None:
    """Scores move by at most scale·D·max ε/(v+ε)/4, so the projection by diam·tanh of half that [II.9]."""
    case = make(12, heads=1, norm=norm, eps=eps)
    layer, keys = case.fold(w_v=np.eye(7), w_o=np.eye(7), b_v=None, b_o=None, norm_shift=None), case.x_hat
    ones = replace(layer, B=np.eye(7)[None], b=np.zeros(7))  # the output is the projected point itself
    gap = np.abs(ones(keys, form="distance") - ones(keys))
    unequal = 1 - ((keys**2).sum(axis=1) / 7).min()  # max ε/(v+ε), as the norms show it
    unequal += 100 * 2.0**-53  # less than a hundred roundings in the norms and in making them
    assert unequal > 0.4 * eps / (1 + eps)
    move = layer.scale * 7 * unequal / 4
    rounding = forward_bound(layer.query(keys), keys, keys, scale=layer.scale)[0]
    rounding = rounding + forward_bound(layer.query(keys), keys, keys, sigma=layer.scale**-0.5)[0]
    assert (gap <= np.ptp(keys, axis=0) * np.tanh(move / 2) + rounding[:, None]).all()
    if eps >= 1e-3:
        assert gap.max() > 100 * rounding.max()


def test_leading_axes_are_batches() -> None:
    case = CASES["two heads"]
    layer = case.fold()
    batch = np.stack([case.x_hat, case.x_hat[::-1]])
    both = layer(batch)
    assert both.shape == (2, 6, 6)
    assert layer.query(batch).shape == (2, 2, 6, 7)
    limit = 2 * folded_bound(case, layer)
    assert (np.abs(both[0] - layer(case.x_hat)) <= limit).all()
    assert (np.abs(both[1] - layer(case.x_hat)[::-1]) <= limit[::-1]).all()


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_normalised_rows_have_the_stated_norm(norm: str) -> None:
    x = np.random.default_rng(13).normal(size=(20, 8))
    centred = x - x.mean(axis=1, keepdims=True) if norm == "layernorm" else x
    v = (centred**2).mean(axis=1)
    found = np.linalg.norm(normalise(x, norm, eps=0.25), axis=1)  # type: ignore[arg-type]
    # a dozen sums of eight terms each; 200 roundings bound them all
    assert np.allclose(found, np.sqrt(8 * v / (v + 0.25)), rtol=200 * 2.0**-53, atol=0)
    if norm == "layernorm":
        assert np.abs(normalise(x, "layernorm", eps=0.25).sum(axis=1)).max() < 8 * 200 * 2.0**-53


def test_hypotheses_name_their_theorems() -> None:
    assert any("[I.4]" in line and "variance" in line for line in CASES["two heads"].fold().hypotheses)
    assert any("mean square" in line for line in CASES["rmsnorm"].fold().hypotheses)
    assert any("[I.3]" in line for line in CASES["no norm"].fold().hypotheses)


def test_dtype_converts_only_when_asked() -> None:
    case = CASES["float32"]
    assert case.fold().dtype == np.float32
    wide = case.fold(dtype="float64")
    assert wide.dtype == np.float64 and wide.A.dtype == np.float64
    with pytest.raises(TypeError, match=r"x_hat: got dtype float32; the folded layer is float64"):
        wide(case.x_hat)


W = np.ones((4, 6))
GOOD: dict[str, Any] = {"w_q": W, "w_k": W, "w_v": W, "w_o": W.T, "heads": 2}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"w_k": W.astype("float32")}, TypeError, "w_k: got dtype float32; allowed is float64"),
    ({"w_q": W.astype(int)}, TypeError, "w_q: got dtype int64; allowed are float32 and float64"),
    ({"dtype": "float16"}, TypeError, "dtype: got dtype float16"),
    ({"w_v": W.astype(int), "dtype": "float64"}, TypeError, "w_v: got dtype int64"),
    ({"w_q": np.ones(4)}, ValueError, r"w_q: got shape \(4,\)"),
    ({"w_k": np.ones((5, 6))}, ValueError, "w_k: got 5 rows; allowed is 4"),
    ({"w_k": np.ones((4, 5))}, ValueError, r"w_k: got shape \(4, 5\); allowed is \(4, 6\)"),
    ({"w_v": np.ones((4, 5))}, ValueError, r"w_v: got shape \(4, 5\); allowed is \(4, 6\)"),
    ({"b_q": np.ones(5)}, ValueError, r"b_q: got shape \(5,\); allowed is \(6,\)"),
    ({"b_o": np.ones(6)}, ValueError, r"b_o: got shape \(6,\); allowed is \(4,\)"),
    ({"norm_gain": np.ones(6)}, ValueError, r"norm_gain: got shape \(6,\); allowed is \(4,\)"),
    ({"context_gain": np.ones(4)}, ValueError, "context_gain: given for self-attention"),
    ({"heads": 4}, ValueError, "heads: got 4; allowed is a divisor of 6"),
    ({"heads": 0}, ValueError, "heads: got 0"),
    ({"heads": True}, ValueError, "heads: got True"),
    ({"norm": "batchnorm"}, ValueError, "norm: got 'batchnorm'"),
    ({"scale": float("nan")}, ValueError, "scale: got nan"),
    ({"w_o": np.full((6, 4), np.inf)}, ValueError, "w_o: got a NaN or an infinity"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_weights_get_a_clear_error(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fold(**{**GOOD, **change})


def test_bad_inputs_get_a_clear_error() -> None:
    layer = fold(**GOOD)
    with pytest.raises(ValueError, match=r"x_hat: got shape \(3, 5\); allowed is \(..., tokens, 4\)"):
        layer(np.ones((3, 5)))
    with pytest.raises(ValueError, match="form: got 'cosine'"):
        layer(np.ones((3, 4)), form="cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'distance' needs scale > 0"):
        fold(**GOOD, scale=-1)(np.ones((3, 4)), form="distance")
    with pytest.raises(ValueError, match="eps = 0 cannot repair it"):
        normalise(np.ones((2, 3)), "layernorm", eps=0)
    with pytest.raises(TypeError, match="x: got dtype int64"):
        normalise(np.ones((2, 3), int), "rmsnorm", eps=1)
    with pytest.raises(ValueError, match="eps: got -1"):
        normalise(np.ones((2, 3)), "rmsnorm", eps=-1)
