"""Random sound rewritings: ways to write a term differently that no normal form was asked about.

Each rule is an identity by its own right (bilinearity, Fubini, polarization …) applied at one node; the
evaluator, not the normal form, checks them in the fuzzer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from projsym.algebra.scalars import FiniteSum, Inner, Softmax, exp2, inner, norm2
from projsym.algebra.sets import DisjointUnion, Singleton
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import (
    Vector,
    VectorAdd,
    VectorApply,
    VectorScale,
    VectorSum,
    VectorSymbol,
)

from .edits import LEAVES, OUTSIDE
from .random_terms import Scope, Terms

Rule = Callable[[Terms, Any, Scope], Any]


def rewritten(terms: Terms, x: Any, scope: Scope, times: int = 3) -> Any:
    """`x` after up to `times` rewritings of random nodes, and sometimes one quotient over the whole.

    The quotient stays outside: inside a function or a sum the normal form does not cancel sums of several
    terms, by design, and would only be seen to miss it again and again.
    """
    for _ in range(times):
        y = _somewhere(terms, x, scope)
        x = x if y.has(*OUTSIDE) else y
    return _over_itself(terms, x, scope) if terms.random.random() < 0.2 else x


def _somewhere(terms: Terms, x: Any, scope: Scope) -> Any:
    """One rewriting at a random node."""
    deeper = x.args and not isinstance(x, LEAVES)
    if deeper and terms.random.random() < 0.6:
        bound = isinstance(x, FiniteSum | VectorSum | Softmax)
        inside = (*scope, x.args[1]) if bound else scope
        places = [0] if bound else [n for n, a in enumerate(x.args) if _term(a)]
        if places:
            n = terms.pick(places)
            return x.func(*x.args[:n], _somewhere(terms, x.args[n], inside), *x.args[n + 1 :])
    options = [r(terms, x, scope) for r in (VECTOR if isinstance(x, Vector) else SCALAR)]
    options = [y for y in options if y is not None]
    return terms.pick(options) if options else x


def _term(a: Any) -> bool:
    # Exponents stay: a power with another exponent need not be real.
    return isinstance(a, Vector) or (isinstance(a, sp.Expr) and not a.is_Rational)


def _cancel(terms: Terms, x: Any, scope: Scope) -> Any:
    """Add a product and take it away written differently."""
    space = terms.space()
    u, v, w = (terms.vector(0, scope, space) for _ in range(3))
    return x + inner(u + w, v) - inner(v, u) - inner(w, v)


def _square(terms: Terms, x: Any, scope: Scope) -> Any:
    """Add a square and take away its expansion."""
    s, t = terms.leaf(scope), terms.leaf(scope)
    return x + (s + t) ** 2 - s**2 - 2 * s * t - t**2


def _times_one(terms: Terms, x: Any, scope: Scope) -> Any:
    """Weights sum to one over the keys."""
    w = terms.softmax(0, scope)
    j = sp.Dummy("j", integer=True)
    return x * FiniteSum(w(j), j, w(j).args[2])


def _over_itself(terms: Terms, x: Any, scope: Scope) -> Any:
    """Multiply and divide by a positive sum, written in two orders."""
    p, r, t = terms.positive(0, scope), terms.leaf(scope), terms.leaf(scope)
    return x * (p + (r - t) ** 2) / (p + r**2 - 2 * r * t + t**2)


def _inner(terms: Terms, x: Any, scope: Scope) -> Any:
    """Symmetry, polarization, bilinearity, adjoint, or a sum taken out."""
    if not isinstance(x, Inner):
        return None
    u, v = x.args
    options: list[Any] = [
        Inner(v, u),
        (norm2(u) + norm2(v) - norm2(u - v)) / 2,
        (norm2(u + v) - norm2(u - v)) / 4,
    ]
    match u:
        case VectorAdd():
            options.append(sp.Add(*[inner(a, v) for a in u.args]))
        case VectorScale():
            options.append(u.args[0] * inner(u.args[1], v))
        case VectorApply():
            options += [inner(u.args[0], VectorApply(v, u.args[1].T))] * 2
        case VectorSum():
            f = _renamed(u)
            options.append(FiniteSum(inner(f.args[0], v), *f.args[1:]))
    return terms.pick(options)


def _sum(terms: Terms, x: Any, scope: Scope) -> Any:
    """A new bound index, a split body or set, sums exchanged, a constant taken out."""
    if not isinstance(x, FiniteSum | VectorSum):
        return None
    x = _renamed(x)
    body, j, over = x.args
    options = [x]
    if isinstance(body, sp.Add | VectorAdd):
        parts = [x.func(a, j, over) for a in body.args]
        options.append(VectorAdd(*parts) if isinstance(x, VectorSum) else sp.Add(*parts))
    if isinstance(body, sp.Mul):
        constant, rest = body.as_independent(j, as_Add=False)
        options.append(constant * FiniteSum(rest, j, over))
    if isinstance(body, FiniteSum) and j not in body.args[2].free_symbols:
        inside = _renamed(body)
        options.append(FiniteSum(FiniteSum(inside.args[0], j, over), *inside.args[1:]))
    if isinstance(over, DisjointUnion):
        parts = [_renamed(x.func(body, j, s)) for s in reversed(over.args)]
        options.append(VectorAdd(*parts) if isinstance(x, VectorSum) else sp.Add(*parts))
    if isinstance(over, Singleton):
        options.append(substitute(body, {j: over.index}))
    return terms.pick(options)


def _softmax(terms: Terms, x: Any, scope: Scope) -> Any:
    """The definition, or scores shifted by a constant."""
    if not isinstance(x, Softmax):
        return None
    body, j, over, at = x.args
    quotient = sp.exp(substitute(body, {j: at})) / _renamed(FiniteSum(sp.exp(body), j, over))
    return terms.pick([quotient, Softmax(body + terms.leaf(scope), j, over, at)])


def _power(terms: Terms, x: Any, scope: Scope) -> Any:
    """Products over sums, powers of two, a hyperbolic tangent as exponentials."""
    if isinstance(x, exp2):
        return sp.exp(x.args[0] * sp.log(2))
    if isinstance(x, sp.exp):
        return exp2(x.args[0] / sp.log(2))
    if isinstance(x, sp.tanh):
        return 1 - 2 / (1 + sp.exp(2 * x.args[0]))
    if isinstance(x, sp.Mul | sp.Pow):
        return sp.expand_mul(sp.expand_multinomial(x))
    return None


def _shifted(terms: Terms, x: Any, scope: Scope) -> Any:
    """Add a vector and take it away."""
    w = terms.vector(0, scope, x.space)
    return terms.pick([x + w - w, (x - 2 * w) + 2 * w, VectorScale(2, x) - x])


def _linear(terms: Terms, x: Any, scope: Scope) -> Any:
    """Scaling and maps taken through sums."""
    if isinstance(x, VectorAdd):
        return VectorAdd(*reversed(x.args))
    if isinstance(x, VectorScale):
        c, u = x.args
        if isinstance(u, VectorAdd):
            return VectorAdd(*[VectorScale(c, a) for a in u.args])
        if isinstance(u, VectorSum):
            f = _renamed(u)
            return VectorSum(VectorScale(c, f.args[0]), *f.args[1:])
    if isinstance(x, VectorApply):
        u, w = x.args
        if isinstance(u, VectorAdd):
            return VectorAdd(*[VectorApply(a, w) for a in u.args])
        if isinstance(u, VectorScale):
            return VectorScale(u.args[0], VectorApply(u.args[1], w))
        if isinstance(u, VectorSum):
            f = _renamed(u)
            return VectorSum(VectorApply(f.args[0], w), *f.args[1:])
        if isinstance(u, VectorApply):
            return VectorApply(u.args[0], u.args[1] @ w)
    return None


def _renamed(x: Any) -> Any:
    """The same sum with a bound index that occurs nowhere else."""
    return substitute(x, {VectorSymbol("unused"): VectorSymbol("unused")})


SCALAR: tuple[Rule, ...] = (_cancel, _square, _times_one, _inner, _sum, _softmax, _power)
VECTOR: tuple[Rule, ...] = (_shifted, _sum, _linear)
