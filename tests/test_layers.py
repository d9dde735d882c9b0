"""The public layer: within its bound, at every size, and refusing what it cannot do."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _layers import FORMS, exact, folded, tied

import projsym
from projsym import layer
from projsym.bounds_layer import layer_bound
from projsym.runtime import layer_kernel
from projsym.runtime.threads import set_num_threads

BACKENDS = ("c", "numpy")
ULPS = 8
"""Units of roundoff that NumPy's exp2 is assumed to be within, as in `projsym.bounds`."""


def exp_error(backend: str, dtype: str) -> float | None:
    return None if backend == "c" else ULPS * float(np.finfo(dtype).eps)


def compare(x: np.ndarray, weights: Any, backend: str, context: np.ndarray | None = None) -> None:
    """Output and log-sum-exp within the bound of the exact layer."""
    out, lse = layer(x, weights, context=context, return_lse=True, backend=backend)
    want, logs = exact(x, weights, context)
    bound = layer_bound(x, weights, context=context, exp_error=exp_error(backend, str(x.dtype)))
    allowed = 1 + 2.0**-9  # the error of the long double
    assert out.dtype == x.dtype and lse.dtype == x.dtype
    assert out.shape == want.shape and lse.shape == logs.shape
    assert (np.abs(out - want) <= bound.out * allowed).all()
    assert (np.abs(lse - logs) <= bound.lse * allowed).all()
    assert np.isfinite(bound.out).all() and np.isfinite(bound.lse).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("heads", "d", "width", "out"), [(1, 40, 40, 40), (3, 8, 24, 17), (2, 5, 7, 33)])
def test_layers_are_within_the_bound(
    form: str, dtype: str, backend: str, heads: int, d: int, width: int, out: int
) -> None:
    rng = np.random.default_rng(0)
    weights = FORMS[form](rng, width, d, out, heads, dtype)
    compare(rng.standard_normal((3, 20, width)).astype(dtype), weights, backend)


def test_the_bound_is_not_vacuous() -> None:
    """The bound is less than a tenth of the outputs' own deviation."""
    rng = np.random.default_rng(1)
    weights = folded(rng, 64, 64, 64, 1, "float32")
    x = rng.standard_normal((2, 20, 64)).astype("float32")
    deviation = layer(x, weights).std()
    assert deviation > 0.1 and layer_bound(x, weights).out.max() < 0.1 * deviation


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 11, 12, 13, 47, 48, 49, 65, 97, 129])
def test_lengths_around_tiles_and_blocks(form: str, n: int) -> None:
    rng = np.random.default_rng(n)
    weights = FORMS[form](rng, 19, 9, 21, 2, "float32")
    compare(rng.standard_normal((2, n, 19)).astype("float32"), weights, "c")


@pytest.mark.parametrize("width", [1, 8, 9, 16, 24, 257])
def test_widths_around_vectors_and_panels(width: int) -> None:
    rng = np.random.default_rng(width)
    weights = folded(rng, width, 3, width, 1, "float32")
    compare(rng.standard_normal((2, 7, width)).astype("float32"), weights, "c")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_context(form: str, backend: str) -> None:
    """Queries and keys of different sequences, with leading axes that broadcast."""
    rng = np.random.default_rng(2)
    weights = FORMS[form](rng, 12, 6, 10, 2, "float64")
    x, y = rng.standard_normal((4, 1, 5, 12)), rng.standard_normal((3, 9, 12))
    out = layer(x, weights, context=y, backend=backend)
    assert out.shape == (4, 3, 5, 10)
    for i in range(4):
        compare(x[i], weights, backend, np.ascontiguousarray(y))
        if backend == "c":
            np.testing.assert_array_equal(out[i], layer(x[i], weights, context=y))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_nothing_to_see_and_nobody_to_look(form: str, backend: str) -> None:
    rng = np.random.default_rng(3)
    weights = FORMS[form](rng, 6, 3, 5, 2, "float32")
    x = rng.standard_normal((2, 4, 6)).astype("float32")
    for returns in (False, True):
        got: Any = layer(x, weights, context=x[:, :0], return_lse=returns, backend=backend)
        out, lse = got if returns else (got, np.full((2, 2, 4), -np.inf))
        np.testing.assert_array_equal(out, np.broadcast_to(weights.b, (2, 4, 5)))
        assert (lse == -np.inf).all() and lse.shape == (2, 2, 4)
    assert layer(x[:, :0], weights, context=x, backend=backend).shape == (2, 0, 5)
    assert layer(x[:0], weights, backend=backend).shape == (0, 4, 5)
    assert layer(x[0], weights, backend=backend).shape == (4, 5)


def test_views_give_the_same_bits_as_copies() -> None:
    """Rows far apart, sequences backwards, features strided, and weights that are views."""
    rng = np.random.default_rng(4)
    weights = folded(rng, 16, 4, 16, 3, "float32")
    copied = replace(weights, A=np.ascontiguousarray(weights.A), B=np.ascontiguousarray(weights.B))
    base = rng.standard_normal((6, 20, 40)).astype("float32")
    for x in (base[::-1, ::2, :16], base[:, :, :32:2], base[1:4, 3:17, 5:21], base[::2, :, 24:]):
        want = layer(np.ascontiguousarray(x), copied)
        np.testing.assert_array_equal(layer(x, weights), want)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("heads", "d", "width", "out"), [(3, 20, 35, 17), (1, 1, 9, 1), (2, 3, 1, 40)])
def test_transposed_matrices_are_read_in_place(
    heads: int, d: int, width: int, out: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps as PyTorch stores them, (outputs, inputs), give the same bits; so do those that must be copied.

    In NumPy a product may be summed in another order where a factor is transposed.
    """
    rng = np.random.default_rng(8)
    weights = tied(rng, width, d, out, heads, "float32")
    x = rng.standard_normal((3, 20, width)).astype("float32")
    names = ("W_Q", "W_K", "W_O")
    turned = {n: np.ascontiguousarray(getattr(weights, n).mT).mT for n in names}
    apart = {n: np.repeat(np.repeat(getattr(weights, n), 2, 1), 2, 2)[:, ::2, ::2] for n in names}
    want = layer(x, weights, backend=backend)
    bound = layer_bound(x, weights, exp_error=exp_error(backend, "float32")).out
    for given, copied in ((turned, 0), (apart, 3)):
        seen: list[np.ndarray] = []
        real = layer_kernel._matrices

        def spy(a: np.ndarray, seen: Any = seen, real: Any = real) -> Any:
            made = real(a)
            seen += [a] if made[0] is not a else []
            return made

        monkeypatch.setattr(layer_kernel, "_matrices", spy)
        found = layer(x, replace(weights, **given), backend=backend)
        monkeypatch.undo()
        if backend == "c":
            np.testing.assert_array_equal(found, want)
        assert (np.abs(found - want) <= 2 * bound).all()
        # A stride of two is none along an axis of length one.
        assert len(seen) <= copied and (min(d, width, out) == 1 or len(seen) == copied * (backend == "c"))


@pytest.mark.parametrize("form", FORMS)
def test_results_do_not_depend_on_threads_or_on_the_company(form: str) -> None:
    """Bit by bit: the same with one thread, and for a sequence alone."""
    rng = np.random.default_rng(5)
    weights = FORMS[form](rng, 48, 16, 48, 3, "float32")
    x = rng.standard_normal((37, 20, 48)).astype("float32")
    try:
        set_num_threads(1)
        one = layer(x, weights)
        set_num_threads(3)
        np.testing.assert_array_equal(layer(x, weights), one)
    finally:
        set_num_threads(None)
    np.testing.assert_array_equal(layer(x[11], weights), one[11])


@pytest.mark.parametrize("form", FORMS)
def test_threads_share_a_long_sequence(form: str) -> None:
    """The same bits as one thread gives, saved values and logarithms too."""
    rng = np.random.default_rng(9)
    weights = FORMS[form](rng, 48, 16, 48, 3, "float32")
    for n in (49, 200):
        x, y = rng.standard_normal((2, 1, n, 48)).astype("float32")
        made = []
        for threads in (1, 3):
            set_num_threads(threads)
            try:
                made.append(projsym.layer_forward(x, weights, context=y))
            finally:
                set_num_threads(None)
        (one, kept), (two, also) = made
        np.testing.assert_array_equal(one, two)
        for name, value in vars(kept).items():
            assert (value is None) == (getattr(also, name) is None)
            if value is not None:
                np.testing.assert_array_equal(value, getattr(also, name))
        compare(x, weights, "c", y)


def test_the_folded_layer_is_the_called_one() -> None:
    """`Folded` itself composes NumPy and a kernel; both are within the bound, so twice it apart at most."""
    rng = np.random.default_rng(6)
    weights = folded(rng, 24, 6, 24, 4, "float64")
    x = rng.standard_normal((2, 9, 24))
    assert (np.abs(layer(x, weights) - weights(x)) <= 2 * layer_bound(x, weights).out).all()


def refused(kind: type[Exception], message: str, x: Any, weights: Any, **more: Any) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        layer(x, weights, **more)


def test_refusals() -> None:
    rng = np.random.default_rng(7)
    weights, x = tied(rng, 6, 3, 5, 2, "float32"), np.ones((2, 4, 6), "float32")
    refused(TypeError, "x: given float64; allowed: float32", x.astype("float64"), weights)
    refused(TypeError, "context: given float64; allowed: float32", x, weights, context=np.ones((4, 6)))
    refused(ValueError, "x: given shape (2, 4, 5); allowed: shape (..., tokens, 6)", x[..., :5], weights)
    refused(ValueError, "context: given shape (2, 4, 3)", x, weights, context=x[..., :3])
    refused(ValueError, "x: given shape (6,)", x[0, 0], weights)
    refused(ValueError, "leading axes of x, context", x, weights, context=np.ones((3, 4, 6), "float32"))
    refused(TypeError, "weights: given ndarray; allowed: a Folded of projsym.fold", x, x)
    refused(ValueError, "backend: given 'gpu'", x, weights, backend="gpu")
    cross = replace(weights, W_K=np.ones((2, 7, 3), "float32"))
    refused(ValueError, "(and a context of its own)", x, cross)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_finite_is_an_error(backend: str) -> None:
    rng = np.random.default_rng(8)
    weights, x = tied(rng, 6, 3, 5, 2, "float32"), np.ones((2, 4, 6), "float32")
    for bad in (np.nan, np.inf):
        y = x.copy()
        y[1, 2, 3] = bad
        refused(ValueError, "x: given NaN or infinite entries", y, weights, backend=backend)
        refused(ValueError, "context: given NaN or infinite", x, weights, context=y, backend=backend)
        b = replace(weights, b=weights.b * np.float32(bad))
        refused(ValueError, "weights: given NaN or infinite entries", x, b, backend=backend)
    refused(OverflowError, "outside the range of float32", x * np.float32(1e30), weights, backend=backend)
    large = replace(weights, W_O=weights.W_O * np.float32(1e38))
    refused(OverflowError, "outside the range of float32", 100 * x, large, backend=backend)


def test_tie_refuses() -> None:
    w = np.ones((4, 6))
    for kind, message, more in (
        (ValueError, "heads: got 0", {"heads": 0}),
        (ValueError, "heads: got 4; allowed is a divisor of 6", {"heads": 4}),
        (ValueError, "b_q: got shape (5,)", {"b_q": np.ones(5)}),
        (ValueError, "scale: got inf", {"scale": float("inf")}),
        (TypeError, "b_o: got dtype float32", {"b_o": np.ones(3, "float32")}),
        (TypeError, "dtype: got dtype float16", {"dtype": "float16"}),
    ):
        with pytest.raises(kind, match=re.escape(message)):
            projsym.tie(w, w, np.ones((6, 3)), **more)
    with pytest.raises(ValueError, match=re.escape("w_o: got shape (5, 3); allowed is (6, 3)")):
        projsym.tie(w, w, np.ones((5, 3)))
    with pytest.raises(ValueError, match="w_q: got a NaN"):
        projsym.tie(w * np.nan, w, np.ones((6, 3)))
