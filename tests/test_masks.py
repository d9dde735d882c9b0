"""Masks: every kind of restriction and bias, against the definition, within the proven bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import projsym
from projsym.bounds import forward_bound, lse_bound

BACKENDS = ("c", "numpy")
DTYPES = (np.float32, np.float64)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def visible(lead: tuple[int, ...], n: int, m: int, past: int = 0, **mask: Any) -> np.ndarray:
    """Which pairs count, by the definition: (*lead, n, m)."""
    i, j = np.arange(n)[:, None], np.arange(m)
    seen = np.ones((*lead, n, m), bool)
    position: Any = i + past
    if mask.get("kv_lengths") is not None:
        lengths = np.asarray(mask["kv_lengths"])
        lengths = lengths.reshape(*lengths.shape, *(1,) * (len(lead) + 2 - lengths.ndim))
        seen &= j < lengths
        position = i + lengths - n
    if mask.get("is_causal"):
        seen &= j <= position
    left, right = mask.get("window") or (None, None)
    if left is not None:
        seen &= j >= position - left
    if right is not None:
        seen &= j <= position + right
    pairs = mask.get("attn_mask")
    if pairs is not None:
        seen &= pairs if pairs.dtype == bool else ~np.isneginf(pairs)
    if mask.get("key_bias") is not None:
        seen &= ~np.isneginf(mask["key_bias"])[..., None, :]
    return seen


def exact(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    past: int = 0,
    scale: float | None = None,
    sigma: float | None = None,
    softcap: float | None = None,
    **mask: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """``(out, lse)`` in extended precision, over the keys that each query sees; 0 and -inf without any."""
    q, k, v = (np.asarray(x, np.longdouble) for x in (q, k, v))
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    seen = visible(lead, q.shape[-2], k.shape[-2], past, **mask)
    if sigma is None:
        scale = 1 / np.sqrt(np.longdouble(q.shape[-1])) if scale is None else scale
        scores = scale * (q @ k.swapaxes(-1, -2))
    else:
        gap = q[..., :, None, :] - k[..., None, :, :]
        scores = -(gap * gap).sum(-1) / (2 * np.longdouble(sigma) ** 2)
    if softcap is not None:
        scores = softcap * np.tanh(scores / np.longdouble(softcap))
    scores = np.broadcast_to(scores, seen.shape)
    for x in (mask.get("attn_mask"), mask.get("key_bias")):
        if x is not None and x.dtype != bool:
            x = x if x is mask.get("attn_mask") else x[..., None, :]
            scores = scores + np.where(np.isneginf(x), 0, x.astype(np.longdouble))
    scores = np.where(seen, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-1e300)
    w = np.exp(scores - top)
    total = w.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return w @ v / np.where(total == 0, 1, total), (np.log(total) + top)[..., 0]


def allowed(
    backend: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The proven bounds of output and log-sum-exp. NumPy's exp2 and tanh: 8 roundoffs each."""
    u = float(np.finfo(q.dtype).eps) / 2
    error: dict[str, Any] = {} if backend == "c" else {"exp_error": 8 * u}
    if backend == "numpy" and "softcap" in options:
        error["tanh_error"] = 8 * u
    error |= {"dtype": q.dtype, "block": 1}
    return forward_bound(q, k, v, **error, **options)[..., None], lse_bound(q, k, **error, **options)


def agrees(
    backend: str, q: np.ndarray, k: np.ndarray, v: np.ndarray | None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The result, which is within the proven bound of `exact`."""
    if v is None:
        out, lse = projsym.project(q, k, return_lse=True, backend=backend, **options)
    else:
        out, lse = projsym.attention(q, k, v, return_lse=True, backend=backend, **options)
    values = k if v is None else v
    want, want_lse = exact(q, k, values, **options)
    bound, bound_lse = allowed(backend, q, k, values, **options)
    assert np.isfinite(bound).all() and np.isfinite(bound_lse).all()
    assert out.shape == want.shape and lse.shape == want_lse.shape and out.dtype == lse.dtype == q.dtype
    assert (abs(out - want) <= bound).all()
    seen = np.isfinite(want_lse)
    assert (abs(lse[seen] - want_lse[seen]) <= bound_lse[seen]).all()
    assert np.isneginf(lse[~seen]).all() and not out[~seen].any()
    return out, lse


def masks(n: int, m: int, dtype: Any) -> dict[str, dict[str, Any]]:
    """One of every kind, and together."""
    rng = np.random.default_rng([n, m])
    some = rng.random((2, 3, n, m)) < 0.6
    some[0, 1] = False
    numbers = rng.standard_normal((n, m)).astype(dtype)
    numbers[rng.random((n, m)) < 0.2] = -np.inf
    bias = rng.standard_normal((2, 1, m)).astype(dtype)
    bias[0, 0, 1::2] = -np.inf
    lengths = rng.integers(0, m + 1, 2)
    return {
        "causal": {"is_causal": True},
        "window": {"window": (3, 1)},
        "left": {"window": (2, None)},
        "far": {"window": (None, 0)},
        "lengths": {"kv_lengths": lengths},
        "lengths of heads": {"kv_lengths": rng.integers(0, m + 1, (2, 3))},
        "causal lengths": {"kv_lengths": lengths, "is_causal": True},
        "booleans": {"attn_mask": some},
        "numbers": {"attn_mask": numbers},
        "one row": {"attn_mask": numbers[:1]},
        "rank 1": {"attn_mask": numbers[0] if n else np.zeros(m, dtype)},
        "rank 3": {"attn_mask": rng.standard_normal((3, 1, m)).astype(dtype)},
        "one column": {"attn_mask": rng.standard_normal((2, 1, n, 1)).astype(dtype)},
        "key bias": {"key_bias": bias},
        "all": {"attn_mask": numbers, "key_bias": bias, "is_causal": True, "window": (9, None)},
    }


SIZES = [(1, 1), (3, 2), (7, 9), (47, 64), (49, 65), (97, 130)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n, m", SIZES)
def test_every_mask(n: int, m: int, backend: str) -> None:
    for dtype in DTYPES if (n, m) in SIZES[2:5] else DTYPES[:1]:
        q, k = normal(2, 3, n, 16, dtype=dtype), normal(2, 3, m, 16, dtype=dtype, seed=1)
        v = normal(2, 3, m, 7, dtype=dtype, seed=2)
        for options in masks(n, m, dtype).values():
            agrees(backend, q, k, v, **options)
            agrees(backend, q, k, None, sigma=2.0, **options)
        for name in ("causal", "all"):
            agrees(backend, q, k, None, **masks(n, m, dtype)[name])
            agrees(backend, q, k, v, softcap=1.5, **masks(n, m, dtype)[name])
        agrees(backend, q, k, v, softcap=1.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_blocks_of_queries_and_keys(backend: str) -> None:
    q, k, v = normal(1, 2, 301, 24), normal(1, 2, 517, 24, seed=1), normal(1, 2, 517, 24, seed=2)
    lo = np.random.default_rng(0).standard_normal((301, 517)).astype(np.float32)
    for options in (
        {"is_causal": True},
        {"window": (40, 100)},
        {"kv_lengths": [333], "is_causal": True},
        {"attn_mask": lo},
        {"attn_mask": lo > 0, "window": (None, 20)},
    ):
        agrees(backend, q, k, v, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n, m", [(0, 5), (3, 0), (0, 0)])
def test_empty(n: int, m: int, backend: str) -> None:
    q, k, v = normal(2, n, 16), normal(2, m, 16), normal(2, m, 7)
    for options in (
        {"is_causal": True},
        {"window": (1, 1)},
        {"kv_lengths": [m, 0]},
        {"attn_mask": np.zeros((n, m), bool)},
        {"key_bias": np.zeros(m, np.float32)},
        {"softcap": 2.0},
    ):
        out, lse = projsym.attention(q, k, v, return_lse=True, backend=backend, **options)
        assert out.shape == (2, n, 7) and not out.any() and np.isneginf(lse).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_explicit_mask_hides_what_a_range_hides(backend: str) -> None:
    q, k, v = normal(2, 3, 50, 16), normal(2, 3, 70, 16, seed=1), normal(2, 3, 70, 7, seed=2)
    for options in ({"is_causal": True}, {"window": (5, 2)}, {"kv_lengths": [70, 13]}):
        seen = visible((2, 3), 50, 70, **options)
        agrees(backend, q, k, v, **options)
        agrees(backend, q, k, v, attn_mask=seen)
        for a, b in zip(exact(q, k, v, **options), exact(q, k, v, attn_mask=seen), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_hidden_does_not_leak(poison: float, backend: str) -> None:
    """Forward and backward, bit for bit what zeros at hidden places give."""
    n, m, length = 60, 150, 31
    q, k, v = normal(2, 2, n, 16), normal(2, 2, m, 16, seed=1), normal(2, 2, m, 7, seed=2)
    g = normal(2, 2, n, 7, seed=3)
    bad_k, bad_v, clean_k, clean_v = (x.copy() for x in (k, v, k, v))
    bad_k[1, :, length:], bad_v[1, :, length:] = poison, poison
    clean_k[1, :, length:], clean_v[1, :, length:] = 0, 0
    seen = np.ones((2, 1, 1, m), bool)
    seen[1, ..., length:] = False
    for options in (
        {"kv_lengths": [m, length]},
        {"attn_mask": seen},
        {"key_bias": np.where(seen, 0, -np.inf)[:, :, 0].astype(np.float32)},
    ):
        one = projsym.attention(q, bad_k, bad_v, return_lse=True, backend=backend, **options)
        two = projsym.attention(q, clean_k, clean_v, return_lse=True, backend=backend, **options)
        assert all(np.array_equal(a, b) and np.isfinite(a).all() for a, b in zip(one, two, strict=True))
        bad = projsym.attention_backward(g, q, bad_k, bad_v, *one, backend=backend, **options)
        good = projsym.attention_backward(g, q, clean_k, clean_v, *one, backend=backend, **options)
        assert all(np.array_equal(a, b) and np.isfinite(a).all() for a, b in zip(bad, good, strict=True))
        if "key_bias" not in options:
            three = projsym.project(q, bad_k, sigma=2.0, backend=backend, **options)
            assert np.array_equal(three, projsym.project(q, clean_k, sigma=2.0, backend=backend, **options))


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_that_are_not_finite_reach_exactly_the_queries_that_see_them(backend: str) -> None:
    q, k, v = normal(2, 40, 16), normal(2, 90, 16, seed=1), normal(2, 90, 7, seed=2)
    bad = v.copy()
    bad[0, 17, 2], bad[1, 5, 0], bad[1, 20, 0], bad[1, 80] = np.nan, np.inf, -np.inf, np.nan
    want = projsym.attention(q, k, np.where(np.isfinite(bad), bad, 0), is_causal=True, backend=backend)
    want[0, 17:, 2], want[1, 5:, 0], want[1, 20:, 0] = np.nan, np.inf, np.nan
    got = projsym.attention(q, k, bad, is_causal=True, backend=backend)
    assert np.array_equal(got, want, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_key_that_one_query_sees_must_be_finite(backend: str) -> None:
    q, k, v = normal(2, 40, 16), normal(2, 40, 16, seed=1), normal(2, 40, 7, seed=2)
    k[1, 7, 3] = np.nan
    with pytest.raises(ValueError, match="key: given NaN or infinite entries where a query sees them"):
        projsym.attention(q, k, v, is_causal=True, backend=backend)
    seen = np.ones((40, 40), bool)
    seen[:, 7] = False
    assert np.isfinite(projsym.attention(q, k, v, seen, is_causal=True, backend=backend)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_grouped_queries_are_repeated_keys(backend: str) -> None:
    """Bit for bit: a head reads the same numbers wherever they are."""
    q, k, v = normal(2, 6, 33, 16), normal(2, 2, 40, 16, seed=1), normal(2, 2, 40, 7, seed=2)
    full = np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1)
    bias = normal(2, 2, 40)
    for options, other in (
        ({}, {}),
        ({"is_causal": True}, {}),
        ({"kv_lengths": np.arange(12).reshape(2, 6)}, {}),
        ({"attn_mask": normal(6, 1, 40)}, {}),
        ({"attn_mask": normal(2, 1, 33, 40) > 0, "softcap": 2.0}, {}),
        ({"key_bias": bias}, {"key_bias": np.repeat(bias, 3, axis=1)}),
    ):
        one = projsym.attention(q, k, v, enable_gqa=True, return_lse=True, backend=backend, **options)
        two = projsym.attention(q, *full, return_lse=True, backend=backend, **(options | other))
        if backend == "c":
            assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        else:
            # NumPy's products sum in an order that depends on the shapes: each result has its bound.
            for a, b, bound in zip(one, two, allowed(backend, q, *full, **(options | other)), strict=True):
                same = (a == b) | (abs(np.where(a == b, 0, a) - np.where(a == b, 0, b)) <= 2 * bound)
                assert same.all()


def test_grouped_keys_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays that the kernel gets are views of those that were given."""
    from projsym import masked

    q, k, v = normal(2, 6, 5, 16), normal(2, 2, 9, 16), normal(2, 2, 9, 7)
    taken: list[dict[str, np.ndarray]] = []
    real = masked.run

    def run(*args: Any, **options: Any) -> Any:
        taken.append(dict(args[2]))
        return real(*args, **options)

    monkeypatch.setattr(masked, "run", run)
    projsym.attention(q, k, v, enable_gqa=True, is_causal=True)
    assert len(taken) == 1
    assert all(np.shares_memory(taken[0][x], a) for x, a in (("q", q), ("k", k), ("v", v)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_past_keys_come_first(backend: str) -> None:
    q, k, v = normal(2, 3, 6, 16), normal(2, 3, 15, 16, seed=1), normal(2, 3, 15, 7, seed=2)
    old_k, new_k, old_v, new_v = k[..., :9, :], k[..., 9:, :], v[..., :9, :], v[..., 9:, :]
    for options in ({}, {"is_causal": True}, {"window": (4, 0)}):
        out, lse = projsym.attention(
            q, new_k, new_v, past_key=old_k, past_value=old_v, return_lse=True, backend=backend, **options
        )
        seen = visible((2, 3), 6, 15, past=9, **options)
        same, _ = projsym.attention(q, k, v, seen, return_lse=True, backend=backend)
        want, want_lse = exact(q, k, v, past=9, **options)
        bound, bound_lse = allowed(backend, q, k, v, past=9, **options)
        assert (abs(out - want) <= bound).all() and (abs(lse - want_lse) <= bound_lse).all()
        assert (abs(same - want) <= allowed(backend, q, k, v, attn_mask=seen)[0]).all()


def test_threads_and_neighbours_do_not_change_a_bit() -> None:
    """Nor does what a query does not see: other keys behind its range, of any size."""
    q, k, v = normal(3, 301, 24), normal(3, 517, 24, seed=1), normal(3, 517, 24, seed=2)
    results = []
    try:
        for n in (1, 2, 5):
            projsym.set_num_threads(n)
            results.append(projsym.attention(q, k, v, is_causal=True, return_lse=True, backend="c"))
    finally:
        projsym.set_num_threads(None)
    assert all(np.array_equal(a, b) for r in results[1:] for a, b in zip(r, results[0], strict=True))
    k[:, 301:], v[:, 301:] = 1e30, -1e30
    again = projsym.attention(q, k, v, is_causal=True, return_lse=True, backend="c")
    assert all(np.array_equal(a, b) for a, b in zip(again, results[0], strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hidden_key_does_not_raise_the_maximum(backend: str) -> None:
    """Scores in the hundreds beside the diagonal would leave nothing of the weights that a query sees."""
    q, k, v = normal(2, 50, 16), normal(2, 50, 16, seed=1), normal(2, 50, 7, seed=2)
    k[:, 30:] *= 200
    agrees(backend, q, k, v, is_causal=True)
    agrees(backend, q, k, v, kv_lengths=[31, 50], window=(50, 0))


Q, K, V = normal(2, 4, 3, 4), normal(2, 4, 5, 4, seed=1), normal(2, 4, 5, 6)
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"attn_mask": np.ones((3, 5), int)}, TypeError, r"attn_mask: given int64 array; allowed: booleans"),
    ({"attn_mask": np.ones((3, 5))}, TypeError, r"attn_mask: given float64 array"),
    ({"attn_mask": np.ones((3, 4), bool)}, ValueError, r"attn_mask: given shape \(3, 4\); .* \(2, 4, 3, 5\)"),
    ({"attn_mask": np.ones((7, 2, 4, 3, 5), bool)}, ValueError, r"attn_mask: given shape \(7, 2, 4, 3, 5\)"),
    ({"attn_mask": np.full((3, 5), np.nan, np.float32)}, ValueError, r"attn_mask: given NaN or \+inf"),
    ({"attn_mask": np.full((3, 5), np.inf, np.float32)}, ValueError, r"attn_mask: given NaN or \+inf"),
    ({"attn_mask": np.ma.masked_array(np.ones(5, bool))}, TypeError, r"attn_mask: given a masked array"),
    ({"dropout_p": 0.5}, ValueError, r"dropout_p: given 0.5; allowed: 0: dropout multiplies"),
    ({"dropout_p": None}, TypeError, r"dropout_p: given None"),
    ({"is_causal": 1}, TypeError, r"is_causal: given 1 of type int; allowed: True or False"),
    ({"enable_gqa": 1}, TypeError, r"enable_gqa: given 1 of type int; allowed: True or False"),
    ({"window": 3}, TypeError, r"window: given 3; allowed: a pair \(left, right\)"),
    ({"window": (1, -1)}, ValueError, r"window: given \(1, -1\); allowed: a pair"),
    ({"window": (1.0, 2)}, TypeError, r"window: given \(1.0, 2\)"),
    ({"window": (1, 2, 3)}, TypeError, r"window: given \(1, 2, 3\)"),
    ({"kv_lengths": [1.0, 2.0]}, TypeError, r"kv_lengths: given float64 array; allowed: integers"),
    ({"kv_lengths": [1, 6]}, ValueError, r"kv_lengths: given numbers from 1 to 6"),
    ({"kv_lengths": [1, 2, 3]}, ValueError, r"kv_lengths: given shape \(3,\)"),
    ({"softcap": 0.0}, ValueError, r"softcap: given 0.0; allowed: a finite real number greater than 0"),
    ({"past_key": K}, ValueError, r"past_key, past_value: given one of them"),
    ({"past_key": K, "past_value": V[:, :1]}, ValueError, r"past_value: given shape \(2, 1, 5, 6\)"),
    ({"past_key": K, "past_value": V, "kv_lengths": [1, 2]}, ValueError, r"kv_lengths: given together with"),
    ({"key": K[:, :3], "value": V[:, :3], "enable_gqa": True}, ValueError, r"4 heads of query, 3 of key"),
    ({"key": K[:, :2], "enable_gqa": True}, ValueError, r"given 4 heads of query, 2 of key, 4 of value"),
    ({"query": Q[0, 0], "enable_gqa": True}, ValueError, r"query: given shape \(3, 4\); allowed: at least"),
    ({"key_bias": np.full(5, np.nan, np.float32)}, ValueError, r"key_bias: given NaN"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)), ids=[m[:30] for _, _, m in REFUSED])
def test_refused(case: int) -> None:
    changes, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        projsym.attention(**({"query": Q, "key": K, "value": V} | changes))
