"""What a calling library sets holds for its thread and its call, and nowhere else."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import projsym
from projsym.runtime import host
from projsym.runtime.threads import get_num_threads


def test_restored_also_after_an_error_and_when_nested() -> None:
    before = get_num_threads()
    with host.hosted(3, np.empty):
        with host.hosted(5, np.zeros):
            assert get_num_threads() == 5
        assert get_num_threads() == 3
        with pytest.raises(KeyError), host.hosted(7, np.empty):
            raise KeyError
        assert get_num_threads() == 3
    assert get_num_threads() == before and host.threads() is None


def test_other_threads_see_nothing_of_it() -> None:
    seen: list[int | None] = []
    with host.hosted(3, np.empty):
        other = threading.Thread(target=lambda: seen.append(host.threads()))
        other.start()
        other.join()
    assert seen == [None]


def test_outputs_are_made_by_the_caller() -> None:
    made: list[np.ndarray] = []

    def empty(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> np.ndarray:
        made.append(np.empty(shape, dtype))
        return made[-1]

    q = np.random.default_rng(0).standard_normal((2, 5, 4))
    want = projsym.project(q, q, return_lse=True, backend="c")
    with host.hosted(1, empty):
        out, lse = projsym.project(q, q, return_lse=True, backend="c")
    assert out is made[0] and lse is made[1]
    assert all(np.array_equal(a, b) for a, b in zip(want, (out, lse), strict=True))
