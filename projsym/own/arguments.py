"""What a call of one's own attention is given: checked, named as the kernels name it, and shaped back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from projsym.derivations.notation import k
from projsym.errors import refused
from projsym.masks import Mask, resolve
from projsym.runtime import arguments as check
from projsym.runtime.layout import Array

from .form import Form

PUBLIC = {"q": "query", "k": "key", "v": "value"}
POSITIONS = {"query_position": "i", "key_position": "j"}
Made = tuple[dict[str, Array], dict[str, float], tuple[int, ...]]
"""Arrays and parameters by the kernels' names, and the leading axes."""


class Arguments:
    """Checks against one form."""

    def __init__(self, form: Form, mask: Any) -> None:
        self.causal, self.window = mask == "causal", None if mask in ("causal", None) else mask
        self.form, self.tied = form, form.values is k
        self.scalars = {b.name: ("i", b.positive) for b in form.query_scalars}
        self.scalars |= {b.name: ("j", b.positive) for b in form.key_scalars}
        self.parameters = {p.name: bool(p.is_positive) for p in form.parameters}

    def public(self, name: str) -> str:
        """The public name of an input."""
        return PUBLIC.get(name, name)

    def gradient(self, output: str) -> str:
        """The public name of the argument whose gradient an output is."""
        return self.public(output.removeprefix("d"))

    def masked(self, arrays: Mapping[str, Array], lead: tuple[int, ...], past: int) -> Mask | None:
        """Which keys each query sees; None: all."""
        if not (self.causal or self.window):
            return None
        a, m = arrays["q"], arrays["k"].shape[-2]
        return resolve(lead, a.shape[-2], m, a.dtype, is_causal=self.causal, window=self.window, past=past)

    def forward(self, query: Any, key: Any, value: Any, given: Mapping[str, Any], past: int = 0) -> Made:
        """The arguments of a forward call."""
        arrays = {"q": check.array("query", query, 2), "k": check.array("key", key, 2)}
        a, b = arrays["q"], arrays["k"]
        check.same_dtype("query", a, "key", b)
        check.length("query", "key", b, -1, a.shape[-1], f"(..., m, {a.shape[-1]})")
        if self.tied != (value is None):
            told = "None: the keys are the values" if self.tied else "an array (..., m, dv)"
            raise ValueError(refused("value", "an array" if self.tied else None, told))
        if not self.tied:
            c = arrays["v"] = check.array("value", value, 2)
            check.same_dtype("query", a, "value", c)
            check.length("key", "value", c, -2, b.shape[-2], f"(..., {b.shape[-2]}, dv)")
        if isinstance(past, bool) or not isinstance(past, int) or past < 0:
            raise ValueError(refused("past", repr(past), "an integer of at least 0"))
        parameters = self.named(given)
        lengths = {"i": a.shape[-2], "j": b.shape[-2]}
        for name, (axis, positive) in self.scalars.items():
            first = past if axis == "i" else 0
            arrays[name] = self.number(name, given, first, lengths[axis], a, positive, axis)
        cores = {self.public(x): y.shape[: -1 if x in self.scalars else -2] for x, y in arrays.items()}
        return arrays, parameters, check.leading(cores)

    def backward(
        self, g: Any, query: Any, key: Any, value: Any, out: Any, saved: Any, g_saved: Any,
        given: Mapping[str, Any], saves: str, past: int,
    ) -> Made:  # fmt: skip
        """The arguments of a backward call."""
        arrays, parameters, _ = self.forward(query, key, value, given, past)
        a = arrays["q"]
        lead, n, width = a.shape[:-2], a.shape[-2], arrays["k" if self.tied else "v"].shape[-1]
        rows = {"g": (g, 2), "out": (out, 2), saves: (saved, 1)}
        if g_saved is not None:
            rows[f"g_{saves}"] = (g_saved, 1)
        for x, (y, core) in rows.items():
            name = {saves: "saved", f"g_{saves}": "g_saved"}.get(x, x)
            array = check.array(name, y, core)
            check.same_dtype("query", a, name, array)
            wanted = (*lead, n, width)[: a.ndim - 2 + core]
            if array.shape != wanted:
                raise ValueError(refused(name, f"shape {array.shape}", f"{wanted}, to match query"))
            arrays[x] = array
        for x in ("k", "v"):
            if x in arrays and arrays[x].shape[:-2] != lead:
                allowed = f"the leading axes {lead} of query (they do not broadcast here)"
                raise ValueError(refused(PUBLIC[x], f"shape {arrays[x].shape}", allowed))
        zero = np.zeros((), a.dtype)
        arrays.setdefault(f"g_{saves}", np.broadcast_to(zero, (*lead, n)))
        empty = -math.inf if saves == "lse" else 0.0
        s = arrays[saves]
        if s.size and not s.max() < math.inf:
            raise ValueError(refused("saved", "NaN or +inf", "what the forward pass returned"))
        if s.size and s.min() <= empty:
            # Divided by infinity every weight is 0: such a query gives and gets nothing.
            arrays[saves] = np.where(s <= empty, np.array(np.inf, a.dtype), s)
        return arrays, parameters, lead

    def named(self, given: Mapping[str, Any]) -> dict[str, float]:
        """The parameters; TypeError for a name that the weight does not have, or one that is missing."""
        wanted = {*self.parameters, *(set(self.scalars) - POSITIONS.keys())}
        unknown = sorted(given.keys() - wanted - (self.scalars.keys() & POSITIONS.keys()))
        told = ", ".join(sorted(wanted)) or "none"
        if unknown:
            raise TypeError(refused(unknown[0], given[unknown[0]], f"arguments of this weight: {told}"))
        if missing := sorted(wanted - given.keys()):
            raise TypeError(refused(missing[0], "nothing", "a value: the weight depends on it"))
        return {x: check.real(x, given[x], positive) for x, positive in self.parameters.items()}

    def number(
        self,
        name: str,
        given: Mapping[str, Any],
        first: int,
        length: int,
        query: Array,
        positive: bool,
        axis: str,
    ) -> Array:
        """Numbers of queries or keys, positions counted where they are not given."""
        if name not in given:
            limit = 2 ** (np.finfo(query.dtype).nmant + 1)
            if first + length > limit:
                raise ValueError(refused(name, f"{first + length} positions", f"{limit} in {query.dtype}"))
            return np.arange(first, first + length, dtype=query.dtype)
        x = check.array(name, given[name], 1)
        check.same_dtype("query", query, name, x)
        if x.shape[-1] != length and not (axis == "i" and x.shape[-1] == 1):
            what = "n) or (..., 1" if axis == "i" else "m"
            raise ValueError(
                refused(name, f"shape {x.shape}", f"(..., {what}) with {length} for the last axis")
            )
        if not np.isfinite(x).all() or (positive and not (x > 0).all()):
            raise ValueError(
                refused(name, "other numbers", f"finite{' positive' if positive else ''} numbers")
            )
        return np.broadcast_to(x, (*x.shape[:-1], length))

    def shaped(
        self, output: str, axes: str, a: Array, arrays: Mapping[str, Array], given: Mapping[str, Any]
    ) -> Array:
        """A gradient in the shape of its argument; the parts that queries have of a parameter's are added."""
        name = output.removeprefix("d")
        if name in self.parameters:
            return np.asarray(a.sum(axis=-1, dtype=np.float64)).astype(a.dtype)
        if name in self.scalars:
            shape = np.shape(given[name])
            while a.ndim > len(shape):
                a = a.sum(axis=0)
            short = tuple(n for n, (x, y) in enumerate(zip(shape, a.shape, strict=True)) if x != y)
            return a.sum(axis=short, keepdims=True) if short else a
        return a
