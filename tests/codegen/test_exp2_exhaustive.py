"""Every float32 of the reduced range, through the very EXP2, EXP2_SMALL and EXP2_NEAR of the kernels."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from projsym.codegen.c_prelude import prelude
from projsym.codegen.exp2 import certificate

from ._ckernel import FLAGS, ISA_FLAGS, cpu_has

SWEEP = """
/* the largest relative error of the three over floats of both signs, |f| from lo to hi as bit patterns */
double sweep(unsigned lo, unsigned hi, double *lowest, double *highest) {
  double worst = 0, low = INFINITY, high = 0;
#pragma omp parallel for reduction(max : worst, high) reduction(min : low) schedule(static)
  for (unsigned block = lo/W; block <= hi/W; block++)
    for (int negative = 0; negative < 2; negative++) {
      T x[W] ALIGNED, y[3][W] ALIGNED;
      for (unsigned i = 0; i < W; i++) {
        unsigned bits = block*W + i;
        bits = (bits < lo ? lo : bits > hi ? hi : bits) | (unsigned)negative << 31;
        memcpy(x + i, &bits, 4);
      }
      STORE(y[0], EXP2(LOAD(x)));
      STORE(y[1], EXP2_SMALL(LOAD(x)));
      STORE(y[2], EXP2_NEAR(LOAD(x)));
      for (unsigned i = 0; i < W; i++) {
        const double exact = exp2((double)x[i]);
        for (unsigned k = 0; k < 3; k++) {
          const double error = fabs((double)y[k][i] - exact)/exact;
          worst = error > worst ? error : worst;
          low = y[k][i] < low ? y[k][i] : low;
          high = y[k][i] > high ? y[k][i] : high;
        }
      }
    }
  *lowest = low; *highest = high;
  return worst;
}
"""

HALF, TINY = 0x3F000000, 0x32000000
"""Bit patterns of 1/2 and 2**-27. Below, 2**f is within 2**-27 log 2 of 1 and so is one of the two floats
beside 1 or 1 itself; the second sweep shows that each gives 1 there on a sample of every binade."""

DOUBLE_EXP2_ERROR = 2.0**-52
"""Stated error of the C library's exp2 in double, relative: one unit in the last place."""


@pytest.mark.parametrize("isa", [isa for isa in ISA_FLAGS if cpu_has(isa)])
def test_every_float_of_the_reduced_range(isa: str, tmp_path: Path) -> None:
    """The certified bound holds at all floats with 2**-27 <= |f| <= 1/2, with and without FMA."""
    source, library = tmp_path / "sweep.c", tmp_path / "sweep.so"
    source.write_text(prelude("float32", {}) + SWEEP)
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


EDGES = """
void edges(const T *x, T *all, T *small, T *near) {
  STORE(all, EXP2(LOADU(x)));
  STORE(small, EXP2_SMALL(LOADU(x)));
  STORE(near, EXP2_NEAR(LOADU(x)));
}
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", [isa for isa in ISA_FLAGS if cpu_has(isa)])
def test_small_arguments_and_those_without_a_number(isa: str, dtype: str, tmp_path: Path) -> None:
    """The three functions give the same powers of what each is for; the first two give the floor at most
    below the range, 0 for minus infinity, and NaN for any NaN; the first goes on to the largest numbers."""
    source, library = tmp_path / "edges.c", tmp_path / "edges.so"
    source.write_text(prelude(dtype, {}) + EDGES)
    command = ["gcc", *FLAGS, "-Wno-unused-function", *ISA_FLAGS[isa], str(source)]
    subprocess.run([*command, "-o", str(library), "-lm"], check=True)
    edges = ctypes.CDLL(str(library)).edges
    payload = np.array([0x7FC12345, 0xFFC00001], np.uint32).view(np.float32).astype(dtype)
    top = np.finfo(dtype).maxexp
    whole = np.arange(-1100.0 if dtype == "float64" else -160.0, top + 2)
    fine = np.concatenate([whole + shift for shift in (0.5, 0.3, -0.3)])
    x = np.concatenate([whole, fine, [-np.inf, np.inf, -1e30, -0.0], payload]).astype(dtype)
    x = np.resize(x, -(-len(x) // 16) * 16)
    buffers = np.zeros((3, 64 // x.itemsize * 2), dtype)
    start = -buffers.ctypes.data % 64 // x.itemsize
    results = [b[start : start + 64 // x.itemsize] for b in buffers]
    lanes = {"avx512": 64, "avx2": 32, "c": 16}[isa] // x.itemsize
    floor = float(certificate(dtype).floor)
    for at in range(0, len(x), lanes):
        part = np.ascontiguousarray(x[at : at + lanes])
        edges(*(ctypes.c_void_p(a.ctypes.data) for a in (part, *results)))
        full, small, near = (r[:lanes] for r in results)
        nan = np.isnan(part)
        with np.errstate(over="ignore"):
            exact = np.exp2(part.astype(np.longdouble))
            rounded = exact.astype(dtype)
        kept = exact > floor
        np.testing.assert_allclose(full[kept & (part != top)], rounded[kept & (part != top)], rtol=2.0**-20)
        assert (full[part >= top] == np.inf).all() or isa == "avx512"
        np.testing.assert_array_equal(full[kept & (part <= 100)], small[kept & (part <= 100)])
        np.testing.assert_array_equal(full[np.abs(part) <= 100], near[np.abs(part) <= 100])
        for y in (full, small):
            below = y[(exact <= floor) & ~nan]
            assert ((below >= 0) & (below <= floor)).all()
            assert (y[part == -np.inf] == 0).all()
            assert np.isnan(y[nan]).all()
