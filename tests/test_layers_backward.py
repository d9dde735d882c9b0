"""Gradients of layers against automatic differentiation, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from _layer_gradients import reference, tolerance
from _layers import FORMS

from projsym import layer, layer_backward, layer_forward


def compare(g: Any, x: Any, weights: Any, context: Any = None, backend: Any = None) -> None:
    made = layer_backward(g, x, weights, context=context, backend=backend)
    got = dict(made.weights) | {"x": made.x, "scale": made.scale}
    if context is not None:
        got["context"] = made.context
    want, allowed = reference(g, x, weights, context), tolerance(g, x, weights, context)
    assert got.keys() == want.keys() == allowed.keys()
    for name, a in want.items():
        assert np.shape(got[name]) == a.shape and (name == "scale" or got[name].dtype == x.dtype), name
        assert (np.abs(got[name] - a) <= allowed[name]).all(), name


@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [1, 3])
def test_gradients_are_those_of_the_layer(form: str, dtype: str, backend: str, heads: int) -> None:
    rng = np.random.default_rng(0)
    weights = FORMS[form](rng, 12, 12 // heads, 10, heads, dtype)
    x, g = (rng.standard_normal((2, 3, 7, s)).astype(dtype) for s in (12, 10))
    compare(g, x, weights, backend=backend)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (1, 70), (49, 65)])
def test_gradients_with_a_context(form: str, n: int, m: int) -> None:
    rng = np.random.default_rng(1)
    weights = FORMS[form](rng, 9, 4, 6, 2, "float32")
    x, y, g = (rng.standard_normal((2, *s)).astype("float32") for s in ((n, 9), (m, 9), (n, 6)))
    compare(g, x, weights, y)


@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.parametrize("form", FORMS)
def test_what_the_forward_pass_saves(form: str, backend: Any) -> None:
    """The images, the means and the output; gradients from them are those that are computed again."""
    rng = np.random.default_rng(5)
    weights = FORMS[form](rng, 9, 5, 6, 2, "float32")
    x, y, g = (rng.standard_normal((2, *s)).astype("float32") for s in ((7, 9), (3, 9), (7, 6)))
    out, saved = layer_forward(x, weights, context=y, backend=backend)
    want, lse = layer(x, weights, context=y, return_lse=True, backend=backend)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(saved.lse, lse)
    assert saved.queries.shape == (2, 2, 7, 9 if form == "folded" else 5)
    assert (saved.keys is None) == (form == "folded")
    one = layer_backward(g, x, weights, context=y, saved=saved, backend=backend)
    two = layer_backward(g, x, weights, context=y, backend=backend)
    np.testing.assert_array_equal(one.x, two.x)
    with pytest.raises(ValueError, match=re.escape("saved: given queries (2, 2, 7")):
        layer_backward(g[:1], x[:1], weights, context=y[:1], saved=saved)


@pytest.mark.parametrize("form", FORMS)
def test_without_keys_only_the_constant_has_a_gradient(form: str) -> None:
    rng = np.random.default_rng(2)
    weights = FORMS[form](rng, 9, 4, 6, 2, "float32")
    x, g = (rng.standard_normal((2, 3, s)).astype("float32") for s in (9, 6))
    made = layer_backward(g, x, weights, context=x[:, :0])
    assert made.context is not None and made.context.shape == (2, 0, 9) and not made.x.any()
    for name, a in made.weights.items():
        assert a.any() == (name == "b"), name
    assert layer_backward(g[:0], x[:0], weights).x.shape == (0, 3, 9)


def test_the_tolerance_sees_a_wrong_gradient() -> None:
    """A part in a thousand of the largest entry is more than what is allowed, in every array."""
    rng = np.random.default_rng(3)
    weights = FORMS["tied"](rng, 12, 4, 10, 3, "float64")
    x, g = rng.standard_normal((2, 7, 12)), rng.standard_normal((2, 7, 10))
    want, allowed = reference(g, x, weights), tolerance(g, x, weights)
    for name, a in want.items():
        assert (1e-3 * np.abs(a) > allowed[name]).any(), name


def test_refusals() -> None:
    rng = np.random.default_rng(4)
    weights = FORMS["folded"](rng, 6, 3, 5, 2, "float32")
    x, g = (rng.standard_normal((2, 4, s)).astype("float32") for s in (6, 5))

    def refused(kind: type[Exception], message: str, *given: Any, **more: Any) -> None:
        with pytest.raises(kind, match=re.escape(message)):
            layer_backward(*given, **more)

    refused(ValueError, "g: given shape (2, 4, 4); allowed: shape (2, 4, 5)", g[..., :4], x, weights)
    refused(TypeError, "g: given float64; allowed: float32", g.astype("float64"), x, weights)
    refused(
        ValueError, "context: given shape (4, 6); allowed: leading axes (2,)", g, x, weights, context=x[0]
    )
    refused(TypeError, "weights: given ndarray", g, x, x)
    refused(ValueError, "g: given NaN or infinite entries", g * np.float32(np.inf), x, weights)
    refused(ValueError, "x: given NaN or infinite entries", g, x * np.float32(np.nan), weights)
    _, saved = layer_forward(x, weights)
    refused(ValueError, "x: given NaN or infinite", g, x * np.float32(np.nan), weights, saved=saved)
    refused(OverflowError, "outside the range of float32", g * np.float32(1e38), x * np.float32(100), weights)
