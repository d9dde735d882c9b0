"""Step 4 of the bound of `projsym.bounds`: what rounding takes from the two sums over the keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from projsym.bound_arguments import Doubles, Kernel
from projsym.bound_scores import U64, UNDERFLOW, Rows

_PIECE: Final = 8
"""Keys between two partial sums that are evaluated; in between the bound adds absolute values."""


@dataclass(frozen=True)
class SumErrors:
    """In units of the exact sum of exact weights.

    numerator: (rows, features), bound on the error of the sum of values. normaliser: (rows,), relative error
    of the sum of weights. kept: (rows,), a lower bound of the kernel's weights' sum.
    """

    numerator: Doubles
    normaliser: Doubles
    kept: Doubles


def sum_errors(rows: Rows, v: Doubles, place: NDArray[np.intp], kernel: Kernel) -> SumErrors:
    """Both sums' errors, v (keys, features), `place` the keys' places in the kernel's input.

    In any order an addend goes through `depth` additions, fewer than `rescalings` of these and a product:
    ``γ_{depth+rescalings}`` times the sum of absolute values. In order (`sequential`) every addition and
    every rescaling loses at most ``u`` of its computed result, which is the exact partial sum up to that γ.
    Parts have sums of their own, which a merge multiplies and adds to the merged ones, rescaled.
    """
    h = np.expm1(rows.delta)
    lost = (rows.weight * h).sum(1)
    kept = np.where(lost < 0.5, 1 - lost, 0.0)
    largest = rows.weight * (1 + h)
    sums, size = kernel.gamma(kernel.depth + kernel.rescalings), np.abs(v)
    crude = sums * (largest @ size)
    if not kernel.sequential:
        return SumErrors(crude, np.full(len(lost), sums), kept)
    block = place // kernel.block
    first = np.flatnonzero(np.diff(block, prepend=-1))
    ends = np.append(first[1:], len(block))
    # Additions that key j takes part in: the rest of its block, then two for each block from its own on.
    left = np.repeat(ends, ends - first) - np.arange(len(block))
    additions = left + 2 * (kernel.blocks - block)
    in_part = kernel.part // kernel.block or kernel.blocks + 1
    if kernel.part:  # two for each later block of its part, then three for each merge
        additions = left + 2 * (in_part - block % in_part) + 3 * (kernel.parts - block // in_part)
    normaliser = np.where(kept > 0, kernel.u * (1 + sums) * (largest @ additions) / kept, np.inf)
    partial = np.zeros((len(lost), v.shape[1]))
    total, running, merged = (np.zeros_like(partial) for _ in range(3))
    for start, end in zip(first, ends, strict=True):
        partial[:] = 0
        for a in range(start, end, _PIECE):
            z = min(a + _PIECE, end)
            w = rows.near[:, a:z]
            total += (z - a) * np.abs(partial) + (w * np.arange(z - a, 0, -1)) @ size[a:z]
            partial += w @ v[a:z]
        running += partial
        total += 2 * np.abs(running)  # adding the block, and rescaling before the next
        if kernel.part and (end == len(block) or block[end] // in_part != block[start] // in_part):
            merged += running
            total += np.abs(running) + 2 * np.abs(merged)  # the factor, adding the part, and rescaling
            running[:] = 0
    results = min(kernel.block, len(block)) + 2 * kernel.blocks + 3 * kernel.parts
    off = (rows.near * (rows.slack + h + rows.slack * h)) @ size
    second = results * (off + (sums + 2 * len(block) * U64) * (largest @ size))
    numerator = kernel.u * (total + largest @ size + second) + UNDERFLOW * results * size.sum(0)
    return SumErrors(np.fmin(numerator, crude), np.fmin(normaliser, sums), kept)
