"""Merging results over parts of the keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from projsym import attention, merge, project
from projsym.bounds import forward_bound, lse_bound

RNG = np.random.default_rng(3)


def arrays(dtype: Any, n: int = 5, m: int = 40, d: int = 7) -> tuple[Any, Any]:
    return RNG.standard_normal((2, n, d)).astype(dtype), RNG.standard_normal((2, m, d)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cuts", [(0,), (40,), (13,), (1, 2, 39), (8, 8, 8)])
def test_merged_parts_are_the_whole(dtype: Any, cuts: tuple[int, ...]) -> None:
    q, k = arrays(dtype)
    parts = [project(q, k[:, a:b], return_lse=True) for a, b in zip((0, *cuts), (*cuts, 40), strict=True)]
    out, lse = merge(*parts)
    whole, whole_lse = project(q, k, return_lse=True)
    assert out.dtype == lse.dtype == dtype
    u, few = np.finfo(dtype).eps / 2, len(parts)
    off = lse_bound(q, k, scale=7**-0.5)  # of the whole; fewer keys have a smaller one
    # Both sides are within their kernel's bound. A merged weight is off by the two lse it compares, the
    # rounding of their difference (below 32), exp (8 units), sum, quotient; the parts are added in order.
    kernel = forward_bound(q, k, k, scale=7**-0.5)
    merging = (4 * off + (32 + 8 + 3 * few) * u) * np.linalg.norm(k, axis=-1).max()
    assert np.abs(whole_lse).max() < 16
    assert (np.abs(out - whole).max(axis=-1) <= 2 * kernel + merging).all()
    assert (np.abs(lse - whole_lse) <= 2 * off + (8 + 8 + few + 32) * u).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores_do_not_overflow(dtype: Any) -> None:
    lse = np.array([[1000.0, -1000.0]], dtype)
    one, two = np.ones((1, 2, 3), dtype), 3 * np.ones((1, 2, 3), dtype)
    out, total = merge((one, lse), (two, lse))
    assert (out == 2).all() and (total == lse + dtype(math.log(2))).all()


def test_a_part_without_keys_is_the_unit() -> None:
    q, k = arrays(np.float64)
    whole = project(q, k, return_lse=True)
    empty = project(q, k[:, :0], return_lse=True)
    for parts in ((whole, empty), (empty, whole)):
        out, lse = merge(*parts)
        assert np.array_equal(out, whole[0]) and np.array_equal(lse, whole[1])
    out, lse = merge(empty, empty)
    assert (out == 0).all() and (lse == -math.inf).all()


def test_what_a_row_without_keys_holds_does_not_leak() -> None:
    bad = (np.full((1, 2), np.nan), np.array([-math.inf]))
    good = (np.ones((1, 2)), np.array([0.5]))
    out, lse = merge(bad, good)
    assert (out == 1).all() and lse == 0.5


def test_inputs_stay_as_they_are() -> None:
    out, lse = np.ones((2, 3)), np.zeros(2)
    merged, _ = merge((out, lse))
    merged += 1
    assert (out == 1).all() and (lse == 0).all()


def test_attention_with_other_values() -> None:
    q, k = arrays(np.float64)
    v = RNG.standard_normal((2, 40, 3))
    out, _ = merge(*(attention(q, k[:, s], v[:, s], return_lse=True) for s in (np.s_[:9], np.s_[9:])))
    whole = attention(q, k, v)
    off = 4 * lse_bound(q, k, scale=7**-0.5) + (32 + 8 + 6) * np.finfo(float).eps / 2
    bound = 2 * forward_bound(q, k, v, scale=7**-0.5) + off * np.linalg.norm(v, axis=-1).max()
    assert out.shape == whole.shape and (np.abs(out - whole).max(axis=-1) <= bound).all()


O, L = np.ones((2, 3)), np.zeros(2)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ((), TypeError, "parts: given none"),
        ((O,), TypeError, r"parts\[0\]: given ndarray; allowed: a pair"),
        (((O, L), (O, L, L)), TypeError, r"parts\[1\]"),
        (((O, np.zeros(3)),), ValueError, r"parts\[0\]: given lse of shape \(3,\)"),
        (((O, L.astype(np.float32)),), TypeError, r"parts\[0\]\[1\]: given float32"),
        (((O, L), (O.astype(np.float32), L.astype(np.float32))), TypeError, r"parts\[1\]: given float32"),
        (((O, L), (np.ones((2, 4)), L)), ValueError, r"parts\[1\]: given out of shape \(2, 4\)"),
        (((O, np.array([0, np.nan])),), ValueError, r"parts\[0\]\[1\]: given NaN"),
        (((O, np.array([0, np.inf])),), ValueError, r"parts\[0\]\[1\]: given NaN or \+inf"),
        (((O.astype(int), L),), TypeError, r"parts\[0\]\[0\]: given int64 array"),
    ],
)
def test_bad_parts(parts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        merge(*parts)
