"""Running a forward kernel under a mask, and what becomes of NaN and infinity at hidden places.

The kernels leave hidden scores out of maxima and sums whatever they are, but a weight of 0 times a value that
is NaN is NaN. Nothing is spent on that in advance: a result that is not finite is computed again with zeros
in the place of every key and value that no query sees, and of values that are not finite; what of those a
query does see is added to its output afterwards. So a query's result is bit for bit that of cleaned inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from projsym import masks
from projsym.errors import refused
from projsym.masks import Groups, Mask
from projsym.runtime import arguments as check
from projsym.runtime import plan as plans
from projsym.runtime import storage
from projsym.runtime.dispatch import run
from projsym.runtime.layout import Array

Sizes = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Call:
    """The arrays of a call by the kernel's names, past keys joined and heads grouped, and its mask.

    lead: the leading axes of the arrays, two of heads where they are grouped. past: the number of past keys.
    """

    arrays: dict[str, Array]
    lead: tuple[int, ...]
    groups: Groups | None
    mask: Mask | None
    past: int | None
    names: tuple[str, ...] = ("query", "key", "value")

    @classmethod
    def of(
        cls,
        query: Array,
        key: Array,
        value: Array,
        attn_mask: Any,
        is_causal: Any,
        enable_gqa: Any,
        window: Any,
        key_bias: Any,
        past_key: Any,
        past_value: Any,
        kv_lengths: Any,
    ) -> Call:
        """Arguments as in `projsym.attention`, the first three checked; TypeError or ValueError by name."""
        if not isinstance(enable_gqa, bool | np.bool_):
            raise TypeError(
                refused("enable_gqa", f"{enable_gqa!r} of type {type(enable_gqa).__name__}", "True or False")
            )
        past = None
        if past_key is not None or past_value is not None:
            if past_key is None or past_value is None:
                raise ValueError(
                    refused("past_key, past_value", "one of them", "both, for every past key has a value")
                )
            narrow = storage.narrow(query.dtype)
            first = check.array("past_key", past_key, 2, narrow)
            past = first.shape[-2]
            value = _joined(
                "past_value", check.array("past_value", past_value, 2, narrow), "value", value, past
            )
            key = _joined("past_key", first, "key", key, past)
        n, m = query.shape[-2], key.shape[-2]
        shapes = {"query": query.shape[:-2], "key": key.shape[:-2], "value": value.shape[:-2]}
        if key_bias is not None:
            key_bias = _key_bias("query", query, "key", key_bias, m)
            shapes["key_bias"] = key_bias.shape[:-1]
        groups = masks.groups("query", query, {"key": key, "value": value}) if enable_gqa else None
        if groups:
            grouped = {x: (*s[:-1], 1) if x != "query" and s else s for x, s in shapes.items()}
            if key_bias is not None and key_bias.ndim > 1 and key_bias.shape[-2] not in (1, groups.heads):
                allowed = f"{groups.heads} heads as in key, or 1"
                raise ValueError(refused("key_bias", f"shape {key_bias.shape}", allowed))
            lead = check.leading(grouped)
        else:
            lead = check.leading(shapes)
        mask = masks.resolve(
            lead,
            n,
            m,
            storage.arithmetic(query.dtype),
            attn_mask=storage.widened(attn_mask, "attn_mask") if storage.narrow(query.dtype) else attn_mask,
            is_causal=is_causal,
            window=window,
            kv_lengths=kv_lengths,
            key_bias=key_bias,
            past=past,
        )
        arrays = {"q": query, "k": key, "v": value}
        if groups:
            arrays = {x: (groups.query if x == "q" else groups.key)(a, 2) for x, a in arrays.items()}
            lead, mask = groups.lead(lead), mask and mask.grouped(groups)
        return cls(arrays, lead, groups, mask, past)

    @classmethod
    def projecting(
        cls,
        q: Array,
        k: Array,
        attn_mask: Any,
        is_causal: Any,
        window: Any,
        key_bias: Any,
        kv_lengths: Any,
        sigma: Array | None = None,
    ) -> Call:
        """Arguments as in `projsym.project`, the first two and bandwidths of keys checked; TypeError or
        ValueError by name."""
        shapes = {"q": q.shape[:-2], "k": k.shape[:-2]}
        if sigma is not None:
            shapes["sigma"] = sigma.shape[:-1]
        if key_bias is not None:
            key_bias = _key_bias("q", q, "k", key_bias, k.shape[-2])
            shapes["key_bias"] = key_bias.shape[:-1]
        lead = check.leading(shapes)
        mask = masks.resolve(
            lead,
            q.shape[-2],
            k.shape[-2],
            storage.arithmetic(q.dtype),
            attn_mask=storage.widened(attn_mask, "attn_mask") if storage.narrow(q.dtype) else attn_mask,
            is_causal=is_causal,
            window=window,
            kv_lengths=kv_lengths,
            key_bias=key_bias,
        )
        arrays = {"q": q, "k": k} | ({} if sigma is None else {"sigma": sigma})
        return cls(arrays, lead, None, mask, None, ("q", "k"))


def _key_bias(query: str, q: Array, key: str, value: Any, m: int) -> Array:
    """A bias of m keys, checked."""
    bias = check.computed("key_bias", value, 1, query, q)
    check.length(key, "key_bias", bias, -1, m, f"(..., {m})")
    check.bias(bias)
    return bias


def _joined(name: str, past: Array, whole: str, x: Array, rows: int) -> Array:
    """Past rows before those of `x`, whose leading axes and features they must have."""
    check.same_dtype(whole, x, name, past)
    if past.shape != (*x.shape[:-2], rows, x.shape[-1]):
        allowed = f"{(*x.shape[:-2], rows, x.shape[-1])}, that of {whole} but for the number of rows"
        raise ValueError(refused(name, f"shape {past.shape}", allowed))
    return np.concatenate((past, x), axis=-2)


def widened(arrays: dict[str, Array], sizes: Sizes) -> tuple[dict[str, Array], Sizes]:
    """Vectors of length 0 as one zero, read for all rows: a kernel has at least one feature."""
    if all(size for _, size in sizes):
        return arrays, sizes
    zero = np.zeros(1, arrays["q"].dtype)
    vectors = {"q", "k", "v", "g", "out"}
    made = {
        x: np.broadcast_to(zero, (*a.shape[:-1], 1)) if x in vectors and not a.shape[-1] else a
        for x, a in arrays.items()
    }
    return made, tuple((feature, size or 1) for feature, size in sizes)


def choose(name: str, arrays: dict[str, Array], mask: Mask) -> tuple[str, dict[str, Array]]:
    """The kernel that takes this mask in place of `name`, and its arrays."""
    bias, pairs = mask.key_bias, mask.pairs
    if pairs is None and bias is None:
        return name, arrays
    if pairs is None and bias is not None and name.startswith("project"):
        return f"{name}_biased", arrays | {"key_bias": bias}
    none = np.zeros(mask.m, arrays["q"].dtype)
    pairs = np.broadcast_to(none, (mask.n, mask.m)) if pairs is None else pairs
    return f"{name}_masked", arrays | {"attn_mask": pairs, "key_bias": none if bias is None else bias}


_REMEMBERED = 2048
"""Queries at most of a call that is prepared once: more take far longer than that, and keep memory."""


def remembered(
    name: str,
    arrays: dict[str, Array],
    parameters: tuple[float, ...],
    sizes: Sizes,
    lead: tuple[int, ...],
    backend: str | None,
    mask: Mask,
    return_lse: bool,
    layout: plans.Key,
) -> tuple[Array, Array] | None:
    """``(out, lse)`` as `forward` gives, a plan of the call being kept for `layout`; lse may be empty unless
    asked for. None where there is more to do than to run a kernel over ranges of keys."""
    if mask.pairs is not None or mask.key_bias is not None or mask.n > _REMEMBERED:
        return None
    skip = () if return_lse else ("lse",)
    kind = arrays["q"].dtype.name
    (out, lse), status = run(name, lead, arrays, parameters, kind, sizes, backend, skip, mask.ranges, layout)
    if status or out is None or doubtful(out, lse):
        return None
    return out, np.empty(0, out.dtype) if lse is None else lse


def doubtful(out: Array | None, lse: Array | None) -> bool:
    """Whether results under a mask have to be looked at: something is not finite."""
    return out is None or not finite(out) or not (lse is None or finite(lse))


def forward(
    name: str,
    public: dict[str, str],
    arrays: dict[str, Array],
    parameters: tuple[float, ...],
    sizes: Sizes,
    lead: tuple[int, ...],
    backend: str | None,
    mask: Mask,
) -> tuple[Array, Array]:
    """``(out, lse)`` of kernel `name` under a mask.

    public: by the kernel's name for it, an argument's own. Raises ValueError for inputs that are not finite
    where a query sees them (values may be), OverflowError for scores out of range.
    """
    out, lse = _run(name, arrays, parameters, sizes, lead, backend, mask)
    if finite(out) and finite(lse):
        return out, lse
    blind = np.broadcast_to(mask.blind() if mask.m else np.True_, lse.shape)
    if finite(out) and _settled(lse, blind):
        return out, lse
    clean, poison = cleaned(arrays, lead, mask), None
    if "v" in arrays and not np.isfinite(clean["v"]).all():
        poison = clean["v"]
        clean = clean | {"v": np.where(np.isfinite(poison), poison, poison.dtype.type(0))}
    out, lse = _run(name, clean, parameters, sizes, lead, backend, mask)
    if not (np.isfinite(out).all() and _settled(lse, blind)):
        explain({x: (public[x], clean[x]) for x in ("q", "k")}, mask, out.dtype)
    if poison is not None:
        _add_poison(out, poison, lead, mask)
    return out, lse


def _run(
    name: str,
    arrays: dict[str, Array],
    parameters: tuple[float, ...],
    sizes: Sizes,
    lead: tuple[int, ...],
    backend: str | None,
    mask: Mask,
) -> tuple[Array, Array]:
    kernel, given = choose(name, arrays, mask)
    wide, wider = widened(given, sizes)
    dtype = arrays["q"].dtype
    (out, lse), status = run(kernel, lead, wide, parameters, dtype.name, wider, backend, ranges=mask.ranges)
    if status < 0:
        raise MemoryError(
            f"{name}: no memory for the work space of {dtype} queries of {(*lead, mask.n)} rows"
        )
    assert out is not None and lse is not None
    return out[..., : sizes[-1][1]], lse


def cleaned(arrays: dict[str, Array], lead: tuple[int, ...], mask: Mask) -> dict[str, Array]:
    """The arrays with zeros for keys and values that no query sees."""
    hidden = mask.hidden()[..., None]
    if not hidden.any():
        return arrays
    return arrays | {x: np.where(hidden, a.dtype.type(0), a) for x, a in arrays.items() if x in ("k", "v")}


def finite(x: Array) -> bool:
    """Whether all numbers are finite, as far as their sum tells: it may overflow where they are."""
    return math.isfinite(x.sum())


def _settled(lse: Array, blind: Array) -> bool:
    return bool((np.isfinite(lse) | (blind & np.isneginf(lse))).all())


def _add_poison(out: Array, v: Array, lead: tuple[int, ...], mask: Mask) -> None:
    """Add to every row of `out` the values (..., m, dv) that are not finite and that it sees."""
    for index in np.ndindex(lead):
        values = np.broadcast_to(v, (*lead, *v.shape[-2:]))[index]
        keys = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(keys):
            own = index[len(index) - len(mask.leading) :]
            at = tuple(i if size > 1 else 0 for i, size in zip(own, mask.leading, strict=True))
            seen = mask.seen(at)[:, keys].astype(out.dtype)
            up, down, nan = (f(values[keys]).astype(out.dtype) for f in (np.isposinf, np.isneginf, np.isnan))
            with np.errstate(invalid="ignore"):  # infinities of both signs make NaN
                out[index] += np.where(seen @ up > 0, math.inf, 0) + np.where(seen @ down > 0, -math.inf, 0)
            out[index][seen @ nan > 0] = math.nan


def explain(
    given: dict[str, tuple[str, Array]], mask: Mask | None, dtype: np.dtype[Any], what: str = "score or lse"
) -> None:
    """Raise the error behind results that are not finite; `given`: by kernel name, public name and array."""
    for name, a in given.values():
        if not np.isfinite(a).all():
            seen = (
                " where a query sees them" if mask is not None and name in ("k", "key", "v", "value") else ""
            )
            raise ValueError(refused(name, f"NaN or infinite entries{seen}", "finite numbers"))
    if mask is not None and mask.pairs is not None and not (mask.pairs < math.inf).all():
        raise ValueError(refused("attn_mask", "NaN or +inf", "finite numbers and -inf (which hides a key)"))
    advice = "use float64, or smaller inputs" if dtype == np.float32 else "use smaller inputs"
    limit = f"{np.finfo(dtype).max:.2e}"
    raise OverflowError(f"a {what} is outside the range of {dtype} (up to {limit}): {advice} or scale")
