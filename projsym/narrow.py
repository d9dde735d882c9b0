"""Calls with vectors of bfloat16: computed in float32, every result rounded once.

Widening a vector is exact, so a kernel that reads bfloat16 and one that reads widened copies give the same
sums, bit for bit, and the same results once they are rounded. Where there is a kernel for bfloat16 and all is
finite, it is taken; else the call runs on widened copies. On a CPU that multiplies pairs of bfloat16 numbers
(`projsym.runtime.isa.multiplies_pairs`) that kernel rounds its weights, and results differ by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from projsym.masked import Call, Sizes
from projsym.runtime import manifest, storage
from projsym.runtime import plan as plans
from projsym.runtime.dispatch import run
from projsym.runtime.layout import Array

Compute = Callable[[dict[str, Array]], tuple[Array, Array]]


def forward(
    name: str,
    call: Call,
    parameters: tuple[float, ...],
    sizes: Sizes,
    backend: str | None,
    return_lse: bool,
    layout: plans.Key | None,
    made: plans.Result | None,
    compute: Compute,
) -> tuple[Array, Array]:
    """``(out, lse)`` of kernel `name`: out of the dtype of the queries, lse float32 (perhaps empty unless
    asked for).

    made: what a plan gave already. layout: under which a plan is kept. compute: the same of float32 arrays.
    """
    dtype, mask = call.arrays["q"].dtype, call.mask
    plain = mask is None or (mask.pairs is None and mask.key_bias is None)
    known = f"c/{storage.BFLOAT16}" in manifest.load(manifest.KERNELS)[name].files
    found: tuple[Sequence[Array | None], int] | None = made
    if made is None and plain and known and all(size for _, size in sizes):
        skip = () if return_lse else ("lse",)
        ranges, key = (None, layout) if mask is None else (mask.ranges, None)
        found = run(
            name, call.lead, call.arrays, parameters, storage.BFLOAT16, sizes, backend, skip, ranges, key
        )
    if found is not None:
        (out, lse), status = found
        if not status and out is not None and (mask is None or storage.finite(out)):
            return out, np.empty(0, np.float32) if lse is None else lse
    out, lse = compute({x: storage.widened(a) for x, a in call.arrays.items()})
    return storage.rounded(out, dtype), lse
