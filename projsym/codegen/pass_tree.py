"""What every pass needs: fresh names, the three loops of a program, and rebuilding one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import sympy as sp

from projsym.codegen.program import (
    Add,
    Dot,
    Let,
    Loop,
    Node,
    Program,
    RunningMax,
    Statement,
    Sum,
    symbol,
)


def defined(statement: Statement) -> tuple[sp.Symbol, ...]:
    """The symbols that a statement defines."""
    match statement:
        case Let(name=name) | Dot(name=name) | Sum(name=name) | Add(name=name):
            return (name,)
        case RunningMax(name=name, old=old):
            return (name, old)
    return ()


def fresh(program: Program, base: str, taken: Iterable[sp.Symbol] = ()) -> sp.Symbol:
    """The symbol `base`, or `base_1`, `base_2`, … : the first that the program does not use."""
    used = {x.name for x in program.inputs} | {str(s) for s in taken}
    used |= {str(s) for statement in program.statements() for s in defined(statement)}
    used |= {x.feature for x in program.inputs if x.feature}
    name, n = base, 0
    while name in used:
        n += 1
        name = f"{base}_{n}"
    return symbol(name)


def numbered(program: Program, letter: str, taken: Iterable[sp.Symbol] = ()) -> sp.Symbol:
    """The first of `letter0`, `letter1`, … that the program does not use."""
    taken, n = tuple(taken), 0
    while (s := fresh(program, f"{letter}{n}", taken)).name != f"{letter}{n}":
        n += 1
    return s


def loops(body: tuple[Node, ...], axis: str) -> Iterator[Loop]:
    """Every loop over `axis`, in textual order."""
    for node in body:
        if isinstance(node, Loop):
            if node.axis == axis:
                yield node
            yield from loops(node.body, axis)


def has_state(loop: Loop) -> bool:
    """Whether the loop's own statements accumulate a row state."""
    return any(isinstance(node, Sum | RunningMax) for node in loop.body)


def has_state_over(loop: Loop, axis: str) -> bool:
    """Whether a state at any depth accumulates over `axis`: a key's, over queries."""
    return any(
        has_state_over(node, axis) if isinstance(node, Loop) else isinstance(node, Sum) and node.over == axis
        for node in loop.body
    )


def pair_loop(program: Program) -> Loop:
    """The loop over blocks of keys that accumulates the sums; ValueError unless there is exactly one."""
    inside = [loop for i in loops(program.body, "i") for loop in loops(i.body, "j")]
    found = [loop for loop in inside if not any(loops(loop.body, "j"))]
    if len(found) != 1:
        raise ValueError(
            f"{program.name}: one loop over keys inside the loop over queries expected, found {len(found)}"
        )
    return found[0]


def part_loop(program: Program) -> Loop | None:
    """The loop over parts of the keys, around that over their blocks, if there is one."""
    inside = [loop for i in loops(program.body, "i") for loop in loops(i.body, "j")]
    return next((loop for loop in inside if any(loops(loop.body, "j"))), None)


def rebuild(body: tuple[Node, ...], old: Node, new: tuple[Node, ...]) -> tuple[Node, ...]:
    """The body with the node `old` (by identity) replaced by the nodes `new`, at any depth."""
    out: list[Node] = []
    for node in body:
        if node is old:
            out.extend(new)
        elif isinstance(node, Loop):
            out.append(replace(node, body=rebuild(node.body, old, new)))
        else:
            out.append(node)
    return tuple(out)


def map_nodes(body: tuple[Node, ...], change: Callable[[Node], Node]) -> tuple[Node, ...]:
    """Every node changed, children first."""
    return tuple(
        change(replace(node, body=map_nodes(node.body, change)) if isinstance(node, Loop) else node)
        for node in body
    )
