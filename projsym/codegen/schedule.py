"""A schedule: a list of passes, each with the laws that make it an identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sympy as sp

from projsym import schedules
from projsym.codegen import passes
from projsym.codegen.pass_narrowed import narrowed_weights
from projsym.codegen.pass_stored import ARITHMETIC, arithmetic
from projsym.codegen.pass_stored import stored as stored_vectors
from projsym.codegen.pass_tree import pair_loop
from projsym.codegen.program import Let, Program


@dataclass(frozen=True)
class Step:
    """One pass: what it does in words, the laws it cites, and the function that does it."""

    text: str
    cites: tuple[str, ...]
    apply: Callable[[Program], Program]


def base_two() -> Step:
    """``exp`` as a power of two."""
    return Step("exp as a power of two", ("IV.4b",), passes.base_two)


def hyperbolic() -> Step:
    """``tanh`` in base two."""
    return Step("tanh in base two", ("IV.4t",), passes.hyperbolic)


def online() -> Step:
    """The running maximum."""
    return Step("running maximum of the scores", ("I.2", "IV.1"), passes.online)


def bounded() -> Step:
    """No running maximum, for scores that norms bound."""
    return Step("scores bounded by norms", ("IV.2", "IV.2a"), passes.bounded)


def fold_scale() -> Step:
    """The scale of the scores multiplied into the query."""
    return Step("scale folded into the query", ("bilinearity",), passes.fold_scale)


def hoist() -> Step:
    """Row, key and parameter factors out of the loop over pairs."""
    return Step("row, key and parameter factors hoisted", ("distributivity",), passes.hoist)


def block(axis: str, size: int, wide: tuple[tuple[int, int], ...] = ()) -> Step:
    """The loop over keys ("j") or queries ("i") in blocks; `wide` as in `Program.blocks`."""
    what, law = {"j": ("keys", "IV.1"), "i": ("queries", "independence of rows")}.get(axis, (axis, ""))
    text = f"{what} in blocks of {size}"
    if wide:
        text += f" ({', '.join(f'{keys} above {features} features' for features, keys in wide)})"
    return Step(text, (law,), lambda p: passes.block(p, axis, size, wide))


def stored(storage: str, computed: str) -> Step:
    """Vectors stored in a narrower type."""
    text = f"vectors stored as {storage}, values {computed}"
    return Step(text, ("exact widening",), lambda p: stored_vectors(p, storage, computed))


def narrow_weights(storage: str) -> Step:
    """Weights of vectors in the type that these are stored in."""
    text = f"weights as {storage} where its products are added"
    return Step(text, ("IV.5",), narrowed_weights)


def parts(size: int, few: int = 0) -> Step:
    """The keys in parts that threads may share, merged in order."""
    text = f"keys in parts of {size}, merged"
    if few:
        text += f"; keys as lanes for at most {few} queries"
    return Step(text, ("IV.1", "IV.1a", "IV.1b", "IV.1d"), lambda p: passes.parts(p, size, few))


def ranged() -> Step:
    """The keys of a row restricted to a range."""
    return Step("keys of a row in a range of its own", ("I.10m", "I.10w", "I.10b"), passes.ranged)


def tile(**numbers: int) -> Step:
    """Register tiles."""
    return Step("register tiles", ("Fubini",), lambda p: passes.tile(p, **numbers))


def parallel(*axes: str) -> Step:
    """Loops in parallel."""
    what = {"h": "heads", "i": "queries"}
    text = " and ".join(what.get(a, a) for a in axes) + " in parallel"
    return Step(text, ("independence of rows",), lambda p: passes.parallel(p, *axes))


def apply(program: Program, steps: Iterable[Step]) -> Program:
    """The program after all steps; one line per step is added to its log."""
    for step in steps:
        program = step.apply(program)
        program = program.with_(log=(*program.log, f"{step.text:<44} [{', '.join(step.cites)}]"))
    return program


NUMPY_BLOCKS = (256, 512)
"""Keys and queries. Every operation on a block of an array costs a call, so blocks are as large as a
second-level cache of common size allows: half a megabyte of scores in float32. More queries than keys, since
BLAS arranges the keys and values of a block anew for every call."""


def default(program: Program, dtype: str, target: str = "c") -> list[Step]:
    """The measured choice for `dtype` ("float32", "float64" or "bfloat16") and `target` ("c" or "numpy").

    A kernel of bfloat16 is that of float32 with its vectors stored as bfloat16.

    Other block sizes and tiles give the same values up to rounding. The running
    maximum is used wherever it is legal: it is safe for every input.
    """
    if dtype in ARITHMETIC:
        steps = default(program, arithmetic(dtype), target)
        at = steps.index(ranged()) + 1
        return [stored(dtype, arithmetic(dtype)), *steps[:at], narrow_weights(dtype), *steps[at:]]
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    steps = []
    if any(isinstance(s, Let) and s.value.has(sp.exp) for s in program.statements()):
        steps.append(base_two())
        if _shifts(program):
            steps.append(online())
    steps += tangents(program, target)
    steps += [fold_scale(), hoist(), ranged()]
    if target == "numpy":
        keys, queries = NUMPY_BLOCKS
        return [*steps, block("j", keys), block("i", queries)]
    return [*steps, *sizes("forward", dtype), parallel("h", "i")]


def sizes(way: str, dtype: str) -> list[Step]:
    """Blocks and register tiles of the committed table for a pass, "forward" or "backward"."""
    table = schedules.load()
    blocks = table.blocks[way, dtype]
    (_, keys), *wide = blocks.keys
    tiles = {
        f"{isa}_{name}" + (f"_above_{row[0]}" if row[0] else ""): size
        for (of, isa, kind), entry in table.tiles.items()
        if (of, kind) == (way, dtype)
        for row in entry.rows
        for name, size in zip(schedules.TILE, row[1:], strict=True)
    }
    return [block("j", keys, tuple(wide)), block("i", blocks.queries), tile(**tiles)]


def tangents(program: Program, target: str) -> list[Step]:
    """The step for a hyperbolic tangent, where a program has one; NumPy has its own."""
    found = any(isinstance(s, Let) and s.value.has(sp.tanh) for s in program.statements())
    return [hyperbolic()] if found and target == "c" else []


def without_maximum(program: Program, steps: Sequence[Step]) -> list[Step] | None:
    """The steps for a program whose scores are bounded, None if they have no running maximum to leave out.

    It serves rows that see all keys. None too where norms do not bound the scores, as where numbers of a
    query multiply them or numbers of pairs are added to them.
    """
    if online() not in steps or any(x.axes == "ij" for x in program.inputs):
        return None
    free = [*(s for s in steps if s not in (online(), ranged())), bounded()]
    try:
        apply(program, free)
    except ValueError:
        return None
    return free


def in_parts(program: Program, dtype: str, steps: Sequence[Step]) -> list[Step] | None:
    """The steps for calls with few queries, the keys in parts: those that made `program` and one more.

    None if its blocks of keys do not fill the parts of the table.
    """
    sizes = [pair_loop(program).block, *(keys for _, keys in program.blocks)]
    blocks = schedules.load().blocks["forward", arithmetic(dtype)]
    if not blocks.parts or not all(size and blocks.parts % size == 0 for size in sizes):
        return None
    return [*steps, parts(blocks.parts, blocks.few)]


def _shifts(program: Program) -> bool:
    """Whether the running maximum is legal."""
    try:
        passes.online(passes.base_two(program))
    except ValueError:
        return False
    return True
