"""Random calls of the public functions: within the proven bound, or refused where there is none; never NaN.

A kernel may report that scores leave the range of the dtype only where the bound is infinite somewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _fuzz import EXAMPLES, LONG, Problem, problems
from hypothesis import HealthCheck, given, settings

import projsym
from projsym.bounds_backward import backward_bound

quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG
)
ROUNDOFFS = 8  # of NumPy's exp2, which is within 4 units in the last place


def called(p: Problem, backend: str) -> tuple[np.ndarray, np.ndarray]:
    more: dict[str, Any] = {**p.options, "return_lse": True, "backend": backend}
    return projsym.project(p.q, p.k, **more) if p.v is None else projsym.attention(p.q, p.k, p.v, **more)


def check(p: Problem, backend: str, error: float | None) -> None:
    bound, log_bound = p.bounds(error)
    before = [x.copy() for x in (p.q, p.k, p.values)]
    try:
        out, lse = called(p, backend)
    except OverflowError:
        assert not (np.isfinite(bound).all() and np.isfinite(log_bound).all())
        return
    assert all(np.array_equal(a, b) for a, b in zip(before, (p.q, p.k, p.values), strict=True))
    want, want_lse = p.exact()
    assert out.shape == want.shape and lse.shape == want_lse.shape and out.dtype == lse.dtype == p.q.dtype
    assert not np.isnan(out).any() and not np.isnan(lse).any()
    near = np.abs(out.astype(np.longdouble) - want) <= bound[..., None]
    assert (near | np.isinf(bound)[..., None]).all()
    blind = np.isneginf(want_lse.astype(np.longdouble))
    with np.errstate(invalid="ignore"):  # -inf less -inf
        near = np.abs(lse.astype(np.longdouble) - want_lse) <= log_bound
    assert (near | blind | np.isinf(log_bound)).all() and np.isneginf(lse[blind]).all()


@given(problems())
@quick
def test_c(p: Problem) -> None:
    check(p, "c", None)


@given(problems())
@quick
def test_numpy(p: Problem) -> None:
    check(p, "numpy", ROUNDOFFS * float(np.finfo(p.q.dtype).eps) / 2)


@pytest.mark.parametrize("backend", ["c", "numpy"])
@given(problems(calm=True))
@settings(quick, max_examples=EXAMPLES // 2)
def test_gradients(backend: str, p: Problem) -> None:
    """Against each other in the two dtypes: a float64 run of the other backend is far inside the bound."""
    lead = np.broadcast_shapes(p.q.shape[:-2], p.k.shape[:-2], p.values.shape[:-2])
    if "key_bias" in p.options:
        lead = np.broadcast_shapes(lead, p.options["key_bias"].shape[:-1])
    made, bound = gradients(p, lead, p.q.dtype, backend)
    other = "numpy" if backend == "c" else "c"
    want, slack = gradients(p, lead, np.dtype(np.float64), other)
    for x, y, b, s in zip(made, want, bound, slack, strict=True):
        assert x.dtype == p.q.dtype and np.isfinite(b).all()
        assert (np.abs(x - y) <= b + s).all()


def gradients(
    p: Problem, lead: tuple[int, ...], dtype: np.dtype[Any], backend: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The gradients of a call in a dtype, and their bounds."""

    def full(x: np.ndarray, core: int) -> np.ndarray:
        return np.broadcast_to(x, (*lead, *x.shape[x.ndim - core :])).astype(dtype)

    q, k = full(p.q, 2), full(p.k, 2)
    v = None if p.v is None else full(p.v, 2)
    options = dict(p.options)
    if "key_bias" in options:
        options["key_bias"] = full(options["key_bias"], 1)
    out, lse = called(Problem(q, k, v, options), backend)
    rng = np.random.default_rng([7, *out.shape])
    g, g_lse = (rng.standard_normal(x.shape).astype(np.float32).astype(dtype) for x in (out, lse))
    error = None if backend == "c" else ROUNDOFFS * float(np.finfo(dtype).eps) / 2
    bound = backward_bound(g, q, k, v, g_lse=g_lse, exp_error=error, **options)
    more: dict[str, Any] = {**options, "g_lse": g_lse, "backend": backend}
    if v is None:
        made = projsym.project_backward(g, q, k, out, lse, **more)
        order = ["dq", "dk", "dscale" if "sigma" not in options else "dsigma", "dkey_bias"][: len(made)]
    else:
        made, order = projsym.attention_backward(g, q, k, v, out, lse, **more), ["dq", "dk", "dv"]
    return list(made), [bound[x] for x in order]
