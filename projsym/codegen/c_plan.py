"""How the C printer carries out a program: its parts by loop level, and the phases of a key block.

Array semantics leave the printer free to fuse. The statements over pairs are grouped into *nests* (at most
one inner product, computed in a register tile, and the elementwise statements after it), *rescalings* and
*contractions* (vector sums). A value that is used by a later phase goes through a buffer of one key block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import sympy as sp

from projsym.codegen.pass_tree import has_state, loops, pair_loop
from projsym.codegen.program import (
    Dot,
    Input,
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


@dataclass
class Nest:
    """Elementwise statements over pairs, after at most one inner product."""

    dot: Dot | None = None
    body: list[Let | RunningMax | Sum] = field(default_factory=list)
    loads: list[sp.Symbol] = field(default_factory=list)
    stores: list[sp.Symbol] = field(default_factory=list)

    def maxima(self) -> list[RunningMax]:
        """The running maxima that this nest updates."""
        return [s for s in self.body if isinstance(s, RunningMax)]

    def sums(self) -> list[Sum]:
        """The scalar sums that this nest adds to."""
        return [s for s in self.body if isinstance(s, Sum)]

    def defined(self) -> list[sp.Symbol]:
        """The pair values that this nest computes."""
        first = [self.dot.name] if self.dot else []
        return first + [s.name for s in self.body if isinstance(s, Let)]

    def read(self) -> set[sp.Symbol]:
        """All symbols that this nest reads."""
        out: set[sp.Symbol] = set()
        for s in self.body:
            out |= (
                s.value.free_symbols
                if isinstance(s, Let)
                else {s.of if isinstance(s, RunningMax) else s.weight}
            )
        return out


Phase = Nest | Rescale | Sum


@dataclass
class Plan:
    """The parts of a scheduled program, as the printer needs them."""

    program: Program
    axes: dict[sp.Symbol, str]
    vectors: dict[str, Input]
    scalars: dict[str, Input]
    parameters: list[Let]
    heads: Loop
    key_loops: list[Loop]
    rows: Loop
    before: list[Let | Dot]
    pairs: Loop
    after: list[Let | Dot | Output]
    phases: list[Phase]
    buffers: dict[sp.Symbol, int]
    key_outputs: list[Output] = field(default_factory=list)

    def pair_reads(self, axes: str) -> list[sp.Symbol]:
        """Values of those axes that the key loop reads, sorted."""
        out: set[sp.Symbol] = set()
        for p in self.phases:
            out |= (
                p.read()
                if isinstance(p, Nest)
                else p.factor.free_symbols
                if isinstance(p, Rescale)
                else set()
            )
        return sorted((s for s in out if self.axes[s] == axes), key=str)

    def states(self) -> set[sp.Symbol]:
        """Scalar row states."""
        found = {s.name for s in self.pairs.body if isinstance(s, Sum) and s.vector is None and s.over == "j"}
        for s in self.pairs.body:
            if isinstance(s, RunningMax):
                found |= {s.name, s.old}
        return found

    def tile_sums(self) -> list[Sum]:
        """Scalar sums that register tiles of an inner product add to."""
        return [s for p in self.phases if isinstance(p, Nest) and p.dot for s in p.sums()]

    def small(self, bounded: bool) -> dict[sp.Expr, str]:
        """The shorter form of EXP2 by exponent: for those that a running maximum keeps at 0 or below, or for
        all if norms bound them."""
        if bounded:
            lets = [s.value for s in self.pairs.body if isinstance(s, Let)]
            return {x.args[0]: "EXP2_NEAR" for e in lets for x in e.atoms(exp2)}
        maxima = [s for s in self.pairs.body if isinstance(s, RunningMax)]
        return {x - s.name: "EXP2_SMALL" for s in maxima for x in (s.of, s.old)}

    def normalisers(self) -> list[sp.Symbol]:
        """Scalar sums that an output divides by or takes the log of."""
        sums = {s.name for s in self.pairs.body if isinstance(s, Sum) and s.vector is None}
        found: set[sp.Symbol] = set()
        for s in self.after:
            if isinstance(s, Output):
                for c, _ in s.terms:
                    for e in c.atoms(sp.Pow, sp.log):
                        if isinstance(e, sp.log) or e.exp.is_negative:
                            found |= e.args[0].free_symbols & sums
        return sorted(found, key=str)


def _level(body: tuple[Node, ...], kinds: tuple[type, ...], where: str, axes: str) -> list[Node]:
    out: list[Node] = []
    for node in body:
        if isinstance(node, Loop):
            continue
        if not isinstance(node, kinds) or (isinstance(node, Let | Dot) and node.axes != axes):
            raise ValueError(f"{getattr(node, 'name', node)} cannot stand {where}: hoist the program first")
        out.append(node)
    return out


def _phases(pairs: Loop) -> list[Phase]:
    phases: list[Phase] = []
    waiting: list[Phase] = []
    nest: Nest | None = None
    vectors = {s.name for s in pairs.body if isinstance(s, Sum)}

    def close() -> None:
        nonlocal nest
        if nest is not None:
            phases.append(nest)
        nest = None

    for s in pairs.body:
        match s:
            case Dot(axes="ij"):
                close()
                nest = Nest(s)
            case Let(axes="ij", name=name, value=value):
                if value.free_symbols & vectors:
                    raise ValueError(f"{name} reads a running sum inside the loop over keys")
                if nest and value.free_symbols & {x for r in nest.maxima() for x in (r.name, r.old)}:
                    close()
                nest = nest or Nest()
                nest.body.append(s)
            case RunningMax() | Sum(vector=None, over="j"):
                nest = nest or Nest()
                nest.body.append(s)
            case Sum():
                waiting.append(s)
            case Rescale():
                close()
                phases += [*waiting, s]
                waiting.clear()
            case _:
                raise ValueError(
                    f"{getattr(s, 'name', s)} cannot stand in the loop over keys: hoist the program first"
                )
    close()
    return phases + waiting


def _buffers(phases: list[Phase]) -> dict[sp.Symbol, int]:
    """Buffers of pair values that outlive their nest; a buffer is used again once its value is dead."""
    home = {s: n for n, p in enumerate(phases) if isinstance(p, Nest) for s in p.defined()}
    last: dict[sp.Symbol, int] = {}
    for n, p in enumerate(phases):
        read = p.read() if isinstance(p, Nest) else {p.weight} if isinstance(p, Sum) else set()
        for s in read & home.keys():
            if home[s] < n:
                last[s] = n
                if isinstance(p, Nest):
                    p.loads.append(s)
    buffers: dict[sp.Symbol, int] = {}
    for n, p in enumerate(phases):
        if isinstance(p, Nest):
            p.loads.sort(key=str)
            p.stores = [s for s in p.defined() if s in last]
            for s in p.stores:
                busy = {b for x, b in buffers.items() if last[x] > n or home[x] == n}
                buffers[s] = next(b for b in range(len(busy) + 1) if b not in busy)
    return buffers


def plan(program: Program) -> Plan:
    """The parts of a scheduled program; ValueError, naming the statement, for one not ready to be printed."""
    pairs = pair_loop(program)
    (heads,) = loops(program.body, "h")
    (rows,) = loops(program.body, "i")
    for loop in (pairs, rows):
        if loop.block is None:
            raise ValueError(f"the loop over {loop.axis} has no block size: block it first")
    where = next(n for n, node in enumerate(heads.body) if node is rows)
    key_loops = [node for node in heads.body[:where] if isinstance(node, Loop)]
    key_outputs = [
        cast("Output", node)
        for loop in heads.body[where + 1 :]
        if isinstance(loop, Loop) and loop.axis == "j"
        for node in _level(loop.body, (Output,), "in the loop over keys after that over queries", "j")
    ]
    for loop in key_loops:
        if loop.axis != "j" or has_state(loop):
            raise ValueError(f"a loop over {loop.axis} outside the loop over queries may hold no sums")
        _level(loop.body, (Let, Dot), "in the loop over keys alone", "j")
    if any(not isinstance(node, Loop) for node in heads.body):
        raise ValueError("statements directly in the loop over heads cannot be printed")
    at = rows.body.index(pairs)
    vectors = {x.name: x for x in program.inputs if x.feature}
    scalars = {x.name: x for x in program.inputs if not x.feature}
    phases = _phases(pairs)
    before = _level(rows.body[:at], (Let, Dot), "before the loop over keys", "i")
    after = _level(rows.body[at + 1 :], (Let, Dot, Output), "after the loop over keys", "i")
    return Plan(
        program,
        program.axes(),
        vectors,
        scalars,
        cast("list[Let]", _level(program.body, (Let,), "at the top", "")),
        heads,
        key_loops,
        rows,
        cast("list[Let | Dot]", before),
        pairs,
        cast("list[Let | Dot | Output]", after),
        phases,
        _buffers(phases),
        key_outputs,
    )
