"""The rank condition [I.8]: certified when it fails, never called exact from floating point alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from projsym.audit.defect import value_defect

Array = np.ndarray[Any, Any]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def test_smallest_counterexample() -> None:
    found = value_defect(np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]), np.array([[1.0]]))
    assert found.droppable is False
    assert 1 - 1e-8 < found.lower <= 1 <= found.upper and found.defect == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_head_is_refuted_between_tight_bounds(dtype: str) -> None:
    w_k, w_v, w_o = (normal(s, *shape).astype(dtype) for s, shape in enumerate([(24, 4), (24, 4), (4, 24)]))
    found = value_defect(w_k, w_v, w_o)
    target = w_v.astype(float) @ w_o.astype(float)
    basis, _ = np.linalg.qr(w_k.astype(float))
    by_qr = np.linalg.norm(target - basis @ (basis.T @ target)) / np.linalg.norm(target)
    assert found.droppable is False
    assert found.lower <= by_qr <= found.upper
    assert found.upper - found.lower < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_solvable_head_is_undecided_not_refuted(seed: int) -> None:
    """W_V = W_K M with small integers: a solution exists, whatever rounding says."""
    rng = np.random.default_rng(seed)
    w_k, m, w_o = (rng.integers(-5, 6, size=s).astype(float) for s in ((16, 4), (4, 4), (4, 16)))
    found = value_defect(w_k, w_k @ m, w_o)
    assert found.droppable is None
    assert found.lower == 0 and found.defect < 1e-12


def test_small_but_true_defects_are_still_refuted() -> None:
    w_k = normal(3, 16, 4)
    w_v = w_k @ normal(4, 4, 4)
    w_v[0, 0] += 1e-9
    found = value_defect(w_k, w_v, normal(5, 4, 16))
    assert found.droppable is False and 0 < found.lower < found.upper < 1e-8


def test_wide_heads_never_need_their_values() -> None:
    assert value_defect(normal(6, 4, 4), normal(7, 4, 4), normal(8, 4, 4)).droppable is True
    assert value_defect(normal(6, 4, 6), normal(7, 4, 6), normal(8, 6, 4)).droppable is True


def test_wide_head_of_unproven_rank_is_undecided() -> None:
    w_k = np.ones((3, 4))
    assert value_defect(w_k, np.ones((3, 2)), np.ones((2, 3))).droppable is None


def test_zero_values_are_droppable() -> None:
    found = value_defect(normal(9, 4, 2), np.zeros((4, 2)), normal(10, 2, 4))
    assert found.droppable is True and found.upper == 0
