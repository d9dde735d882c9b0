"""Checks of tensors that only look at what tracing knows: type, dtype, device, shape."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from projsym.errors import refused

__all__ = ["biases", "leading", "pairs", "past", "real", "scalar", "size", "vectors", "weight"]

_FLOATS = (torch.float32, torch.float64)


def vectors(given: Mapping[str, Tensor]) -> None:
    """Raises TypeError unless all are CPU tensors of float32, or all of float64; ValueError for fewer than
    two axes."""
    first, start = next(iter(given.items()))
    for name, x in given.items():
        _tensor(name, x)
        if x.dtype != start.dtype:
            raise TypeError(refused(name, x.dtype, f"{start.dtype}, the dtype of {first}"))
        if x.ndim < 2:
            raise ValueError(
                refused(name, f"shape {tuple(x.shape)}", "at least 2 axes: (..., rows, features)")
            )


def biases(name: str, x: Tensor, query: Tensor, m: int) -> None:
    """Checks numbers of m keys, (..., m)."""
    _tensor(name, x)
    if x.dtype != query.dtype:
        raise TypeError(refused(name, x.dtype, f"{query.dtype}, the dtype of the queries"))
    if x.ndim < 1 or x.shape[-1] != m:
        raise ValueError(refused(name, f"shape {tuple(x.shape)}", f"shape (..., {m}), one number a key"))


def weight(name: str, w: Tensor, x: Tensor, shape: tuple[int, ...]) -> None:
    """Checks a weight of a layer: the dtype of the tokens, and the shape."""
    _tensor(name, w)
    if w.dtype != x.dtype:
        raise TypeError(refused(name, w.dtype, f"{x.dtype}, the dtype of x"))
    if tuple(w.shape) != shape:
        raise ValueError(refused(name, f"shape {tuple(w.shape)}", f"shape {shape}"))


def pairs(name: str, x: Tensor, query: Tensor, m: int) -> None:
    """Checks a mask: booleans, or numbers of the query's dtype, that broadcast to (..., n, m)."""
    n = query.shape[-2]
    allowed = f"booleans, or numbers of {query.dtype}, that broadcast to (..., {n}, {m})"
    if not isinstance(x, Tensor):
        raise TypeError(refused(name, type(x).__name__, f"a tensor of {allowed}"))
    if x.dtype not in (torch.bool, query.dtype):
        raise TypeError(refused(name, x.dtype, allowed))
    if not all(a == 1 or a == b for a, b in zip(reversed(x.shape), (m, n), strict=False)):
        raise ValueError(refused(name, f"shape {tuple(x.shape)}", allowed))


def _tensor(name: str, x: Tensor) -> None:
    allowed = "a dense CPU tensor of float32 or float64"
    if not isinstance(x, Tensor):
        raise TypeError(
            refused(name, f"{type(x).__name__}", f"{allowed}; arrays go to projsym.{{attention, project}}")
        )
    if x.layout != torch.strided or not (x.is_cpu or x.is_meta):
        raise TypeError(refused(name, f"a {x.layout} tensor on {x.device}", allowed))
    if x.dtype not in _FLOATS:
        raise TypeError(refused(name, f"a tensor of {x.dtype}", f"{allowed}; convert it with .to"))


def size(name: str, x: Tensor, axis: int, length: int, pattern: str, first: str) -> None:
    """Raises ValueError unless axis `axis` of `x` has length `length`, which it shares with `first`."""
    if x.shape[axis] != length:
        raise ValueError(refused(name, f"shape {tuple(x.shape)}", f"shape {pattern} as in {first}"))


def scalar(name: str, x: Tensor) -> None:
    """A parameter as a tensor: one number of float32 or float64. Its value is seen only by the operator."""
    _tensor(name, x)
    if x.numel() != 1:
        raise ValueError(
            refused(name, f"a tensor of shape {tuple(x.shape)}", "a number, or a tensor of one number")
        )


def real(name: str, value: object, positive: bool = False, tensors: bool = True) -> float:
    """A finite real number as a float; `tensors`: whether its caller takes a tensor of one, too."""
    allowed = "a finite real number" + (" greater than 0" if positive else "")
    allowed += ", or a tensor of one" if tensors else ""
    if isinstance(value, bool) or not isinstance(value, (int, float, torch.SymFloat, torch.SymInt)):
        raise TypeError(refused(name, f"{value!r} of type {type(value).__name__}", allowed))
    if isinstance(value, (int, float)) and (not math.isfinite(value) or (positive and value <= 0)):
        raise ValueError(refused(name, repr(value), allowed))
    return float(value) if isinstance(value, int) else value


def leading(
    given: Mapping[str, Tensor],
    key_bias: Tensor | None = None,
    enable_gqa: bool = False,
    sigma: Tensor | None = None,
) -> None:
    """Raises ValueError unless the leading axes broadcast; with `enable_gqa` the last of them is that of
    heads."""
    shapes = {name: x.shape[:-2] for name, x in given.items()}
    if key_bias is not None:
        shapes["key_bias"] = key_bias.shape[:-1]
    if sigma is not None:
        shapes["sigma"] = sigma.shape[:-1]
    (_, start), *others = shapes.items()
    if not enable_gqa and all(s == start for _, s in others):
        return
    if enable_gqa:
        if any(len(s) < 1 for name, s in shapes.items() if name != "key_bias"):
            told = ", ".join(f"{tuple(x.shape)} of {name}" for name, x in given.items())
            allowed = "at least 3 axes with enable_gqa: (..., heads, rows, features)"
            raise ValueError(refused(", ".join(given), told, allowed))
        heads = {name: s[-1] for name, s in others if name != "key_bias"}
        count = heads["key"]
        if any(h != count for h in heads.values()) or count < 1 or start[-1] % count:
            told = ", ".join(f"{x.shape[-3]} heads of {name}" for name, x in given.items())
            allowed = "with enable_gqa one number of heads of key and value that divides that of query"
            raise ValueError(refused(", ".join(given), told, allowed))
        shapes = {name: s[:-1] for name, s in shapes.items()}
    try:
        torch.broadcast_shapes(*shapes.values())
    except RuntimeError as e:
        told = ", ".join(f"{tuple(s)} of {name}" for name, s in shapes.items())
        raise ValueError(refused("leading axes of " + ", ".join(shapes), told, "axes that broadcast")) from e


def past(key: Tensor, value: Tensor, past_key: Tensor | None, past_value: Tensor | None) -> int:
    """The number of past keys. Raises ValueError unless both are given and fit."""
    if past_key is None or past_value is None:
        raise ValueError(
            refused("past_key, past_value", "one of them", "both, for every past key has a value")
        )
    vectors({"key": key, "past_key": past_key, "past_value": past_value})
    rows = past_key.shape[-2]
    for name, x, whole in (("past_key", past_key, key), ("past_value", past_value, value)):
        allowed = (*whole.shape[:-2], rows, whole.shape[-1])
        if tuple(x.shape) != allowed:
            told = f"{allowed}, that of {name[5:]} but for the number of rows"
            raise ValueError(refused(name, f"shape {tuple(x.shape)}", told))
    return rows
