"""The schedule of backward kernels: no running maximum, as the saved log-sum-exp is the shift."""

from __future__ import annotations

import sympy as sp

from projsym.codegen.program import Let, Program
from projsym.codegen.schedule import (
    TILES,
    Step,
    base_two,
    block,
    fold_scale,
    hoist,
    parallel,
    ranged,
    tangents,
    tile,
)

BLOCKS = {("c", "float32"): (48, 96), ("c", "float64"): (48, 96), ("numpy", "float32"): (512, 512)}
"""Keys and queries in a block: two pair buffers stay in cache, and a sum over the queries of a block is long
enough for its registers to be worth filling and emptying."""

GRADIENT_TILES = {**TILES, "avx2_keys": 6, "avx2_query_vectors": 2}
"""Measured on AVX2, where tall tiles read less for each multiply-add; else those of the forward pass."""


def default(program: Program, dtype: str, target: str = "c") -> list[Step]:
    """The measured choice for `dtype` ("float32" or "float64") and `target` ("c" or "numpy").

    Heads run in parallel, queries of a head in order: the gradients of keys add up over them.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    steps: list[Step] = []
    if any(isinstance(s, Let) and s.value.has(sp.exp) for s in program.statements()):
        steps.append(base_two())
    steps += tangents(program, target)
    keys, queries = BLOCKS.get((target, dtype), BLOCKS["numpy", "float32"])
    steps += [fold_scale(), hoist(), ranged(), block("j", keys), block("i", queries)]
    return steps if target == "numpy" else [*steps, tile(**GRADIENT_TILES), parallel("h")]
