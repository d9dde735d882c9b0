"""Facts about a loop program that the NumPy printer needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sympy as sp

from projsym.codegen.numpy_infix import ordered
from projsym.codegen.program import (
    Add,
    Dot,
    Let,
    Loop,
    Node,
    Output,
    Program,
    Rescale,
    RunningMax,
    Statement,
    Sum,
)


def reads(s: Statement) -> set[sp.Symbol]:
    """The scalar symbols whose values a statement needs."""
    match s:
        case Let(_, _, value):
            return set(value.free_symbols)
        case Dot(_, _, _, _, scale):
            return set(sp.sympify(scale).free_symbols)
        case RunningMax(_, _, of):
            return {of}
        case Rescale(_, factor):
            return set(factor.free_symbols)
        case Sum(_, weight, _):
            return {weight}
        case Add(_, factor, state):
            return set(factor.free_symbols) | {state}
        case Output(_, terms):
            return {x for c, _ in terms for x in sp.sympify(c).free_symbols}


def divisors(e: sp.Expr, sums: set[sp.Symbol]) -> set[sp.Symbol]:
    """The sums that an expression divides by."""
    powers = (p for p in sp.preorder_traversal(e) if p.is_Pow and p.exp.is_number and p.exp.is_negative)
    return {p.base for p in powers if p.base in sums}


def composite_divisors(e: sp.Expr, sums: set[sp.Symbol]) -> list[sp.Expr]:
    """Expressions of several sums that an expression divides by."""
    powers = (p for p in sp.preorder_traversal(e) if p.is_Pow and p.exp.is_number and p.exp.is_negative)
    return ordered({p.base for p in powers if not p.base.is_Symbol and p.base.free_symbols & sums})


def normalisers(program: Program) -> list[sp.Symbol]:
    """Scalar sums that an output divides by or takes the log of."""
    sums = {s.name for s in program.statements() if isinstance(s, Sum) and s.vector is None}
    found: set[sp.Symbol] = set()
    for s in program.statements():
        if isinstance(s, Output):
            for c, _ in s.terms:
                e = sp.sympify(c)
                found |= divisors(e, sums) | {a for g in e.atoms(sp.log) for a in g.free_symbols & sums}
    return ordered(found)


def loops(body: Iterable[Node]) -> Iterator[Loop]:
    for node in body:
        if isinstance(node, Loop):
            yield node
            yield from loops(node.body)


def inner(loop: Loop) -> list[Statement]:
    return list(Program("", (), loop.body).statements())
