"""Few queries against long keys through the public functions: bits, bounds, masks and strides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import projsym
from projsym import attention, check, project
from projsym.bounds import forward_bound, lse_bound
from projsym.codegen.generate import kernels
from projsym.runtime.manifest import load

KERNELS = {kernel.name: kernel for kernel in kernels()}
PARTS = load()["attention"].parts["c/float32"]
LONG = 2 * PARTS.size + 5


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    projsym.set_num_threads(None)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("n", [1, PARTS.few, PARTS.few + 1, PARTS.below - 1])
def test_no_bit_depends_on_threads_or_on_other_heads(n: int) -> None:
    q, k, v = draw(4, n, 32), draw(4, LONG, 32), draw(4, LONG, 8)
    projsym.set_num_threads(1)
    want = attention(q, k, v, return_lse=True, backend="c")
    for threads in (2, 5):
        projsym.set_num_threads(threads)
        got = attention(q, k, v, return_lse=True, backend="c")
        assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))
    one = attention(q[2], k[2], v[2], return_lse=True, backend="c")
    assert all(np.array_equal(a[2], b) for a, b in zip(want, one, strict=True))


@pytest.mark.parametrize("n", [1, 2, PARTS.few + 1])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("attention", "float32"), ("project_gaussian_biased", "float64"), ("project_dot", "float32")],
)
def test_a_kernel_in_parts_is_in_its_ball(name: str, dtype: str, n: int) -> None:
    found = check.check_kernel(KERNELS[name], dtype, "c", ((n, PARTS.size + 1, check.WIDTH),))
    assert found.good and found.max_abs_err > 0 and found.lse_abs_err > 0


@pytest.mark.parametrize("n", [1, PARTS.few, PARTS.few + 1, 49])
def test_a_row_sees_its_range_alone(n: int) -> None:
    """Under a window and lengths: bit for bit what zeros in the place of hidden keys give, NaN or not."""
    q, k, v = draw(2, n, 16), draw(2, LONG, 16), draw(2, LONG, 16)
    lengths = np.array([PARTS.size + 9, 3])
    clean_k, clean_v = k.copy(), v.copy()
    for h, m in enumerate(lengths):
        clean_k[h, m:], clean_v[h, m:] = 0, 0
        k[h, m:], v[h, m:] = np.nan, np.inf
    want = attention(q, clean_k, clean_v, kv_lengths=lengths, backend="c")
    assert np.array_equal(attention(q, k, v, kv_lengths=lengths, backend="c"), want)
    for h, m in enumerate(lengths):
        bound = sum(
            forward_bound(q[h], k[h, :m], v[h, :m], **x) for x in ({"dtype": "float32"}, {"block": 1})
        )
        short = attention(q[h], k[h, :m], v[h, :m], backend="c")
        assert (np.abs(want[h] - short).max(axis=-1) <= bound).all()


@pytest.mark.parametrize("options", [{"is_causal": True}, {"window": (40, 0)}, {"key_bias": True}])
@pytest.mark.parametrize("n", [1, 3, 5, 60])
def test_masks_of_few_queries(n: int, options: dict[str, Any]) -> None:
    m = PARTS.size + 70
    q, k, v = draw(n, 16), draw(m, 16), draw(m, 16)
    if "key_bias" in options:
        options = {"key_bias": np.where(np.arange(m) % 3, draw(m), np.float32(-np.inf))}
    if "is_causal" in options or "window" in options:
        options = options | {"past_key": k[: m - n], "past_value": v[: m - n]}
        k, v = k[m - n :], v[m - n :]
    by_c, by_numpy = (
        attention(q, k, v, return_lse=True, backend=backend, **options) for backend in ("c", "numpy")
    )
    given = {x: options[x] for x in ("is_causal", "window", "key_bias") if x in options}
    if "past_key" in options:
        k, v = (np.concatenate((options[x], y)) for x, y in (("past_key", k), ("past_value", v)))
        given["past"] = m - n
    order = load()["attention"].order("c/float32", n, m, 16)
    other = load()["attention"].order("numpy", n, m, 16) | {"exp_error": check.NUMPY_EXP_ERROR["float32"]}
    out = sum(forward_bound(q, k, v, **given, **x) for x in (order, other))
    lse = sum(lse_bound(q, k, **given, **x) for x in (order, other))
    assert (np.abs(by_c[0] - by_numpy[0]).max(axis=-1) <= out).all()
    assert (np.abs(by_c[1] - by_numpy[1]) <= lse).all()


def test_rows_of_any_stride() -> None:
    """Keys as (m, heads, d) in memory, one element off alignment, and of odd length."""
    for d in (16, 13):
        flat = np.empty(3 * LONG * d + 1, np.float32)[1:]
        k = flat.reshape(LONG, 3, d).swapaxes(0, 1)
        k[...] = draw(3, LONG, d)
        q = draw(3, 1, d)
        want = project(q, np.ascontiguousarray(k), backend="c")
        assert np.array_equal(project(q, k, backend="c"), want)


def test_scores_out_of_range_are_an_error() -> None:
    q, k = draw(1, 8), draw(LONG, 8)
    k[-1] = 3e38
    with pytest.raises(OverflowError):
        project(q * 1e5, k, backend="c")
    k[-1] = np.nan
    with pytest.raises(ValueError, match="k: given NaN"):
        project(q, k, backend="c")


def test_huge_scores_move_from_part_to_part() -> None:
    """The maximum is in the last part, far above the others: what was before is rescaled to nothing."""
    q, k = np.ones((1, 8), np.float32), np.zeros((LONG, 8), np.float32)
    k[:, 0] = np.linspace(-1e4, 1e4, LONG)
    k[-1, 1] = 7
    out, lse = project(q, k, scale=1.0, return_lse=True, backend="c")
    assert np.array_equal(out[0], k[-1]) and lse[0] == np.float32(1e4 + 7)
