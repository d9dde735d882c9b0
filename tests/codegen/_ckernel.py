"""Compile a C source for the tests and call it through ctypes, by the ABI of `projsym.codegen.c_printer`."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from projsym.codegen.c_printer import emit_c
from projsym.codegen.pass_tree import pair_loop
from projsym.codegen.program import Output, Program

FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-std=gnu11", "-fPIC", "-shared", "-Wno-psabi"]
ISA_FLAGS = {"avx512": ["-mavx512f"], "avx2": ["-mavx2", "-mfma"], "c": []}


def cpu_has(isa: str) -> bool:
    """Whether this processor runs that instruction set."""
    if isa == "c":
        return True
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return all(f in flags for f in {"avx512": ["avx512f"], "avx2": ["avx2", "fma"]}[isa])


ISAS = [isa for isa in ISA_FLAGS if cpu_has(isa)]


class Kernel:
    """A compiled program; call it with arrays (H, n, d) by input name, and parameters."""

    def __init__(
        self,
        program: Program,
        dtype: str,
        isa: str,
        sizes: dict[str, int],
        folder: Path,
        openmp: bool = True,
        bounded: Program | None = None,
        parts: Program | None = None,
    ) -> None:
        self.program, self.dtype, self.sizes = program, np.dtype(dtype), sizes
        key = "_".join(
            map(str, (program.name, dtype, isa, *sizes.values(), openmp, bounded is None, parts is None))
        )
        source, library = folder / f"{key}.c", folder / f"{key}.so"
        source.write_text(emit_c(program, dtype, bounded=bounded, parts=parts))
        defines = [f"-DD_{f}={n}" for f, n in sizes.items()]
        threads = ["-fopenmp"] if openmp else []
        subprocess.run(
            ["gcc", *FLAGS, *threads, *ISA_FLAGS[isa], *defines, str(source), "-o", str(library), "-lm"],
            check=True,
        )
        self.function = getattr(ctypes.CDLL(str(library)), program.name)
        self.function.restype = ctypes.c_int
        self.outputs = [s for s in program.statements() if isinstance(s, Output)]

    def __call__(
        self, threads: int = 1, skip: tuple[str, ...] = (), **given: np.ndarray | float
    ) -> tuple[int, dict[str, np.ndarray]]:
        """The status and the outputs; outputs start as NaN, so that an unwritten one shows."""
        arrays = {x.name: np.asarray(given[x.name]) for x in self.program.inputs if x.axes}
        assert all(a.dtype == self.dtype for a in arrays.values())
        rows = next(arrays[x.name] for x in self.program.inputs if x.axes == "i" and x.feature)
        keys = next(arrays[x.name] for x in self.program.inputs if x.axes == "j" and x.feature)
        heads, n, m, item = rows.shape[0], rows.shape[1], keys.shape[1], self.dtype.itemsize
        args: list[object] = [ctypes.c_long(heads), ctypes.c_long(n), ctypes.c_long(m)]
        at = {
            name: np.array([h * a.strides[0] // item for h in range(heads)], np.int64)
            for name, a in arrays.items()
        }
        for x in self.program.inputs:
            if x.feature:
                a = arrays[x.name]
                args += [
                    ctypes.c_void_p(a.ctypes.data),
                    ctypes.c_void_p(at[x.name].ctypes.data),
                    ctypes.c_long(a.strides[1] // item),
                ]
        for x in self.program.inputs:
            if len(x.axes) == 1 and not x.feature:
                args += [ctypes.c_void_p(arrays[x.name].ctypes.data), ctypes.c_void_p(at[x.name].ctypes.data)]
        for x in self.program.inputs:
            if x.axes == "ij":
                args += [ctypes.c_void_p(arrays[x.name].ctypes.data), ctypes.c_void_p(at[x.name].ctypes.data)]
                args += [ctypes.c_long(arrays[x.name].strides[1] // item)]
        args += [ctypes.c_double(float(given[x.name])) for x in self.program.inputs if not x.axes]
        out = {
            o.name: np.full(
                (heads, n, self.sizes[o.feature]) if o.feature else (heads, n), np.nan, self.dtype
            )
            for o in self.outputs
        }
        args += [ctypes.c_void_p(None if o.name in skip else out[o.name].ctypes.data) for o in self.outputs]
        args += [ctypes.c_void_p(None)] * (3 if pair_loop(self.program).ranged else 0)
        status = self.function(*args, ctypes.c_int(threads))
        return status, out


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled."""
    return tmp_path_factory.mktemp("kernels")
