"""Plain programs of several weight functions, and an independent evaluation of each with an error bound."""

from __future__ import annotations

import numpy as np
import sympy as sp

from projsym.codegen.program import Dot, Input, Let, Loop, Output, Program, Sum, symbol

q_k, k_k, q_q, w0, s0, s1 = map(symbol, ("q_k", "k_k", "q_q", "w0", "s0", "s1"))
scale, sigma, key_bias = map(symbol, ("scale", "sigma", "key_bias"))

WEIGHTS = {
    "dot": sp.exp(scale * q_k),
    "gaussian": sp.exp(q_k / sigma**2 - k_k / (2 * sigma**2)),
    "biased": sp.exp(scale * q_k + key_bias),
    "student": (1 + (q_q - 2 * q_k + k_k) / (3 * sigma**2)) ** -2,
    "epanechnikov": sp.Max(0, 1 - (q_q - 2 * q_k + k_k) / sigma**2),
}
PARAMETER = {
    "dot": "scale",
    "biased": "scale",
    "gaussian": "sigma",
    "student": "sigma",
    "epanechnikov": "sigma",
}


def plain(form: str, values: str = "k") -> Program:
    """The program that lowering gives: one loop over heads, queries and keys, no blocks."""
    weight = WEIGHTS[form]
    inputs = [Input("q", "i", "d"), Input("k", "j", "d")]
    inputs += [Input("v", "j", "dv")] if values == "v" else []
    inputs += [Input("key_bias", "j")] if form == "biased" else []
    inputs += [Input(PARAMETER[form], "")]
    keys = [Dot(k_k, "j", "k", "k")] if k_k in weight.free_symbols else []
    keys += [Dot(q_k, "ij", "q", "k"), Let(w0, "ij", weight), Sum(s0, w0), Sum(s1, w0, values)]
    square = Dot(q_q, "i", "q", "q")
    before = [square] if q_q in weight.free_symbols else []
    after = [square] if form == "gaussian" else []
    lse = sp.log(s0) - (q_q / (2 * sigma**2) if form == "gaussian" else 0)
    outputs = [Output("out", ((1 / s0, s1),), "dv" if values == "v" else "d"), Output("lse", ((lse, None),))]
    rows = (*before, Loop("j", tuple(keys)), *after, *outputs)
    return Program(f"{form}_{values}", tuple(inputs), (Loop("h", (Loop("i", rows),)),))


def reference(
    form: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, parameter: float, bias: np.ndarray, u: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`(out, lse, bound, lse_bound)` in extended precision, by the formula of the form itself.

    bound: a weight with absolute error e_j in sums of total W moves the mean by at most
    `2 max|v| sum(e) / (W - sum(e))`, and summing m terms in any order adds `(m + 8) u` of the same scale.
    An inner product of d terms has error `(d + 8) u` times the sum of the absolute values of its terms (8
    covers the elementwise operations around it), and the exponential at most 8 u (NumPy: 4 ulp).
    """
    q, k, v, bias = (np.asarray(x, np.longdouble) for x in (q, k, v, bias))
    d, m, p = q.shape[-1], k.shape[-2], np.longdouble(parameter)
    dots, size = q @ k.swapaxes(1, 2), abs(q) @ abs(k).swapaxes(1, 2)
    qq, kk = (q * q).sum(-1)[:, :, None], (k * k).sum(-1)[:, None, :]
    e = (d + 8) * u
    peak = np.zeros(q.shape[:2], np.longdouble)
    if form in ("student", "epanechnikov"):
        c = 1 / (3 * p**2) if form == "student" else 1 / p**2
        x, dx = c * (qq - 2 * dots + kk), e * (1 + c * (qq + 2 * size + kk))
        w, dw = ((1 + x) ** -2, 3 * dx) if form == "student" else (np.maximum(0, 1 - x), dx)
        shift = 0 * peak
    else:
        if form == "gaussian":
            score, terms = -(qq - 2 * dots + kk) / (2 * p**2), (qq + 2 * size + kk) / (2 * p**2)
        else:
            b = bias[:, None, :] if form == "biased" else 0
            score, terms = p * dots + b, abs(p) * size + abs(np.where(np.isfinite(b), b, 0))
        peak = score.max(-1, initial=-1e300)
        w = np.exp(score - peak[..., None])
        # Scores of one row are compared with the largest one, whose error counts as well.
        delta = 2 * e * terms.max(-1, keepdims=True, initial=0) * np.ones_like(terms) + 8 * u
        dw, shift = w * np.expm1(delta), e * terms.max(-1, initial=0)
    total, slack = w.sum(-1), dw.sum(-1)
    spread = 2 * abs(v).max(initial=0)
    with np.errstate(all="ignore"):
        out = np.where(total[..., None] > 0, (w @ v) / np.where(total > 0, total, 1)[..., None], 0)
        lse = np.log(total) + peak
        relative = np.where(slack < total, slack / (total - slack), np.inf) + (m + 8) * u
    empty = total == 0
    relative[empty], shift[empty] = 0, 0
    size = abs(np.where(empty, 0, lse)) + abs(np.where(empty, 0, peak))
    return out, lse, (spread * relative)[..., None], relative + shift + 8 * u * size


__all__ = ["PARAMETER", "WEIGHTS", "plain", "reference"]
