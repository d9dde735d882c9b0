"""Vectors of bfloat16: the results of float32 on the same numbers, bit for bit, rounded once; and bounds.

So it is where a CPU does not multiply pairs of bfloat16 numbers, or is asked for an instruction set without.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import projsym
from projsym.bounds import forward_bound, lse_bound
from projsym.runtime import dispatch, isa, plan, storage
from projsym.runtime.manifest import load

BF16 = np.dtype(ml_dtypes.bfloat16)
wide = storage.widened


@pytest.fixture(scope="module", autouse=True)
def without_pairs() -> Iterator[None]:
    """An instruction set that does not multiply pairs; kernels that are loaded already are set aside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "_kernels", {})
        patch.setattr(plan, "_plans", {})
        if isa.multiplies_pairs():
            patch.setenv(isa.VARIABLE, isa.available()[1])
        assert not isa.multiplies_pairs()
        yield


def normal(*shape: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)
    return (size * drawn).astype(BF16)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == BF16 and np.array_equal(a.view(np.uint16), b.view(np.uint16))


OPTIONS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "plain": lambda n, m: {},
    "numpy": lambda n, m: {"backend": "numpy"},
    "causal": lambda n, m: {"is_causal": True},
    "window": lambda n, m: {"window": (3, 2), "kv_lengths": [m, m - 1]},
    "softcap": lambda n, m: {"softcap": 2.0},
    "bias": lambda n, m: {"key_bias": normal(m, seed=7)},
    "mask": lambda n, m: {"attn_mask": normal(n, m, seed=8)},
    "booleans": lambda n, m: {"attn_mask": np.arange(m) % 3 > 0},
    "past": lambda n, m: {"past_key": normal(2, 3, 24), "past_value": normal(2, 3, 20), "is_causal": True},
}
# None of a tile, tiles with a rest, few queries, keys in parts, blocks whose scores norms bound.
SIZES = [(1, 1), (5, 7), (49, 129), (1, 800), (3, 1600), (100, 130)]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_attention_is_that_of_float32_rounded(n: int, m: int, option: str) -> None:
    q, k, v = normal(2, n, 24), normal(2, m, 24, seed=1), normal(2, m, 20, seed=2)
    options = OPTIONS[option](n, m)
    out, lse = projsym.attention(q, k, v, return_lse=True, **options)
    widened = {name: wide(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    expected, sums = projsym.attention(wide(q), wide(k), wide(v), return_lse=True, **widened)
    assert same(out, expected.astype(BF16)) and lse.dtype == np.float32 and np.array_equal(lse, sums)
    for _ in range(2):  # the second call goes by the plan of the first
        assert same(projsym.attention(q, k, v, **options), out)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backend": "numpy"},
        {"sigma": 1.5},
        {"is_causal": True},
        {"sigma": np.linspace(1, 2, 130).astype(BF16)},
        {"sigma": 1.5, "key_bias": np.linspace(1, 2, 130).astype(BF16)},
    ],
)
@pytest.mark.parametrize("n", [1, 3, 50, 100])
@pytest.mark.parametrize("d", [16, 21])
def test_projection_is_that_of_float32_rounded(n: int, d: int, options: dict[str, Any]) -> None:
    q, k = normal(2, n, d), normal(2, 130, d, seed=1)
    out, lse = projsym.project(q, k, return_lse=True, **options)
    widened = {name: wide(x) for name, x in options.items()}
    expected, sums = projsym.project(wide(q), wide(k), return_lse=True, **widened)
    assert same(out, expected.astype(BF16)) and np.array_equal(lse, sums)
    for _ in range(2):
        assert same(projsym.project(q, k, **options), out)


def test_layouts() -> None:
    """Heads that share keys, strided features, rows that run backwards, groups of heads."""
    q, k = normal(2, 4, 9, 16), normal(2, 1, 30, 32)
    for keys in (k[..., :16], k[..., ::2], k[:, :, ::-1, :16], k[:1, :, :, 16:]):
        out = projsym.attention(q, keys, keys)
        assert same(out, projsym.attention(wide(q), wide(keys), wide(keys)).astype(BF16))
    keys = normal(2, 2, 30, 16)
    out = projsym.attention(q, keys, keys, enable_gqa=True)
    assert same(out, projsym.attention(wide(q), wide(keys), wide(keys), enable_gqa=True).astype(BF16))


def test_any_number_of_threads() -> None:
    q, k = normal(3, 100, 32), normal(3, 900, 32)
    try:
        found = []
        for n in (1, 2):
            projsym.set_num_threads(n)
            found += [(projsym.project(q, k), projsym.attention(q[:, :1], k, k))]
    finally:
        projsym.set_num_threads(None)
    assert all(same(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("size", [1.0, 30.0, 1e-39])
def test_within_the_bound(size: float) -> None:
    """Queries with values of ordinary size, large ones, and ones below the least normal number."""
    q, k, v = normal(2, 60, 16), normal(2, 70, 16, seed=1), normal(2, 70, 16, seed=2, size=size)
    out, lse = projsym.attention(q, k, v, return_lse=True)
    order = load()["attention"].order("c/bfloat16", 60, 70, 16)
    exact, sums = projsym.attention(*(x.astype(np.float64) for x in (q, k, v)), return_lse=True)
    bound = forward_bound(q, k, v, **order)
    error = np.abs(out.astype(np.float64) - exact).max(axis=-1)
    own = forward_bound(*(x.astype(np.float64) for x in (q, k, v)), block=1)
    assert (error <= bound + own).all()
    if size >= 1:  # half a unit in the last place is reached, or nearly: the bound says no more than it must
        assert error.max() > 0.4 * bound.max()
    assert (np.abs(lse - sums) <= lse_bound(q, k, **order) + 1e-12).all()
    assert order["weight_error"] == 0
    assert np.array_equal(bound, forward_bound(wide(q), wide(k), wide(v), dtype="bfloat16", **order))
    assert (bound > forward_bound(wide(q), wide(k), wide(v), **order)).all()
    assert (bound < forward_bound(q, k, v, **order | {"weight_error": None})).all()


def test_what_is_not_finite() -> None:
    q, k, v = normal(1, 5, 8), normal(1, 6, 8, seed=1), normal(1, 6, 8, seed=2)
    v[0, 5] = np.nan
    causal = projsym.attention(q, k, v, is_causal=True)  # no query sees the last key
    assert same(causal, projsym.attention(q, k[:, :5], v[:, :5], is_causal=True))
    assert np.isnan(projsym.attention(q, k, v).astype(np.float32)).all()
    v[0, 5] = np.inf
    assert np.isposinf(projsym.attention(q, k, v).astype(np.float32)).all()
    k[0, 2] = np.nan
    with pytest.raises(ValueError, match="key: given NaN or infinite entries; allowed: finite numbers"):
        projsym.attention(q, k, v)
    with pytest.raises(ValueError, match="k: given NaN or infinite entries; allowed: finite numbers"):
        projsym.project(q, k)
    with pytest.raises(OverflowError, match="outside the range of float32"):
        projsym.attention(normal(1, 5, 8, size=1e30), normal(1, 6, 8, size=1e30), normal(1, 6, 8))


@pytest.mark.parametrize(("n", "m", "d"), [(0, 3, 4), (3, 0, 4), (3, 5, 0)])
def test_empty(n: int, m: int, d: int) -> None:
    q, k, v = normal(2, n, d), normal(2, m, d), normal(2, m, 4)
    out, lse = projsym.attention(q, k, v, return_lse=True)
    expected, sums = projsym.attention(wide(q), wide(k), wide(v), return_lse=True)
    assert same(out, expected.astype(BF16)) and np.array_equal(lse, sums)


def test_tensors() -> None:
    q, k = normal(2, 9, 16), normal(2, 20, 16)
    out, lse = projsym.attention(*map(tensor, (q, k, k)), key_bias=tensor(normal(20)), return_lse=True)
    assert isinstance(out, torch.Tensor) and out.dtype == torch.bfloat16
    assert lse.dtype == np.float32
    assert torch.equal(out, tensor(projsym.attention(q, k, k, key_bias=normal(20))))
    made = projsym.project(tensor(q).transpose(0, 1), tensor(k[0]))
    assert torch.equal(made, tensor(projsym.project(q.swapaxes(0, 1), k[0])))


WITHOUT = """
import sys
sys.modules["ml_dtypes"] = None
import torch
import projsym
x = torch.ones(2, 3, 4, dtype=torch.bfloat16)
assert torch.equal(projsym.attention(x, x, x), x) and torch.equal(projsym.project(x, x, backend="numpy"), x)
"""


def test_the_extension_type_is_not_needed() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


def test_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = normal(2, 9, 16), normal(2, 20, 16)
    seen: list[int] = []
    real = plan.Plan.__call__

    def spy(self: plan.Plan, arrays: Any, parameters: Any) -> Any:
        seen.extend(x.ctypes.data for x in arrays)
        return real(self, arrays, parameters)

    monkeypatch.setattr(plan.Plan, "__call__", spy)
    projsym.project(q, k, is_causal=True)
    projsym.project(tensor(q), tensor(k))
    assert seen == [q.ctypes.data, k.ctypes.data] * 2


X, Y = normal(2, 3, 4), np.ones((2, 3, 4), np.float32)
A, P = projsym.attention, projsym.project


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: A(X, Y, X), "key: given float32; allowed: bfloat16, the dtype of query"),
        (lambda: A(Y, X, Y), "key: given bfloat16; allowed: float32, the dtype of query"),
        (lambda: A(X, X, tensor(X)), "value: given bfloat16 of PyTorch; allowed: bfloat16, the dtype of"),
        (
            lambda: A(Y.astype(np.float16), X, X),
            "query: given float16 array; allowed: an array of float32 or",
        ),
        (
            lambda: A(X, X, X, key_bias=np.ones(3)),
            "key_bias: given float64; allowed: float32, the dtype of query",
        ),
        (lambda: P(tensor(X).requires_grad_(), tensor(X)), "q: given a bfloat16 tensor, one that requires"),
        (
            lambda: projsym.attention_backward(X, X, X, X, X, Y[..., 0]),
            "query: given bfloat16 array; allowed: an array of float32 or float64",
        ),
        (lambda: P(X.view(np.uint16), X), "q: given uint16 array"),
        (lambda: P(X.astype(ml_dtypes.float8_e4m3), X), "q: given float8_e4m3 array"),
    ],
)
def test_refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value).startswith(text)
