"""Balls contain the exact value: against rational and 200-bit arithmetic, and they are not vacuous."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest

from projsym.audit.ball import EXP_ULPS, Ball, gamma, softmax_average

Array = np.ndarray[Any, Any]


@contextmanager
def bits(precision: int) -> Iterator[None]:
    before = flint.ctx.prec
    flint.ctx.prec = precision
    try:
        yield
    finally:
        flint.ctx.prec = before


def rational(x: Array) -> Array:
    return np.vectorize(lambda entry: Fraction(float(entry)), otypes=[object])(x)


def contains(ball: Ball, exact: Array) -> bool:
    return bool((np.abs(rational(ball.mid) - exact) <= rational(ball.rad)).all())


def draw(seed: int, dtype: str, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_and_products_contain_the_rational_result(dtype: str) -> None:
    a, b, c = draw(1, dtype, 5, 40), draw(2, dtype, 40, 6), draw(3, dtype, 5, 6)
    ball = (Ball.exact(a) @ Ball.exact(b) + Ball.exact(c)) * Ball.exact(c) @ Ball.exact(c).mT
    exact = ((rational(a) @ rational(b) + rational(c)) * rational(c)) @ rational(c).T
    assert contains(ball, exact)
    assert (np.abs(rational(ball.mid) - exact) > 0).any()
    # An a-priori bound of a product of length 40 is some hundred roundings of the sum of absolute values.
    size = ((np.abs(a) @ np.abs(b) + np.abs(c)) * np.abs(c)) @ np.abs(c).T
    assert (ball.rad <= 200 * np.finfo(dtype).eps * size).all()


def test_balls_contain_every_point_of_their_arguments() -> None:
    a, b = (Ball(draw(s, "float64", 4, 4), 0.1 * np.abs(draw(s + 9, "float64", 4, 4))) for s in (4, 5))
    for corner in range(16):
        sign = np.random.default_rng(corner).choice([-1, 1], size=(2, 4, 4))
        left = rational(a.mid) + rational(a.rad) * sign[0]
        right = rational(b.mid) + rational(b.rad) * sign[1]
        assert contains(a @ b, left @ right)
        assert contains(a * b, left * right)
        assert contains(a + b, left + right)


def exact_average(scores: Array, values: Array) -> list[list[flint.arb]]:
    """Softmax average of one matrix of scores by balls of 200 bits; called inside `bits(200)`."""
    rows = []
    for row in scores.tolist():
        e = [flint.arb(s).exp() for s in row]
        total = sum(e, flint.arb(0))
        columns = values.T.tolist()
        rows.append(
            [
                sum((w * flint.arb(v) for w, v in zip(e, c, strict=True)), flint.arb(0)) / total
                for c in columns
            ]
        )
    return rows


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 400.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_average_contains_the_exact_average(dtype: str, spread: float) -> None:
    scores, values = (draw(6, dtype, 4, 33) * np.dtype(dtype).type(spread)), draw(7, dtype, 33, 3)
    ball, weights = softmax_average(Ball.exact(scores), Ball.exact(values))
    assert ball.mid.dtype == dtype and weights.shape == (4, 33)
    with bits(200):
        for i, row in enumerate(exact_average(scores, values)):
            for c, exact in enumerate(row):
                gap = abs(exact - flint.arb(float(ball.mid[i, c])))
                assert gap <= flint.arb(float(ball.rad[i, c]))
    # u per unit of score, 100 operations over 33 keys, diameter below 6
    assert ball.rad.max() <= 6 * np.finfo(dtype).eps * (200 + 10 * spread)


def test_softmax_average_contains_moved_scores_and_values() -> None:
    scores, values = draw(8, "float64", 3, 5), draw(9, "float64", 5, 2)
    ball, _ = softmax_average(Ball.exact(scores).widen(0.3), Ball.exact(values).widen(0.2))
    rng = np.random.default_rng(10)
    for _ in range(50):
        moved = scores + 0.3 * rng.choice([-1, 1], size=scores.shape)
        other = values + 0.2 * rng.choice([-1, 1], size=values.shape)
        e = np.exp(moved)
        # The moves are of order 0.1: rounding is no issue here.
        assert (np.abs(e @ other / e.sum(axis=1, keepdims=True) - ball.mid) <= ball.rad).all()


def test_two_keys_show_that_the_score_term_is_sharp() -> None:
    """[II.9] is attained by two keys: the radius may not exceed the true move by more than rounding."""
    delta = 0.5
    mid = np.array([[0.0, delta]])
    ball, _ = softmax_average(Ball(mid, np.full((1, 2), delta)), Ball.exact(np.array([[0.0], [1.0]])))
    true = 1 / (1 + np.exp(-delta)) - 1 / (1 + np.exp(delta))
    assert true <= ball.rad[0, 0] <= true + 100 * 2.0**-53


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_exp_is_as_good_as_assumed(dtype: str) -> None:
    tiny, unit = float(np.finfo(dtype).smallest_normal), float(np.finfo(dtype).eps) / 2
    x = np.random.default_rng(11).uniform(np.log(tiny), 0, size=500).astype(dtype)
    with bits(200):
        worst = max(
            float(abs(flint.arb(found) / flint.arb(point).exp() - 1).upper())
            for point, found in zip(x.tolist(), np.exp(x).tolist(), strict=True)
        )
    assert worst <= gamma(EXP_ULPS, unit)
    assert np.exp(np.zeros(1, dtype))[0] == 1
    assert np.exp(np.array([np.log(tiny) - 1, -1e4], dtype)).max() <= tiny


def test_gamma_refuses_lengths_without_a_bound() -> None:
    with pytest.raises(ValueError, match="n: got 4"):
        gamma(4, 0.25)
