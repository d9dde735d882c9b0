"""A proven bound on the rounding error of the backward kernels, element by element.

**The kernel.** Any float evaluation, in a type with unit roundoff ``u``, of the sums of theorem IV.6b:

    w_ij = exp(s_ij − lse_i),  r_ij = ⟨g_i, v_j⟩ − ⟨g_i, out_i⟩ + g_lse_i,  p_ij = w_ij r_ij,
    sums over j of p_ij k_j, over i of p_ij q_i, w_ij g_i and p_ij, over both of p_ij times a polynomial,

`lse` and `out` being what a forward kernel within `projsym.bounds` returned. Sums may be taken in any order.

**The bound**, ``γ_r = r u / (1 − r u)`` for a number that goes through ``r`` roundings.

1. *Exponents.* Every term of ``s_ij − lse_i`` goes through at most ``2 d + 16`` roundings (products and sums
   of an inner product or norm, factors, casts, the change to base two, three additions), so the exponent is
   off by at most ``γ A_ij`` plus the error of the saved `lse` (`lse_bound`); ``A_ij`` is the sum of the
   absolute values of the terms. The weight is off by ``w_ij (e^δ (1 + exp_error) − 1)`` and what flushes.
2. *Residuals.* ``r_ij`` is off by ``γ_{dv+8}`` times the absolute values of its terms, plus ``Σ_a |g_a|``
   times the error of the saved output (`forward_bound`).
3. *Products.* Errors ``e_w, e_r`` make ``p_ij`` off by ``e_w (|r| + e_r) + w e_r`` and a rounding.
4. *Sums.* An addend goes through at most as many additions as there are addends, and 16 roundings more.

A hidden pair has weight 0 in the kernel and here [I.10b]; a number that is added to a score is one more term.
It is evaluated in float64, whose own rounding enters as ``2**-53`` in the place of ``u`` beside the kernel's;
a last factor ``1 + 10**-8`` covers the rest for fewer than 10**6 terms. As every step takes absolute values,
it is some tens of times above what is observed. It is infinite where a kernel may overflow.

What it cannot see is what `projsym.bounds` cannot see.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from projsym.bound_arguments import added
from projsym.bounds import forward_bound, lse_bound
from projsym.masks import Window, resolve

Array = NDArray[Any]

_SAFETY: Final = 1 + 1e-8
_U64: Final = 2.0**-53


def backward_bound(
    g: Array,
    q: Array,
    k: Array,
    v: Array | None,
    *,
    scale: float | None = None,
    sigma: float | None = None,
    key_bias: Array | None = None,
    g_lse: Array | None = None,
    exp_error: float | None = None,
    attn_mask: Array | None = None,
    is_causal: bool = False,
    window: Window | None = None,
    kv_lengths: Array | None = None,
) -> dict[str, Array]:
    """Bounds on ``|kernel − exact gradient|`` by output name, each of the shape of that output.

    >>> g, q, k, v = np.random.default_rng(0).standard_normal((4, 8, 16), dtype=np.float32)
    >>> {name: x.shape for name, x in backward_bound(g, q, k, v).items()}
    {'dq': (8, 16), 'dk': (8, 16), 'dv': (8, 16)}

    g (..., n, dv), q (..., n, d), k (..., m, d), v (..., m, dv) or None for the projection, whose values are
    the keys; one dtype, that of the kernel, and the same leading axes. scale, sigma, key_bias, g_lse and the
    arguments of the mask as in `projsym.project_backward`; bandwidths of keys are refused. exp_error:
    relative error of the kernel's ``exp2``; by default the certified one of the C kernels. Errors are those
    of `forward_bound`. The module docstring has the proof.

    Names: dq, dk, then dv, or dscale or dsigma (one a head) and, with a bias, dkey_bias.
    """
    values = k if v is None else v
    if isinstance(sigma, np.ndarray):
        raise ValueError(
            "sigma: got an array; allowed is one number, for bandwidths of keys no bound is offered"
        )
    if exp_error is None:
        from projsym.codegen.exp2 import certificate  # generation-time packages, not needed otherwise

        exp_error = certificate(q.dtype.name).worst
    mask: dict[str, Any] = {"attn_mask": attn_mask, "is_causal": is_causal, "window": window}
    mask["kv_lengths"] = kv_lengths
    options: dict[str, Any] = {"scale": scale, "sigma": sigma, "key_bias": key_bias, "exp_error": exp_error}
    options |= mask
    out_error = forward_bound(q, k, values, block=1, **options)
    lse_error = lse_bound(q, k, block=1, **options)
    lead, n, m = q.shape[:-2], q.shape[-2], k.shape[-2]
    count = math.prod(lead)
    heads = [x.reshape(count, *x.shape[len(lead) :]).astype(np.float64) for x in (g, q, k, values)]
    bias = added(resolve(lead, n, m, q.dtype, key_bias=key_bias, **mask), lead, n, m)
    upstream = np.zeros((*lead, n)) if g_lse is None else g_lse
    rows = [x.reshape(count, n).astype(np.float64) for x in (upstream, out_error, lse_error)]
    made: list[dict[str, Array]] = []
    with np.errstate(all="ignore"):  # what overflows here ends as an infinite bound
        for parts in zip(*heads, bias, *rows, strict=True):
            made.append(
                _Head(
                    *parts, scale=scale, sigma=sigma, tied=v is None, dtype=q.dtype, exp_error=exp_error
                ).bounds()
            )
    names = ["dq", "dk"] + (["dv"] if v is not None else ["dscale" if sigma is None else "dsigma"])
    names += ["dkey_bias"] if key_bias is not None else []
    shapes = {"dq": q.shape, "dk": k.shape, "dv": values.shape, "dkey_bias": (*lead, m)}
    return {x: np.reshape(np.array([b[x] for b in made]), shapes.get(x, lead)) * _SAFETY for x in names}


class _Head:
    """The bounds of one head; g (n, dv), q (n, d), k (m, d), v (m, dv), bias (n, m), the others (n,)."""

    def __init__(
        self,
        g: Array,
        q: Array,
        k: Array,
        v: Array,
        bias: Array,
        g_lse: Array,
        out_error: Array,
        lse_error: Array,
        *,
        scale: float | None,
        sigma: float | None,
        tied: bool,
        dtype: np.dtype[Any],
        exp_error: float,
    ) -> None:
        self.g, self.q, self.k, self.v, self.bias, self.g_lse = g, q, k, v, bias, g_lse
        self.out_error, self.lse_error, self.exp_error = out_error, lse_error, exp_error
        self.tied, self.sigma = tied, sigma
        d = q.shape[1]
        self.c = 1 / sigma**2 if sigma is not None else (1 / math.sqrt(max(d, 1)) if scale is None else scale)
        info = np.finfo(dtype)
        self.u, self.tiny, self.largest = float(info.eps) / 2, float(info.tiny), float(info.max)
        self.floor = math.ldexp(1.0, int(info.minexp) + 4)

    def gamma(self, roundings: int) -> float:
        """``γ_r`` of the kernel's roundings and as many of this evaluation."""
        x = roundings * (self.u + _U64)
        return x / (1 - x) if x < 1 else math.inf

    def bounds(self) -> dict[str, Array]:
        q, k, g = np.abs(self.q), np.abs(self.k), np.abs(self.g)
        (n, d), m = q.shape, len(k)
        w, e_w = self.weights()
        p, e_p = self.products(w, e_w)
        t, e_t = self.polynomial()
        size = 1 + max((float(x.max(initial=0.0)) for x in (q, k, g)), default=0.0)
        tail = 64 * self.tiny * (n + m + 1) * (d + g.shape[1] + 1) * size * max(1.0, abs(self.c))
        by_key, by_query = (e_p + self.gamma(r + 16) * (p + e_p) for r in (m, n))
        c, own = abs(self.c), self.sigma is not None
        dq = c * (by_key @ k + (by_key.sum(1)[:, None] * q if own else 0))
        dk = c * (by_query.T @ q + (by_query.sum(0)[:, None] * k if own else 0))
        dv = (e_w + self.gamma(n + 16) * (w + e_w)).T @ g
        slope = e_p * (t + e_t) + p * e_t
        slope = slope + self.gamma(n + m + 24) * (p + e_p) * (t + e_t)
        whole = slope.sum() * (1.0 if self.sigma is None else self.sigma**-3)
        found = {"dq": dq, "dk": dk + dv if self.tied else dk, "dv": dv, "dkey_bias": by_query.sum(0)}
        found |= {"dscale": np.array(whole), "dsigma": np.array(whole)}
        return {x: np.where(b < self.largest / 8, b + tail, math.inf) for x, b in found.items()}

    def scores(self) -> tuple[Array, Array]:
        """Scores, and the sums of the absolute values of their terms; minus infinity and 0 where hidden."""
        seen = np.isfinite(self.bias)
        bias = np.where(seen, self.bias, 0.0)
        s, a = self.c * (self.q @ self.k.T), abs(self.c) * (np.abs(self.q) @ np.abs(self.k).T)
        if self.sigma is not None:
            half = self.c / 2 * (np.square(self.q).sum(1)[:, None] + np.square(self.k).sum(1))
            s, a = s - half, a + half
        return np.where(seen, s + bias, -np.inf), np.where(seen, a + np.abs(bias), 0.0)

    def weights(self) -> tuple[Array, Array]:
        """Upper bounds of the weights and of their errors; `own` is what this evaluation may be off."""
        s, a = self.scores()
        top = s.max(1, initial=-math.inf)[:, None]
        safe = np.where(np.isfinite(top), top, 0.0)
        lse = np.log(np.exp(s - safe).sum(1))[:, None] + safe
        sees = np.isfinite(lse)
        lse = np.where(sees, lse, 0.0)
        worst = a.max(1, initial=0.0)[:, None]
        size = a + np.abs(lse) + worst
        d, m = self.q.shape[1], len(self.k)
        own = (2 * d + m + 64) * _U64 * size
        delta = self.gamma(2 * d + 16) * (a + np.abs(lse)) + own
        delta = delta + np.where(sees, np.nan_to_num(self.lse_error[:, None], posinf=math.inf), 0.0)
        w = np.where(sees, np.exp(s - lse + own), 0.0)
        fits = size * 2 < self.largest / 8
        error = w * (np.exp(delta) * (1 + self.exp_error) - 1) + np.where(
            sees & np.isfinite(s), self.floor, 0.0
        )
        self.own = own.max(1, initial=0.0)[:, None]
        return w, np.where(fits, error, math.inf)

    def products(self, w: Array, e_w: Array) -> tuple[Array, Array]:
        """Upper bounds of ``|w r|`` and of its error."""
        size = np.abs(self.g) @ np.abs(self.v).T
        # |⟨g, out⟩| is at most the largest |⟨g, v_j⟩| over the keys seen, here over all.
        largest = size.max(1, initial=0.0)[:, None]
        mean = (w * (self.g @ self.v.T)).sum(1)[:, None]
        r = np.abs(self.g @ self.v.T - mean + self.g_lse[:, None])
        e_r = self.gamma(self.g.shape[1] + len(self.k) + 8) * (
            size + 2 * largest + np.abs(self.g_lse)[:, None]
        )
        e_r = e_r + np.abs(self.g).sum(1)[:, None] * self.out_error[:, None]
        e_r = e_r + 4 * self.own * largest
        r = r + e_r
        error = e_w * r + w * e_r + 2 * self.u * (w + e_w) * r
        return w * r, np.where(w + e_w > 0, error, 0.0)

    def polynomial(self) -> tuple[Array, Array]:
        """What the parameter's gradient multiplies products by, and its error."""
        product, size = self.q @ self.k.T, np.abs(self.q) @ np.abs(self.k).T
        if self.sigma is not None:
            norms = np.square(self.q).sum(1)[:, None] + np.square(self.k).sum(1)
            product, size = norms - 2 * product, norms + 2 * size
        return np.abs(product), self.gamma(2 * self.q.shape[1] + 16) * size
