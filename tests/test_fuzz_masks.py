"""Random masks: output and gradients within the proven bound, and no trace of what is hidden.

The definition is spelled out here: a mask is a number added to the score of each pair, −inf where it is
hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from _fuzz import EXAMPLES, FEATURES, LONG, WIDTHS, strided
from _masked import bounds, exact
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import projsym

quick = settings(
    max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG
)
LEAD = (2, 3)


@dataclass(frozen=True)
class Masked:
    """Query, key and value with the same leading axes, the options of a call, and what they mean (..., n,
    m)."""

    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    options: dict[str, Any]
    bias: np.ndarray


@st.composite
def masked(draw: st.DrawFn) -> Masked:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.sampled_from([1, 3, 9])), draw(st.sampled_from([0, 1, 5, 34]))
    width = WIDTHS[-1]
    shapes = (n, FEATURES), (m, FEATURES), (m, width)
    q, k, v = (strided(draw, rng.standard_normal((*LEAD, *s)).astype(dtype)) for s in shapes)
    options: dict[str, Any] = {}
    bias = np.zeros((*LEAD, n, m), dtype)
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(m,), (1, m), (n, 1), (n, m), (3, 1, m), (2, 1, n, m), (*LEAD, n, m)]))
        pairs = rng.standard_normal(shape).astype(dtype)
        pairs[rng.random(shape) < 0.4] = -np.inf
        if draw(st.booleans()):
            options["attn_mask"], pairs = pairs > 0, np.where(pairs > 0, dtype(0), dtype(-np.inf))
        else:
            options["attn_mask"] = strided(draw, pairs)
        bias = bias + pairs
    if draw(st.booleans()):
        options["key_bias"] = rng.standard_normal((3, m)).astype(dtype)
        options["key_bias"][rng.random((3, m)) < 0.2] = -np.inf
        bias = bias + options["key_bias"][:, None, :]
    position, j = np.arange(n)[:, None], np.arange(m)
    if draw(st.booleans()):
        lengths = rng.integers(0, m + 1, 2)
        options["kv_lengths"] = lengths
        lengths = lengths[:, None, None, None]
        position = position + lengths - n
        bias = np.where(j < lengths, bias, dtype(-np.inf))
    if draw(st.booleans()):
        options["is_causal"] = True
        bias = np.where(j <= position, bias, dtype(-np.inf))
    if draw(st.booleans()):
        left, right = (draw(st.sampled_from([None, 0, 2])) for _ in range(2))
        options["window"] = left, right
        near = (left is None or j >= position - left) & (right is None or j <= position + right)
        bias = np.where(near, bias, dtype(-np.inf))
    return Masked((q, k, v), options, bias.astype(dtype))


@pytest.mark.parametrize("backend", ["c", "numpy"])
@given(masked())
@quick
def test_within_the_bound(backend: str, p: Masked) -> None:
    q, k, v = p.arrays
    more: dict[str, Any] = {**p.options, "backend": backend, "scale": 0.6}
    out, lse = projsym.attention(q, k, v, return_lse=True, **more)
    g = np.random.default_rng(0).standard_normal(out.shape).astype(out.dtype)
    want, gradients = exact(g, q, k, v, p.bias, 0.6)
    error = None if backend == "c" else 8 * float(np.finfo(q.dtype).eps) / 2
    bound, allowed = bounds(g, q, k, v, p.bias, 0.6, error)
    assert (np.abs(out - want) <= bound[..., None]).all()
    blind = ~np.isfinite(p.bias).any(-1)
    assert np.array_equal(np.isneginf(lse), blind) and not out[blind].any()
    made = projsym.attention_backward(g, q, k, v, out, lse, **more)
    for name, x in zip(("q", "k", "v"), made, strict=False):
        assert (np.abs(x - gradients[name]) <= allowed[name]).all(), name
    assert not made[0][blind].any()


@pytest.mark.parametrize("backend", ["c", "numpy"])
@given(masked())
@quick
def test_what_is_hidden_leaves_no_trace(backend: str, p: Masked) -> None:
    """NaN and infinity in keys and values that no query sees: the same bits, forward and backward."""
    q, k, v = (x.copy() for x in p.arrays)
    more: dict[str, Any] = {**p.options, "backend": backend}
    hidden = np.isneginf(p.bias).all(-2)
    clean = [np.where(hidden[..., None], x.dtype.type(0), x) for x in (k, v)]
    k[hidden], v[hidden] = np.nan, np.inf
    made = []
    for keys, values in ((k, v), clean):
        out, lse = projsym.attention(q, keys, values, return_lse=True, **more)
        made.append([out, lse, *projsym.attention_backward(out, q, keys, values, out, lse, **more)])
    assert all(
        np.array_equal(a, b) and np.isfinite(a[~np.isneginf(a)]).all() for a, b in zip(*made, strict=True)
    )
