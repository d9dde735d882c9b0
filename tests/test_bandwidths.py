"""A bandwidth for each key: outputs within their bound, gradients in balls of their kernels, edges, errors.

The balls are those of `projsym.codegen.enclosure`: the program that a kernel was printed from, run with the
rounding of every operation, holds what the kernel returns and the exact value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import projsym
from projsym import merge, project, project_backward
from projsym.bounds import forward_bound, lse_bound
from projsym.bounds_backward import backward_bound
from projsym.check import NUMPY_EXP_ERROR
from projsym.codegen.enclosure import enclose
from projsym.codegen.generate import kernels
from projsym.codegen.gradient_kernel import gradient_kernels
from projsym.runtime.manifest import load

KERNELS = {kernel.name: kernel for kernel in (*kernels(), *gradient_kernels())}
BACKENDS, DTYPES = ("c", "numpy"), ("float32", "float64")
SLACK = 1 + 2.0**-10
"""The error of the extended precision is less than 2**-10 of a bound or of the radius of a ball."""
MASKS = ("none", "bias", "pairs", "causal", "lengths")


def given(n: int, m: int, d: int, dtype: str, mask: str = "none") -> tuple[Any, Any, Any, dict[str, Any]]:
    """Two heads of queries and keys, bandwidths that they share, and the arguments of a mask."""
    rng = np.random.default_rng([n, m, d])
    q, k = (rng.standard_normal((2, size, d)).astype(dtype) for size in (n, m))
    sigma = rng.uniform(0.5, 3, (1, m)).astype(dtype)
    bias, pairs = rng.standard_normal((2, m)).astype(dtype), rng.standard_normal((n, m)).astype(dtype)
    pairs[:, 1::3] = -np.inf
    options: dict[str, dict[str, Any]] = {
        "none": {},
        "bias": {"key_bias": bias},
        "pairs": {"attn_mask": pairs, "key_bias": bias},
        "causal": {"is_causal": True, "window": (5, None)},
        "lengths": {"kv_lengths": [(m + 1) // 2, m]},
    }
    return q, k, sigma, options[mask]


def exact(q: Any, k: Any, sigma: Any, g: Any = None, g_lse: Any = None, **mask: Any) -> dict[str, np.ndarray]:
    """The results, and the gradients where wanted, by their definition in extended precision."""
    wide = np.longdouble
    q, k, sigma = (np.asarray(x, wide) for x in (q, k, sigma))
    sigma = np.broadcast_to(sigma, (*q.shape[:-2], k.shape[-2]))
    (n, _), m = q.shape[-2:], k.shape[-2]
    squares = np.square(q[..., :, None, :] - k[..., None, :, :]).sum(-1)
    scores = -squares / (2 * sigma[..., None, :] ** 2)
    scores = scores + np.asarray(mask.get("attn_mask", 0.0), wide)
    scores = scores + np.asarray(mask.get("key_bias", np.zeros(m)), wide)[..., None, :]
    i, j = np.arange(n)[:, None], np.arange(m)
    if "window" in mask:
        scores = np.where((j <= i) & (j >= i - mask["window"][0]), scores, -np.inf)
    if "kv_lengths" in mask:
        scores = np.where(j < np.asarray(mask["kv_lengths"])[:, None, None], scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    w = np.exp(scores - top)
    lse = (np.log(w.sum(-1, keepdims=True)) + top)[..., 0]
    w /= w.sum(-1, keepdims=True)
    out = w @ k
    if g is None:
        return {"out": out, "lse": lse}
    g, g_lse = np.asarray(g, wide), np.asarray(g_lse, wide)
    r = w * (g @ k.swapaxes(-1, -2) - (g * out).sum(-1, keepdims=True) + g_lse[..., None])
    s = r / sigma[..., None, :] ** 2
    back = s.swapaxes(-1, -2)
    return {
        "dq": s @ k - s.sum(-1)[..., None] * q,
        "dk": back @ q - s.sum(-2)[..., None] * k + w.swapaxes(-1, -2) @ g,
        "dsigma": (r * squares).sum(-2) / sigma**3,
        "dkey_bias": r.sum(-2),
    }


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 3), (50, 130)])
def test_results_are_within_the_bound(n: int, m: int, mask: str, dtype: str, backend: str) -> None:
    q, k, sigma, options = given(n, m, 9, dtype, mask)
    out, lse = project(q, k, sigma=sigma, return_lse=True, backend=backend, **options)
    want = exact(q, k, sigma, **options)
    name = "project_bandwidths" + {"bias": "_biased", "pairs": "_masked"}.get(mask, "")
    order = load()[name].order("numpy" if backend == "numpy" else f"c/{dtype}", n, m, 9)
    order |= {"exp_error": NUMPY_EXP_ERROR[dtype] if backend == "numpy" else None}
    bound = forward_bound(q, k, k, sigma=sigma, **options, **order)
    limit = lse_bound(q, k, sigma=sigma, **options, **order)
    assert out.dtype == lse.dtype == dtype
    # The proven bound is the tolerance; within 2000 roundings of the keys it is not an empty one.
    assert np.isfinite(bound).all() and bound.max() < 2000 * np.finfo(dtype).eps * abs(k).max()
    assert (abs(out - want["out"]).max(-1) <= bound * SLACK).all()
    assert (abs(lse - want["lse"]) <= limit * SLACK).all()


def test_another_bandwidth_is_seen() -> None:
    """The bound is not so wide that a bandwidth off by a thousandth passes."""
    q, k, sigma, _ = given(7, 30, 9, "float32")
    out = project(q, k, sigma=sigma)
    other = sigma.copy()
    other[0, ::2] *= np.float32(1.001)
    assert (abs(out - exact(q, k, other)["out"]).max(-1) > forward_bound(q, k, k, sigma=other)).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", ["none", "bias", "pairs"])
def test_gradients_are_in_their_balls(mask: str, dtype: str, backend: str) -> None:
    q, k, sigma, options = given(3, 10, 4, dtype, mask)
    rng = np.random.default_rng(3)
    g, g_lse = rng.standard_normal(q.shape).astype(dtype), rng.standard_normal(q.shape[:-1]).astype(dtype)
    sigma = np.broadcast_to(sigma, (2, 10))
    if mask == "pairs":
        options["attn_mask"] = np.where(np.isneginf(options["attn_mask"]), 0, options["attn_mask"])
    out, lse = project(q, k, sigma=sigma, return_lse=True, backend=backend, **options)
    made = project_backward(g, q, k, out, lse, sigma=sigma, g_lse=g_lse, backend=backend, **options)
    want = exact(q, k, sigma, g, g_lse, **options)
    names = ["dq", "dk", "dsigma", *(["dkey_bias"] if "key_bias" in options else [])]
    name = "project_bandwidths" + {"bias": "_biased", "pairs": "_masked"}.get(mask, "")
    error = NUMPY_EXP_ERROR[dtype] if backend == "numpy" else None
    target = "numpy" if backend == "numpy" else "c"

    def balls(kernel: str, arrays: dict[str, Any]) -> Any:
        return enclose(KERNELS[kernel].build(dtype, target).program, arrays, dtype, error, error)

    for h in range(2):
        arrays: dict[str, Any] = {"q": q[h], "k": k[h], "sigma": sigma[h]}
        arrays |= {"key_bias": options["key_bias"][h]} if "key_bias" in options else {}
        arrays |= {"attn_mask": options["attn_mask"]} if "attn_mask" in options else {}
        saved = balls(name, arrays)
        assert _within(out[h], saved["out"]) and _within(lse[h], saved["lse"])
        arrays |= {"g": g[h], "g_lse": g_lse[h], "out": _held(saved["out"]), "lse": _held(saved["lse"])}
        found = balls(f"{name}_backward", arrays)
        for x, y in zip(names, made, strict=True):
            assert y.dtype == dtype and y.shape == want[x].shape
            assert _within(y[h], found[x]), x
            assert _within(want[x][h], found[x], SLACK), x


def _within(x: Any, ball: tuple[Any, Any], slack: float = 1.0) -> bool:
    centre, radius = ball
    assert np.isfinite(radius).all() and radius.shape == np.shape(x)
    return bool((abs(np.asarray(x) - centre) <= slack * radius).all())


def _held(ball: tuple[Any, Any]) -> list[Any]:
    """Balls as the inputs of another program."""
    from flint import arb

    pairs = np.stack(ball, -1).tolist()
    return [[arb(*x) for x in row] if isinstance(row[0], list) else arb(*row) for row in pairs]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_bandwidths_are_one(backend: str) -> None:
    """Both forms are within their bounds of the same numbers; the gradient by one is the sum of all."""
    q, k, _, _ = given(7, 30, 9, "float64")
    each = np.full((2, 30), 1.7)
    one, many = (project(q, k, sigma=s, return_lse=True, backend=backend) for s in (1.7, each))
    error = NUMPY_EXP_ERROR["float64"]
    bounds = [forward_bound(q, k, k, sigma=s, exp_error=error) for s in (1.7, each)]
    logs = [lse_bound(q, k, sigma=s, exp_error=error) for s in (1.7, each)]
    assert (abs(one[0] - many[0]).max(-1) <= sum(bounds)).all()
    assert (abs(one[1] - many[1]) <= sum(logs)).all()
    g = np.ones_like(q)
    dq, dk, dsigma = project_backward(g, q, k, *one, sigma=1.7, backend=backend)
    eq, ek, each_sigma = project_backward(g, q, k, *many, sigma=each, backend=backend)
    # Sums of fewer than 300 terms below 100 in magnitude, each through fewer than 100 roundings.
    allowed = 300 * 100 * 100 * 2.0**-53
    assert abs(dq - eq).max() <= allowed and abs(dk - ek).max() <= allowed
    assert abs(each_sigma.sum(-1) - dsigma).max() <= allowed


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_merge(backend: str) -> None:
    """[IV.1]: the results of two sets of keys with their bandwidths make that of the union. Each part is off
    by its bound, weights by those of the log-sum-exps, and a merge rounds fewer than 16 times."""
    q, k, sigma, _ = given(7, 30, 9, "float64")
    options = {"return_lse": True, "backend": backend}
    cuts = slice(None, 11), slice(11, None)
    parts = [project(q, k[:, c], sigma=sigma[:, c], **options) for c in cuts]
    out, _ = merge(*parts)
    error = NUMPY_EXP_ERROR["float64"]
    bound = sum(forward_bound(q, k[:, c], k[:, c], sigma=sigma[:, c], exp_error=error) for c in cuts)
    logs = sum(lse_bound(q, k[:, c], sigma=sigma[:, c], exp_error=error) for c in cuts)
    spread = 2 * abs(k).max()
    allowed = bound + logs * spread + 16 * 2.0**-53 * spread
    assert (abs(out - exact(q, k, sigma)["out"]).max(-1) <= allowed * SLACK).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_shared_bandwidths_get_the_sum_of_the_gradients(backend: str) -> None:
    q, k, sigma, _ = given(5, 8, 4, "float64")
    out, lse = project(q, k, sigma=sigma[0], return_lse=True, backend=backend)
    whole = project_backward(q, q, k, out, lse, sigma=sigma[0], backend=backend)[2]
    parts = project_backward(q, q, k, out, lse, sigma=np.repeat(sigma, 2, 0), backend=backend)[2]
    assert whole.shape == (8,) and np.array_equal(whole, parts.sum(0))
    apart = np.repeat(sigma, 2, 1)[:, ::2]
    assert np.array_equal(out, project(q, k, sigma=apart, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_keys_and_empty_sizes(dtype: str, backend: str) -> None:
    q, k, sigma, _ = given(5, 8, 4, dtype)
    poisoned = k.copy()
    poisoned[:, 6:] = np.nan
    for mask in ({"kv_lengths": [6, 6]}, {"attn_mask": np.arange(8) < 6}):
        want = project(q, np.where(np.arange(8)[:, None] < 6, k, 0), sigma=sigma, backend=backend, **mask)
        assert np.array_equal(project(q, poisoned, sigma=sigma, backend=backend, **mask), want)
    out, lse = project(q, k[:, :0], sigma=sigma[:, :0], return_lse=True, backend=backend)
    assert not out.any() and (lse == -np.inf).all()
    dq, dk, dsigma = project_backward(q, q, k[:, :0], out, lse, sigma=sigma[:, :0], backend=backend)
    assert not dq.any() and dk.shape == (2, 0, 4) and dsigma.shape == (1, 0)
    assert project(q[:, :0], k, sigma=sigma, backend=backend).shape == (2, 0, 4)
    assert project(q[..., :0], k[..., :0], sigma=sigma, backend=backend).shape == (2, 5, 0)


def test_scores_out_of_range_are_an_error() -> None:
    q, k, _, _ = given(5, 8, 4, "float32")
    tiny = np.full(8, 1e-22, np.float32)
    with pytest.raises(OverflowError, match="outside the range of float32"):
        project(q, k, sigma=tiny)
    with pytest.raises(OverflowError, match="sigma: scale"):
        forward_bound(q, k, k, sigma=tiny)
    with pytest.raises(ValueError, match="sigma: got an array; allowed is one number"):
        backward_bound(q, q, k, None, sigma=tiny)
    assert projsym.project(q, k, sigma=np.full(8, 1e25, np.float32)) == pytest.approx(
        np.broadcast_to(k.mean(1, keepdims=True), q.shape), abs=100 * 2.0**-24 * 4
    )
