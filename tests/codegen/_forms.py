"""Lowered programs, written by hand, with the weights that NumPy needs to check them."""

from __future__ import annotations

import sympy as sp

from projsym.codegen.program import (
    Dot,
    Input,
    Let,
    Loop,
    Node,
    Output,
    Program,
    Sum,
    symbol,
)

q_k, q_q, k_k, w0, w1 = (symbol(s) for s in ("q_k", "q_q", "k_k", "w0", "w1"))
s0, s1, s2, s3 = (symbol(s) for s in ("s0", "s1", "s2", "s3"))
sigma, scale, key_bias = (symbol(s) for s in ("sigma", "scale", "key_bias"))

QK, QQ, KK = Dot(q_k, "ij", "q", "k"), Dot(q_q, "i", "q", "q"), Dot(k_k, "j", "k", "k")
LOG = sp.log(s0)
SIGMA, SCALE, BIAS = Input("sigma", ""), Input("scale", ""), Input("key_bias", "j")
R2 = q_q - 2 * q_k + k_k


def program(
    name: str,
    pairs: list[Node],
    weight: sp.Expr,
    lse: sp.Expr,
    *extra: Input,
    values: bool = False,
    after: tuple[Node, ...] = (),
    names: tuple[str, str] = ("q", "k"),
) -> Program:
    """A normalised weighted sum of the keys, or of separate values; `names` of the query and the keys."""
    q, k = names
    key = Input("v", "j", "dv") if values else Input(k, "j", "d")
    inputs = [Input(q, "i", "d"), Input(k, "j", "d"), *([key] if values else []), *extra]
    body = (*pairs, Let(w0, "ij", weight), Sum(s0, w0), Sum(s1, w0, key.name))
    rows = (
        Loop("j", body),
        *after,
        Output("out", ((1 / s0, s1),), key.feature),
        Output("lse", ((lse, None),)),
    )
    return Program(name, tuple(inputs), (Loop("h", (Loop("i", rows),)),))


def gaussian() -> Program:
    """exp(-|q - k|^2/(2 sigma^2)), the query's norm outside the sum."""
    return program(
        "gaussian",
        [KK, QK],
        sp.exp(q_k / sigma**2 - k_k / (2 * sigma**2)),
        LOG - q_q / (2 * sigma**2),
        SIGMA,
        after=(QQ,),
    )


def dot() -> Program:
    """exp(scale <q, k>), separate values."""
    return program("dot", [QK], sp.exp(scale * q_k), LOG, SCALE, values=True)


def biased() -> Program:
    """exp(scale <q, k> + key_bias)."""
    return program("biased", [QK], sp.exp(scale * q_k + key_bias), LOG, SCALE, BIAS)


def student() -> Program:
    """(1 + |q - k|^2/(3 sigma^2))^-2."""
    return program("student", [QQ, KK, QK], (1 + R2 / (3 * sigma**2)) ** -2, LOG, SIGMA)


def laplace() -> Program:
    """exp(-|q - k|/sigma)."""
    return program("laplace", [QQ, KK, QK], sp.exp(-sp.sqrt(R2) / sigma), LOG, SIGMA)


def epanechnikov() -> Program:
    """max(0, 1 - |q - k|^2/sigma^2)."""
    return program("epanechnikov", [QQ, KK, QK], sp.Max(0, 1 - R2 / sigma**2), LOG, SIGMA)


def displacement() -> Program:
    """The Gaussian mean minus the query: an output with a row vector, its coefficients from parameters."""
    plain = gaussian()
    (heads,) = plain.body
    assert isinstance(heads, Loop) and isinstance(heads.body[0], Loop)
    pairs = heads.body[0].body[0]
    moved = Output("out", ((1 / (s0 * sigma**2), s1), (-1 / sigma**2, "q")), "d")
    return Program("displacement", plain.inputs, (Loop("h", (Loop("i", (pairs, moved)),)),))


def mixture() -> Program:
    """Two bandwidths, each with its own sums."""
    a, b = (sp.exp(-R2 / (c * sigma**2)) for c in (2, 8))
    body = (
        QQ,
        KK,
        QK,
        Let(w0, "ij", a),
        Sum(s0, w0),
        Sum(s1, w0, "k"),
        Let(w1, "ij", b),
        Sum(s2, w1),
        Sum(s3, w1, "k"),
    )
    z = s0 + s2 / 10
    rows = (
        Loop("j", body),
        Output("out", ((1 / z, s1), (1 / (10 * z), s3)), "d"),
        Output("lse", ((sp.log(z), None),)),
    )
    inputs = (Input("q", "i", "d"), Input("k", "j", "d"), SIGMA)
    return Program("mixture", inputs, (Loop("h", (Loop("i", rows),)),))
