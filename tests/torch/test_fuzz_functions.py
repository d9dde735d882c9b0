"""Random calls of the PyTorch functions: the bits of `projsym`, and gradients within the proven bound.

`tests/test_fuzz_attention.py` holds the bits of `projsym` to the proven bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _fuzz import EXAMPLES, LONG, Problem, problems
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import projsym
import projsym.torch as pt
from projsym.bounds_backward import backward_bound

quick = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not LONG
)


def shared(x: np.ndarray) -> Tensor:
    """A tensor on the array's memory where PyTorch allows it: not for negative strides."""
    try:
        return torch.from_numpy(x)
    except ValueError:
        return torch.from_numpy(x.copy())


def call(p: Problem, q: Tensor, k: Tensor, v: Tensor | None, **options: Any) -> tuple[Tensor, Tensor]:
    if v is None:
        return pt.project(q, k, return_lse=True, **options)
    return pt.attention(q, k, v, return_lse=True, **options)


@given(problems())
@quick
def test_same_bits(p: Problem) -> None:
    tensors = [None if x is None else shared(x) for x in (p.q, p.k, p.v)]
    options = {n: shared(x) if isinstance(x, np.ndarray) else x for n, x in p.options.items()}
    more: dict[str, Any] = {**p.options, "return_lse": True}
    try:
        want = projsym.project(p.q, p.k, **more) if p.v is None else projsym.attention(p.q, p.k, p.v, **more)
    except OverflowError as e:
        try:
            call(p, *tensors, **options)
            raise AssertionError("the operator did not raise what the function did")
        except OverflowError as again:
            assert str(e) == str(again)
        return
    for x, y in zip(call(p, *tensors, **options), want, strict=True):
        assert x.is_contiguous() and np.array_equal(x.numpy(), y)


@given(problems(calm=True))
@settings(quick, max_examples=EXAMPLES // 2)
def test_gradients(p: Problem) -> None:
    """Of what is shared by heads they are sums, one rounding an addition more than those of a head."""
    leaves = {n: shared(np.array(x)).requires_grad_() for n, x in named(p).items()}
    name = "sigma" if "sigma" in p.options else "scale"
    if p.v is None:
        value = p.options.get(name, p.q.shape[-1] ** -0.5)
        leaves[name] = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    options = {n: leaves.get(n, x) for n, x in p.options.items()}
    if p.v is None:
        options[name] = leaves[name]
    out, lse = call(p, leaves["q"], leaves["k"], leaves.get("v"), **options)
    rng = np.random.default_rng([7, *out.shape])
    g, g_lse = (rng.standard_normal(x.shape).astype(p.q.dtype) for x in (out, lse))
    made = torch.autograd.grad(
        (out, lse), list(leaves.values()), (torch.from_numpy(g), torch.from_numpy(g_lse))
    )

    want, bound = by_head(p, g, g_lse)
    for (leaf, x), y in zip(leaves.items(), made, strict=True):
        assert y.shape == x.shape and y.dtype == x.dtype
        exact, off = (summed(a[leaf], tuple(x.shape)) for a in (want, bound))
        sizes = summed(np.abs(want[leaf]) + bound[leaf], tuple(x.shape))
        unit = 100 * float(np.finfo(p.q.dtype).eps)  # for at most 18 heads, the sums and their roundings
        assert (np.abs(y.numpy() - exact) <= off + unit * sizes).all(), leaf


def named(p: Problem) -> dict[str, np.ndarray]:
    found = {"q": p.q, "k": p.k} | ({} if p.v is None else {"v": p.v})
    return found | {n: x for n, x in p.options.items() if isinstance(x, np.ndarray)}


def summed(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of what was broadcast from `shape`."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(a for a, size in enumerate(shape) if size == 1 != x.shape[a]), keepdims=True)


def by_head(p: Problem, g: np.ndarray, g_lse: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients of every head in float64 by the NumPy kernels, and the sum of both bounds."""
    lead = g.shape[:-2]
    full = {
        n: np.broadcast_to(x, (*lead, *x.shape[x.ndim - (1 if n == "key_bias" else 2) :]))
        for n, x in named(p).items()
    }
    wide = {n: x.astype(np.float64) for n, x in full.items()}
    options = {n: x for n, x in p.options.items() if n != "key_bias"}
    arrays = [wide[n] for n in ("q", "k", "v") if n in wide]
    biased = {"key_bias": wide["key_bias"]} if "key_bias" in wide else {}
    more: dict[str, Any] = {**options, **biased, "backend": "numpy"}
    up = {"g_lse": g_lse.astype(np.float64)}
    if p.v is None:
        out, lse = projsym.project(*arrays, return_lse=True, **more)
        made = projsym.project_backward(g.astype(np.float64), *arrays, out, lse, **up, **more)
        names = ["q", "k", "sigma" if "sigma" in options else "scale", "key_bias"]
    else:
        out, lse = projsym.attention(*arrays, return_lse=True, **more)
        made = projsym.attention_backward(g.astype(np.float64), *arrays, out, lse, **up, **more)
        names = ["q", "k", "v"]
    bias = {n: full[n] for n in biased}
    first = backward_bound(g, full["q"], full["k"], full.get("v"), g_lse=g_lse, **options, **bias)
    second = backward_bound(
        g.astype(np.float64),
        wide["q"],
        wide["k"],
        wide.get("v"),
        **up,
        exp_error=2.0**-49,
        **options,
        **biased,
    )
    bounds = {n: first[f"d{n}"] + second[f"d{n}"] for n in names if f"d{n}" in first}
    return dict(zip(names, made, strict=False)), bounds
