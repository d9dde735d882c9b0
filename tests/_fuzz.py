"""Random problems for the public functions: shapes, strides, dtypes, scales; and the exact answers.

``PROJSYM_FUZZ=5000 pytest tests/test_fuzz_attention.py`` draws so many, other ones each time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from projsym.bounds import forward_bound, lse_bound

Array = np.ndarray[Any, Any]

LONG = "PROJSYM_FUZZ" in os.environ
EXAMPLES = int(os.environ.get("PROJSYM_FUZZ", "50"))
FEATURES = 4  # a new number of features is a new kernel to compile
WIDTHS = (4, 3)  # of values
MAGNITUDES = (1e-30, 1e-3, 1.0, 1.0, 30.0, 1e8, 1e25)


@dataclass(frozen=True)
class Problem:
    """Arrays of one dtype whose leading axes broadcast, options of a call. v is None: a projection."""

    q: Array
    k: Array
    v: Array | None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> Array:
        return self.k if self.v is None else self.v

    def bounds(self, exp_error: float | None) -> tuple[Array, Array]:
        """Of the output and of its lse, infinite where a kernel may leave the range of the dtype."""
        more: dict[str, Any] = {**self.options, "exp_error": exp_error, "block": 1}
        out = forward_bound(self.q, self.k, self.values, **more)
        return out, np.broadcast_to(lse_bound(self.q, self.k, **more), out.shape)

    def exact(self) -> tuple[Array, Array]:
        """(out, lse) in extended precision by the definition."""
        q, k, v = (np.asarray(x, np.longdouble) for x in (self.q, self.k, self.values))
        sigma, scale = self.options.get("sigma"), self.options.get("scale")
        if sigma is None:
            scale = 1 / np.sqrt(np.longdouble(q.shape[-1])) if scale is None else np.longdouble(scale)
            scores = scale * (q @ k.swapaxes(-1, -2))
        else:
            gap = q[..., :, None, :] - k[..., None, :, :]
            scores = -(gap * gap).sum(-1) / (2 * np.longdouble(sigma) ** 2)
        if "key_bias" in self.options:
            scores = scores + np.asarray(self.options["key_bias"], np.longdouble)[..., None, :]
        top = scores.max(-1, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0)
        w = np.exp(scores - top)
        total = w.sum(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            out, lse = w @ v / np.where(total == 0, 1, total), (np.log(total) + top)[..., 0]
        return out, np.broadcast_to(lse, out.shape[:-1])


@st.composite
def problems(draw: st.DrawFn, calm: bool = False) -> Problem:
    """calm: numbers of ordinary size, for which no bound is infinite."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lead = draw(st.sampled_from([(), (2,), (2, 3)]))
    n, m = draw(st.sampled_from([0, 1, 3, 17])), draw(st.sampled_from([0, 1, 5, 34]))
    sizes = [1.0] if calm else list(MAGNITUDES)

    def array(rows: int, features: int | None) -> Array:
        axes = tuple(1 if draw(st.booleans()) and draw(st.booleans()) else a for a in lead)
        axes = axes[draw(st.integers(0, len(axes))) :] if draw(st.booleans()) else axes
        core = (rows,) if features is None else (rows, features)
        with np.errstate(over="ignore"):
            numbers = rng.standard_normal((*axes, *core)) * draw(st.sampled_from(sizes))
        return strided(draw, numbers.astype(dtype))

    q, k = array(n, FEATURES), array(m, FEATURES)
    v = array(m, draw(st.sampled_from(WIDTHS))) if draw(st.booleans()) else None
    options: dict[str, Any] = {}
    if v is None and draw(st.booleans()):
        options["sigma"] = draw(st.sampled_from([1.0] if calm else [1.0, 1e-3, 50.0, 1e6]))
    elif draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.3] if calm else [0.0, -1.0, 0.3, 1e-9, 1e3]))
    if v is None and draw(st.booleans()):
        bias = array(m, None)
        bias[..., rng.random(m) < 0.3] = -np.inf
        options["key_bias"] = bias
    return Problem(q, k, v, options)


def strided(draw: st.DrawFn, x: Array) -> Array:
    """The same numbers in another place of memory."""
    kind = draw(st.sampled_from(["plain", "column major", "steps", "reversed", "inside", "unaligned"]))
    if kind == "column major":
        return np.asfortranarray(x)
    if kind == "steps":
        axis = draw(st.integers(0, x.ndim - 1))
        return np.repeat(x, 2, axis=axis)[(slice(None),) * axis + (slice(None, None, 2),)]
    if kind == "reversed":
        axis = draw(st.integers(0, x.ndim - 1))
        return np.flip(np.flip(x, axis).copy(), axis)
    if kind == "inside":
        return np.pad(x, 1)[(slice(1, -1),) * x.ndim]
    if kind == "unaligned":
        made = np.frombuffer(bytearray(b"\0" + x.tobytes()), np.uint8)[1:].view(x.dtype)
        return made.reshape(x.shape)
    return x
