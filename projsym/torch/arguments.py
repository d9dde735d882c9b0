"""Checks of tensors that only look at what tracing knows: type, dtype, device, shape."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from projsym.errors import refused

__all__ = ["expanded", "joined", "pairs", "real", "scalar", "scalars", "size", "vectors"]

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


def scalars(name: str, x: Tensor, like: Tensor, pattern: str, first: str) -> None:
    """Checks numbers of one axis that go with the rows of `like`."""
    _tensor(name, x)
    if x.dtype != like.dtype:
        raise TypeError(refused(name, x.dtype, f"{like.dtype}, the dtype of {first}"))
    if x.ndim < 1 or x.shape[-1] != like.shape[-2]:
        raise ValueError(refused(name, f"shape {tuple(x.shape)}", f"shape {pattern} as in {first}"))


def pairs(name: str, x: Tensor, query: Tensor, key: Tensor) -> None:
    """Checks a mask: booleans, or numbers of the query's dtype, that broadcast to (..., n, m)."""
    n, m = query.shape[-2], key.shape[-2]
    allowed = f"booleans, or numbers of {query.dtype}, that broadcast to (..., {n}, {m})"
    if not isinstance(x, Tensor):
        raise TypeError(refused(name, type(x).__name__, f"a tensor of {allowed}"))
    if x.dtype not in (torch.bool, query.dtype):
        raise TypeError(refused(name, x.dtype, allowed))
    if any(a not in (1, b) for a, b in zip(reversed(x.shape), (m, n), strict=False)):
        raise ValueError(refused(name, f"shape {tuple(x.shape)}", allowed))


def _tensor(name: str, x: Tensor) -> None:
    allowed = "a dense CPU tensor of float32 or float64"
    if not isinstance(x, Tensor):
        raise TypeError(
            refused(name, f"{type(x).__name__}", f"{allowed}; arrays go to projsym.{{attention, project}}")
        )
    if x.layout != torch.strided or x.device.type not in ("cpu", "meta"):
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


def real(name: str, value: object, positive: bool = False) -> float:
    """A finite real number as a float."""
    allowed = "a finite real number" + (" greater than 0" if positive else "") + ", or a tensor of one"
    if isinstance(value, bool) or not isinstance(value, (int, float, torch.SymFloat, torch.SymInt)):
        raise TypeError(refused(name, f"{value!r} of type {type(value).__name__}", allowed))
    if isinstance(value, (int, float)) and (not math.isfinite(value) or (positive and value <= 0)):
        raise ValueError(refused(name, repr(value), allowed))
    return float(value) if isinstance(value, int) else value


def expanded(given: Mapping[str, Tensor], core: Mapping[str, int] | None = None) -> list[Tensor]:
    """All tensors with the leading axes that they broadcast to, as views. core: trailing axes, 2 unless
    given."""
    trailing = [(core or {}).get(name, 2) for name in given]
    leads = [x.shape[: x.ndim - c] for x, c in zip(given.values(), trailing, strict=True)]
    if all(lead == leads[0] for lead in leads[1:]):
        return list(given.values())
    try:
        lead = torch.broadcast_shapes(*leads)
    except RuntimeError as e:
        told = ", ".join(f"{tuple(a)} of {name}" for a, name in zip(leads, given, strict=True))
        raise ValueError(refused("leading axes of " + ", ".join(given), told, "axes that broadcast")) from e
    return [x.expand(*lead, *x.shape[x.ndim - c :]) for x, c in zip(given.values(), trailing, strict=True)]


def joined(
    key: Tensor, value: Tensor, past_key: Tensor | None, past_value: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Past keys and values in front of the others. Raises ValueError unless both are given and fit."""
    if past_key is None or past_value is None:
        raise ValueError(refused("past_key, past_value", "one of them", "both or neither"))
    vectors({"key": key, "past_key": past_key, "past_value": past_value})
    size("past_value", past_value, -2, past_key.shape[-2], "(..., past, dv)", "past_key")
    for name, past, x in (("past_key", past_key, key), ("past_value", past_value, value)):
        if past.ndim != x.ndim or past.shape[:-2] != x.shape[:-2] or past.shape[-1] != x.shape[-1]:
            given, allowed = (
                f"shape {tuple(past.shape)}",
                f"that of {name[5:]}, {tuple(x.shape)}, but for axis -2",
            )
            raise ValueError(refused(name, given, allowed))
    return torch.cat([past_key, key], -2), torch.cat([past_value, value], -2)
