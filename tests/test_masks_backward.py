"""Gradients under masks: within the proven bound of the definition, shared heads summed, past keys apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_masks import BACKENDS, exact, masks, normal, visible

import projsym
from projsym.bounds_backward import backward_bound


def gradients(
    g: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray | None,
    g_lse: np.ndarray,
    sigma: float | None = None,
    **mask: Any,
) -> dict[str, np.ndarray]:
    """By the derivative of the softmax over the keys that are seen, in extended precision."""
    values = k if v is None else v
    g, q, k, values, g_lse = (np.asarray(x, np.longdouble) for x in (g, q, k, values, g_lse))
    lead, n, m = q.shape[:-2], q.shape[-2], k.shape[-2]
    seen = visible(lead, n, m, **mask)
    scale = 1 / np.sqrt(np.longdouble(q.shape[-1])) if sigma is None else 1 / np.longdouble(sigma) ** 2
    products = q @ k.swapaxes(-1, -2)
    squares = ((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1)
    scores = np.where(seen, scale * products if sigma is None else -scale * squares / 2, 0)
    for name in ("attn_mask", "key_bias"):
        x = mask.get(name)
        if x is not None and x.dtype != bool:
            x = x if name == "attn_mask" else x[..., None, :]
            scores = scores + np.where(np.isneginf(x), 0, x.astype(np.longdouble))
    scores = np.where(seen, scores, -np.inf)
    top = np.maximum(scores.max(-1, keepdims=True, initial=-np.inf), -1e300)
    w = np.exp(scores - top)
    w /= np.where(seen.any(-1, keepdims=True), w.sum(-1, keepdims=True), 1)
    upstream = g @ values.swapaxes(-1, -2)
    p = w * (upstream - (w * upstream).sum(-1, keepdims=True) + g_lse[..., None])
    dq, dk = scale * (p @ k), scale * (p.swapaxes(-1, -2) @ q)
    if sigma is not None:
        dq, dk = dq - scale * p.sum(-1)[..., None] * q, dk - scale * p.sum(-2)[..., None] * k
    dv = w.swapaxes(-1, -2) @ g
    found = {"dq": dq, "dk": dk if v is not None else dk + dv, "dv": dv, "dkey_bias": p.sum(-2)}
    found["dscale"] = (p * products).sum((-1, -2))
    found["dsigma"] = (p * squares).sum((-1, -2)) / np.longdouble(sigma or 1) ** 3
    return found


def compare(n: int, m: int, backend: str, dtype: Any, sigma: float | None, tied: bool, **mask: Any) -> None:
    q, k = normal(2, 3, n, 16, dtype=dtype), normal(2, 3, m, 16, dtype=dtype, seed=1)
    v = None if tied else normal(2, 3, m, 7, dtype=dtype, seed=2)
    g, g_lse = normal(2, 3, n, 16 if tied else 7, dtype=dtype, seed=3), normal(2, 3, n, dtype=dtype, seed=4)
    bias = mask.get("key_bias")
    if bias is not None:
        mask["key_bias"] = bias = np.ascontiguousarray(np.broadcast_to(bias, (2, 3, m)))
    more: dict[str, Any] = {"sigma": sigma} if tied else {}
    if v is None:
        out, lse = projsym.project(q, k, return_lse=True, backend=backend, **more, **mask)
        made = projsym.project_backward(g, q, k, out, lse, g_lse=g_lse, backend=backend, **more, **mask)
        names = ["dq", "dk", "dscale" if sigma is None else "dsigma"]
    else:
        out, lse = projsym.attention(q, k, v, return_lse=True, backend=backend, **mask)
        made = projsym.attention_backward(g, q, k, v, out, lse, g_lse=g_lse, backend=backend, **mask)
        names = ["dq", "dk", "dv"]
    got = dict(zip([*names, *(["dkey_bias"] if bias is not None else [])], made, strict=True))
    want = gradients(g, q, k, v, g_lse, sigma if tied else None, **mask)
    error = None if backend == "c" else 8 * float(np.finfo(dtype).eps) / 2
    bound = backward_bound(g, q, k, v, g_lse=g_lse, exp_error=error, **more, **mask)
    for x, a in got.items():
        assert a.dtype == dtype and np.isfinite(bound[x]).all(), x
        assert (abs(a - want[x]) <= bound[x]).all(), (x, abs(a - want[x]).max(), bound[x].max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n, m", [(1, 2), (7, 9), (49, 65), (97, 130)])
def test_every_mask(n: int, m: int, backend: str) -> None:
    for name, mask in masks(n, m, np.float32).items():
        compare(n, m, backend, np.float32, None, False, **mask)
        if name in ("causal", "numbers", "all"):
            compare(n, m, backend, np.float32, None, True, **mask)
            compare(n, m, backend, np.float32, 2.0, True, **mask)
    compare(n, m, backend, np.float64, None, False, **masks(n, m, np.float64)["all"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_of_keys_that_a_block_does_not_see(backend: str) -> None:
    """Keys go in chunks of about a thousand; a window leaves most of them out for most queries."""
    for mask in ({"window": (60, 5)}, {"is_causal": True}, {"kv_lengths": [1500, 700]}):
        compare(200, 2200, backend, np.float32, None, False, **mask)


@pytest.mark.parametrize("backend", BACKENDS)
def test_heads_that_share_keys_add_up(backend: str) -> None:
    q, k, v = normal(2, 6, 20, 16), normal(2, 2, 31, 16, seed=1), normal(2, 2, 31, 7, seed=2)
    g, bias = normal(2, 6, 20, 7, seed=3), normal(2, 2, 31, seed=4)
    whole = [np.repeat(x, 3, axis=1) for x in (k, v, bias)]
    options: dict[str, Any] = {"is_causal": True, "backend": backend}
    out, lse = projsym.attention(q, k, v, enable_gqa=True, key_bias=bias, return_lse=True, **options)
    got = projsym.attention_backward(g, q, k, v, out, lse, enable_gqa=True, key_bias=bias, **options)
    full = projsym.attention_backward(g, q, *whole[:2], out, lse, key_bias=whole[2], **options)
    assert [x.shape for x in got] == [q.shape, k.shape, v.shape, bias.shape]
    np.testing.assert_array_equal(got[0], full[0])
    for a, b in zip(got[1:], full[1:], strict=True):
        summed = b.reshape(2, 2, 3, *b.shape[2:]).sum(axis=2, dtype=np.float64).astype(np.float32)
        np.testing.assert_array_equal(a, summed)
    shared = projsym.attention_backward(g, q, k[:, :1], v[:, :1], out, lse, **options)
    assert [x.shape for x in shared] == [q.shape, (2, 1, 31, 16), (2, 1, 31, 7)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_past_keys_have_gradients_of_their_own(backend: str) -> None:
    q, k, v, g = normal(2, 6, 16), normal(2, 15, 16, seed=1), normal(2, 15, 7, seed=2), normal(2, 6, 7)
    past: dict[str, Any] = {"past_key": k[:, :9], "past_value": v[:, :9], "is_causal": True}
    out, lse = projsym.attention(q, k[:, 9:], v[:, 9:], return_lse=True, backend=backend, **past)
    got = projsym.attention_backward(g, q, k[:, 9:], v[:, 9:], out, lse, backend=backend, **past)
    seen = visible((2,), 6, 15, past=9, is_causal=True)
    want = projsym.attention_backward(g, q, k, v, out, lse, attn_mask=seen, backend=backend)
    whole = [got[0], *(np.concatenate((b, a), axis=1) for a, b in zip(got[1:3], got[3:], strict=True))]
    error = None if backend == "c" else 8 * float(np.finfo(q.dtype).eps) / 2
    bound = backward_bound(g, q, k, v, attn_mask=seen, exp_error=error)
    for a, b, name in zip(whole, want, ("dq", "dk", "dv"), strict=True):
        assert a.shape == b.shape and (abs(a - b) <= 2 * bound[name]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_soft_cap_by_differences(backend: str) -> None:
    q, k, v, g = (normal(2, 9, 6, dtype=np.float64, seed=s) for s in range(4))
    mask: dict[str, Any] = {"softcap": 0.7, "attn_mask": normal(9, 9, dtype=np.float64), "is_causal": True}
    out, lse = projsym.attention(q, k, v, return_lse=True, backend=backend, **mask)
    got = projsym.attention_backward(g, q, k, v, out, lse, backend=backend, **mask)
    step = 1e-6
    for at, x in enumerate((q, k, v)):
        along = normal(*x.shape, dtype=np.float64, seed=9)
        sides = []
        for sign in (1, -1):
            moved = [q, k, v]
            moved[at] = x + sign * step * along
            sides.append((exact(*moved, **mask)[0] * g).sum())
        # Third derivatives are of order 1, the reference is in long double: off by step² and 2**-60/step.
        assert abs((sides[0] - sides[1]) / (2 * step) - (got[at] * along).sum()) < 1e-8
