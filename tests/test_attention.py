"""The public functions: values within the proven bound, every layout, empty sizes, every refused argument."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import projsym
from projsym.bounds import forward_bound, lse_bound

BACKENDS = ("c", "numpy")
DTYPES = (np.float32, np.float64)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def exact(
    q: Any, k: Any, v: Any, scale: Any = None, sigma: Any = None, key_bias: Any = None
) -> tuple[Any, Any]:
    """`(out, lse)` in extended precision, by definition."""
    q, k, v = (np.asarray(x, np.longdouble) for x in (q, k, v))
    if sigma is None:
        scale = 1 / np.sqrt(np.longdouble(q.shape[-1])) if scale is None else scale
        scores = scale * (q @ k.swapaxes(-1, -2))
    else:
        gap = q[..., :, None, :] - k[..., None, :, :]
        scores = -(gap * gap).sum(-1) / (2 * np.longdouble(sigma) ** 2)
    if key_bias is not None:
        scores = scores + np.asarray(key_bias, np.longdouble)[..., None, :]
    top = np.maximum(scores.max(-1, keepdims=True, initial=-np.inf), -1e300)
    w = np.exp(scores - top)
    total = w.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return w @ v / np.where(total == 0, 1, total), (np.log(total) + top)[..., 0]


def agrees(
    backend: str, q: np.ndarray, k: np.ndarray, v: np.ndarray | None = None, **options: Any
) -> np.ndarray:
    """Compare with `exact`; the tolerance is the proven bound. NumPy's exp2 is within 4 ulp: 8 roundoffs."""
    error = None if backend == "c" else 8 * float(np.finfo(q.dtype).eps) / 2
    values = k if v is None else v
    if v is None:
        out, lse = projsym.project(q, k, return_lse=True, backend=backend, **options)
    else:
        out, lse = projsym.attention(q, k, v, return_lse=True, backend=backend, **options)
    want, want_lse = exact(q, k, values, **options)
    bound = forward_bound(q, k, values, dtype=q.dtype, exp_error=error, block=1, **options)
    bound_lse = lse_bound(q, k, dtype=q.dtype, exp_error=error, block=1, **options)
    assert np.isfinite(bound).all() and np.isfinite(bound_lse).all()
    assert out.shape == want.shape and lse.shape == want_lse.shape and out.dtype == lse.dtype == q.dtype
    assert (abs(out - want) <= bound[..., None]).all()
    seen = np.isfinite(want_lse)
    assert (abs(lse[seen] - want_lse[seen]) <= bound_lse[seen]).all() and np.isneginf(lse[~seen]).all()
    return out


# 16 features and 7 of values wherever the width does not matter: another width is another compilation.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, m", [(1, 1), (1, 3), (5, 2), (17, 33), (50, 131), (97, 257)])
def test_values(n: int, m: int, dtype: Any, backend: str) -> None:
    q, k, v = (
        normal(2, n, 16, dtype=dtype),
        normal(2, m, 16, dtype=dtype, seed=1),
        normal(2, m, 7, dtype=dtype),
    )
    bias = normal(2, m, dtype=dtype, seed=3)
    bias[0, 1::2] = -np.inf
    agrees(backend, q, k)
    agrees(backend, q, k, v)
    agrees(backend, q, k, sigma=1.5)
    agrees(backend, q, k, key_bias=bias)
    agrees(backend, q, k, key_bias=bias, sigma=3.0)
    for scale in (0, -1.0, Fraction(1, 3), np.float32(0.5)):
        agrees(backend, q, k, v, scale=float(scale))
        assert np.array_equal(
            projsym.attention(q, k, v, scale=scale, backend=backend),
            projsym.attention(q, k, v, scale=float(scale), backend=backend),
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_scores_do_not_overflow(backend: str) -> None:
    agrees(backend, 100 * normal(9, 16), 100 * normal(20, 16, seed=1), scale=10.0)
    agrees(backend, 1e-3 * normal(9, 16), 1e-3 * normal(20, 16, seed=1), sigma=1e-4)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed heads": lambda x: np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    "reversed heads": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every other row": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed rows": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "every other feature": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "column major": np.asfortranarray,
    "wider rows": lambda x: np.concatenate([x, x], axis=2)[:, :, : x.shape[2]],
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "read only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, backend: str) -> None:
    """C: bitwise the result of contiguous copies. NumPy (BLAS may choose another order): within the bound."""
    q, k, v = normal(3, 19, 16), normal(3, 21, 16, seed=1), normal(3, 21, 7)
    bias = normal(3, 1, 21)
    change = LAYOUTS[layout]
    for x in (q, k, v):
        assert np.array_equal(change(x), x)
    got = agrees(backend, change(q), change(k), change(v))
    other = agrees(backend, change(q), change(k), key_bias=change(bias)[:, 0])
    if backend == "c":
        assert np.array_equal(got, projsym.attention(q, k, v, backend="c"))
        assert np.array_equal(other, projsym.project(q, k, key_bias=bias[:, 0], backend="c"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "leads",
    [
        ((), (), ()),
        ((4,), (), (4,)),
        ((2, 3), (3,), (2, 1)),
        ((2, 1), (1, 3), ()),
        ((1, 1, 2), (5, 1, 1), (2,)),
    ],
)
def test_leading_axes_broadcast(leads: tuple[tuple[int, ...], ...], backend: str) -> None:
    q, k, v = normal(*leads[0], 6, 16), normal(*leads[1], 9, 16, seed=1), normal(*leads[2], 9, 7, seed=2)
    lead = np.broadcast_shapes(*leads)
    assert agrees(backend, q, k, v).shape == (*lead, 6, 7)
    bias = normal(*leads[2], 9)
    assert agrees(backend, q, k, key_bias=bias, sigma=2.0).shape == (*lead, 6, 16)


@pytest.mark.parametrize("backend", BACKENDS)
def test_broadcast_keys_are_not_copied(backend: str) -> None:
    """Keys of 64 kB seen by 100,000 heads would be 6.5 GB: an address space limit would be hit."""
    code = (
        "import resource, numpy as np, projsym\n"
        "k = np.broadcast_to(np.ones((128, 128), np.float32), (100_000, 128, 128))\n"
        "q = np.ones((100_000, 1, 128), np.float32)\n"
        f"projsym.project(q[:2], k[:2], backend={backend!r})\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))\n"
        f"out = projsym.project(q, k, backend={backend!r})\n"
        "assert (out == 1).all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(dtype: Any, backend: str) -> None:
    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype)

    for shape_q, shape_k, dv in [
        ((0, 16), (5, 16), 7),
        ((3, 16), (0, 16), 7),
        ((0, 16), (0, 16), 7),
        ((0, 2, 16), (5, 16), 7),
    ]:
        lead = shape_q[:-2]
        n = shape_q[-2]
        out, lse = projsym.attention(
            zeros(*shape_q), zeros(*shape_k), zeros(shape_k[0], dv), return_lse=True, backend=backend
        )
        assert out.shape == (*lead, n, dv) and not out.any()
        assert lse.shape == (*lead, n) and np.isneginf(lse).all() == (shape_k[0] == 0 or lse.size == 0)
        for options in ({}, {"sigma": 1.0}, {"key_bias": zeros(shape_k[0])}):
            out = projsym.project(zeros(*shape_q), zeros(*shape_k), backend=backend, **options)
            assert out.shape == shape_q and not out.any() and out.dtype == dtype
    # No features: all scores are equal, so values are averaged; no value features: only the lse is left.
    v = np.arange(6, dtype=dtype).reshape(3, 2)
    out, lse = projsym.attention(zeros(2, 0), zeros(3, 0), v, return_lse=True, backend=backend)
    assert (abs(out - [2, 3]) <= 8 * np.finfo(dtype).eps).all()
    assert (abs(lse - np.log(3)) <= 4 * np.finfo(dtype).eps).all()
    out, lse = projsym.attention(zeros(2, 4), zeros(3, 4), zeros(3, 0), return_lse=True, backend=backend)
    assert out.shape == (2, 0) and (abs(lse - np.log(3)) <= 4 * np.finfo(dtype).eps).all()
    assert projsym.project(zeros(2, 0), zeros(3, 0), backend=backend).shape == (2, 0)
    assert projsym.project(zeros(2, 0), zeros(3, 0), sigma=2.0, backend=backend).shape == (2, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_that_sees_no_key_is_the_unit(backend: str) -> None:
    q, k = normal(2, 5, 16), normal(2, 7, 16, seed=1)
    bias = np.zeros((2, 7), np.float32)
    bias[1] = -np.inf
    out, lse = projsym.project(q, k, key_bias=bias, return_lse=True, backend=backend)
    assert not out[1].any() and np.isneginf(lse[1]).all() and np.isfinite(lse[0]).all()
    agrees(backend, q, k, key_bias=bias)


def test_threads_do_not_change_a_bit() -> None:
    q, k, v = normal(3, 301, 24), normal(3, 517, 24, seed=1), normal(3, 517, 24, seed=2)
    results = []
    try:
        for n in (1, 2, 3, 7):
            projsym.set_num_threads(n)
            results.append(projsym.attention(q, k, v, return_lse=True, backend="c"))
    finally:
        projsym.set_num_threads(None)
    assert all(np.array_equal(a, b) for r in results[1:] for a, b in zip(r, results[0], strict=True))


def test_array_likes() -> None:
    rows = [[1.0, 2.0], [3.0, 4.0]]
    assert projsym.project(rows, rows).dtype == np.float64
    import torch

    x = torch.tensor(rows)
    assert np.array_equal(projsym.project(x, x), projsym.project(x.numpy(), x.numpy()))
    with pytest.raises(
        TypeError, match=r"q: given Tensor \(.*grad.*\); allowed: an array of float32 or float64"
    ):
        projsym.project(x.requires_grad_(), x)
    with pytest.raises(TypeError, match="k: given float32; allowed: bfloat16, the dtype of q"):
        projsym.project(x.detach().to(torch.bfloat16), x.detach())


Q, K, V = normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 6)
B = normal(2, 5)
P, A = projsym.project, projsym.attention
REFUSED: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: P(Q.astype(np.float16), K), TypeError, r"q: given float16 array; allowed: an array of float32"),
    (lambda: P(Q, K.astype(np.int64)), TypeError, r"k: given int64 array; allowed: an array of float32"),
    (lambda: P(Q.astype(">f4"), K), TypeError, r"q: given >f4 array; .*native byte order"),
    (lambda: P(Q.astype(complex), K), TypeError, r"q: given complex128 array"),
    (lambda: P(Q > 0, K), TypeError, r"q: given bool array"),
    (lambda: P(Q, None), TypeError, r"k: given object array"),
    (lambda: P([[1.0], [2.0, 3.0]], K), TypeError, r"q: given list \("),
    (lambda: P(np.ma.masked_array(Q), K), TypeError, r"q: given a masked array; .*key_bias"),
    (lambda: P(Q, K.astype(np.float64)), TypeError, r"k: given float64; allowed: float32, the dtype of q"),
    (lambda: P(Q[0, 0], K), ValueError, r"q: given shape \(4,\); allowed: at least 2 axes"),
    (
        lambda: P(Q, K[..., :3]),
        ValueError,
        r"k: given shape \(2, 5, 3\); allowed: shape \(..., m, 4\) as in q",
    ),
    (
        lambda: P(Q, normal(3, 5, 4)),
        ValueError,
        r"leading axes of q, k: given \(2,\) of q, \(3,\) of k; allowed",
    ),
    (lambda: P(Q, K, scale=1.0, sigma=1.0), ValueError, r"scale, sigma: given 1.0 and 1.0; allowed: one"),
    (lambda: P(Q, K, scale=np.nan), ValueError, r"scale: given nan; allowed: a finite real number"),
    (lambda: P(Q, K, scale=10**400), ValueError, r"scale: given a number outside the range of float64"),
    (lambda: P(Q, K, scale=True), TypeError, r"scale: given True of type bool; allowed: a finite real"),
    (lambda: P(Q, K, scale=1j), TypeError, r"scale: given 1j of type complex"),
    (lambda: P(Q, K, scale="1"), TypeError, r"scale: given '1' of type str"),
    (lambda: P(Q, K, scale=np.ones(2)), TypeError, r"scale: given .* of type ndarray"),
    (
        lambda: P(Q, K, sigma=0.0),
        ValueError,
        r"sigma: given 0.0; allowed: a finite real number greater than 0",
    ),
    (lambda: P(Q, K, sigma=-1), ValueError, r"sigma: given -1.0; allowed: .*greater than 0"),
    (lambda: P(Q, K, sigma=np.inf), ValueError, r"sigma: given inf"),
    (
        lambda: P(Q, K, key_bias=B[..., :4]),
        ValueError,
        r"key_bias: given shape \(2, 4\); allowed: .*\(..., 5\)",
    ),
    (
        lambda: P(Q, K, key_bias=np.float32(1)),
        ValueError,
        r"key_bias: given shape \(\); allowed: at least 1 axis",
    ),
    (lambda: P(Q, K, key_bias=B.astype(float)), TypeError, r"key_bias: given float64; allowed: float32"),
    (
        lambda: P(Q, K, key_bias=B * np.nan),
        ValueError,
        r"key_bias: given NaN; allowed: finite numbers and -inf",
    ),
    (lambda: P(Q, K, key_bias=abs(B) * np.inf), ValueError, r"key_bias: given \+inf"),
    (lambda: P(Q, K, backend="cuda"), ValueError, r"backend: given 'cuda'; allowed: 'c', 'numpy' or None"),
    (
        lambda: A(Q, K, V[:, :4]),
        ValueError,
        r"value: given shape \(2, 4, 6\); allowed: shape \(..., 5, dv\) as in key",
    ),
    (lambda: A(Q, K[..., :3], V), ValueError, r"key: given shape \(2, 5, 3\); .* as in query"),
    (
        lambda: A(Q, K, V.astype(float)),
        TypeError,
        r"value: given float64; allowed: float32, the dtype of query",
    ),
    (
        lambda: A(Q, K, normal(3, 5, 6)),
        ValueError,
        r"leading axes of query, key, value: given \(2,\) of query",
    ),
    (lambda: A(Q, K, V, scale=-np.inf), ValueError, r"scale: given -inf"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused(case: int) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{}, {"sigma": 2.0}, {"key_bias": B}], ids=["dot", "gaussian", "biased"])
def test_poisoned_inputs_are_named(options: Any, poison: float, backend: str) -> None:
    bad_q, bad_k = Q.copy(), K.copy()
    bad_q[1, 2, 3] = bad_k[1, 0, 0] = poison
    with pytest.raises(ValueError, match="q: given NaN or infinite entries; allowed: finite numbers"):
        P(bad_q, K, backend=backend, **options)
    with pytest.raises(ValueError, match="k: given NaN or infinite entries"):
        P(Q, bad_k, backend=backend, **options)
    if not options:
        with pytest.raises(ValueError, match="query: given NaN or infinite entries"):
            A(bad_q, K, V, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_overflow_says_what_to_do(sign: int, backend: str) -> None:
    q, k = np.full((2, 4), 1e30, np.float32), np.full((3, 4), sign * 1e30, np.float32)
    with pytest.raises(OverflowError, match=r"range of float32 \(up to 3.40e\+38\): use float64"):
        P(q, k, backend=backend)
    with pytest.raises(OverflowError, match="float32"):
        P(q, k, sigma=1e-10, backend=backend)
    out = P(q.astype(float), k.astype(float), backend=backend)
    assert (abs(out / (sign * 1e30) - 1) <= 1e-6).all()
    with pytest.raises(OverflowError, match="float64"):
        P(1e160 * q.astype(float), 1e160 * k.astype(float), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_that_are_not_finite_reach_their_head(backend: str) -> None:
    v = V.copy()
    v[1, 2, 3] = np.nan
    out = A(Q, K, v, backend=backend)
    assert np.isnan(out[1, :, 3]).all() and np.isfinite(np.delete(out, 3, axis=2)).all()


def test_import_is_light() -> None:
    code = "import sys, projsym; assert projsym.__version__; assert 'sympy' not in sys.modules; dir(projsym)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no_such_name"):
        projsym.no_such_name  # noqa: B018


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_lse_nothing_else_changes(dtype: type) -> None:
    """The same bits, zero for rows without keys, and an error for rows whose scores are below the range."""
    rng = np.random.default_rng(3)
    q, k = (rng.standard_normal((2, n, 5)).astype(dtype) for n in (4, 7))
    bias = np.zeros((2, 7), dtype)
    bias[1] = -np.inf
    for options in ({}, {"key_bias": bias}):
        out, _ = projsym.project(q, k, return_lse=True, backend="c", **options)
        np.testing.assert_array_equal(out, projsym.project(q, k, backend="c", **options))
    assert not projsym.project(q, k, key_bias=bias, backend="c")[1].any()
    large = dtype(4 * np.sqrt(np.finfo(dtype).max))
    with pytest.raises(OverflowError, match="outside the range"):
        projsym.project(np.full_like(q, large), np.full_like(k, -large), scale=1.0, backend="c")
