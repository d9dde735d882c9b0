"""bfloat16 as bits: widening is exact for all 65536 of them, rounding is to the nearest, NaN stays NaN.

The rounding of Python and that of the generated C are compared with ml_dtypes, which knows nothing of ours.
"""

from __future__ import annotations

import ctypes
import subprocess

import ml_dtypes
import numpy as np
import pytest

from projsym.codegen.c_prelude import prelude
from projsym.codegen.c_reads import STORED
from projsym.runtime import storage

ALL = np.arange(2**16, dtype=np.uint16)
# Rounding looks at the lower half only for being above, at or below its middle, and at zero.
LOWER = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
FLOATS = ((ALL.astype(np.uint32) << np.uint32(16))[:, None] | LOWER).reshape(-1).view(np.float32)

SWEEP = """
void narrow_all(const float *x, unsigned short *y, long n) {
  for (long i = 0; i < n; i++) y[i] = NARROW(x[i]);
}
void widen_all(const unsigned short *x, float *y, long n) { WIDE_ROW(y, x, n); }
"""


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # signalling NaN
        return x.astype(ml_dtypes.bfloat16)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """The same numbers, zeros with their signs; one NaN is as good as another."""
    nan = np.isnan(a.astype(np.float32))
    equal = (
        a.view(np.uint16) == b.view(np.uint16) if a.itemsize == 2 else a.view(np.uint32) == b.view(np.uint32)
    )
    return bool((nan == np.isnan(b.astype(np.float32))).all() and equal[~nan].all())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("storage")
    (folder / "sweep.c").write_text(prelude("float32", {}) + STORED + SWEEP)
    flags = ["-O3", "-march=native", "-ffp-contract=off", "-std=gnu11", "-shared", "-fPIC", "-Wno-psabi"]
    subprocess.run(
        ["gcc", *flags, str(folder / "sweep.c"), "-o", str(folder / "sweep.so"), "-lm"], check=True
    )
    return ctypes.CDLL(str(folder / "sweep.so"))


def test_every_number_is_widened_exactly() -> None:
    """Against the definition: a sign, eight bits of exponent, seven of a fraction."""
    bits = ALL.astype(np.int64)
    sign, exponent, fraction = 1 - 2 * (bits >> 15), bits >> 7 & 255, (bits & 127) / 128
    with np.errstate(invalid="ignore"):
        special = np.where(fraction > 0, np.nan, np.inf)
    value = np.where(exponent > 0, np.ldexp(1 + fraction, exponent - 127), np.ldexp(fraction, -126))
    value = sign * np.where(exponent == 255, special, value)
    for kind in (storage.BITS, np.dtype(ml_dtypes.bfloat16)):
        wide = storage.widened(ALL.view(kind))
        finite = np.isfinite(value)
        assert np.array_equal(wide[finite], value[finite])
        assert np.array_equal(np.isnan(wide), np.isnan(value)) and wide.dtype == np.float32
        assert np.array_equal(np.isposinf(wide), np.isposinf(value))


def test_rounding_is_to_the_nearest() -> None:
    expected = to_bfloat16(FLOATS)
    made = storage.rounded(FLOATS, np.dtype(ml_dtypes.bfloat16))
    assert same(expected, made)
    assert storage.rounded(FLOATS, storage.BITS).dtype == storage.BITS


def test_the_generated_code_converts_alike(library: ctypes.CDLL) -> None:
    expected = to_bfloat16(FLOATS)
    made = np.empty(FLOATS.shape, np.uint16)
    library.narrow_all(
        ctypes.c_void_p(FLOATS.ctypes.data), ctypes.c_void_p(made.ctypes.data), ctypes.c_long(FLOATS.size)
    )
    assert same(expected, made.view(ml_dtypes.bfloat16))
    for n in (0, 1, 7, 8, 9, 31, len(ALL)):  # whole vectors and what is left of them
        wide = np.zeros(n + 1, np.float32)
        x = ALL[len(ALL) - n :].copy()
        library.widen_all(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(wide.ctypes.data), ctypes.c_long(n))
        assert same(x.view(ml_dtypes.bfloat16).astype(np.float32), wide[:n]) and wide[n] == 0


def test_what_is_bfloat16() -> None:
    assert storage.narrow(np.dtype(ml_dtypes.bfloat16)) and storage.narrow(storage.BITS)
    for other in (np.float32, np.float16, np.uint16, ml_dtypes.float8_e4m3, [("x", np.uint16)]):
        assert not storage.narrow(np.dtype(other))
    assert not storage.narrow(None)


def test_finite() -> None:
    values = np.array([0.0, -1.0, 3e38, 1e-40], np.float32)
    assert storage.finite(storage.rounded(values, storage.BITS))
    for bad in (np.inf, -np.inf, np.nan):
        assert not storage.finite(storage.rounded(np.append(values, np.float32(bad)), storage.BITS))
