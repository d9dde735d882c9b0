"""Kernels against the theorems they come from: the compiled output in the ball of the theorem's own term.

There is no separate reference: the kernel's theorem is evaluated in ball arithmetic at the very numbers that
the kernel was given, and the kernel must be within its proven error bound of that ball.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq
from numpy.typing import NDArray

import projsym
from projsym.bounds import forward_bound, lse_bound
from projsym.codegen.kernel import Kernel
from projsym.proof.evaluate import Evaluator
from projsym.proof.instance import SMALL, Instance
from projsym.proof.oracle import PRECISION, unfold
from projsym.proof.verdict import ProofError
from projsym.runtime import storage
from projsym.runtime.manifest import load

Array = NDArray[Any]

WIDTH = 21
"""Features: whole vectors and a tail on every instruction set, so that one compilation serves all sizes."""

SIZES = tuple(
    (n, m, WIDTH) for n, m in ((0, 3), (2, 0), (1, 1), (2, 5), (3, 127), (2, 129), (17, 16), (49, 3))
)
"""Default (queries, keys, features): none, one, below and above a block."""

NUMBERS = ("scale", "sigma", "key_bias", "attn_mask")
"""Names that kernels, public functions and bounds have in common."""

NUMPY_EXP_ERROR = {"float32": 2.0**-21, "float64": 2.0**-50}
"""Assumed relative error of NumPy's exp2 and tanh: 8 units in the last place. Stated, not certified."""


@dataclass(frozen=True)
class KernelCheck:
    """The largest error of one kernel over all sizes, next to the largest bound in force.

    worst_ratio: the largest error over bound, query by query; at most 1, or the check has failed.
    """

    kernel: str
    dtype: str
    backend: str
    instances: int
    max_abs_err: float
    err_bound: float
    lse_abs_err: float
    lse_bound: float
    worst_ratio: float

    @property
    def good(self) -> bool:
        return self.worst_ratio <= 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": "checked" if self.good else "refuted"}


def inputs(kernel: str, n: int, m: int, d: int, dtype: str, seed: int = 0) -> dict[str, Any]:
    """Random arguments for a kernel by its manifest: vectors (n, d) or (m, d), biases (m,) and
    bandwidths (m,), parameters, and numbers (n, m) that are added to the scores of pairs.

    For bfloat16 vectors are of `projsym.runtime.storage.BITS`, the other arrays float32.
    """
    if dtype == storage.BFLOAT16:
        drawn = inputs(kernel, n, m, d, "float32", seed)
        vectors = {x.name for x in load()[kernel].inputs if x.feature}
        return {x: storage.rounded(a, storage.BITS) if x in vectors else a for x, a in drawn.items()}
    rng = np.random.default_rng([seed, n, m, d])
    shape = {"i": n, "j": m}
    out: dict[str, Any] = {}
    for x in load()[kernel].inputs:
        if x.feature:
            size = d if x.feature == "d" else d + 1
            out[x.name] = rng.standard_normal((shape[x.axes], size)).astype(dtype)
        elif x.axes == "ij":
            out[x.name] = rng.standard_normal((n, m)).astype(dtype)
        elif x.axes and x.name == "sigma":
            out[x.name] = rng.uniform(0.5, 2, shape[x.axes]).astype(dtype)
        elif x.axes:
            out[x.name] = rng.standard_normal(shape[x.axes]).astype(dtype)
        else:
            out[x.name] = float(rng.uniform(0.5, 2))
    return out


def call(kernel: str, given: dict[str, Any], backend: str) -> tuple[Array, Array]:
    """The public function that reaches a kernel: its output and log-sum-exp."""
    options: dict[str, Any] = {x: given[x] for x in NUMBERS if x in given}
    q, k = given["q"], given["k"]
    options |= {"return_lse": True, "backend": backend}
    if "v" not in given:
        found = projsym.project(q, k, **options)
    else:
        options |= {"softcap": given["cap"]} if "cap" in given else {}
        found = projsym.attention(q, k, given["v"], **options)
    out, lse = found
    return out, lse


def exact(kernel: Kernel, given: dict[str, Any]) -> tuple[list[list[arb]], list[arb]]:
    """The theorem's outputs in balls, for each query: components of ``out``, and ``lse``.

    Evaluated from the quotient line of the chain, which the theorem proves equal to the last one and which
    takes time linear in the number of keys.
    """
    quotient = unfold(kernel.of.steps[0].after.term, kernel.of.given)
    lse = kernel.outputs()["lse"]
    outs, sums = [], []
    for row in range(len(given["q"])):
        instance = _instance(given, row)
        evaluate = Evaluator(instance, {})
        outs.append(evaluate(quotient))
        sums.append(evaluate(lse)[0])
    return outs, sums


def _instance(given: dict[str, Any], row: int) -> Instance:
    keys = len(given["k"])
    value = given.get("v", given["k"])
    dimensions = {"E": given["k"].shape[1], "F": value.shape[1], "Z": keys}
    out = Instance(0, SMALL[0], fixed_dimensions=dimensions, fixed_sizes={"keys": keys})
    for name, x in given.items():
        if not isinstance(x, np.ndarray):
            out.drawn[name, None] = _ball(x)
        elif name == "q":
            out.drawn[name, None] = [_ball(y) for y in x[row]]
        elif name == "attn_mask":
            # A row of the mask is a vector with a component for each key.
            out.drawn[name, None] = [_ball(y) for y in x[row]]
            for j in range(keys):
                out.drawn["unit", ("keys", j)] = [arb(int(j == other)) for other in range(keys)]
        else:
            for j, y in enumerate(x):
                out.drawn[name, ("keys", j)] = [_ball(z) for z in y] if x.ndim == 2 else _ball(y)
    return out


def _ball(x: Any) -> arb:
    return arb(fmpq(*float(x).as_integer_ratio()))


def _distance(x: float, ball: arb) -> float:
    """An upper bound of the distance between a float and the number in the ball."""
    return float((_ball(x) - ball).abs_upper())


def check_kernel(
    kernel: Kernel, dtype: str, backend: str, sizes: Iterable[tuple[int, int, int]] = SIZES
) -> KernelCheck:
    """Compare one kernel with its theorem at random inputs of the given sizes.

    Guarantees, for these inputs alone, that the kernel's result is within the reported error of the exact
    value (ball arithmetic, rounded outward). A row that sees no key must be exactly 0 with lse −inf.
    """
    computed = "float32" if dtype == storage.BFLOAT16 else dtype
    exp_error = NUMPY_EXP_ERROR[computed] if backend == "numpy" else None
    worst = [0.0, 0.0, 0.0, 0.0, 0.0]
    count = 0
    precision, ctx.prec = ctx.prec, PRECISION
    try:
        for n, m, d in sizes:
            given = inputs(kernel.name, n, m, d, dtype)
            out, lse = call(kernel.name, given, backend)
            out, given = storage.widened(out), {x: storage.widened(a) for x, a in given.items()}
            count += 1
            if m == 0:
                if out.any() or not np.all(lse == -np.inf):
                    raise ProofError(f"{kernel.name} {dtype} {backend}: rows without keys are not the unit")
                continue
            options: dict[str, Any] = {
                x: given[x] for x in ("scale", "sigma", "key_bias", "attn_mask") if x in given
            }
            options |= {"exp_error": exp_error, "dtype": dtype}
            if "cap" in given:
                error = NUMPY_EXP_ERROR[computed] if backend == "numpy" else None
                options |= {"softcap": given["cap"], "tanh_error": error}
            target = "numpy" if backend == "numpy" else f"c/{dtype}"
            options |= load()[kernel.name].order(target, n, m, max(d, out.shape[-1]))
            bound = forward_bound(given["q"], given["k"], given.get("v", given["k"]), **options)
            lse_limit = lse_bound(given["q"], given["k"], **options)
            balls, sums = exact(kernel, given)
            for row in range(n):
                err = max(_distance(float(x), y) for x, y in zip(out[row], balls[row], strict=True))
                lse_err = _distance(float(lse[row]), sums[row])
                ratio = float(max(err / bound[row], lse_err / lse_limit[row]))
                new = (err, float(bound[row]), lse_err, float(lse_limit[row]), ratio)
                worst = [max(a, b) for a, b in zip(worst, new, strict=True)]
    finally:
        ctx.prec = precision
    return KernelCheck(kernel.name, dtype, backend, count, *worst)


def check_all(kernels: Iterable[Kernel], backends: Iterable[str] = ("c", "numpy")) -> Iterator[KernelCheck]:
    """Every kernel in both dtypes on the given backends, one by one."""
    wanted = tuple(backends)
    for kernel in kernels:
        for dtype in ("float32", "float64"):
            for backend in wanted:
                yield check_kernel(kernel, dtype, backend)
