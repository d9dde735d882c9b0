"""The directional (Gateaux) derivative, which stays inside the class of terms.

``directional(f, {q: h})`` is d/dε f(q + εh) at ε = 0. SymPy differentiates the scalar leaves; what it cannot
see (inner products, sums over abstract sets, vectors) is differentiated here by linearity and Leibniz' rule.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from .scalars import FiniteSum, Inner, ScalarElement, ScalarFamily, Softmax, step
from .substitute import substitute
from .terms import (
    Vector,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorFamily,
    VectorScale,
    VectorSum,
    VectorSymbol,
    ZeroVector,
)


def directional(term: Any, directions: dict[Any, Any]) -> Any:
    """The derivative of a scalar or vector term along `directions`.

    A positive part ``Max(0, x)`` has the derivative of `x` where x > 0 and zero where x < 0: where x = 0 it
    has none, and what is proved of the result says nothing there.

    directions: maps a VectorSymbol to a vector, a VectorFamily to a family of directions, a scalar symbol to
    a scalar. Several entries move together.
    """
    ε = sp.Dummy("ε", real=True)
    changes: dict[Any, Any] = {}
    for x, h in directions.items():
        if isinstance(x, VectorFamily | ScalarFamily):
            changes[x] = lambda i, x=x, h=h: x[i] + ε * h[i]
        elif isinstance(x, VectorSymbol | sp.Symbol):
            changes[x] = x + ε * h
        else:
            raise TypeError(f"cannot differentiate with respect to {x!r}")
    moved = _differentiate(substitute(term, changes), ε)
    return substitute(moved, {ε: sp.S.Zero})


def _differentiate(x: Any, ε: sp.Symbol) -> Any:
    return _vector(x, ε) if isinstance(x, Vector) else _scalar(x, ε)


def _vector(v: Vector, ε: sp.Symbol) -> Vector:
    if ε not in v.free_symbols or isinstance(v, VectorSymbol | VectorElement | ZeroVector):
        return ZeroVector(v.space)
    match v:
        case VectorAdd():
            return VectorAdd(*[_vector(a, ε) for a in v.args])
        case VectorScale():
            c, u = v.args
            return VectorAdd(VectorScale(_scalar(c, ε), u), VectorScale(c, _vector(u, ε)))
        case VectorSum():
            return VectorSum(_vector(v.args[0], ε), *v.args[1:])
        case VectorApply():
            return VectorApply(_vector(v.args[0], ε), v.args[1])
    raise TypeError(f"no derivative of {type(v).__name__}")


def _scalar(e: sp.Expr, ε: sp.Symbol) -> sp.Expr:
    if ε not in e.free_symbols or isinstance(e, ScalarElement):
        return sp.S.Zero
    match e:
        case sp.Add():
            return sp.Add(*[_scalar(a, ε) for a in e.args])
        case sp.Mul():
            parts = [sp.Mul(*e.args[:n], _scalar(a, ε), *e.args[n + 1 :]) for n, a in enumerate(e.args)]
            return sp.Add(*parts)
        case Inner():
            u, v = e.args
            return Inner(_vector(u, ε), v) + Inner(u, _vector(v, ε))
        case FiniteSum():
            return FiniteSum(_scalar(e.args[0], ε), *e.args[1:])
        case Softmax():
            return _scalar(e.definition(), ε)
        case sp.Pow():
            if ε in e.exp.free_symbols:
                return e * _scalar(e.exp * sp.log(e.base), ε)
            return e.exp * e.base ** (e.exp - 1) * _scalar(e.base, ε)
        case sp.exp():
            return e * _scalar(e.args[0], ε)
        case sp.log():
            return _scalar(e.args[0], ε) / e.args[0]
        case sp.tanh():
            return (1 - e**2) * _scalar(e.args[0], ε)
        case sp.Max() if len(e.args) == 2 and sp.S.Zero in e.args:
            (x,) = (a for a in e.args if a != 0)
            return step(x) * _scalar(x, ε)
        case step():
            return sp.S.Zero
        case sp.Symbol():
            return sp.S.One if e == ε else sp.S.Zero
    raise TypeError(f"no derivative of {e.func.__name__}: it is not differentiable everywhere")
