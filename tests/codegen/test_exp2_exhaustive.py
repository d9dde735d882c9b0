"""Every float32 of the reduced range, through the very EXP2 that the kernels are compiled with."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from projsym.codegen.exp2 import certificate
from projsym.codegen.isa import prelude
from projsym.codegen.schedule import TILES

from ._ckernel import FLAGS, ISA_FLAGS, cpu_has

SWEEP = """
/* the largest relative error of EXP2 over all floats of both signs with |f| from lo to hi, as bit patterns */
double sweep(unsigned lo, unsigned hi, double *lowest, double *highest) {
  double worst = 0, low = INFINITY, high = 0;
#pragma omp parallel for reduction(max : worst, high) reduction(min : low) schedule(static)
  for (unsigned block = lo/W; block <= hi/W; block++)
    for (int negative = 0; negative < 2; negative++) {
      T x[W] ALIGNED, y[W] ALIGNED;
      for (unsigned i = 0; i < W; i++) {
        unsigned bits = block*W + i;
        bits = (bits < lo ? lo : bits > hi ? hi : bits) | (unsigned)negative << 31;
        memcpy(x + i, &bits, 4);
      }
      STORE(y, EXP2(LOAD(x)));
      for (unsigned i = 0; i < W; i++) {
        const double exact = exp2((double)x[i]), error = fabs((double)y[i] - exact)/exact;
        worst = error > worst ? error : worst;
        low = y[i] < low ? y[i] : low;
        high = y[i] > high ? y[i] : high;
      }
    }
  *lowest = low; *highest = high;
  return worst;
}
"""

HALF, TINY = 0x3F000000, 0x32000000
"""Bit patterns of 1/2 and 2**-27. Below, 2**f is within 2**-27 log 2 of 1 and so is one of the two floats
beside 1 or 1 itself; the second sweep shows that EXP2 gives 1 there on a sample of every binade."""

DOUBLE_EXP2_ERROR = 2.0**-52
"""Stated error of the C library's exp2 in double, relative: one unit in the last place."""


@pytest.mark.parametrize("isa", [isa for isa in ("avx512", "c") if cpu_has(isa)])
def test_every_float_of_the_reduced_range(isa: str, tmp_path: Path) -> None:
    """The certified bound holds at all floats with 2**-27 <= |f| <= 1/2, with and without FMA."""
    source, library = tmp_path / "sweep.c", tmp_path / "sweep.so"
    source.write_text(prelude("float32", TILES) + SWEEP)
    command = ["gcc", *FLAGS, "-Wno-unused-function", "-fopenmp", *ISA_FLAGS[isa], str(source)]
    subprocess.run([*command, "-o", str(library), "-lm"], check=True)
    sweep = ctypes.CDLL(str(library)).sweep
    sweep.restype, sweep.argtypes = ctypes.c_double, [ctypes.c_uint, ctypes.c_uint] + 2 * [ctypes.c_void_p]
    low, high = ctypes.c_double(), ctypes.c_double()
    worst = sweep(TINY, HALF, ctypes.byref(low), ctypes.byref(high))
    known = certificate("float32")
    bound = known.total_mul_add if isa == "c" else known.total
    assert worst <= bound + 2 * DOUBLE_EXP2_ERROR
    # The bound is not loose either: the sum of its parts is met within a factor of two somewhere.
    assert worst > bound / 2
    assert (low.value, high.value) == (pytest.approx(2**-0.5, rel=bound), pytest.approx(2**0.5, rel=bound))
    for exponent in range(1, TINY >> 23):
        start = exponent << 23
        for at in (start, start + 0x400000, start + 0x7FFFF0):
            assert sweep(at, at + 15, ctypes.byref(low), ctypes.byref(high)) < 2.0**-26
            assert (low.value, high.value) == (1.0, 1.0)
