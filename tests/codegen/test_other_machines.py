"""Instruction sets that this processor does not have: NEON in an emulator, 64-byte vectors in plain C."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from projsym.codegen import c_prelude, c_printer, isa
from projsym.codegen.c_printer import emit_c
from projsym.codegen.pass_stored import stored
from projsym.runtime import storage

from ._ckernel import FLAGS, ISAS, Kernel
from ._reference import expected, parameters
from .test_bounded import free
from .test_c_printer import block, compare, folder, inputs, scheduled, sizes

__all__ = ["folder"]

CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
MAIN = """
#include <stdio.h>
/* q and k from a file, out and lse to another: 2 heads, n, m, D_d */
int main(int argc, char **argv) {
  const long n = atol(argv[1]), m = atol(argv[2]), at_q[2] = {0, n*D_d}, at_k[2] = {0, m*D_d};
  T *q = malloc(2*n*D_d*sizeof(T)), *k = malloc(2*m*D_d*sizeof(T));
  T *out = malloc(2*n*D_d*sizeof(T)), *lse = malloc(2*n*sizeof(T));
  FILE *from = fopen(argv[3], "rb"), *to = fopen(argv[4], "wb");
  if (fread(q, sizeof(T), 2*n*D_d, from) + fread(k, sizeof(T), 2*m*D_d, from) != 2*(n + m)*D_d) return 1;
  const int status = gaussian(2, n, m, q, at_q, D_d, k, at_k, D_d, atof(argv[5]), out, lse,
                              NULL, NULL, NULL, 1);
  fwrite(out, sizeof(T), 2*n*D_d, to);
  fwrite(lse, sizeof(T), 2*n, to);
  return fclose(to) || status;
}
"""


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"needs {CROSS}, {EMULATOR}")
@pytest.mark.parametrize(("dtype", "d"), [("float32", 7), ("float32", 64), ("float64", 20)])
def test_neon_is_within_the_bound(dtype: str, d: int, tmp_path: Path) -> None:
    source, program = tmp_path / "kernel.c", tmp_path / "kernel"
    text = emit_c(scheduled("gaussian", dtype), dtype, bounded=free("gaussian", dtype))
    source.write_text(text + MAIN)
    flags = [f for f in FLAGS if f not in ("-fPIC", "-shared")]
    command = [CROSS, *flags, "-static", f"-DD_d={d}", str(source), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    p = parameters("gaussian", d)
    for n, m in ((1, 1), (5, 7), (49, 131), (97, 70)):
        given = inputs("gaussian", n, m, d, dtype)
        (tmp_path / "in").write_bytes(given["q"].tobytes() + given["k"].tobytes())
        arguments = [str(n), str(m), str(tmp_path / "in"), str(tmp_path / "out"), repr(p["sigma"])]
        subprocess.run([EMULATOR, str(program), *arguments], check=True)
        got = np.fromfile(tmp_path / "out", dtype)
        out, lse = got[: 2 * n * d].reshape(2, n, d), got[2 * n * d :].reshape(2, n)
        blocks = block(scheduled("gaussian", dtype), d)
        want = expected("gaussian", given["q"], given["k"], given["k"], np.zeros((2, m)), p, dtype, blocks)
        assert (np.abs(out - want.out) <= want.out_bound).all()
        assert (np.abs(lse - want.lse) <= want.lse_bound).all()


NARROW = {
    "T *q = malloc(2*n*D_d*sizeof(T)), *k = malloc(2*m*D_d*sizeof(T));": (
        "S *q = malloc(2*n*D_d*sizeof(S)), *k = malloc(2*m*D_d*sizeof(S));"
    ),
    "T *out = malloc(2*n*D_d*sizeof(T)), *lse": "S *out = malloc(2*n*D_d*sizeof(S)); T *lse",
    "fread(q, sizeof(T)": "fread(q, sizeof(S)",
    "fread(k, sizeof(T)": "fread(k, sizeof(S)",
    "fwrite(out, sizeof(T)": "fwrite(out, sizeof(S)",
}


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"needs {CROSS}, {EMULATOR}")
@pytest.mark.parametrize("d", [7, 64])
def test_neon_stores_bfloat16(d: int, tmp_path: Path) -> None:
    """The results of the float32 kernel on the same machine and numbers, rounded once, bit for bit."""
    made: dict[str, Path] = {}
    for kind in ("plain", "narrow"):
        program, bounded, main = scheduled("gaussian", "float32"), free("gaussian", "float32"), MAIN
        if kind == "narrow":
            program, bounded = (stored(p, "bfloat16", "float32") for p in (program, bounded))
            for old, new in NARROW.items():
                assert main.count(old) == 1
                main = main.replace(old, new)
        source, made[kind] = tmp_path / f"{kind}.c", tmp_path / kind
        source.write_text(emit_c(program, "float32", bounded=bounded) + main)
        flags = [f for f in FLAGS if f not in ("-fPIC", "-shared")]
        command = [CROSS, *flags, "-static", f"-DD_d={d}", str(source), "-o", str(made[kind]), "-lm"]
        subprocess.run(command, check=True)
    sigma = repr(parameters("gaussian", d)["sigma"])
    for n, m in ((1, 1), (5, 7), (49, 131), (97, 70)):
        given = inputs("gaussian", n, m, d, "float32")
        bits = [storage.rounded(given[x], storage.BITS) for x in "qk"]
        got = {}
        for kind, arrays in (("plain", [storage.widened(x) for x in bits]), ("narrow", bits)):
            (tmp_path / "in").write_bytes(b"".join(x.tobytes() for x in arrays))
            arguments = [str(n), str(m), str(tmp_path / "in"), str(tmp_path / "out"), sigma]
            subprocess.run([EMULATOR, str(made[kind]), *arguments], check=True)
            got[kind] = (tmp_path / "out").read_bytes()
        size = 2 * n * d
        out = np.frombuffer(got["plain"][: 4 * size], np.float32)
        assert got["narrow"][: 2 * size] == storage.rounded(out, storage.BITS).tobytes()
        assert got["narrow"][2 * size :] == got["plain"][4 * size :]


@pytest.mark.parametrize(("form", "dtype", "d"), [("biased", "float32", 80), ("dot", "float64", 7)])
def test_vectors_and_tiles_of_avx512_without_its_instructions(
    form: str, dtype: str, d: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of AVX-512 with every operation in portable C."""
    wide = replace(isa.ISAS[0], condition="2 > 1", include="", operations={})
    assert wide.name == "avx512"
    monkeypatch.setattr(c_prelude, "ISAS", (wide, isa.ISAS[-1]))
    monkeypatch.setattr(c_printer, "ISAS", (wide,))
    program, bounded = scheduled(form, dtype), free(form, dtype)
    kernel = Kernel(program, dtype, ISAS[0], sizes(form, d), folder / "..", bounded=bounded)
    for n, m in ((1, 1), (5, 7), (20, 20), (49, 131), (97, 70)):
        compare(form, kernel, inputs(form, n, m, d, dtype))
