"""The machine and the libraries that a measurement was taken with, and what may hold a peer back."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from threadpoolctl import threadpool_info

from projsym.errors import CompilerError
from projsym.runtime import isa
from projsym.runtime.compiler import find

_PACKAGES = (
    *("projsym", "numpy", "sympy", "python-flint", "torch", "onnxruntime", "onnx", "threadpoolctl"),
    *("jax", "jaxlib", "numba", "llvmlite"),
)


_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LD_PRELOAD")


def environment() -> dict[str, Any]:
    """Plain data for JSON: CPU, cores, system, Python, compiler, package versions, BLAS, notes."""
    return {
        "cpu": cpu_model(),
        "cpus": available_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": _compiler(),
        "instructions": isa.chosen(),
        "threads": {x: os.environ[x] for x in _SETTINGS if x in os.environ},
        "packages": {name: v for name in _PACKAGES if (v := _package(name))},
        "blas": _blas(),
        "notes": notes(),
    }


def notes() -> list[str]:
    """Settings of this process that make a peer slower than it could be; an honest report shows them."""
    found = []
    if core := os.environ.get("OPENBLAS_CORETYPE"):
        found.append(
            f"OPENBLAS_CORETYPE={core} is set: NumPy's OpenBLAS uses the kernels of that CPU and may run "
            "below its best speed; unset it for a fair comparison."
        )
    if mkl_on_amd():
        found.append(
            'PyTorch uses Intel MKL, which on AMD processors takes a slower path: "torch" is the stock '
            'build, and not the most that PyTorch could reach on this CPU; "torch, MKL fixed" is the same '
            "build with a preloaded library that has MKL take its fast path."
        )
    if available_cpus() < (os.cpu_count() or 1):
        found.append(f"This process may use {available_cpus()} of the machine's {os.cpu_count()} CPUs.")
    return found


def mkl_on_amd() -> bool:
    """Whether PyTorch is here, uses Intel MKL, and the processor is AMD's."""
    if not importlib.util.find_spec("torch") or "AuthenticAMD" not in _cpuinfo("vendor_id"):
        return False
    import torch

    return bool(torch.backends.mkl.is_available())


def cpu_model() -> str:
    """The CPU's name as the system gives it, else the machine type."""
    return _cpuinfo("model name") or _cpuinfo("CPU part") or platform.processor() or platform.machine()


def available_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _cpuinfo(field: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            for line in f:
                name, _, value = line.partition(":")
                if name.strip() == field:
                    return value.strip()
    except OSError:
        pass  # not Linux; the caller has another source
    return ""


def _compiler() -> str:
    try:
        return find().version.splitlines()[0]
    except CompilerError:
        return "none"


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _blas() -> list[dict[str, Any]]:
    """BLAS libraries in this process with the CPU they chose their kernels for."""
    keys = ("internal_api", "version", "architecture", "num_threads")
    return [{k: x.get(k) for k in keys} for x in threadpool_info() if x.get("user_api") == "blas"]
