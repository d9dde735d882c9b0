"""Gradients by a remembered plan: what the first call gives, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import projsym
from projsym.backward import attention_backward
from projsym.runtime import plan
from projsym.runtime.layout import Array

from .test_plan import LAYOUTS

RNG = np.random.default_rng(1)
BASE = RNG.standard_normal((4, 3, 2, 12, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    plan._plans.clear()
    yield
    plan._plans.clear()


def arguments(number: int = 0, **change: Any) -> list[Array]:
    """g, query, key, value, out, lse of a forward pass."""
    given = dict(zip(("g", "query", "key", "value"), BASE + np.float32(number), strict=True)) | change
    out, lse = projsym.attention(given["query"], given["key"], given["value"], return_lse=True, backend="c")
    return [*given.values(), out, lse]


def remembered() -> int:
    return sum(key[0] == ("attention_backward", "c") for key in plan._plans)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_second_call_reads_its_own_arrays(name: str) -> None:
    make = LAYOUTS[name]
    for number in range(3):
        g, q, k, v, out, lse = arguments(number)
        g, q, k, v = (make(x) for x in (g, q, k, v))
        out, lse = projsym.attention(q, k, v, return_lse=True, backend="c")
        want = attention_backward(g, q, k, v, out, lse, g_lse=np.zeros_like(lse), backend="c")
        for _ in range(2):
            got = attention_backward(g, q, k, v, out, lse, backend="c")
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
    assert remembered() == 1


def test_heads_that_are_shared_are_added_every_time() -> None:
    g, q, k, v, *_ = arguments()
    k, v = k[:, :1], v[:, :1]
    out, lse = projsym.attention(q, k, v, return_lse=True, backend="c")
    made = [attention_backward(g, q, k, v, out, lse, backend="c") for _ in range(3)]
    assert remembered() == 0
    assert [x.shape for x in made[2]] == [q.shape, k.shape, v.shape]
    assert all(np.array_equal(a, b) for a, b in zip(made[0], made[2], strict=True))


def test_scales_are_not_part_of_it() -> None:
    given = arguments()
    made = [attention_backward(*given, scale=s, backend="c") for s in (0.25, None, 0.5)]
    assert np.array_equal(made[0][0], made[1][0]) and not np.array_equal(made[0][0], made[2][0])


def test_errors_are_those_of_a_first_call() -> None:
    given = arguments()
    for _ in range(2):
        attention_backward(*given, backend="c")
    assert remembered() == 1
    names = ("g", "query", "key", "value", "out")
    for at, name in enumerate(names):
        for bad in (np.nan, np.inf):
            changed = [x.copy() for x in given]
            changed[at][1, 1, 3, 5] = bad
            with pytest.raises(ValueError, match=f"{name}: given NaN or infinite"):
                attention_backward(*changed, backend="c")
    for bad in (np.nan, np.inf):
        changed = [x.copy() for x in given]
        changed[5][1, 1, 3] = bad
        with pytest.raises(ValueError, match="lse: given NaN"):
            attention_backward(*changed, backend="c")
    huge = [given[0] * np.float32(5e37), given[1], given[2] * np.float32(1000), *given[3:]]
    with pytest.raises(OverflowError, match="range of float32"):
        attention_backward(*huge, backend="c")
    with pytest.raises(TypeError, match="scale"):
        attention_backward(*given, scale="1", backend="c")  # type: ignore[arg-type]


def test_a_query_that_saw_nothing_gets_nothing() -> None:
    given = arguments()
    attention_backward(*given, backend="c")
    lse, out = given[5].copy(), given[4].copy()
    lse[0, 1, 2], out[0, 1, 2] = -np.inf, 0
    dq, dk, dv = attention_backward(*given[:4], out, lse, backend="c")
    assert not dq[0, 1, 2].any() and dq[0, 1, 3].any()
    assert np.isfinite(dk).all() and np.isfinite(dv).all()


@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_what_is_not_finite_in_one_place_is_found(backend: str) -> None:
    """The status of both kernels counts gradients of queries and of keys."""
    given = arguments()
    for at, name in ((0, "g"), (2, "key")):
        changed = [x.copy() for x in given]
        changed[at][2, 0, -1, -1] = np.nan
        with pytest.raises(ValueError, match=f"{name}: given NaN"):
            attention_backward(*changed, backend=backend)  # type: ignore[arg-type]
