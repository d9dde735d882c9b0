"""Each kernel at one shape: its inputs, our call, the calls of the peers, and the gate for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from projsym.attention import attention, project
from projsym.bench import backward
from projsym.bench import peers as implementations
from projsym.bench.gate import Gate
from projsym.bench.rows import CAUSAL, IN_NUMPY, Shape
from projsym.check import NUMPY_EXP_ERROR
from projsym.runtime import manifest, storage

Array: TypeAlias = NDArray[Any]

SEED = 20260202
_PLAIN = ("numpy", "torch")
"""What the kernel in NumPy is compared with: those that need no more than it, and what most have."""


@dataclass(frozen=True)
class Problem:
    """What is compared in one cell.

    ours: a call. peers: by name, what prepares a call for a number of threads. gate: makes reference and
    bounds, which takes longer than the calls.
    """

    ours: Callable[[], Any]
    peers: dict[str, Callable[[int], Callable[[], Any]]]
    gate: Callable[[], Gate | backward.GradientGate]


def problem(kernel: str, shape: Shape) -> Problem:
    """The problem of a kernel (`projsym.bench.predict.FLOPS`) with the inputs of `inputs`.

    Raises KeyError for another kernel, and ValueError for a shape that the kernel is not measured at: for
    gradients and the kernel in NumPy, one in bfloat16; for causal attention, one in another type than
    float32, of other than as many keys as queries, or whose features are not a multiple of 8 (ONNX Runtime
    takes no other).
    """
    if kernel != CAUSAL:
        allowed = kernel in ("attention", "project") or shape.dtype == shape.computed
    else:
        allowed = shape.dtype == "float32" and shape.queries == shape.keys and shape.features % 8 == 0
    if not allowed:
        raise ValueError(f"{kernel}: got {shape}, which it is not measured at")
    q, k, v = inputs(shape, kernel)
    if kernel == backward.KERNEL:
        return _gradients(q, k, v)
    ours: dict[str, Callable[[], Array]] = {
        "attention": partial(attention, q, k, v, backend="c"),
        "project": partial(project, q, k, backend="c"),
        CAUSAL: partial(attention, q, k, v, is_causal=True, backend="c"),
        IN_NUMPY: partial(attention, q, k, v, backend="numpy"),
    }
    found = implementations.available(shape.dtype)[0]
    if kernel == IN_NUMPY:
        found = {name: make for name, make in found.items() if name in _PLAIN}
    mask = {"is_causal": True} if kernel == CAUSAL else {}
    return Problem(
        ours[kernel],
        {name: partial(make, q, k, v, **mask) for name, make in found.items()},
        partial(Gate, q, k, v, order(kernel, shape), **mask),
    )


def _gradients(q: Array, k: Array, v: Array) -> Problem:
    g = np.random.default_rng(SEED + 1).standard_normal(q.shape).astype(q.dtype)

    def prepared(make: backward.Prepare) -> Callable[[int], backward.Call]:
        return lambda threads: make(g, q, k, v)

    found = {name: prepared(make) for name, make in backward.peers().items()}
    return Problem(backward.ours(g, q, k, v), found, partial(backward.GradientGate, g, q, k, v))


def inputs(shape: Shape, kernel: str) -> tuple[Array, Array, Array]:
    """q (H, n, d), k and v (H, m, d): standard normal, the same in every run; `project` has v = k."""
    heads, n, m, d = shape.sizes
    if shape.dtype == storage.BFLOAT16:
        drawn = inputs(replace(shape, dtype="float32"), kernel)
        q, k, v = (storage.rounded(x, storage.BITS) for x in drawn)
        return q, k, v
    rng = np.random.default_rng(SEED)
    dtype: Any = np.float32 if shape.dtype == "float32" else np.float64
    q = rng.standard_normal((heads, n, d), dtype=dtype)
    k = rng.standard_normal((heads, m, d), dtype=dtype)
    v = k if kernel == "project" else rng.standard_normal((heads, m, d), dtype=dtype)
    return q, k, v


def order(kernel: str, shape: Shape) -> dict[str, Any]:
    """How the committed kernel sums over the keys, which its error bound depends on, and in NumPy the error
    assumed of its exponential."""
    entry = manifest.load(manifest.KERNELS)["project_dot" if kernel == "project" else "attention"]
    if kernel == IN_NUMPY:
        return entry.order("numpy", *shape.sizes[1:]) | {"exp_error": NUMPY_EXP_ERROR[shape.dtype]}
    return entry.order(f"c/{shape.dtype}", *shape.sizes[1:])
