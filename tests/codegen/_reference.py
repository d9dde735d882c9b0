"""What a kernel should give, in wide arithmetic by the formula of each form, with an error bound.

u is the unit roundoff of the kernel's type, ε the certified relative error of exp2, and
g = (d + 16) u/(1 - (d + 16) u) the error of an inner product of d terms with its scale and the elementwise
operations around it, relative to the sum of the absolute values of its terms (Higham, *Accuracy and Stability
of Numerical Algorithms*, 3.1 and 3.3).

*Exponentials.* A score is off by at most ``δ_ij = g (A_ij + max_j A_ij)``, A the same score with absolute
values; the maximum stands for subtracting the running maximum. So a weight is off by
``w ((1 + ε + 4u) e^δ (1 + ε + 4u)^(1 + blocks) - 1)``, the last factor from rescaling, plus the largest
weight times the floor of exp2. *Rational and compact weights.* The base is off by ``g A``; the weight
follows by monotonicity.

*Sums.* With weight errors e_j and W = Σ w_j the quotient p moves by at most
``Σ e_j |v_j - p| / (W - Σ e_j)``, and summation in any order adds
``2 (m + 8) u Σ (w_j + e_j) |v_j| / (W - Σ e_j)``. For log W: ``r/(1 - r)`` with
``r = Σ e/W + (m + 8) u``, and the roundings of the terms added to it. The reference itself is in a type whose
error is below u/100 times these bounds, covered by the 16 and 8.

*Roots.* A root of b with error e is off by at most ``min(sqrt(e), e/sqrt(b))``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projsym.codegen.exp2 import certificate

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Expected:
    """The outputs and their bounds, elementwise."""

    out: Array
    lse: Array
    out_bound: Array
    lse_bound: Array


def parameters(form: str, d: int) -> dict[str, float]:
    """Parameters that give weights of all sizes at feature size d."""
    if form in ("dot", "biased"):
        return {"scale": d**-0.5}
    return {"sigma": {"gaussian": d**0.25, "epanechnikov": 2.0 * d**0.5}.get(form, d**0.5)}


def _weights(
    form: str, q: Array, k: Array, bias: Array, p: dict[str, float], g: float
) -> tuple[Array, Array, Array]:
    """Weights, their absolute errors before exp2's own, and the size of the scores."""
    wide = q.dtype.type
    dot, size = q @ k.swapaxes(1, 2), np.abs(q) @ np.abs(k).swapaxes(1, 2)
    norms = (q**2).sum(-1)[:, :, None] + (k**2).sum(-1)[:, None, :]
    r2, a2 = norms - 2 * dot, norms + 2 * size
    if form == "student":
        c = 1 / (3 * wide(p["sigma"]) ** 2)
        b, e = 1 + c * r2, g * (1 + c * a2)
        return b**-2, (b - e) ** -2 * (1 + g) - b**-2, np.zeros_like(b)
    if form == "epanechnikov":
        c = 1 / wide(p["sigma"]) ** 2
        return np.maximum(0, 1 - c * r2), g * (1 + c * a2), np.zeros_like(r2)
    if form == "laplace":
        sigma, root = wide(p["sigma"]), np.sqrt(r2.clip(0))
        e = g * a2
        off = np.minimum(np.sqrt(e), e / np.where(root > 0, root, np.inf) + np.sqrt(e) * (root == 0)) / sigma
        top = np.sqrt(a2) / sigma
        top = top + top.max(axis=-1, keepdims=True, initial=0)
        w = np.exp(-root / sigma)
        return w, w * np.expm1(off + g * top), top
    if form in ("dot", "biased"):
        finite = np.where(np.isfinite(bias), np.abs(bias), 0)[:, None, :]
        scores = [(wide(p["scale"]) * dot + bias[:, None, :], wide(p["scale"]) * size + finite, wide(1))]
    else:
        widths = {"gaussian": [(2, 1)], "mixture": [(2, 1), (8, 0.1)]}[form]
        scores = [
            (-r2 / (c * wide(p["sigma"]) ** 2), a2 / (c * wide(p["sigma"]) ** 2), wide(f)) for c, f in widths
        ]
    w = sum(f * np.exp(s) for s, _, f in scores)
    top = [a + a.max(axis=-1, keepdims=True, initial=0) for _, a, _ in scores]
    e = sum(f * np.exp(s) * np.expm1(g * a) for (s, _, f), a in zip(scores, top, strict=True))
    return w, e, np.max(top, axis=0)


def expected(
    form: str, q: Array, k: Array, v: Array, bias: Array, p: dict[str, float], dtype: str, block: int
) -> Expected:
    """The reference for inputs of `dtype`, in float64 for float32 and in long double for float64."""
    wide = np.float64 if dtype == "float32" else np.longdouble
    q, k, v, bias = (x.astype(wide) for x in (q, k, v, bias))
    d, m = q.shape[-1], k.shape[1]
    u = np.finfo(dtype).eps / 2
    g = (d + 16) * u / (1 - (d + 16) * u)
    proof = certificate(dtype)
    w, e, size = _weights(form, q, k, bias, p, g)
    epsilon = proof.worst + 4 * u
    e = e + (w + e) * np.expm1((2 + -(-m // block)) * epsilon)
    e = e + proof.floor * w.max(axis=-1, keepdims=True, initial=0)
    total, wrong = w.sum(-1)[..., None], e.sum(-1)[..., None]
    safe = np.where(total > 0, total, 1)
    out = np.where(total > 0, w @ v / safe, 0)
    room = np.where(total > 0, total - wrong, 1)
    assert (room > 0).all(), "the bound says nothing for these inputs"
    moved = np.stack(
        [(e * np.abs(v[:, None, :, f] - out[..., f, None])).sum(-1) for f in range(v.shape[-1])], -1
    )
    out_bound = (moved + 2 * (m + 8) * u * ((w + e) @ np.abs(v))) / room + np.finfo(dtype).tiny
    r = (wrong / safe)[..., 0] + (m + 8) * u
    lse = np.where(total[..., 0] > 0, np.log(safe[..., 0]), -np.inf)
    terms = np.abs(np.where(np.isfinite(lse), lse, 0)) + size.max(axis=-1, initial=0)
    return Expected(out, lse, out_bound, r / (1 - r) + 8 * u * terms)
