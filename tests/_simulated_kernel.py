"""Kernels simulated operation by operation in the type of their inputs, and inputs that are hard on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq
from numpy.typing import NDArray

from projsym.codegen.exp2 import certificate, coefficients

Array = NDArray[Any]
Case = dict[str, Any]
SEQUENTIAL, PAIRWISE, REVERSED = "sequential", "pairwise", "reversed"


def exp2(x: Array) -> Array:
    """The kernels' ``exp2`` in the type of `x`, products and sums apart; arguments below range give 0."""
    low = certificate(x.dtype.name).lowest
    n = np.rint(np.maximum(x, low - 1))
    f = (np.maximum(x, low - 1) - n).astype(x.dtype)
    y = np.full_like(f, coefficients(x.dtype.name)[-1])
    for c in coefficients(x.dtype.name)[-2::-1]:
        y = y * f + x.dtype.type(c)
    result: Array = np.where(x < low, x.dtype.type(0), np.ldexp(y, n.astype(int)).astype(x.dtype))
    return result


def add(terms: Array, order: str) -> Array:
    """Sum over the first axis in that order, in the type of `terms`."""
    if order == PAIRWISE:
        while len(terms) > 1:
            odd = terms[-1:] if len(terms) % 2 else terms[:0]
            terms = np.concatenate([terms[0:-1:2] + terms[1::2], odd])
        first: Array = terms[0]
        return first
    last: Array = np.cumsum(terms[::-1] if order == REVERSED else terms, axis=0, dtype=terms.dtype)[-1]
    return last


def simulate(case: Case, block: int, order: str) -> tuple[Array, Array]:
    """One query at a time: the online kernel, every operation in the type of the inputs; output and lse."""
    q, k, v = case["q"], case["k"], case["v"]
    real = q.dtype.type
    sigma = case.get("sigma")
    natural = case.get("scale", 1 / math.sqrt(q.shape[1])) if sigma is None else 1 / sigma**2
    c = real(natural * math.log2(math.e))
    outputs, logs = [], []
    for row in q:
        score = add((row * c)[:, None] * k.T, order)
        if sigma is not None:
            score = score - add((k * k).T, order) * (c / real(2))
        if "key_bias" in case:
            with np.errstate(over="ignore"):
                score = score + case["key_bias"] * real(math.log2(math.e))
        m, total, acc = real(-math.inf), real(0), np.zeros(v.shape[1], q.dtype)
        for j in range(0, len(k), block):
            s, old = score[j : j + block], m
            m = max(m, s.max())
            if m == -math.inf:
                continue
            with np.errstate(over="ignore"):
                factor, p = exp2(np.array([old - m], q.dtype))[0], exp2(s - m)
            total = total * factor + add(p, order)
            acc = acc * factor + add(p[:, None] * v[j : j + block], order)
        outputs.append(acc / total if total > 0 else acc)
        logs.append(m * real(math.log(2)) + np.log(total) if total > 0 else m)
    assert all(o.dtype == q.dtype for o in outputs)
    return np.array(outputs), np.array(logs)


def ball(x: float) -> arb:
    return arb(fmpq(*float(x).as_integer_ratio()))


def exact(case: Case) -> tuple[list[list[arb]], list[arb]]:
    """The weighted means and log-sum-exps (without the row's term) as balls of about 200 bits."""
    q, k, v = case["q"], case["k"], case["v"]
    d = q.shape[1]
    bias = case.get("key_bias", np.zeros(len(k)))
    seen = [j for j in range(len(k)) if bias[j] > -math.inf]
    sigma, scale = case.get("sigma"), case.get("scale")
    factor = 1 / arb(d).sqrt() if scale is None else ball(scale)
    if sigma is not None:
        factor = 1 / (ball(sigma) * ball(sigma))
    means, logs = [], []
    for row in q:
        scores = []
        for j in seen:
            s = sum((ball(a) * ball(b) for a, b in zip(row, k[j], strict=True)), arb(0))
            if sigma is not None:
                s -= sum((ball(b) * ball(b) for b in k[j]), arb(0)) / 2
            scores.append(s * factor + ball(bias[j]))
        top = max(scores, key=lambda s: float(s.mid()))
        weights = [(s - top).exp() for s in scores]
        total = sum(weights, arb(0))
        logs.append(top + total.log())
        columns = [[ball(x) for x in v[seen, f]] for f in range(v.shape[1])]
        means.append([sum((w * x for w, x in zip(weights, c, strict=True)), arb(0)) / total for c in columns])
    return means, logs


def errors(case: Case, block: int, order: str) -> tuple[Array, Array]:
    """Largest error over features, and of the lse, by row (upper bounds, from balls)."""
    with ctx.workprec(200):
        means, logs = exact(case)
        out, lse = simulate(case, block, order)
        rows = [
            max(float(abs(ball(o) - e).upper()) for o, e in zip(row, mean, strict=True))
            for row, mean in zip(out, means, strict=True)
        ]
        return np.array(rows), np.array(
            [float(abs(ball(a) - b).upper()) for a, b in zip(lse, logs, strict=True)]
        )


def normal(n: int, m: int, d: int, dv: int, dtype: str, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    return {
        "q": rng.normal(size=(n, d)).astype(dtype),
        "k": rng.normal(size=(m, d)).astype(dtype),
        "v": rng.normal(size=(m, dv)).astype(dtype),
    }


def large_scores(dtype: str) -> Case:
    return normal(3, 40, 8, 3, dtype) | {"scale": 11.0}


def cancelling_scores(dtype: str) -> Case:
    case = normal(3, 40, 8, 3, dtype)
    big = 3e3 if dtype == "float32" else 3e7
    case["q"][:, 4:] = case["q"][:, :4]
    case["k"][:, :4] *= big
    case["k"][:, 4:] = -case["k"][:, :4] * (1 + np.finfo(dtype).eps * 4)
    return case


def huge_column(dtype: str) -> Case:
    case = normal(3, 40, 8, 3, dtype)
    case["v"][:, 1] = case["v"][:, 1] * 1e6 + 1e8
    return case


def masks(dtype: str) -> Case:
    bias = np.random.default_rng(5).normal(size=40).astype(dtype)
    bias[[0, 1, 2, 17, 39]] = -np.inf
    bias[[3, 20]] = -1e9
    bias[4] = np.finfo(dtype).min
    return normal(3, 40, 8, 3, dtype) | {"key_bias": bias}


def duplicates(dtype: str) -> Case:
    case = normal(3, 40, 8, 3, dtype)
    case["k"][:] = case["k"][0]
    return case


def gaussian(dtype: str) -> Case:
    return normal(3, 40, 8, 3, dtype) | {"sigma": 0.7}


def gaussian_far_key(dtype: str) -> Case:
    case = normal(3, 40, 8, 3, dtype) | {"sigma": 0.7, "key_bias": np.linspace(-2, 2, 40).astype(dtype)}
    case["k"][7] *= 1e4
    return case


def tiny_values(dtype: str) -> Case:
    case = normal(3, 40, 8, 3, dtype)
    case["v"] = (case["v"] * float(np.finfo(dtype).tiny)).astype(dtype)
    return case


def growing_scores(dtype: str) -> Case:
    """Every block raises the maximum, far enough that early sums are flushed."""
    case = normal(3, 40, 8, 3, dtype)
    case["q"] = np.abs(case["q"])
    case["k"] = np.abs(case["k"]) * np.linspace(0.1, 25, 40, dtype=dtype)[:, None]
    return case


def one_key(dtype: str) -> Case:
    return normal(3, 1, 8, 3, dtype)


CASES: list[Callable[[str], Case]] = [
    large_scores,
    cancelling_scores,
    huge_column,
    masks,
    duplicates,
    gaussian,
    gaussian_far_key,
    tiny_values,
    growing_scores,
    one_key,
]


def arguments(case: Case) -> Case:
    return {name: x for name, x in case.items() if name != "v"}
