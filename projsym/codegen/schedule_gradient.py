"""The schedule of backward kernels: no running maximum, as the saved log-sum-exp is the shift."""

from __future__ import annotations

import sympy as sp

from projsym.codegen.program import Let, Program
from projsym.codegen.schedule import (
    Step,
    base_two,
    block,
    fold_scale,
    hoist,
    parallel,
    ranged,
    sizes,
    tangents,
)

NUMPY_BLOCKS = (256, 512)


def default(program: Program, dtype: str, target: str = "c") -> list[Step]:
    """The measured choice for `dtype` ("float32" or "float64") and `target` ("c" or "numpy").

    Heads run in parallel, queries of a head in order: the gradients of keys add up over them.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    steps: list[Step] = []
    if any(isinstance(s, Let) and s.value.has(sp.exp) for s in program.statements()):
        steps.append(base_two())
    steps += [*tangents(program, target), fold_scale(), hoist(), ranged()]
    if target == "numpy":
        keys, queries = NUMPY_BLOCKS
        return [*steps, block("j", keys), block("i", queries)]
    return [*steps, *sizes("backward", dtype), parallel("h")]
