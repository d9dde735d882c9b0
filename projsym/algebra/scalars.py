"""Scalar leaves that SymPy lacks: inner products, sums over abstract sets, indexed scalars, softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import sympy as sp
from sympy.core.symbol import Str

from .sets import KEYS, checked_name
from .terms import Vector, VectorSum, same_space


class Inner(sp.Expr):
    """The inner product of two vectors of one space: real, bilinear, symmetric."""

    is_commutative = True
    is_real = True

    def __new__(cls, left: Vector, right: Vector) -> Inner:
        if not (isinstance(left, Vector) and isinstance(right, Vector)):
            raise TypeError(f"inner product of {left!r} and {right!r}: both must be vectors")
        same_space("inner product", left, right)
        return sp.Expr.__new__(cls, left, right)


def inner(left: Vector, right: Vector) -> Inner:
    """``<left, right>``."""
    return Inner(left, right)


def norm2(v: Vector) -> Inner:
    """``||v||^2``."""
    return Inner(v, v)


class FiniteSum(sp.Expr):
    """The sum of a scalar body over an index set: args are body, bound index, set."""

    is_commutative = True
    is_real = True

    def __new__(cls, body: sp.Expr, bound: sp.Symbol, over: sp.Basic) -> FiniteSum:
        return sp.Expr.__new__(cls, sp.sympify(body), bound, over)

    @property
    def free_symbols(self) -> set[sp.Basic]:
        return (self.args[0].free_symbols - {self.args[1]}) | self.args[2].free_symbols


@overload
def total(body: Callable[[sp.Symbol], Vector], over: sp.Basic = KEYS) -> VectorSum: ...
@overload
def total(body: Callable[[sp.Symbol], sp.Expr], over: sp.Basic = KEYS) -> FiniteSum: ...
def total(body: Callable[[sp.Symbol], Any], over: sp.Basic = KEYS) -> Any:
    """The sum of ``body(j)`` for `j` in `over`, of scalars or of vectors; the bound index is always fresh."""
    j = sp.Dummy("j", integer=True)
    b = body(j)
    return VectorSum(b, j, over) if isinstance(b, Vector) else FiniteSum(b, j, over)


class exp2(sp.Function):
    """``2**x``."""

    nargs = 1
    is_positive = True
    is_real = True

    def _eval_evalf(self, prec: int) -> sp.Expr:
        # SymPy needs a numeric value to compare a constant with others, in Max for instance.
        return sp.Pow(2, self.args[0])._eval_evalf(prec)


class tanh2(sp.Function):
    """``(2**x - 1)/(2**x + 1) = tanh(x log(2)/2)``: the hyperbolic tangent in base two."""

    nargs = 1
    is_real = True

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return sp.tanh(self.args[0] * sp.log(2) / 2)._eval_evalf(prec)


class step(sp.Function):
    """1 where the argument is positive, else 0."""

    nargs = 1
    is_nonnegative = True
    is_real = True

    @classmethod
    def eval(cls, x: sp.Expr) -> sp.Expr | None:
        return sp.Integer(x > 0) if x.is_Rational else None


class ScalarElement(sp.Expr):
    """The member of an indexed family of real numbers: args are the family's name, its sign, the index."""

    is_commutative = True
    is_real = True

    def __new__(cls, family: Str, positive: sp.Basic, index: sp.Symbol) -> ScalarElement:
        return sp.Expr.__new__(cls, family, positive, index)

    def _eval_is_positive(self) -> bool | None:
        return True if self.args[1] == sp.true else None

    @property
    def family(self) -> str:
        return str(self.args[0].name)

    @property
    def index(self) -> sp.Symbol:
        return self.args[2]


class ScalarFamily:
    """An indexed family of real numbers; ``a[j]`` is its member at index `j`."""

    def __init__(self, name: str, positive: bool = False) -> None:
        self.name, self.positive = name, positive

    def __getitem__(self, index: sp.Symbol) -> ScalarElement:
        return ScalarElement(checked_name(self.name), sp.true if self.positive else sp.false, index)


class Softmax(sp.Expr):
    """``exp(body(at)) / sum_j exp(body(j))``: args are body, bound index, set, and the index `at`.

    `at` is a member of the set. A node of its own so that a step about the scores reads as one.
    """

    is_commutative = True
    is_positive = True
    is_real = True

    def __new__(cls, body: sp.Expr, bound: sp.Symbol, over: sp.Basic, at: sp.Symbol) -> Softmax:
        return sp.Expr.__new__(cls, sp.sympify(body), bound, over, at)

    @property
    def free_symbols(self) -> set[sp.Basic]:
        body = self.args[0].free_symbols - {self.args[1]}
        return body | self.args[2].free_symbols | {self.args[3]}

    def definition(self) -> sp.Expr:
        """The quotient of exponentials that the node stands for."""
        body, j, over, at = self.args
        return sp.exp(body.xreplace({j: at})) / FiniteSum(sp.exp(body), j, over)


def softmax(scores: Callable[[sp.Symbol], sp.Expr], over: sp.Basic = KEYS) -> Callable[[sp.Symbol], Softmax]:
    """The weights ``w(j)`` proportional to ``exp(scores(j))`` that sum to 1 over the set."""
    j = sp.Dummy("j", integer=True)
    body = sp.sympify(scores(j))
    return lambda at: Softmax(body, j, over, at)


def attend(scores: Callable[[sp.Symbol], sp.Expr], values: Any, over: sp.Basic = KEYS) -> VectorSum:
    """The softmax-weighted mean ``sum_j w_j v_j`` of a family (anything that ``values[j]`` works on)."""
    w = softmax(scores, over)
    return total(lambda j: w(j) * values[j], over)
