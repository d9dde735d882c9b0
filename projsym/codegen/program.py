"""Loop programs: what a theorem's last line becomes before a printer writes it.

A program computes, for every head `h`, query `i` and key `j`, inner products of vectors, scalar functions
of them, and weighted sums over the keys. It is a tree of :class:`Loop` nodes whose leaves are the
statements below. A statement inside ``Loop("j", block=B)`` has array semantics: it is carried out for all
keys of the current block before the next statement starts, and blocks follow one another in order. How
statements of one block are fused, tiled and vectorised is a printer's business and changes no value beyond
rounding; what a program *means* is fixed here, and `projsym.codegen.validate` reads that meaning back as a
term.

Axis letters: ``"h"`` head, ``"i"`` query (row), ``"j"`` key. The axes of a symbol are the letters it depends
on, sorted, without ``"h"``: ``""`` (a parameter), ``"i"``, ``"j"`` or ``"ij"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import sympy as sp

from projsym.algebra.scalars import exp2, step, tanh2


class narrowed(sp.Function):
    """The argument, or what is nearest to it in the type that vectors are stored in, as a printer likes.

    In real arithmetic it is the argument.
    """

    nargs = 1
    is_real = True


def whole(e: sp.Expr) -> sp.Expr:
    """The expression without `narrowed`."""
    return e.replace(narrowed, lambda x: x)


def symbol(name: str) -> sp.Symbol:
    """The symbol of that name in a program: real, and the same object wherever the name occurs."""
    return sp.Symbol(name, real=True)


@dataclass(frozen=True)
class Input:
    """An argument of a kernel.

    axes: ``""`` for a parameter (one number per call), ``"i"`` one per query, ``"j"`` one per key, ``"ij"``
    one per pair (a scalar).
    feature: the name of its feature dimension for a vector (vectors that meet in an inner product share
    one), ``""`` for a scalar.
    storage: the type that its elements are stored in, ``""`` for that of arithmetic. A load converts.
    """

    name: str
    axes: str
    feature: str = ""
    storage: str = ""


@dataclass(frozen=True)
class Let:
    """``name = value``, elementwise over `axes`."""

    name: sp.Symbol
    axes: str
    value: sp.Expr


@dataclass(frozen=True)
class Dot:
    """``name = scale * <left, right>`` over `axes`; `scale` depends on parameters only."""

    name: sp.Symbol
    axes: str
    left: str
    right: str
    scale: sp.Expr = sp.S.One


@dataclass(frozen=True)
class RunningMax:
    """``old = name; name = max(name, max over the block's keys of `of`)``: a row state, first `-inf`.

    Both `old` and `name` depend on ``"i"``; `old` may be used until the end of the block.
    """

    name: sp.Symbol
    old: sp.Symbol
    of: sp.Symbol


@dataclass(frozen=True)
class Rescale:
    """``s = factor * s`` for each row state in `sums` (scalars and vectors); `factor` has axes ``"i"``."""

    sums: tuple[sp.Symbol, ...]
    factor: sp.Expr


@dataclass(frozen=True)
class Sum:
    """``name += sum over the block's keys of weight * vector``: a row state, first 0.

    vector: the name of a key vector, or None for a scalar sum. With ``over="i"`` the sum is over the queries
    of the block, the state one of a key that lasts through the loop over queries, the vector a query's.
    """

    name: sp.Symbol
    weight: sp.Symbol
    vector: str | None = None
    over: str = "j"

    @property
    def axes(self) -> str:
        """The axis of the state: the one that is not summed over."""
        return "i" if self.over == "j" else "j"


@dataclass(frozen=True)
class Add:
    """``name += factor * state``: a row state, first 0, gathers that of a part of the keys.

    state: of the loop over blocks of keys that stands before this statement in a loop over parts.
    """

    name: sp.Symbol
    factor: sp.Expr
    state: sp.Symbol


@dataclass(frozen=True)
class Output:
    """``name = sum of coefficient * vector``, one per query, or one per key with ``axes="j"``.

    terms: pairs of a coefficient (axes ``""`` or `axes`, also of states) and the vector it multiplies:
    the symbol of a vector :class:`Sum`, the name of a vector of that axis, or None in a scalar output.
    A coefficient that divides by a sum is 0 where that sum is 0: a row without keys is the unit of the
    merge monoid (its log is minus infinity).
    storage: as of an `Input`; a store rounds, once.
    """

    name: str
    terms: tuple[tuple[sp.Expr, sp.Symbol | str | None], ...]
    feature: str = ""
    axes: str = "i"
    storage: str = ""


@dataclass(frozen=True)
class Loop:
    """All values of `axis`, in blocks of `block` (None: one block of all), perhaps in parallel.

    ranged: a loop over keys that each row restricts to a range of its own, the keys ``lo <= j < hi`` that it
    sees: for a key outside it no :class:`RunningMax` and no :class:`Sum`, over keys or over queries, counts
    the pair, whatever the values there. Without ranges at run time a row sees all keys.

    A loop over keys around another one is over *parts* of them: the states of the inner one start anew in
    every part, and the statements after it merge them into states of all keys so far. There a
    :class:`RunningMax` is over states of parts, and such a loop may be parallel: parts are independent, and
    are merged in order.
    """

    axis: str
    body: tuple[Node, ...]
    block: int | None = None
    parallel: bool = False
    ranged: bool = False


Statement: TypeAlias = Let | Dot | RunningMax | Rescale | Sum | Add | Output
Node: TypeAlias = Statement | Loop


@dataclass(frozen=True)
class Program:
    """A kernel before printing. `log` holds one line per schedule step: what it did and the law it cites.

    blocks: pairs (features, keys), ascending: where the widest feature has more than so many numbers, a
    block of the loop over pairs has so many keys instead. few: up to so many queries of a call a printer may
    take one by one. arithmetic: the type of all values, where some are stored in another.
    """

    name: str
    inputs: tuple[Input, ...]
    body: tuple[Node, ...]
    tiles: dict[str, int] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    few: int = 0
    arithmetic: str = ""

    def statements(self) -> Iterator[Statement]:
        """Every statement, in textual order."""
        yield from _leaves(self.body)

    def axes(self) -> dict[sp.Symbol, str]:
        """The axes of every symbol that an expression may mention."""
        table = {symbol(x.name): x.axes for x in self.inputs if not x.feature}
        for s in self.statements():
            if isinstance(s, Let | Dot):
                table[s.name] = s.axes
            elif isinstance(s, RunningMax):
                table[s.name] = table[s.old] = "i"
            elif isinstance(s, Sum):
                table[s.name] = s.axes
            elif isinstance(s, Add):
                table[s.name] = "i"
        return table

    def axes_of(self, e: sp.Expr) -> str:
        """The axes that an expression depends on."""
        table = self.axes()
        return "".join(sorted(set("".join(table[s] for s in sp.sympify(e).free_symbols))))

    def with_(self, **changes: object) -> Program:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names

    def __str__(self) -> str:
        lines = [f"program {self.name}({', '.join(_input(x) for x in self.inputs)})"]
        _show(self.body, 1, lines)
        return "\n".join(lines)


def _leaves(body: tuple[Node, ...]) -> Iterator[Statement]:
    for node in body:
        if isinstance(node, Loop):
            yield from _leaves(node.body)
        else:
            yield node


def _input(x: Input) -> str:
    axes = f"[{x.axes}]" if x.axes else ""
    stored = f" of {x.storage}" if x.storage else ""
    return f"{x.name}{axes}" + (f": {x.feature}" if x.feature else "") + stored


def _show(body: tuple[Node, ...], depth: int, lines: list[str]) -> None:
    pad = "  " * depth
    for node in body:
        match node:
            case Loop(axis, inner, block, parallel, ranged):
                how = (" in the row's range" if ranged else "") + (f" in blocks of {block}" if block else "")
                how += ", parallel" if parallel else ""
                lines.append(f"{pad}for {axis}{how}:")
                _show(inner, depth + 1, lines)
            case Let(name, axes, value):
                lines.append(f"{pad}{name}[{axes}] = {value}")
            case Dot(name, axes, left, right, scale):
                factor = "" if scale == 1 else f"{scale} * "
                lines.append(f"{pad}{name}[{axes}] = {factor}<{left}, {right}>")
            case RunningMax(name, old, of):
                lines.append(f"{pad}{old}, {name} = {name}, max({name}, max_j {of})")
            case Rescale(sums, factor):
                lines.append(f"{pad}{', '.join(map(str, sums))} *= {factor}")
            case Sum(name, weight, vector, over):
                lines.append(f"{pad}{name} += sum_{over} {weight}{f' * {vector}' if vector else ''}")
            case Add(name, factor, state):
                lines.append(f"{pad}{name} += {'' if factor == 1 else f'{factor} * '}{state}")
            case Output(name, terms):
                text = " + ".join(f"({c})" + (f" * {v}" if v is not None else "") for c, v in terms)
                stored = f"{node.storage} of " if node.storage else ""
                lines.append(f"{pad}{name}[{node.axes}] = {stored}{text}")


__all__ = [
    "Add",
    "Dot",
    "Input",
    "Let",
    "Loop",
    "Node",
    "Output",
    "Program",
    "Rescale",
    "RunningMax",
    "Statement",
    "Sum",
    "exp2",
    "narrowed",
    "step",
    "symbol",
    "tanh2",
    "whole",
]
