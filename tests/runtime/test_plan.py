"""Calls that a plan prepared: whatever the layout, the second call gives what the first one gave."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import projsym
from projsym.runtime import manifest, plan


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    plan._plans.clear()
    yield
    plan._plans.clear()


RNG = np.random.default_rng(0)
BASE = RNG.standard_normal((3, 2, 12, 16)).astype(np.float32)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    view = raw.view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


LAYOUTS = {
    "contiguous": lambda x: x,
    "read-only": read_only,
    "unaligned": unaligned,
    "every other head": lambda x: x[::2],
    "backward heads": lambda x: x[::-1],
    "every other row": lambda x: x[:, :, ::2],
    "backward rows": lambda x: x[:, :, ::-1],
    "part of a row": lambda x: x[..., 3:10],
    "transposed": lambda x: x.swapaxes(2, 3),
    "one row": lambda x: x[:, :, :1],
    "no row": lambda x: x[:, :, :0],
    "no head": lambda x: x[:0],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_second_call_reads_its_own_arrays(name: str, dtype: type) -> None:
    """Same layout, other contents: the plan must hold nothing of the first arrays but their layout."""
    make = LAYOUTS[name]
    for number in range(3):
        q, k = (make((BASE + number + side).astype(dtype)) for side in (0, 2.0))
        want = projsym.project(q.copy(), k.copy(), return_lse=True, backend="c")
        for _ in range(2):
            got = projsym.project(q, k, return_lse=True, backend="c")
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
            assert np.array_equal(projsym.project(q, k, backend="c"), want[0])
            values = projsym.attention(q, k, k, backend="c")
            assert np.array_equal(values, projsym.attention(q.copy(), k.copy(), k.copy(), backend="c"))
    assert plan._plans


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("rows", [12, 5])
def test_a_second_causal_call_reads_its_own_arrays(name: str, rows: int) -> None:
    make = LAYOUTS[name]
    for number in range(3):
        q, k = make(BASE[:, :, :rows] + number), make(BASE + number + 2.0)
        if q.shape[-1] != k.shape[-1]:
            pytest.skip("rows become features")
        options = {"return_lse": True, "is_causal": True, "backend": "c"}
        plan._plans.clear()
        seen = {"window": (None, 0), "return_lse": True, "backend": "c"}
        want = projsym.attention(q.copy(), k.copy(), k.copy(), **seen)
        own = projsym.project(q.copy(), k.copy(), **seen)
        for _ in range(2):
            got = projsym.attention(q, k, k, **options)
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
            assert np.array_equal(projsym.attention(q, k, k, is_causal=True, backend="c"), want[0])
            again = projsym.project(q, k, **options)
            assert all(np.array_equal(a, b) for a, b in zip(again, own, strict=True))


def test_a_causal_plan_still_looks_at_what_is_not_finite() -> None:
    q, k, v = BASE[0].copy(), BASE[1].copy(), BASE[2].copy()
    for _ in range(2):
        first = projsym.attention(q, k, v, is_causal=True, backend="c")
    assert len(plan._plans) == 1
    v[0, 3, 2] = np.inf
    out = projsym.attention(q, k, v, is_causal=True, backend="c")
    assert np.isposinf(out[0, 3:, 2]).all() and np.array_equal(out[0, :3], first[0, :3])
    v[0, 3, 2] = BASE[2, 0, 3, 2]
    k[0, 11, 0] = np.nan
    with pytest.raises(ValueError, match="key: given NaN or infinite entries where a query sees them"):
        projsym.attention(q, k, v, is_causal=True, backend="c")
    few = projsym.attention(q[:, :11].copy(), k, v, is_causal=True, backend="c")
    assert np.array_equal(few, first[:, :11])


def test_long_causal_calls_keep_no_ranges() -> None:
    x = np.ones((1, 2049, 4), np.float32)
    projsym.attention(x, x, x, is_causal=True, backend="c")
    assert not plan._plans


def test_parameters_are_not_part_of_a_plan() -> None:
    q, k = BASE[0], BASE[1]
    made = [projsym.project(q, k, sigma=s, backend="c") for s in (1.0, 2.0, 1.0)]
    assert np.array_equal(made[0], made[2]) and not np.array_equal(made[0], made[1])
    made = [projsym.project(q, k, scale=s, backend="c") for s in (0.25, None, 0.5)]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_errors_are_those_of_a_first_call() -> None:
    q, k, bias = BASE[0], BASE[1], np.zeros((2, 12), np.float32)
    for _ in range(2):
        projsym.project(q, k, backend="c")
        projsym.project(q, k, sigma=1.0, backend="c")
        projsym.project(q, k, key_bias=bias, backend="c")
        projsym.attention(q, k, k, backend="c")
    before, nan = dict(plan._plans), bias + np.nan
    for call, error, message in [
        (lambda: projsym.project(q, k, sigma=0.0, backend="c"), ValueError, "sigma: given 0.0"),
        (lambda: projsym.project(q, k, scale="1", backend="c"), TypeError, "scale: given '1'"),
        (lambda: projsym.project(q, k, scale=1.0, sigma=1.0, backend="c"), ValueError, "scale, sigma"),
        (
            lambda: projsym.project(q, k, key_bias=nan, backend="c"),
            ValueError,
            "key_bias: given NaN",
        ),
        (lambda: projsym.project(q * np.nan, k, backend="c"), ValueError, "q: given NaN"),
        (lambda: projsym.project(q, k * np.inf, backend="c"), ValueError, "k: given NaN or infinite"),
        (lambda: projsym.project(q * 1e30, k * 1e30, backend="c"), OverflowError, "range of float32"),
        (lambda: projsym.attention(q * np.nan, k, k, backend="c"), ValueError, "query: given NaN"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert plan._plans == before


def test_a_mean_that_is_nan_is_found_where_all_weights_are_finite() -> None:
    """A key at minus infinity has score minus infinity, weight 0, and 0 times infinity in the mean."""
    q, k = np.ones((1, 3, 4), np.float32), np.ones((1, 5, 4), np.float32)
    projsym.project(q, k, backend="c")
    k[0, 2, 1] = -np.inf
    with pytest.raises(ValueError, match="k: given NaN or infinite entries"):
        projsym.project(q, k, backend="c")


def test_rows_without_keys_are_no_error() -> None:
    q, k, bias = BASE[0], BASE[1], np.zeros((2, 12), np.float32)
    projsym.project(q, k, key_bias=bias, backend="c")
    bias[1] = -np.inf
    for _ in range(2):
        out, lse = projsym.project(q, k, key_bias=bias, return_lse=True, backend="c")
        assert not out[1].any() and np.isneginf(lse[1]).all() and np.isfinite(lse[0]).all()
        assert np.array_equal(projsym.project(q, k, key_bias=bias, backend="c"), out)


def test_other_kernels_are_not_called_by_an_old_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    projsym.project(BASE[0], BASE[1], backend="c")
    monkeypatch.setattr(manifest, "KERNELS", manifest.KERNELS / "nothing")
    with pytest.raises(FileNotFoundError, match="manifest"):
        projsym.project(BASE[0], BASE[1], backend="c")


def test_plans_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST", 3)
    for n in range(1, 10):
        projsym.project(BASE[0, :, :n], BASE[1], backend="c")
        assert len(plan._plans) <= 3


def test_one_plan_serves_threads_at_once() -> None:
    """Calls release the GIL; a plan that kept addresses of a call would mix them up."""
    inputs = [(BASE + i, BASE - i) for i in range(4)]
    want = [projsym.project(q, k, backend="c") for q, k in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(projsym.project(*inputs[i], backend="c"), want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
