"""Leave only what depends on a pair inside the loop over pairs."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from projsym.codegen.pass_tree import loops, numbered, pair_loop, rebuild
from projsym.codegen.program import Dot, Let, Loop, Node, Program, RunningMax, Sum

LETTER = {"": "c", "i": "r", "j": "t"}


class _Hoister:
    """Names the maximal one-axis subexpressions of a program; `moved` holds their definitions by axes."""

    def __init__(self, program: Program, states: set[sp.Symbol]) -> None:
        self.program, self.states = program, states
        self.axes = program.axes()
        self.moved: dict[str, list[Node]] = {"": [], "i": [], "j": []}
        self.names: dict[tuple[str, sp.Expr], sp.Symbol] = {}

    def level(self, e: sp.Expr) -> str:
        """The axes of an expression, where a row state counts as depending on the pair loop."""
        if e.free_symbols & self.states:
            return "ij"
        return "".join(sorted(set("".join(self.axes[s] for s in e.free_symbols))))

    def name(self, e: sp.Expr) -> sp.Expr:
        """A symbol for a one-axis expression; numbers and symbols stay as they are."""
        if e.is_Rational or e.is_Symbol:
            return e
        axes = self.level(e)
        if (axes, e) not in self.names:
            s = numbered(self.program, LETTER[axes], self.names.values())
            self.names[axes, e] = s
            self.axes[s] = axes
            self.moved[axes].append(Let(s, axes, e))
        return self.names[axes, e]

    def walk(self, e: sp.Expr) -> sp.Expr:
        """The expression with its maximal one-axis parts named; parameters join a row or key part."""
        if self.level(e) != "ij":
            return self.name(e)
        if not (e.is_Add or e.is_Mul):
            return e.func(*map(self.walk, e.args)) if e.args else e
        parts: dict[str, list[sp.Expr]] = {}
        for a in e.args:
            inline = e.is_Mul and a.is_Rational
            parts.setdefault("number" if inline else self.level(a), []).append(a)
        host = next((axes for axes in "ij" if axes in parts), "")
        for key in ("", "number"):
            if key in parts and key != host and (host or (key == "number" and "" in parts)):
                parts.setdefault(host, []).extend(parts.pop(key))
        done: list[sp.Expr] = []
        for axes, args in parts.items():
            if axes == "ij":
                done += map(self.walk, args)
            elif axes == "number":
                done += args
            else:
                done.append(self.name(e.func(*args)))
        return e.func(*done)


def hoist(program: Program) -> Program:
    """Move every value to the outermost loop that it depends on [distributivity].

    Values without an axis are computed once per call, values of a key once per head before the loop over
    queries, values of a query once before its loop over keys. What stays in the loop over pairs is the
    least: sums and products of one-axis values and of what truly depends on a pair.
    """
    loop = pair_loop(program)
    states = {n.name for n in loop.body if isinstance(n, Sum | RunningMax)}
    states |= {n.old for n in loop.body if isinstance(n, RunningMax)}
    work = _Hoister(program, states)
    inner: list[Node] = []
    for node in loop.body:
        if isinstance(node, Let | Dot) and node.axes != "ij":
            if isinstance(node, Let) and work.level(node.value) == "ij":
                raise ValueError(f"hoist: {node.name} has axes {node.axes!r} but depends on a row state")
            work.moved[node.axes].append(node)
        elif isinstance(node, Let):
            inner.append(Let(node.name, node.axes, work.walk(node.value)))
        elif isinstance(node, Dot):
            inner.append(Dot(node.name, node.axes, node.left, node.right, work.name(node.scale)))
        else:
            inner.append(node)
    body = rebuild(program.body, loop, (*work.moved["i"], replace(loop, body=tuple(inner))))
    if work.moved["j"]:
        (rows,) = loops(body, "i")
        body = rebuild(body, rows, (Loop("j", tuple(work.moved["j"])), rows))
    at = next(n for n, node in enumerate(body) if isinstance(node, Loop))
    return program.with_(body=(*body[:at], *work.moved[""], *body[at:]))
