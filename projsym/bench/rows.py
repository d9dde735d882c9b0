"""What is measured, and one measured row."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from projsym.runtime.isa import multiplies_pairs
from projsym.runtime.storage import BFLOAT16

DTYPES = ("float32", "float64", "bfloat16")

CAUSAL = "causal attention"
IN_NUMPY = "attention in NumPy"
"""The kernel that is generated as NumPy, in the place of C."""


def computed(dtype: str) -> str:
    """The type that a kernel for arrays of a dtype computes in."""
    return "float32" if dtype == BFLOAT16 else dtype


def multiplied(dtype: str) -> str:
    """The type whose rate of multiply-adds bounds a kernel for arrays of a dtype on this CPU."""
    return BFLOAT16 if dtype == BFLOAT16 and multiplies_pairs() else computed(dtype)


@dataclass(frozen=True)
class Shape:
    """Heads, queries, keys and features of one problem; the values have as many features as the keys.

    Raises TypeError for a size that is not an integer, ValueError for one below 1 and for a dtype other than
    float32, float64 and bfloat16.
    """

    heads: int
    queries: int
    keys: int
    features: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("heads", "queries", "keys", "features"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"{name}: got {size!r}, allowed are integers of at least 1")
            if size < 1:
                raise ValueError(f"{name}: got {size}, allowed are integers of at least 1")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: got {self.dtype!r}, allowed are {', '.join(DTYPES)}")

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.heads, self.queries, self.keys, self.features

    @property
    def computed(self) -> str:
        """The type of arithmetic."""
        return computed(self.dtype)

    @property
    def multiplied(self) -> str:
        """The type whose rate of multiply-adds bounds a kernel."""
        return multiplied(self.dtype)

    @property
    def flops(self) -> int:
        """Operations of the two contractions, an FMA counted as two; exponentials are not counted."""
        return 4 * math.prod(self.sizes)


MAIN = (
    Shape(4, 1024, 1024, 64),
    Shape(64, 128, 128, 64),
    Shape(512, 20, 20, 32),
    Shape(2, 512, 512, 64, "float64"),
)
"""What `projsym reproduce` measures: one size of each kind, since checking a large one takes long."""

SHAPES = (
    Shape(8, 1024, 1024, 64),
    Shape(1, 2048, 2048, 64),
    Shape(64, 128, 128, 64),
    Shape(512, 20, 20, 32),
    Shape(8, 512, 512, 64, "float64"),
)
"""The default set: prefill, one long head, many short ones, the size of a small translation model, double."""

FULL = (
    *SHAPES,
    Shape(1, 1024, 1024, 64),
    Shape(1, 4096, 4096, 64),
    Shape(8, 20, 20, 32),
    *(Shape(2, 1024, 1024, d) for d in (32, 80, 96, 128, 256)),
    *(Shape(2, 512, 512, d, "float64") for d in (32, 128)),
    Shape(32, 1, 8192, 128),
    Shape(8, 1, 32768, 64),
    Shape(8, 1024, 1024, 64, "bfloat16"),
    Shape(32, 1, 8192, 128, "bfloat16"),
)
"""Every size that there is a target for: other widths, one query against long keys (decoding), bfloat16."""

MORE: dict[str, tuple[Shape, ...]] = {
    CAUSAL: (Shape(1, 2048, 2048, 64),),
    IN_NUMPY: (Shape(1, 4096, 4096, 64), Shape(8, 1024, 1024, 64)),
}
"""Kernels that are measured at few shapes, beside those of `FULL`."""


@dataclass(frozen=True)
class Row:
    """One comparison. Times in seconds a call; ratios are peer time over our time (above 1: ours is faster).

    ratio_min is of the least times, ratio_median the median over rounds of the ratio within a round.
    peak_fraction: the operations that the kernel needs (`projsym.bench.predict.flops`; causal, those of the
    pairs that are seen) over our least time, over `threads` times the FMA rate of one thread in the same run.
    Where threads share a core or a power budget, less than 1 is the most that can be reached.
    max_abs_err, err_bound: largest error of our output and largest proven bound over queries; the gate
    compares query by query. peer_max_abs_err, peer_err_bound: the same for the peer, for which the bound
    assumes `projsym.bench.gate.PEER_EXP_ERROR`.
    verdict: "equal", or "refused: …" when an output is off by more than its bound, or when a peer was faster
    than so many threads of the machine can be; then times are None.
    ours_work_bytes, peer_work_bytes: memory of a call (`projsym.bench.memory.work_bytes`) where both are
    NumPy, else None.
    """

    kernel: str
    shape: tuple[int, int, int, int]
    dtype: str
    threads: int
    peer: str
    ours_min_s: float | None
    peer_min_s: float | None
    ratio_min: float | None
    ratio_median: float | None
    peak_fraction: float | None
    max_abs_err: float
    err_bound: float
    peer_max_abs_err: float
    peer_err_bound: float
    verdict: str
    ours_work_bytes: int | None = None
    peer_work_bytes: int | None = None

    @property
    def agreed(self) -> bool:
        """Whether both outputs passed the gate."""
        return self.verdict == "equal"

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON; a number that JSON cannot hold (an infinite bound or error) becomes None."""
        data = dataclasses.asdict(self) | {"shape": list(self.shape)}
        return {k: None if isinstance(x, float) and not math.isfinite(x) else x for k, x in data.items()}
