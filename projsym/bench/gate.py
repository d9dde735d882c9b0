"""The equality gate: a row is timed only if both outputs are as close to the reference as is proven."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from projsym.bench.environment import available_cpus
from projsym.bounds import forward_bound
from projsym.runtime import storage

Array: TypeAlias = NDArray[Any]
T = TypeVar("T")

EXTENDED = np.finfo(np.longdouble).nmant == 63
"""Whether long doubles are the 80-bit type, in which float64 has a reference that is better than itself."""

PEER_EXP_ERROR = {"float32": 20 * 2.0**-23, "float64": 20 * 2.0**-52, "longdouble": 20 * 2.0**-63}
"""Relative error granted to a library's exponential: 20 units in the last place.

It is the loosest that a peer states (the vectorised exponential of PyTorch's CPU attention); NumPy states
less than 3 in float32.
"""


@dataclass(frozen=True)
class Agreement:
    """Errors against the reference: maxima over queries; `equal` was decided query by query."""

    equal: bool
    max_abs_err: float
    err_bound: float


class Gate:
    """Reference and bounds for one problem.

    q, k (H, n, d), v (H, m, d_v), one dtype; the scale is ``1/sqrt(d)``. order: how our kernel sums over the
    keys (`projsym.runtime.manifest.Entry.order`), and the error of its exponential where it is not the
    certified one; a peer may sum in any order and in any blocks. is_causal: query i sees the keys j <= i.

    Guarantees: an output that passes differs from the exact mean by at most the bound of `forward_bound` for
    its dtype, plus twice that of the reference, an evaluation in float64, or in 80 bits for float64 inputs
    where there is such a type. Cannot see: an error
    below the bound, and input other than this. A weighted mean in base e is within the scope of the bound: it
    has the roundings of the base-two form, less those of ``log2(e)``.

    In bfloat16 ours has the bound of `forward_bound` for that type, computed in float32. A peer may besides
    round every weight to bfloat16 before it multiplies a value, and the sum of weights may be that of rounded
    ones or not: its bound grows by a unit roundoff, 2**-8, of ``Σ w_j |v_j|`` and of the mean. A peer that
    rounds scores does not pass.
    """

    def __init__(
        self, q: Array, k: Array, v: Array, order: Mapping[str, Any] | None = None, is_causal: bool = False
    ) -> None:
        dtype = storage.kind(q.dtype)
        q, k, v = (storage.widened(x) for x in (q, k, v))
        self.reference = reference(q, k, v, is_causal)
        kind = "longdouble" if self.reference.dtype == np.longdouble else "float64"
        cases: list[dict[str, Any]] = [
            {"dtype": kind, "exp_error": PEER_EXP_ERROR[kind]},
            {"dtype": dtype, **(order or {"block": 1})},
            {"dtype": dtype, "block": 1, "exp_error": PEER_EXP_ERROR[q.dtype.name]},
        ]
        bound = partial(forward_bound, q, k, v, is_causal=is_causal)
        with ThreadPoolExecutor(available_cpus()) as pool:
            own, ours, peer = pool.map(lambda case: bound(**case), cases)
        self.ours, self.peer = ours + own, peer + own
        if dtype == storage.BFLOAT16:
            sizes = np.abs(self.reference) + reference(q, k, np.abs(v), is_causal)
            self.peer = self.peer + (1 + 2.0**-6) * 2.0**-8 * sizes.max(axis=-1).astype(np.float64)

    def check(self, out: Array, *, peer: bool) -> Agreement:
        """Compare an output (H, n, d_v) with the reference; NaN anywhere is a disagreement."""
        bound = self.peer if peer else self.ours
        if out.shape != self.reference.shape:
            return Agreement(False, math.inf, float(bound.max()))
        error = np.abs(storage.widened(out) - self.reference).max(axis=-1).astype(np.float64)
        error = np.where(np.isnan(error), np.inf, error)
        equal = bool((error <= bound).all()) and bool(np.isfinite(bound).all())
        return Agreement(equal, float(error.max()), float(bound.max()))


def reference(q: Array, k: Array, v: Array, is_causal: bool = False) -> Array:
    """The mean, (H, n, d_v), by other code than any peer's: head by head, divided last.

    In float64, or in the extended type for float64 inputs where there is one. is_causal: query i sees the
    keys j <= i.
    """
    wide = np.longdouble if EXTENDED and q.dtype == np.float64 else np.float64
    out = np.empty((*q.shape[:-1], v.shape[-1]), wide)
    for h in range(len(q)):
        qs, ks, vs = (x[h].astype(wide) for x in (q, k, v))
        weights = np.einsum("jd,id->ij", ks, qs / np.sqrt(wide(q.shape[-1])), optimize=True)
        if is_causal:
            weights[np.triu_indices_from(weights, 1)] = -np.inf
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        out[h] = (weights @ vs) / weights.sum(axis=-1)[:, None]
    return out


def softmax_mean(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """``softmax(q kᵀ / sqrt(d) + mask) v`` in whole arrays, as one writes it in NumPy.

    Returns (H, n, d_v), same dtype. mask: (n, m), -inf where a pair is hidden, else 0.
    """
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * q.dtype.type(1 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores += mask
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    out: Array = np.matmul(scores, v)
    return out


def kept(folder: Path | None, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, kept under `name` in a folder of this run for its other processes; None: not kept.

    References and bounds take longer than what they check, and depend on the inputs alone.
    """
    if folder is None:
        return make()
    path = folder / f"{name}.pickle"
    if path.is_file():
        found: T = pickle.loads(path.read_bytes())
        return found
    made = make()
    path.write_bytes(pickle.dumps(made))
    return made
