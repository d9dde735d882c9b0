"""The instruction set that kernels are compiled for: this machine's widest, or the one that is asked for."""

from __future__ import annotations

import functools
import os
import platform

from projsym.errors import refused
from projsym.schedules import REGISTERS

VARIABLE = "PROJSYM_ISA"
_NEEDS = {"avx512": {"avx512f"}, "avx2": {"avx2", "fma"}}
_WITHOUT = {
    "avx2": ("-mno-avx512f",),
    "c": ("-mno-avx512f", "-mno-avx2", "-mno-fma"),
}
"""By instruction set, what ``-march=native`` of x86-64 must leave out, so that the kernels' text picks it."""


def available() -> tuple[str, ...]:
    """The instruction sets of `projsym.schedules.REGISTERS` that this CPU runs, the preferred one first."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return ("neon",)
    flags = _flags()
    return (*(isa for isa, needed in _NEEDS.items() if needed <= flags), "c")


def chosen() -> str:
    """``$PROJSYM_ISA`` if it is set, else the preferred one; kernels that are loaded already stay.

    Raises ValueError for one that there is not, or that this CPU does not run.
    """
    here = available()
    asked = os.environ.get(VARIABLE)
    if not asked:
        return here[0]
    if asked not in here:
        what = "which this CPU does not run" if asked in REGISTERS else "which is no instruction set"
        raise ValueError(refused(VARIABLE, f"{asked!r}, {what}", " or ".join(here)))
    return asked


def multiplies_pairs() -> bool:
    """Whether kernels for bfloat16 multiply pairs of such numbers, and round weights for it.

    A compiler that does not know the instructions gives kernels that do not.
    """
    return chosen() == "avx512" and "avx512_bf16" in _flags()


def narrower() -> str | None:
    """The instruction set with half as many lanes that this CPU gets as much done with; None where it gets
    less done, or where one is asked for: Zen 4 takes a vector of 512 bits in two halves."""
    if os.environ.get(VARIABLE) or available()[0] != "avx512" or _model() != ZEN_4:
        return None
    return "avx2"


def without() -> tuple[str, ...]:
    """What the compiler is told besides `flags` for `narrower`."""
    return _WITHOUT["avx2"]


def flags() -> tuple[str, ...]:
    """Compiler flags of `chosen`."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return ("-mcpu=native",)
    isa = chosen()
    return ("-march=native", *(_WITHOUT.get(isa, ()) if isa != available()[0] else ()))


ZEN_4 = ("AuthenticAMD", "25")
"""Vendor and family, of CPUs with AVX-512."""


@functools.cache
def _model() -> tuple[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            lines = [line.partition(":") for line in f]
    except OSError:
        return "", ""
    found = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    return found.get("vendor_id", ""), found.get("cpu family", "")


@functools.cache
def _flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            return frozenset(next((x for x in f if x.startswith("flags")), "").split())
    except OSError:
        return frozenset()
