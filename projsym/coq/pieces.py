"""The parts of a term that a proof rewrites first: sums and exponentials outside of any sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import FiniteSum, Inner, Softmax
from projsym.algebra.sets import DisjointUnion, EmptySet
from projsym.algebra.terms import (
    Vector,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorScale,
    VectorSum,
    VectorSymbol,
    ZeroVector,
)

from .names import NotExported

SUMS = (FiniteSum, VectorSum, Softmax)
LEAVES = (VectorSymbol, VectorElement, ZeroVector)


def pieces(e: Any) -> Iterator[Any]:
    """Sums over plain sets and exponentials as the tactic ``expose`` of base.v leaves them."""
    match e:
        case FiniteSum():
            body, j, over = e.args
            if isinstance(over, DisjointUnion):
                for part in over.args:
                    yield from pieces(FiniteSum(body, j, part))
            elif not isinstance(over, EmptySet):
                yield e
        case sp.exp():
            if e.has(*SUMS):
                raise NotExported("a sum inside an exponential")
            yield e
        case Softmax():
            body, j, over, at = e.args
            yield from pieces(sp.exp(body.xreplace({j: at})))
            yield from pieces(FiniteSum(sp.exp(body), j, over))
        case Inner() if e.has(VectorSum):
            yield from _product(*e.args)
        case _ if not isinstance(e, LEAVES):
            for a in e.args:
                if isinstance(a, sp.Expr | Vector):
                    yield from pieces(a)


def _product(u: Vector, v: Vector, turned: bool = False) -> Iterator[Any]:
    """Pieces of ``<u, v>``, of ``<v, u>`` if turned, once its outermost sums of vectors are taken out.

    What stands inside a sum stays as it is: Coq's ``rewrite`` does not reach under a binder.
    """
    if not u.has(VectorSum):
        if v.has(VectorSum):
            yield from _product(v, u, not turned)
        return
    match u:
        case VectorSum():
            body, j, over = u.args
            i = sp.Dummy("j", integer=True)
            inside = body.xreplace({j: i})
            yield from pieces(FiniteSum(Inner(v, inside) if turned else Inner(inside, v), i, over))
        case VectorAdd():
            for a in u.args:
                yield from _product(a, v, turned)
        case VectorScale():
            yield from pieces(u.args[0])
            yield from _product(u.args[1], v, turned)
        case VectorApply():
            inside, linear_map = u.args
            yield from _product(_applied(inside, linear_map), v, turned)
        case _:
            raise NotExported(f"a sum of vectors inside {type(u).__name__}")


def _applied(u: Vector, linear_map: Any) -> Vector:
    match u:
        case VectorSum():
            return VectorSum(VectorApply(u.args[0], linear_map), *u.args[1:])
        case VectorAdd():
            return VectorAdd(*[_applied(a, linear_map) for a in u.args])
        case VectorScale():
            return VectorScale(u.args[0], _applied(u.args[1], linear_map))
    return VectorApply(u, linear_map)
