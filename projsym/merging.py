"""Merging results over disjoint sets of keys: blocks, threads and machines merge alike [IV.1]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from projsym.errors import refused
from projsym.runtime import arguments as check
from projsym.runtime.layout import Array

__all__ = ["merge"]


def merge(*parts: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    """The result over all keys from results over parts of them, theorem IV.1o.

    >>> from projsym import project
    >>> q, k = np.random.default_rng(0).standard_normal((2, 400, 16))
    >>> one = project(q, k[:300], return_lse=True)
    >>> two = project(q, k[300:], return_lse=True)
    >>> out, lse = merge(one, two)        # project(q, k, return_lse=True), up to rounding
    >>> bool(abs(out - project(q, k)).max() < 1e-14)
    True

    parts: at least one pair ``(out, lse)`` as :func:`projsym.attention` and :func:`projsym.project` return
    with ``return_lse``: out (..., n, d), lse (..., n) the natural log of the sum of exp(score), or minus
    infinity for a row that saw no key. All of one shape and dtype, float32 or float64.

    Returns ``(out, lse)`` of that shape and dtype: ``lse = log Σ exp(lse_p)`` and
    ``out = Σ exp(lse_p − lse) out_p``, with the largest lse_p of the row as shift, so nothing overflows. In
    exact arithmetic the merge is associative and commutative [IV.1c, IV.1e] and a part without keys is its
    unit [IV.1d]: a row that no part has keys for is 0 with lse = −inf. In floating point the order of the
    parts matters in the last places: they are added as given.

    Raises TypeError for no parts, parts that are no pairs, and dtypes that are refused or differ; ValueError
    for shapes that differ and for an lse that is NaN or plus infinity.
    """
    if not parts:
        raise TypeError(refused("parts", "none", "at least one pair (out, lse)"))
    pairs = [_pair(n, part) for n, part in enumerate(parts)]
    first = pairs[0][0]
    for n, (out, _) in enumerate(pairs[1:], 1):
        check.same_dtype("parts[0]", first, f"parts[{n}]", out)
        if out.shape != first.shape:
            raise ValueError(
                refused(f"parts[{n}]", f"out of shape {out.shape}", f"{first.shape} as parts[0]")
            )
    sums = np.stack([lse for _, lse in pairs])
    top = sums.max(axis=0)
    shift = np.where(top == -math.inf, top.dtype.type(0), top)
    weights = np.exp(sums - shift)
    total = weights.sum(axis=0)
    blind = total == 0
    weights /= np.where(blind, total.dtype.type(1), total)
    result = weights[0][..., None] * pairs[0][0]
    for w, (out, _) in zip(weights[1:], pairs[1:], strict=True):
        result += w[..., None] * out
    with np.errstate(divide="ignore"):  # a row without keys has lse = log 0
        return result, np.asarray(np.log(total) + shift)


def _pair(n: int, part: Any) -> tuple[Array, Array]:
    """One part, checked. A row without keys weighs exactly 0, so its output counts as 0 whatever it is."""
    name = f"parts[{n}]"
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise TypeError(refused(name, f"{type(part).__name__}", "a pair (out, lse)"))
    out, lse = check.array(f"{name}[0]", part[0], 2), check.array(f"{name}[1]", part[1], 1)
    check.same_dtype(f"{name}[0]", out, f"{name}[1]", lse)
    if lse.shape != out.shape[:-1]:
        given = f"lse of shape {lse.shape} with out of shape {out.shape}"
        raise ValueError(refused(name, given, "lse of the shape of out without its last axis"))
    if not (lse < math.inf).all():
        raise ValueError(refused(f"{name}[1]", "NaN or +inf", "finite numbers and -inf (no key was seen)"))
    empty = lse == -math.inf
    if empty.any():
        out = np.where(empty[..., None], out.dtype.type(0), out)
    return out, lse
