"""Leaving the running maximum out where norms bound the scores [IV.2, IV.2a]."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sympy as sp

from projsym.codegen.pass_tree import pair_loop
from projsym.codegen.program import (
    Dot,
    Input,
    Let,
    Loop,
    Program,
    RunningMax,
    Sum,
    exp2,
    narrowed,
    symbol,
    tanh2,
)


def bounded(program: Program) -> Program:
    """The program itself, if its weights are powers of two that norms can bound.

    By [IV.2] any shift of the scores serves, zero too, as long as nothing leaves the range of the type;
    by [IV.2a] ``|<q, k>| <= ‖q‖ ‖k‖``, so a kernel can know that before it starts. Raises ValueError, naming
    the weight, where one is not ``exp2`` of inner products, key scalars and parameters, and for a program
    with a running maximum.
    """
    loop = pair_loop(program)
    if any(isinstance(node, RunningMax) for node in loop.body):
        raise ValueError("bounded: the program already has a running maximum")
    exponents(program)
    return program


def exponents(program: Program) -> list[sp.Expr]:
    """The exponents of all weights, in terms of inner products, key scalars and parameters."""
    loop = pair_loop(program)
    axes = program.axes()
    used = {node.weight for node in loop.body if isinstance(node, Sum)}
    values = {node.name: node.value for node in loop.body if isinstance(node, Let) and node.axes == "ij"}
    found = []
    for name in sorted(used, key=str):
        weight = values.get(name)
        while isinstance(weight, narrowed):
            weight = values.get(weight.args[0])
        if not isinstance(weight, exp2):
            raise ValueError(f"bounded: the weight {name} = {weight} is no power of two")
        e = weight.args[0]
        while inner := e.free_symbols & values.keys():
            e = e.xreplace({s: values[s] for s in inner})
        magnitude(e, {s: s for s in e.free_symbols})
        if rows := sorted(str(s) for s in e.free_symbols if axes[s] == "i"):
            raise ValueError(f"bounded: the exponent of {name} has the row scalars {', '.join(rows)}")
        found.append(e)
    return list(dict.fromkeys(found))


def magnitude(e: sp.Expr, most: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """An upper bound of ``|e|`` from those of its symbols; ValueError for other than sums and products."""
    if e.is_Number:
        return abs(e)
    if e.is_Symbol:
        return most[e]
    if e.is_Add or e.is_Mul:
        return e.func(*(magnitude(a, most) for a in e.args))
    if isinstance(e, tanh2):
        return sp.Min(1, magnitude(e.args[0], most))  # |tanh x| <= |x|, and log(2)/2 < 1
    raise ValueError(f"bounded: no bound for {e}: allowed are sums, products and hyperbolic tangents")


def inner_products(program: Program) -> dict[sp.Symbol, Dot]:
    """The inner products over pairs, by name."""
    loop: Loop = pair_loop(program)
    return {node.name: node for node in loop.body if isinstance(node, Dot) and node.axes == "ij"}


def query_and_key(dot: Dot, vectors: Mapping[str, Input]) -> tuple[str, str]:
    """The vectors of an inner product over pairs, that of the query first."""
    q, k = sorted((dot.left, dot.right), key=lambda x: vectors[x].axes)
    return q, k


def reach(
    e: sp.Expr,
    dots: Mapping[sp.Symbol, Dot],
    vectors: Mapping[str, Input],
    scalars: Collection[sp.Symbol],
    norm: str,
    size: str,
) -> sp.Expr:
    """An upper bound of the magnitude of an exponent [IV.2a].

    norm, size: how the names of a vector's largest norm and of a key scalar's largest magnitude begin.
    """
    most: dict[sp.Symbol, sp.Expr] = {}
    for s in e.free_symbols:
        if s in dots:
            q, k = query_and_key(dots[s], vectors)
            most[s] = sp.Abs(dots[s].scale) * symbol(f"{norm}{q}") * symbol(f"{norm}{k}")
        else:
            most[s] = symbol(f"{size}{s}") if s in scalars else sp.Abs(s)
    return magnitude(e, most)
