"""bfloat16 where products are added in pairs: by the CPU if it can, else by other instructions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import projsym
from projsym.bounds import forward_bound, lse_bound
from projsym.runtime import isa, storage
from projsym.runtime.c_kernel import CKernel
from projsym.runtime.cache import compiled
from projsym.runtime.compiler import find
from projsym.runtime.layout import Ranges
from projsym.runtime.manifest import KERNELS, load

BF16 = np.dtype(ml_dtypes.bfloat16)
ORDER: dict[str, Any] = {"sequential": False, "weight_error": 2.0**-8}


def normal(*shape: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)
    return (size * drawn).astype(BF16)


def call(
    name: str, flags: tuple[str, ...], arrays: dict[str, np.ndarray], ranges: Ranges | None = None
) -> tuple[Any, Any]:
    """out and lse of a kernel for bfloat16, compiled with flags, for two heads."""
    q = arrays["q"]
    sizes = {"d": q.shape[-1]} | ({"dv": arrays["v"].shape[-1]} if "v" in arrays else {})
    kernel = CKernel(load()[name], storage.BFLOAT16, sizes, flags)
    parameter = 0.7 if name == "project_gaussian" else q.shape[-1] ** -0.5
    (out, lse), status = kernel(q.shape[:1], arrays, (parameter,), (), ranges)
    assert status == 0 and out is not None and lse is not None
    return out, lse


# Tiles and blocks with a rest, odd numbers of keys and features, one key, parts, blocks that norms bound.
SIZES = [(4, 1, 3), (5, 7, 16), (49, 129, 21), (60, 1601, 33), (100, 130, 64), (97, 65, 70)]


@pytest.mark.parametrize("name", ["attention", "project_dot", "project_gaussian"])
@pytest.mark.parametrize(("n", "m", "d"), SIZES)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_within_the_bound(name: str, n: int, m: int, d: int, size: float) -> None:
    arrays = {"q": normal(2, n, d), "k": normal(2, m, d, seed=1)}
    if name == "attention":
        arrays["v"] = normal(2, m, 20, seed=2, size=size)
    else:
        arrays = {x: a * BF16.type(size**0.5) for x, a in arrays.items()}
    out, lse = call(name, ("-DPAIRED",), arrays)
    wide = {x: a.astype(np.float64) for x, a in arrays.items()}
    options = {"sigma": 0.7} if name == "project_gaussian" else {}
    function = projsym.attention if name == "attention" else projsym.project
    exact, sums = function(*wide.values(), return_lse=True, **options)
    values = arrays.get("v", arrays["k"])
    given = (arrays["q"], arrays["k"])
    bound = forward_bound(*given, values, block=24, **options, **ORDER)
    own = forward_bound(wide["q"], wide["k"], values.astype(np.float64), block=1, **options)
    error = np.abs(out.astype(np.float64) - exact).max(axis=-1)
    assert (error <= bound + own).all()
    assert (np.abs(lse - sums) <= lse_bound(*given, block=24, **options, **ORDER) + 1e-11).all()


@pytest.mark.parametrize("n", [50, 100])
def test_means_of_like_vectors_are_these(n: int) -> None:
    """The weights that a mean is divided by are the rounded ones that its vectors have."""
    q, k = normal(2, n, 32), normal(2, 200, 32, seed=1)
    v = np.broadcast_to(normal(1, 1, 20), (2, 200, 20)).copy()
    out, _ = call("attention", ("-DPAIRED",), {"q": q, "k": k, "v": v})
    assert np.array_equal(out.view(np.uint16), v[:, :n].view(np.uint16))


def test_pairs_are_taken_where_they_are_said_to_be() -> None:
    """Rounded weights show in the results, but not in few queries, and not in the log-sum-exp."""
    q, k, v = normal(2, 100, 64), normal(2, 400, 64, seed=1), normal(2, 400, 64, seed=2)
    arrays = {"q": q, "k": k, "v": v}
    paired, whole = (call("attention", (f"-D{x}",), arrays) for x in ("PAIRED", "WHOLE_WEIGHTS"))
    assert not np.array_equal(paired[0].view(np.uint16), whole[0].view(np.uint16))
    assert (np.abs(paired[1] - whole[1]) <= 2 * lse_bound(q, k, block=24, sequential=False)).all()
    out = projsym.attention(q, k, v)
    taken = paired if isa.multiplies_pairs() else whole
    assert np.array_equal(out.view(np.uint16), taken[0].view(np.uint16))
    few = {"q": q[:, :1].copy(), "k": k, "v": v}
    one, other = (call("attention", (f"-D{x}",), few)[0] for x in ("PAIRED", "WHOLE_WEIGHTS"))
    assert np.array_equal(one.view(np.uint16), other.view(np.uint16))


def test_what_a_row_does_not_see_counts_nothing() -> None:
    q, k, v = normal(2, 60, 33), normal(2, 131, 33, seed=1), normal(2, 131, 20, seed=2)
    ends = np.broadcast_to(np.arange(60, dtype=np.int64) + 1, (2, 60)).copy()
    ranges = (np.zeros_like(ends), ends)
    found = call("attention", ("-DPAIRED",), {"q": q, "k": k, "v": v}, ranges)
    v[:, 60:], k[:, 60:] = BF16.type(np.nan), BF16.type(np.nan)
    again = call("attention", ("-DPAIRED",), {"q": q, "k": k, "v": v}, ranges)
    assert all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in zip(found, again, strict=True))
    want = projsym.attention(*(x.astype(np.float64) for x in (q, k[:, :60], v[:, :60])), is_causal=True)
    bound = forward_bound(q, k[:, :60], v[:, :60], block=24, is_causal=True, **ORDER)
    assert (np.abs(found[0].astype(np.float64) - want).max(-1) <= bound + 1e-12).all()


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_what_is_not_finite_shows(spoil: float) -> None:
    q, k, v = normal(1, 60, 8), normal(1, 65, 8, seed=1), normal(1, 65, 8, seed=2)
    v[0, 64] = BF16.type(spoil)
    out = projsym.attention(q, k, v).astype(np.float32)
    assert (np.isnan(out) if np.isnan(spoil) else np.isposinf(out)).all()
    k[0, 64] = BF16.type(spoil)
    with pytest.raises(ValueError, match="key: given NaN or infinite entries"):
        projsym.attention(q, k, v)


def test_any_number_of_threads() -> None:
    q, k = normal(3, 100, 32), normal(3, 900, 32)
    found = []
    try:
        for n in (1, 2):
            projsym.set_num_threads(n)
            found.append(projsym.project(q, k).view(np.uint16))
    finally:
        projsym.set_num_threads(None)
    assert np.array_equal(*found)


_ADD = """
void add_pairs(const T *a, const T *b, T *c, long n) {
  for (long l = 0; l < n; l += W) *(VU *)(c + l) = ADD_PAIRS(LOADU(a + l), LOADU(b + l), LOADU(c + l));
}
void narrow(T *x, long n) {
  for (long l = 0; l < n; l += W) *(VU *)(x + l) = NARROWED(LOADU(x + l));
}
"""


def library() -> ctypes.CDLL:
    text = (KERNELS / "project_dot_bfloat16.c").read_text() + _ADD
    return ctypes.CDLL(str(compiled(text, "pairs", ("-DPAIRED", "-DD_d=16"), find())))


def add_pairs() -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The instruction, or what stands in for it, lane by lane."""
    function = library().add_pairs

    def run(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        c = c.copy()
        at = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)]
        function(*at, ctypes.c_long(len(c)))
        return c

    return run


def test_two_products_and_a_sum_take_two_roundings() -> None:
    """What the bound assumes of an instruction, on random pairs, also such that cancel."""
    rng = np.random.default_rng(5)
    n = 1 << 16
    a, b = ((2.0 ** rng.integers(-9, 9, (n, 2)) * rng.standard_normal((n, 2))).astype(BF16) for _ in range(2))
    exact = a.astype(np.float64) * b.astype(np.float64)
    c = rng.standard_normal(n).astype(np.float32)
    c[::2] = -(exact[::2].sum(-1)).astype(np.float32)
    got = add_pairs()(a.view(np.uint32).ravel(), b.view(np.uint32).ravel(), c)
    want, u = c + exact.sum(-1), 2.0**-24
    size = np.abs(c) + np.abs(exact).sum(-1)
    assert (np.abs(got - want) <= (2 * u + u * u) * size).all()
    assert (got[1::2] != 0).all() and len(np.unique(got)) > n / 2


def test_weights_are_rounded_to_the_nearest() -> None:
    rng = np.random.default_rng(6)
    x = np.abs(rng.standard_normal(1 << 14) * 2.0 ** rng.integers(-28, 28, 1 << 14)).astype(np.float32)
    x[:3] = 0, np.inf, np.nan
    given = x.copy()
    library().narrow(ctypes.c_void_p(x.ctypes.data), ctypes.c_long(len(x)))
    nearest = given.astype(BF16).astype(np.float32)
    assert not (x.view(np.uint32) & 0xFFFF).any() and np.isnan(x[2])
    tie = given.view(np.uint32) & 0xFFFF == 0x8000
    assert np.array_equal(x[~tie], nearest[~tie], equal_nan=True)
    assert (np.abs(x[3:] - given[3:]) <= 2.0**-8 * given[3:]).all()
