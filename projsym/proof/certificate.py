"""Certificates: a line that is non-negative for everyone to see, and its sign at instances.

An inequality ``a >= b`` is proved by a chain from ``a - b`` to a line of which `sign` can read off that it is
not negative. The reading looks at how the term is written and nothing else: it expands, factors and
estimates nothing, so a person can repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import sympy as sp
from flint import ctx

from projsym.algebra.scalars import FiniteSum, Inner, ScalarElement, ScalarFamily, Softmax, exp2, step

from . import oracle
from .evaluate import Evaluator
from .hypotheses import Defined, Hypothesis
from .instance import GENERIC, Instance, show_value
from .verdict import Witness


class Sign(IntEnum):
    """What can be read off a term."""

    UNKNOWN = 0
    NONNEGATIVE = 1
    POSITIVE = 2


def sign(e: Any) -> Sign:
    """The sign of a scalar term as it is written.

    Guarantees: ``NONNEGATIVE`` or ``POSITIVE`` holds for all sizes, dimensions and values at which the term
    is defined and real. Positive: positive rationals, symbols and families declared positive, exponentials,
    softmax weights, and a rational plus hyperbolic tangents with coefficients that add to at most it.
    Non-negative: squared norms, even powers of anything real, steps, sums over an index set (which may be
    empty) of such, sums, products, quotients and rational powers of such, and the divergence
    ``sum_j u_j log(u_j / w_j)`` of two softmax weights over one set, by Gibbs' inequality. A maximum has the
    largest sign of its arguments, a minimum the least. It cannot see a sign that needs any computation:
    ``UNKNOWN`` says nothing.
    """
    match e:
        case sp.Rational():
            return Sign.POSITIVE if e > 0 else Sign.NONNEGATIVE if e == 0 else Sign.UNKNOWN
        case sp.exp() | exp2() | Softmax():
            return Sign.POSITIVE
        case sp.Symbol() | ScalarElement():
            return Sign.POSITIVE if e.is_positive else Sign.UNKNOWN
        case Inner():
            return Sign.NONNEGATIVE if e.args[0] == e.args[1] else Sign.UNKNOWN
        case FiniteSum():
            return Sign.NONNEGATIVE if is_divergence(e) or sign(e.args[0]) else Sign.UNKNOWN
        case step():
            return Sign.NONNEGATIVE
        case sp.Max():
            return max(sign(a) for a in e.args)
        case sp.Min():
            return min(sign(a) for a in e.args)
        case sp.Add() if _above_tangents(e):
            return Sign.POSITIVE
        case sp.Add():
            signs = [sign(a) for a in e.args]
            return max(signs) if all(signs) else Sign.UNKNOWN
        case sp.Mul():
            return min(sign(a) for a in e.args)
        case sp.Pow():
            base = sign(e.base)
            if not e.exp.is_Rational:
                return base if base is Sign.POSITIVE else Sign.UNKNOWN
            even = bool(e.exp.is_Integer and e.exp % 2 == 0)
            return max(base, Sign.NONNEGATIVE) if even else base
    return Sign.POSITIVE if e is sp.S.Exp1 else Sign.UNKNOWN


def _above_tangents(e: sp.Add) -> bool:
    """Whether a sum is ``c + r_1 tanh(..) + …`` with rationals ``c >= |r_1| + …``."""
    constant, rest = e.as_coeff_Add()
    parts = [a.as_coeff_Mul() for a in sp.Add.make_args(rest)]
    if not all(isinstance(x, sp.tanh) and r.is_Rational for r, x in parts):
        return False
    return bool(constant.is_Rational and constant >= sum(abs(r) for r, _ in parts))


def divergence(u: Any, w: Any) -> FiniteSum:
    """``KL(u || w) = sum_j u_j log(u_j / w_j)`` of two weights, given as functions of the index."""
    j = sp.Dummy("j", integer=True)
    over = u(j).args[2]
    return FiniteSum(u(j) * sp.log(u(j) / w(j)), j, over)


def is_divergence(e: Any) -> bool:
    """Whether a term is written as the divergence of two softmax weights over the set it sums over."""
    if not isinstance(e, FiniteSum):
        return False
    body, j, over = e.args
    if not (isinstance(body, sp.Mul) and len(body.args) == 2):
        return False
    logs = [a for a in body.args if isinstance(a, sp.log)]
    weights = [a for a in body.args if isinstance(a, Softmax)]
    if len(logs) != 1 or len(weights) != 1:
        return False
    u = weights[0]
    w = u / logs[0].args[0]
    return all(isinstance(x, Softmax) and _distribution(x, j, over) for x in (u, w))


def _distribution(w: Softmax, j: sp.Symbol, over: sp.Basic) -> bool:
    """Whether the weights add to one over `j`: taken at `j`, over its set, from scores that `j` is not in."""
    scores, _, own, at = w.args
    return bool(at == j and own == over and j not in scores.free_symbols)


def relies_on_gibbs(e: Any) -> bool:
    """Whether the sign of a term is read off with the help of Gibbs' inequality."""
    return any(is_divergence(x) for x in sp.preorder_traversal(e))


@dataclass(frozen=True)
class Inequality(Defined):
    """``difference(j) >= 0`` for every `j`, used as ``difference(j) = root[j]**2`` with a real family `root`.

    make: draws instances that satisfy it.
    """

    make: Callable[[Instance], None] = field(kw_only=True)

    def rewrite(self, term: Any) -> Any:
        # Rebuilding a term is dear, and most lines do not have the root.
        nodes = sp.preorder_traversal(term)
        used = any(isinstance(x, ScalarElement) and x.family == self.letter.name for x in nodes)
        return super().rewrite(term) if used else term

    def impose(self, instance: Instance) -> None:
        self.make(instance)


def inequality(
    name: str,
    statement: str,
    root: ScalarFamily,
    difference: Callable[[sp.Symbol], sp.Expr],
    make: Callable[[Instance], None],
) -> Inequality:
    """The hypothesis that ``difference(j)`` is not negative, whose root a certificate may square."""
    return Inequality(name, statement, root, lambda j: sp.sqrt(difference(j)), make=make)


def negative(
    term: Any, given: Sequence[Hypothesis] = (), instances: int = 5, seed: int = 0
) -> Witness | None:
    """An instance under the hypotheses at which a scalar term is rigorously negative; None if none is met.

    Finding none is no proof: it looks at a few random instances.
    """
    before = ctx.prec
    ctx.prec = oracle.PRECISION
    try:
        for n in range(instances):
            instance = Instance(seed + n, GENERIC)
            for h in given:
                h.impose(instance)
            e = oracle.unfold(term, given)
            (value,) = Evaluator(instance, oracle.free_indices([e]))(e)
            if value < 0:
                return Witness(instance.described(), show_value(value), "at least 0")
    finally:
        ctx.prec = before
    return None
