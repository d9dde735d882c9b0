"""Directional derivatives against difference quotients in ball arithmetic, with Taylor's remainder."""

from __future__ import annotations

from typing import Any

import pytest
import sympy as sp
from flint import arb, ctx, fmpq

from projsym.algebra.decide import equal
from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import VectorFamily, VectorSymbol
from projsym.proof.evaluate import Evaluator
from projsym.proof.instance import Instance

from ._letters import W, a, c, f, i, k, q, s, t, v

h, H, e = VectorSymbol("h"), VectorFamily("H"), ScalarFamily("e")
step = sp.Symbol("step", real=True)
CASES: list[tuple[str, Any, dict[Any, Any]]] = [
    ("norm", norm2(q) ** 2, {q: h}),
    ("power", norm2(q - k[i]) ** sp.Rational(3, 2) / s, {q: h}),
    ("symbolic power", s ** inner(q, q), {q: h}),
    ("moving base", t ** (c**2), {t: sp.S.One}),
    ("hyperbolic tangent", c * sp.tanh(inner(q, k[i]) / c), {q: h}),
    ("log of a sum", sp.log(total(lambda n: sp.exp(inner(q, k[n]) / s))), {q: h}),
    ("softmax", softmax(lambda n: inner(q, k[n]) / s)(i), {q: h}),
    ("keys and query", softmax(lambda n: -norm2(q - k[n]))(i), {q: h, k: H}),
    ("scores", softmax(lambda n: a[n] ** 2)(i), {a: e}),
    ("bandwidth", softmax(lambda n: -norm2(q - k[n]) / s**2)(i), {s: sp.S.One}),
    ("mean of values", inner(f, attend(lambda n: inner(q, k[n]), v)), {k: H}),
    ("map", inner(attend(lambda n: inner(q, k[n]), k) @ W, f), {q: h}),
    ("vector", attend(lambda n: -norm2(q - k[n]), k) @ W, {q: h}),
]


def moved(term: Any, directions: dict[Any, Any], by: Any) -> Any:
    """The term at its letters plus `by` times the directions."""
    changes: dict[Any, Any] = {}
    for x, d in directions.items():
        if isinstance(x, VectorFamily | ScalarFamily):
            changes[x] = lambda n, x=x, d=d: x[n] + by * d[n]
        else:
            changes[x] = x + by * d
    return substitute(term, changes)


@pytest.mark.parametrize(("name", "term", "directions"), CASES, ids=[x[0] for x in CASES])
def test_the_derivative_is_the_limit_of_difference_quotients(
    name: str, term: Any, directions: dict[Any, Any]
) -> None:
    """Central differences at two steps ε and ε/2: the error must fall by four, as ε² does.

    With ``D(ε) = f' + Kε² + O(ε⁴)`` the combination ``(4 D(ε/2) − D(ε))/3`` leaves O(ε⁴): for ε = 2⁻⁴⁰ it
    is within ε³ of the derivative as long as the fifth derivative is below 2⁴⁰, and a wrong derivative is
    not.
    """
    derivative = directional(term, directions)
    ε = sp.Rational(1, 2**40)
    before, ctx.prec = ctx.prec, 512
    try:
        evaluate = Evaluator(Instance(3), {i: "keys"})

        def difference(by: Any) -> list[arb]:
            up, down = (evaluate(moved(term, directions, x)) for x in (by, -by))
            return [(x - y) / arb(fmpq(2 * int(by.p), int(by.q))) for x, y in zip(up, down, strict=True)]

        coarse, fine = difference(ε), difference(ε / 2)
        for slope, x, y in zip(evaluate(derivative), coarse, fine, strict=True):
            assert abs((4 * y - x) / 3 - slope) < arb(2) ** -120
            assert not slope.contains(0)
    finally:
        ctx.prec = before


def test_linear_in_the_direction() -> None:
    p = softmax(lambda n: inner(q, k[n]))(i)
    both = directional(p, {q: 2 * h - k[i]})
    assert equal(both, 2 * directional(p, {q: h}) - directional(p, {q: k[i]}))
    assert directional(p, {f: f}) == 0


def test_what_has_no_derivative_is_refused() -> None:
    with pytest.raises(TypeError, match="not differentiable everywhere"):
        directional(sp.Max(norm2(q), c), {q: h})
    with pytest.raises(TypeError, match="differentiate with respect to"):
        directional(norm2(q), {3: h})
