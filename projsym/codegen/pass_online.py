"""The online form of a normalised sum: a running maximum subtracted from the common exponent."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from projsym.codegen.pass_tree import fresh, map_nodes, pair_loop, rebuild
from projsym.codegen.program import (
    Let,
    Loop,
    Node,
    Output,
    Program,
    Rescale,
    RunningMax,
    Sum,
    exp2,
)


def degree(e: sp.Expr, sums: frozenset[sp.Symbol]) -> sp.Expr | None:
    """The degree of homogeneity of an expression in the sums, read off its structure; None if it has none."""
    if not e.free_symbols & sums:
        return sp.S.Zero
    if e.is_Symbol:
        return sp.S.One
    if e.is_Pow and e.exp.is_Rational:
        base = degree(e.base, sums)
        return None if base is None else base * e.exp
    if not (e.is_Mul or e.is_Add):
        return None
    parts = [degree(a, sums) for a in e.args]
    if any(p is None for p in parts):
        return None
    if e.is_Mul:
        return sp.Add(*parts)
    return parts[0] if len(set(parts)) == 1 else None


def log_shift(e: sp.Expr, sums: frozenset[sp.Symbol], vector_degree: int, shift: sp.Expr) -> sp.Expr | None:
    """What must be added to a coefficient when all sums are divided by ``exp(shift)``; None: not possible.

    A term of degree 0 (together with the vector it multiplies) needs nothing; a term ``a*log(x)`` with `a`
    free of the sums and `x` of degree n needs ``a*n*shift``.
    """
    total: sp.Expr = sp.S.Zero
    for term in sp.Add.make_args(e):
        if degree(term, sums) == -vector_degree:
            continue
        rest, logs = term.as_independent(*sums, as_Add=False)
        n = degree(logs.args[0], sums) if isinstance(logs, sp.log) else None
        if n is None or vector_degree:
            return None
        total += rest * n * shift
    return total


def _exponential(program: Program, loop: Loop) -> tuple[sp.Expr, dict[sp.Symbol, Let]]:
    """The one ``exp2(e)`` of all weights, and the weights' definitions."""
    names = {node.weight for node in loop.body if isinstance(node, Sum)}
    lets = {node.name: node for node in loop.body if isinstance(node, Let) and node.name in names}
    for name in sorted(names - lets.keys(), key=str):
        raise ValueError(f"online: the weight {name} has no definition in the loop over keys")
    found = sorted({a for let in lets.values() for a in let.value.atoms(exp2)}, key=str)
    if len(found) != 1:
        raise ValueError(f"online: one common exponential expected in the weights, found {found or 'none'}")
    (e,) = found
    for let in lets.values():
        rest = let.value / e
        if rest.has(e) or any(program.axes_of(f) == "ij" for f in sp.Mul.make_args(rest)):
            raise ValueError(f"online: {let.name} = {let.value} is not {e} times row and key factors")
    return e, lets


def _log2e(program: Program) -> sp.Symbol:
    for s in program.statements():
        if isinstance(s, Let) and s.value == 1 / sp.log(2):
            return s.name
    raise ValueError("online: no parameter 1/log(2); change to base two first")


def online(program: Program) -> Program:
    """Subtract a running maximum from the common exponent of all weights [I.2, IV.1].

    The maximum is in base two: what was ``S`` is now ``2**-m S``. An output of degree 0 in the sums stays,
    ``log(S)`` gains ``m/log2e``. Raises ValueError, naming the term, for anything else: weights with
    different exponentials or without one, an output that changes when the scores shift, sums with
    weights that are no exponential.
    """
    loop = pair_loop(program)
    if any(isinstance(node, RunningMax) for node in loop.body):
        raise ValueError("online: the program already has a running maximum")
    for node in loop.body:
        if isinstance(node, Sum) and node.over != "j":
            raise ValueError(f"online: {node.name} is a sum over queries, whose maxima differ")
    e, lets = _exponential(program, loop)
    log2e = _log2e(program)
    score, top = fresh(program, "s"), fresh(program, "m")
    old = fresh(program, f"{top}_old")
    sums = tuple(node.name for node in loop.body if isinstance(node, Sum))

    body: list[Node] = []
    placed = False
    for node in loop.body:
        if isinstance(node, Let) and node.name in lets:
            if not placed:
                body += [
                    Let(score, "ij", e.args[0]),
                    RunningMax(top, old, score),
                    Rescale(sums, exp2(old - top)),
                ]
                placed = True
            body.append(Let(node.name, "ij", node.value.xreplace({e: exp2(score - top)})))
        else:
            body.append(node)

    scaled = frozenset(sums)

    def adapt(node: Node) -> Node:
        if not isinstance(node, Output):
            return node
        terms = []
        for c, vector in node.terms:
            gain = log_shift(c, scaled, int(vector in scaled), top / log2e)
            if gain is None:
                raise ValueError(f"online: the term {c} of {node.name} changes when all scores shift")
            terms.append((c + gain, vector))
        return replace(node, terms=tuple(terms))

    changed = rebuild(program.body, loop, (replace(loop, body=tuple(body)),))
    return program.with_(body=map_nodes(changed, adapt))
