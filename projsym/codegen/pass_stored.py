"""Vectors stored in a narrower type than that of arithmetic: a load widens them, a store rounds once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from projsym.codegen.pass_tree import has_state_over, map_nodes, pair_loop
from projsym.codegen.program import Node, Output, Program


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: bits of a significand, the exponents of its largest power of two and of
    its least subnormal number."""

    precision: int
    largest: int
    least: int


FORMATS = {
    "bfloat16": Format(8, 127, -133),
    "float32": Format(24, 127, -149),
    "float64": Format(53, 1023, -1074),
}

ARITHMETIC = {"bfloat16": "float32"}
"""The type that a kernel of a storage type computes in."""


def arithmetic(dtype: str) -> str:
    """The type that a kernel for arrays of `dtype` computes in."""
    return ARITHMETIC.get(dtype, dtype)


def stored(program: Program, storage: str, computed: str) -> Program:
    """Every vector, given or made, stored as `storage`, all values being of type `computed` [exact widening].

    Scalars, of keys, pairs and rows, stay as they are. Raises ValueError for unknown types, for vectors that
    are stored in another already, and for sums over queries, whose vectors a printer gathers as they are.
    """
    if storage not in FORMATS or computed not in FORMATS:
        raise ValueError(f"stored: types must be among {', '.join(FORMATS)}, got {storage!r}, {computed!r}")
    if any(x.storage for x in program.inputs):
        raise ValueError(f"stored: {program.name} has a storage type already")
    if has_state_over(pair_loop(program), "i"):
        raise ValueError(f"stored: {program.name} has sums over queries")

    def change(node: Node) -> Node:
        return replace(node, storage=storage) if isinstance(node, Output) and node.feature else node

    inputs = tuple(replace(x, storage=storage) if x.feature else x for x in program.inputs)
    return program.with_(inputs=inputs, body=map_nodes(program.body, change), arithmetic=computed)
