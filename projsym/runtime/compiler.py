"""Finding a C compiler, and the flags it is called with."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass

from projsym.errors import CompilerError
from projsym.runtime import isa

OPENMP = "-fopenmp"
FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-std=gnu11", "-fPIC", "-shared")


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C, and what it says of its version."""

    command: tuple[str, ...]
    version: str

    def flags(self, openmp: bool) -> tuple[str, ...]:
        """Flags of a kernel: no fast-math, the chosen instruction set; ``$PROJSYM_CFLAGS`` comes last."""
        extra = tuple(shlex.split(os.environ.get("PROJSYM_CFLAGS", "")))
        return (*FLAGS, *isa.flags(), *((OPENMP,) if openmp else ()), *extra)


def candidates() -> list[tuple[str, ...]]:
    """Commands to try, in order: ``$PROJSYM_CC`` alone if it is set; else ``$CC``, cc, gcc, clang, zig."""
    if chosen := os.environ.get("PROJSYM_CC"):
        return [tuple(shlex.split(chosen))]
    found = [tuple(shlex.split(os.environ["CC"]))] if os.environ.get("CC") else []
    found += [("cc",), ("gcc",), ("clang",)]
    if importlib.util.find_spec("ziglang"):
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return found


def find() -> Compiler:
    """The first compiler that answers ``--version``.

    Raises CompilerError, listing what was tried, if none does or if this platform cannot use it (the kernels'
    interface needs a 64-bit `long`, which Windows does not have).
    """
    if sys.platform == "win32":
        raise CompilerError("C kernels need a platform with 64-bit long; on Windows use backend='numpy'")
    tried = candidates()
    for command in tried:
        if command and (path := shutil.which(command[0])) and (version := _version((path, *command[1:]))):
            return Compiler((path, *command[1:]), version)
    names = ", ".join(shlex.join(c) for c in tried)
    raise CompilerError(
        f"no C compiler: tried {names}. Install gcc or clang, or `pip install projsym[zig]`, or set "
        "PROJSYM_CC to a command; backend='numpy' works without one"
    )


def named(path: str) -> Compiler:
    """The compiler of that path. Raises CompilerError if it does not answer ``--version``."""
    if version := _version((path,)):
        return Compiler((path,), version)
    raise CompilerError(f"{path} does not answer --version")


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    """What ``--version`` prints; empty if the command fails."""
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def cpu_features() -> str:
    """The instruction sets of this CPU: ``native`` code built for one machine must not run on another."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    keys = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
    seen = sorted({line for line in lines if line.split(":")[0].strip() in keys})
    return "\n".join([platform.machine(), *seen])
