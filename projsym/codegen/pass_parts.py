"""The loop over keys in parts whose sums are merged: what several threads share one query's keys by."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from projsym.codegen.pass_tree import fresh, has_state_over, loops, pair_loop, part_loop, rebuild
from projsym.codegen.program import Add, Let, Loop, Node, Output, Program, Rescale, RunningMax, Sum, exp2


def parts(program: Program, size: int, few: int = 0) -> Program:
    """Cut the keys into parts of `size`, each with sums of its own, and merge these in order [IV.1].

    A running maximum is that of a part, so sums of parts are brought to the larger of two before they are
    added [IV.1a, IV.1b]; without a maximum they are added as they are. What is read after the loop is the
    merged states. few: as in `Program.few`. Raises ValueError for a size that is no multiple of a block of
    keys, for keys not in blocks or already in parts, for more than one maximum, and for sums over queries.
    """
    loop = pair_loop(program)
    if part_loop(program) is not None:
        raise ValueError("parts: the keys are already in parts")
    blocks = [loop.block, *(keys for _, keys in program.blocks)]
    if loop.block is None or isinstance(size, bool) or any(not b or size < 1 or size % b for b in blocks):
        raise ValueError(f"parts: size must be a multiple of the blocks of keys {blocks}, got {size!r}")
    maxima = [s for s in loop.body if isinstance(s, RunningMax)]
    if len(maxima) > 1 or has_state_over(loop, "i"):
        raise ValueError("parts: at most one running maximum, and sums over keys alone, can be merged")
    merged = {s.name: fresh(program, f"{s.name}_all") for s in loop.body if isinstance(s, Sum)}
    merge: list[Node] = []
    factor: sp.Expr = sp.S.One
    for top in maxima:
        every = fresh(program, f"{top.name}_all")
        before, gain = fresh(program, f"{every}_old"), fresh(program, "part")
        merge += [
            RunningMax(every, before, top.name),
            Rescale(tuple(merged.values()), exp2(before - every)),
            Let(gain, "i", exp2(top.name - every)),
        ]
        factor = gain
        merged[top.name] = every
    merge += [Add(merged[s.name], factor, s.name) for s in loop.body if isinstance(s, Sum)]
    (rows,) = loops(program.body, "i")
    at = rows.body.index(loop)
    outer = Loop("j", (loop, *merge), size, parallel=True)
    after = tuple(_renamed(node, merged) for node in rows.body[at + 1 :])
    changed = replace(rows, body=(*rows.body[:at], outer, *after))
    return program.with_(body=rebuild(program.body, rows, (changed,)), few=few)


def alike(program: Program, other: Program) -> bool:
    """Whether the other program is this one in parts."""
    loop = part_loop(other)
    if loop is None or loop.block is None:
        return False
    made = parts(program, loop.block, other.few)
    return (made.body, made.inputs, made.few) == (other.body, other.inputs, other.few)


def _renamed(node: Node, merged: dict[sp.Symbol, sp.Symbol]) -> Node:
    """A statement after the loop over keys, reading the merged states."""
    if isinstance(node, Let):
        return replace(node, value=node.value.xreplace(merged))
    if isinstance(node, Output):
        terms = tuple(
            (sp.sympify(c).xreplace(merged), merged.get(v, v) if isinstance(v, sp.Symbol) else v)
            for c, v in node.terms
        )
        return replace(node, terms=terms)
    return node
