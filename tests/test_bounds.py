"""The a-priori error bounds against simulated kernels, whose error is known from ball arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _simulated_kernel import (
    CASES,
    PAIRWISE,
    REVERSED,
    SEQUENTIAL,
    Case,
    arguments,
    cancelling_scores,
    errors,
    normal,
    simulate,
)

from projsym import bound_arguments, bound_scores, bound_sums, bounds
from projsym.bounds import forward_bound, lse_bound


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_error_is_within_the_bound(make: Callable[[str], Case], dtype: str) -> None:
    case = make(dtype)
    for block, order in ((128, SEQUENTIAL), (1, SEQUENTIAL), (7, REVERSED), (16, PAIRWISE)):
        error, log_error = errors(case, block, order)
        bound, log_bound = forward_bound(**case, block=block), lse_bound(**arguments(case), block=block)
        assert np.isfinite(bound).all() and np.isfinite(log_bound).all()
        assert (error <= bound).all(), (block, order, error / bound)
        assert (log_error <= log_bound).all(), (block, order, log_error / log_bound)
        if order == SEQUENTIAL:
            tighter = forward_bound(**case, block=block, sequential=True)
            assert (error <= tighter).all(), (block, error / tighter)
            assert (tighter <= bound).all()
            log_tighter = lse_bound(**arguments(case), block=block, sequential=True)
            assert (log_error <= log_tighter).all()
            assert (log_tighter <= log_bound).all()


def test_the_order_of_a_score_halves_the_bound_at_64_features() -> None:
    """What the known order buys where scores are sums of many terms of either sign."""
    case = normal(8, 64, 64, 8, "float32", seed=5)
    known, any_order = forward_bound(**case, depth=1, sequential=True), forward_bound(**case, depth=1)
    assert (known < any_order / 2).all()


def test_larger_sizes_against_double() -> None:
    case = normal(16, 3000, 64, 8, "float32", seed=3)
    q, k, v = (case[x].astype(np.float64) for x in "qkv")
    score = q @ k.T / 8
    w = np.exp(score - score.max(1, keepdims=True))
    reference = w / w.sum(1, keepdims=True) @ v
    # The reference's own error is bounded by the same theorem for double, in one block.
    slack = forward_bound(q, k, v, block=3000, exp_error=1e-15)
    for block, order in ((128, SEQUENTIAL), (3000, SEQUENTIAL), (128, PAIRWISE)):
        error = np.abs(simulate(case, block, order)[0] - reference).max(1)
        bound = forward_bound(**case, block=block)
        assert (error <= bound + slack).all()
        # Sums of random roundings stay about sqrt(m) below the worst case: it is not vacuous either.
        assert (bound < 1e-2 * np.abs(v).max()).all()


def test_the_score_term_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rounding of scores the bound is too small where they cancel."""
    case = cancelling_scores("float32")
    error, _ = errors(case, 128, SEQUENTIAL)
    assert (error <= forward_bound(**case)).all()
    monkeypatch.setattr(bound_scores, "both", lambda cast, rounding: 0.0)
    assert (error > forward_bound(**case)).any()


def test_the_summation_term_is_needed() -> None:
    """With one addition allowed where there are thousands the bound is too small."""
    rng = np.random.default_rng(0)
    m = 1 << 15
    case: Case = {"q": np.zeros((1, 2), np.float32), "k": np.zeros((m, 2), np.float32)}
    case["v"] = rng.uniform(1, 2, size=(m, 1)).astype(np.float32)
    out, _ = simulate(case, m, SEQUENTIAL)
    error = abs(float(out[0, 0]) - math.fsum(map(float, case["v"][:, 0])) / m)
    assert error <= forward_bound(**case, block=m)[0]
    assert error > forward_bound(**case, block=m, depth=1)[0]


def long_sum(block: int) -> tuple[Case, float]:
    """2**15 equal values that are rounded down at nearly every addition, and the error of adding them."""
    m, value = 1 << 15, np.float32(1 + 0.99 / 1024)
    case: Case = {"q": np.zeros((1, 2), np.float32), "k": np.zeros((m, 2), np.float32)}
    case["v"] = np.full((m, 1), value)
    out, _ = simulate(case, block, SEQUENTIAL)
    return case, abs(float(out[0, 0]) - float(value))


def test_the_partial_sums_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: the bound holds, is not vacuous, and fails without what the additions lose."""
    case, error = long_sum(1 << 15)
    bound = forward_bound(**case, block=1 << 15, sequential=True)[0]
    assert error <= bound < 10 * error
    real = bound_sums.sum_errors

    def lossless(*given: Any) -> bound_sums.SumErrors:
        found = real(*given)
        return bound_sums.SumErrors(0 * found.numerator, 0 * found.normaliser, found.kept)

    monkeypatch.setattr(bounds, "sum_errors", lossless)
    assert error > forward_bound(**case, block=1 << 15, sequential=True)[0]


def test_the_size_of_the_blocks_is_needed() -> None:
    """A bound for short blocks is too small for a kernel that adds all keys in one."""
    case, error = long_sum(1 << 15)
    assert error > forward_bound(**case, block=64, sequential=True)[0]
    case, error = long_sum(64)
    assert error <= forward_bound(**case, block=64, sequential=True)[0]


def test_pieces_of_partial_sums_only_loosen(monkeypatch: pytest.MonkeyPatch) -> None:
    case = normal(4, 50, 8, 3, "float32")
    loose = forward_bound(**case, block=16, sequential=True)
    monkeypatch.setattr(bound_sums, "_PIECE", 1)
    exact = forward_bound(**case, block=16, sequential=True)
    monkeypatch.setattr(bound_sums, "_PIECE", 100)
    assert (exact <= loose).all() and (loose <= forward_bound(**case, block=16, sequential=True)).all()


def test_only_blocks_that_raise_the_maximum_count() -> None:
    """An exponential of 1 % error: a key has one, and one for each later block that raises."""
    scores = np.linspace(0, 1e-3, 8)[:, None]
    v = np.linspace(-1, 1, 8)[:, None]
    q = np.ones((1, 1))
    rising, falling = (
        forward_bound(q, k, v, block=1, exp_error=0.01, sequential=True)[0] for k in (scores, scores[::-1])
    )
    one_block = forward_bound(q, scores, v, block=8, exp_error=0.01, sequential=True)[0]
    assert falling == pytest.approx(one_block, rel=1e-3) and rising > 3 * falling


def test_a_wider_type_has_a_smaller_bound() -> None:
    case = normal(2, 5, 3, 2, "float64")
    with pytest.raises(TypeError, match="longdouble with an exp_error"):
        forward_bound(**case, dtype="longdouble")
    wide = forward_bound(**case, dtype="longdouble", exp_error=1e-18)
    ratio = float(np.finfo(np.longdouble).eps) / 2.0**-52
    assert ((wide > 0) & (wide <= 2 * max(ratio, 1e-2) * forward_bound(**case))).all()


def test_the_exponential_error_is_needed() -> None:
    """Weights that a wrong exp2 changes by 1 % leave the bound that was made for a better one."""
    case = normal(4, 64, 8, 3, "float64")
    score = case["q"] @ case["k"].T / math.sqrt(8)
    w = np.exp(score)
    exact_mean = w / w.sum(1, keepdims=True) @ case["v"]
    wrong = w * np.where(case["v"][:, 0] > 0, 1.01, 0.99)
    error = np.abs(wrong / wrong.sum(1, keepdims=True) @ case["v"] - exact_mean).max(1)
    assert (error <= forward_bound(**case, block=64, exp_error=0.01)).all()
    assert (error > forward_bound(**case, block=64)).all()


def test_masks_of_finite_size_cost_nothing() -> None:
    case = normal(3, 40, 8, 3, "float32")
    case["v"][::3] = np.delete(case["v"], np.s_[::3], 0).mean(0)  # keep the centre where it was
    bias = np.zeros(40, np.float32)
    hidden, lowered = bias.copy(), bias.copy()
    hidden[::3], lowered[::3] = -np.inf, -1e9
    a = forward_bound(**case, key_bias=hidden, depth=40)
    b = forward_bound(**case, key_bias=lowered, depth=40)
    assert (b <= a * (1 + 1e-6)).all()  # the centre is rounded to float32


def test_leading_axes_broadcast_and_chunks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    q = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    k, v = rng.normal(size=(3, 6, 4)).astype(np.float32), rng.normal(size=(2, 1, 6, 2)).astype(np.float32)
    whole, log = forward_bound(q, k, v), lse_bound(q, k)
    assert whole.shape == log.shape == (2, 3, 5)
    assert whole.dtype == np.float64
    monkeypatch.setattr(bound_arguments, "_PAIRS", 12)
    for b in range(2):
        for h in range(3):
            assert np.allclose(whole[b, h], forward_bound(q[b, h], k[h], v[b, 0]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 3, 4, 0)])
def test_empty_axes(shape: tuple[int, int, int, int]) -> None:
    n, m, d, dv = shape
    bound = forward_bound(np.ones((n, d)), np.ones((m, d)), np.ones((m, dv)))
    assert bound.shape == (n,)
    assert np.isfinite(bound).all()
    assert m == 0 or lse_bound(np.ones((n, d)), np.ones((m, d))).shape == (n,)


def test_rows_without_keys_are_exact() -> None:
    case = normal(3, 5, 2, 2, "float32") | {"key_bias": np.full(5, -np.inf, np.float32)}
    assert (forward_bound(**case) == 0).all()
    assert (lse_bound(**arguments(case)) == 0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"q": np.full((1, 2), 3e38, np.float32), "k": np.full((3, 2), 3e38, np.float32)},
        {"v": np.full((3, 1), 3e38, np.float32)},
        {"key_bias": np.full(3, np.finfo(np.float32).min)},
        {"depth": 1 << 24},
    ],
    ids=["scores", "values", "bias", "depth"],
)
def test_what_may_overflow_is_infinite(change: Case) -> None:
    case: Case = {
        "q": np.ones((1, 2), np.float32),
        "k": np.ones((3, 2), np.float32),
        "v": np.ones((3, 1), np.float32),
    }
    assert np.isfinite(forward_bound(**case)).all()
    assert (forward_bound(**(case | change)) == math.inf).all()


def test_extreme_doubles_are_never_nan() -> None:
    for size in (1e-320, 1e-160, 1e150, 1e160, 1e300, 1.7e308):
        q, k, v = np.full((2, 3), size), np.full((4, 3), -size), np.linspace(-1, 1, 4)[:, None] * size
        for extra in ({}, {"sigma": 0.5}, {"key_bias": np.full(4, -size)}):
            assert not np.isnan(forward_bound(q, k, v, **extra)).any()
            assert not np.isnan(lse_bound(q, k, **extra)).any()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"q": np.ones((2, 3), np.float16)}, TypeError, "dtype: got float16"),
        ({"k": np.ones((4, 3), np.float64)}, TypeError, "k: got float64"),
        ({"q": np.ones(3, np.float32)}, ValueError, r"q: got shape \(3,\)"),
        ({"k": np.ones((4, 2), np.float32)}, ValueError, "q, k: got 3 and 2 features"),
        ({"v": np.ones((5, 1), np.float32)}, ValueError, "k, v: got 4 keys and 5 values"),
        ({"key_bias": np.ones(3, np.float32)}, ValueError, "key_bias: got 3 entries for 4"),
        ({"key_bias": np.full(4, np.inf, np.float32)}, ValueError, "key_bias: it holds NaN"),
        ({"v": np.full((4, 1), np.nan, np.float32)}, ValueError, "v: it holds NaN"),
        ({"scale": 1.0, "sigma": 1.0}, ValueError, "scale, sigma"),
        ({"scale": math.nan}, ValueError, "scale: got nan"),
        ({"sigma": 0.0}, ValueError, "sigma: got 0"),
        ({"scale": 3e38}, OverflowError, "scale"),
        ({"block": 0}, ValueError, "block: got 0"),
        ({"depth": -1}, ValueError, "depth: got -1"),
        ({"exp_error": 0.7}, ValueError, "exp_error: got 0.7"),
    ],
)
def test_bad_arguments_are_named(change: Case, error: type[Exception], text: str) -> None:
    case: Case = {
        "q": np.ones((2, 3), np.float32),
        "k": np.ones((4, 3), np.float32),
        "v": np.ones((4, 1), np.float32),
    }
    with pytest.raises(error, match=text):
        forward_bound(**(case | change))
