"""The backward functions: gradients within their bound, edge sizes, layouts, threads, refused arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import projsym
from projsym.bounds_backward import backward_bound

BACKENDS = ("c", "numpy")
DTYPES = (np.float32, np.float64)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def saved(
    q: np.ndarray, k: np.ndarray, v: np.ndarray | None, backend: str = "c", **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    if v is None:
        return projsym.project(q, k, return_lse=True, backend=backend, **options)  # type: ignore[arg-type]
    return projsym.attention(q, k, v, return_lse=True, backend=backend, **options)  # type: ignore[arg-type]


def autograd(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray | None, g_lse: np.ndarray, **options: Any
) -> dict[str, np.ndarray]:
    """The gradients by PyTorch in float64, from the definition."""
    torch = pytest.importorskip("torch")

    def leaf(x: Any) -> Any:
        return torch.tensor(np.asarray(x, np.float64), requires_grad=True)

    leaves = {"dq": leaf(q), "dk": leaf(k)}
    a, b = leaves["dq"], leaves["dk"]
    values = b if v is None else leaves.setdefault("dv", leaf(v))
    # One parameter a head, so that its gradient comes head by head.
    sigma, scale = options.get("sigma"), options.get("scale", q.shape[-1] ** -0.5)
    name = "dscale" if sigma is None else "dsigma"
    p = leaves[name] = leaf(np.full(q.shape[:-2], scale if sigma is None else sigma))
    if sigma is None:
        scores = p[..., None, None] * (a @ b.transpose(-1, -2))
    else:
        scores = -((a[..., :, None, :] - b[..., None, :, :]) ** 2).sum(-1) / (2 * p[..., None, None] ** 2)
    if "key_bias" in options:
        leaves["dkey_bias"] = leaf(options["key_bias"])
        scores = scores + leaves["dkey_bias"][..., None, :]
    lse, out = torch.logsumexp(scores, -1), torch.softmax(scores, -1) @ values
    loss = (out * torch.tensor(g, dtype=torch.float64)).sum() + (lse * torch.tensor(g_lse)).sum()
    loss.backward()
    return {x: t.grad.numpy() for x, t in leaves.items()}


def exact(
    g: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray | None, g_lse: np.ndarray, **options: Any
) -> dict[str, np.ndarray]:
    """The gradients in extended precision, through the derivative of the softmax."""
    wide = np.longdouble
    g, q, k, g_lse = (np.asarray(x, wide) for x in (g, q, k, g_lse))
    values = k if v is None else np.asarray(v, wide)
    sigma = options.get("sigma")
    scale = wide(options.get("scale", wide(q.shape[-1]) ** wide(-0.5)) if sigma is None else 1) / (
        1 if sigma is None else wide(sigma) ** 2
    )
    gap = q[..., :, None, :] - k[..., None, :, :]
    products, squares = q @ k.swapaxes(-1, -2), (gap * gap).sum(-1)
    scores = scale * products if sigma is None else -scale * squares / 2
    scores = scores + np.asarray(options.get("key_bias", np.zeros(k.shape[:-1])), wide)[..., None, :]
    w = np.exp(scores - scores.max(-1, keepdims=True))
    w /= w.sum(-1, keepdims=True)
    upstream = g @ values.swapaxes(-1, -2)
    p = w * (upstream - (w * upstream).sum(-1, keepdims=True) + g_lse[..., None])
    columns, of_values = p.swapaxes(-1, -2), w.swapaxes(-1, -2) @ g
    dq, dk = scale * (p @ k), scale * (columns @ q)
    if sigma is not None:
        dq, dk = dq - scale * p.sum(-1)[..., None] * q, dk - scale * p.sum(-2)[..., None] * k
    return {
        "dq": dq,
        "dk": dk + of_values if v is None else dk,
        "dv": of_values,
        "dscale": (p * products).sum((-1, -2)),
        "dsigma": (p * squares).sum((-1, -2)) / wide(sigma or 1) ** 3,
        "dkey_bias": p.sum(-2),
    }


def compare(n: int, m: int, d: int, dv: int | None, dtype: Any, backend: str, **options: Any) -> None:
    """Gradients against the definition, within the a-priori bound evaluated at the inputs."""
    q, k = normal(2, n, d, dtype=dtype), normal(2, m, d, dtype=dtype, seed=1)
    v = None if dv is None else normal(2, m, dv, dtype=dtype, seed=2)
    g = normal(2, n, dv or d, dtype=dtype, seed=3)
    g_lse = normal(2, n, dtype=dtype, seed=4)
    out, lse = saved(q, k, v, backend, **options)
    if v is None:
        made = projsym.project_backward(g, q, k, out, lse, g_lse=g_lse, backend=backend, **options)
        names = ["dq", "dk", "dsigma" if "sigma" in options else "dscale"]
        got = dict(zip([*names, *(["dkey_bias"] if "key_bias" in options else [])], made, strict=True))
    else:
        three = projsym.attention_backward(g, q, k, v, out, lse, g_lse=g_lse, backend=backend, **options)
        got = dict(zip(("dq", "dk", "dv"), three, strict=True))
    want = exact(g, q, k, v, g_lse, **options)
    error = None if backend == "c" else 8 * float(np.finfo(dtype).eps) / 2
    bound = backward_bound(g, q, k, v, g_lse=g_lse, exp_error=error, **options)
    again = autograd(g, q, k, v, g_lse, **options)
    double = bound
    if dtype != np.float64:
        given = [None if x is None else x.astype(np.float64) for x in (g, q, k, v)]
        double = backward_bound(*given, g_lse=g_lse, exp_error=2.0**-50, **options)  # type: ignore[arg-type]
    for name, x in got.items():
        # PyTorch in double is within the bound of a kernel in double, and so a second opinion on the formula.
        assert (abs(again[name] - want[name]) <= double[name]).all(), name
        assert x.dtype == dtype and x.shape == want[name].shape == bound[name].shape, name
        assert np.isfinite(bound[name]).all(), name
        assert (abs(x - want[name]) <= bound[name]).all(), name


# Few widths: each is a compilation of two kernels for each dtype.
SIZES = [(1, 1, 1), (1, 3, 7), (5, 2, 16), (47, 95, 16), (48, 96, 64), (49, 97, 33), (97, 193, 7)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, m, d", SIZES)
def test_attention(n: int, m: int, d: int, dtype: Any, backend: str) -> None:
    compare(n, m, d, d + 3, dtype, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{"scale": 0.3}, {"sigma": 2.5}], ids=str)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("n, m, d", [(1, 1, 9), (49, 97, 16), (20, 130, 9)])
def test_project(
    n: int, m: int, d: int, biased: bool, options: dict[str, float], dtype: Any, backend: str
) -> None:
    bias = {"key_bias": normal(2, m, dtype=dtype, seed=9)} if biased else {}
    compare(n, m, d, None, dtype, backend, **options, **bias)


@pytest.mark.parametrize("m", [1023, 1024, 1025, 2112])
def test_chunks_of_keys(m: int) -> None:
    """Around the number of keys of a unit of work, where the gradients of queries are added up."""
    compare(5, m, 16, 16, np.float32, "c")


def test_the_bound_sees_an_error() -> None:
    """The tolerance is not so wide that a wrong gradient passes."""
    q, k, v, g = (normal(1, 30, 16, dtype=np.float64, seed=s) for s in range(4))
    out, lse = saved(q, k, v)
    dq, dk, dv = projsym.attention_backward(g, q, k, v, out, lse)
    want = exact(g, q, k, v, np.zeros((1, 30)))
    bound = backward_bound(g, q, k, v)
    for name, x in (("dq", dq), ("dk", dk), ("dv", dv)):
        wrong = x * (1 + 1e-9)
        assert not (abs(wrong - want[name]) <= bound[name]).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "n, m, d, dv", [(0, 3, 16, 16), (3, 0, 16, 16), (0, 0, 16, 16), (3, 5, 0, 16), (3, 5, 16, 0)]
)
def test_empty_sizes(n: int, m: int, d: int, dv: int, backend: str) -> None:
    q, k, v, g = normal(2, n, d), normal(2, m, d), normal(2, m, dv), normal(2, n, dv)
    out, lse = saved(q, k, v, backend)
    dq, dk, dv_ = projsym.attention_backward(g, q, k, v, out, lse, backend=backend)
    assert dq.shape == q.shape and dk.shape == k.shape and dv_.shape == v.shape
    for x in (dq, dk) if not (n and m and d and dv) else ():
        assert (x == 0).all()
    assert np.isfinite(dv_).all()
    if not n:
        assert (dv_ == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"sigma": 1.3}], ids=str)
def test_a_query_that_sees_nothing_and_a_hidden_key_have_no_gradient(
    options: dict[str, float], backend: str
) -> None:
    q, k, g = normal(2, 9, 9), normal(2, 12, 9, seed=1), normal(2, 9, 9, seed=2)
    bias = np.zeros((2, 12), np.float32)
    bias[0], bias[1, 3] = -np.inf, -np.inf
    out, lse = saved(q, k, None, backend, key_bias=bias, **options)
    dq, dk, dp, db = projsym.project_backward(  # type: ignore[misc]
        g, q, k, out, lse, key_bias=bias, g_lse=g[..., 0], backend=backend, **options
    )
    assert (dq[0] == 0).all() and (dk[0] == 0).all() and dp[0] == 0 and (db[0] == 0).all()
    assert (dk[1, 3] == 0).all() and db[1, 3] == 0
    assert (dq[1] != 0).all() and np.isfinite(dk).all() and dp[1] != 0


def test_layouts_give_the_same_bits() -> None:
    """Arrays that are not contiguous are read in place or copied; the result is the same."""
    q, k, v, g = (normal(3, 50, 16, seed=s) for s in range(4))
    out, lse = saved(q, k, v)
    want = projsym.attention_backward(g, q, k, v, out, lse)

    def spread(x: np.ndarray) -> np.ndarray:
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]

    def moved(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)

    for change in (spread, moved, lambda x: np.asfortranarray(x), lambda x: x[::-1].copy()[::-1]):
        got = projsym.attention_backward(*(change(x) for x in (g, q, k, v, out, lse)))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("heads, n, m", [(1, 100, 1500), (1, 70, 400), (3, 130, 90), (2, 60, 2100)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_does_not_depend_on_the_number_of_threads(heads: int, n: int, m: int, dtype: Any) -> None:
    q, g = (normal(heads, n, 16, dtype=dtype, seed=s) for s in range(2))
    k, bias = normal(heads, m, 16, dtype=dtype, seed=7), normal(heads, m, dtype=dtype, seed=8)
    out, lse = saved(q, k, None, sigma=3.0, key_bias=bias)
    results = []
    try:
        for threads in (1, 2, 3, 7):
            projsym.set_num_threads(threads)
            results.append(projsym.project_backward(g, q, k, out, lse, sigma=3.0, key_bias=bias))
    finally:
        projsym.set_num_threads(None)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("m", [383, 384, 385, 1100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_head_in_two_units_has_the_gradients_that_it_has_among_others(m: int, dtype: Any) -> None:
    q, g = (normal(2, 100, 16, dtype=dtype, seed=s) for s in range(2))
    k, v = (normal(2, m, 16, dtype=dtype, seed=s) for s in (7, 8))
    out, lse = saved(q, k, v)
    alone = projsym.attention_backward(*(x[:1] for x in (g, q, k, v, out, lse)))
    among = projsym.attention_backward(g, q, k, v, out, lse)
    bound = backward_bound(g, q, k, v)
    for name, one, both in zip(("dq", "dk", "dv"), alone, among, strict=True):
        assert (abs(one[0].astype(np.longdouble) - both[0]) <= 2 * bound[name][0]).all(), name


def arguments(**changes: Any) -> dict[str, Any]:
    q, k, v, g = normal(2, 4, 3), normal(2, 5, 3), normal(2, 5, 6), normal(2, 4, 6)
    out, lse = saved(q, k, v)
    return {"g": g, "query": q, "key": k, "value": v, "out": out, "lse": lse, **changes}


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"key": normal(3, 5, 3)}, ValueError, "leading axes of query, key, value: given .*.3,. of key"),
    ({"value": normal(3, 5, 6)}, ValueError, "leading axes of query, key, value: given .*.3,. of value"),
    ({"lse": normal(4)}, ValueError, "lse: given shape .4,.; allowed: .2, 4."),
    ({"g": normal(2, 4, 5)}, ValueError, "g: given shape"),
    ({"out": normal(2, 3, 6)}, ValueError, "out: given shape"),
    ({"lse": normal(2, 5)}, ValueError, "lse: given shape"),
    ({"g_lse": normal(4)}, ValueError, "g_lse: given shape"),
    ({"key": normal(2, 5, 4)}, ValueError, "key: given shape"),
    ({"value": normal(2, 6, 6)}, ValueError, "value: given shape"),
    ({"g": normal(2, 4, 6, dtype=np.float64)}, TypeError, "g: given float64"),
    ({"query": np.ones((2, 4, 3), int)}, TypeError, "query: given int64"),
    ({"lse": np.full((2, 4), np.nan, np.float32)}, ValueError, "lse: given NaN"),
    ({"lse": np.full((2, 4), np.inf, np.float32)}, ValueError, "lse: given NaN or .inf"),
    ({"g": np.full((2, 4, 6), np.nan, np.float32)}, ValueError, "g: given NaN"),
    ({"value": np.full((2, 5, 6), np.inf, np.float32)}, ValueError, "value: given NaN or inf"),
    ({"scale": np.nan}, ValueError, "scale"),
    ({"backend": "cuda"}, ValueError, "backend"),
    ({"lse": np.full((2, 4), -1e3, np.float32)}, OverflowError, "outside the range of float32"),
]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("changes, error, message", REFUSED, ids=[x[2][:24] for x in REFUSED])
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str, backend: str) -> None:
    given = {"backend": backend} | arguments(**changes)
    with pytest.raises(error, match=message):
        projsym.attention_backward(**given)


def test_scale_and_sigma_exclude_each_other() -> None:
    q = normal(2, 4, 3)
    out, lse = saved(q, q, None)
    with pytest.raises(ValueError, match="scale, sigma: given"):
        projsym.project_backward(q, q, q, out, lse, scale=1.0, sigma=1.0)
    with pytest.raises(ValueError, match="key_bias: given shape"):
        projsym.project_backward(q, q, q, out, lse, key_bias=normal(5))


@pytest.mark.parametrize("n, m", [(0, 3), (3, 0), (0, 0)])
def test_the_bound_has_the_shapes_of_empty_gradients(n: int, m: int) -> None:
    bound = backward_bound(normal(2, n, 5), normal(2, n, 4), normal(2, m, 4), normal(2, m, 5))
    assert {x: b.shape for x, b in bound.items()} == {"dq": (2, n, 4), "dk": (2, m, 4), "dv": (2, m, 5)}
    assert all(not b.any() or np.isfinite(b).all() for b in bound.values())
