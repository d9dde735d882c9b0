"""The machine's rates: what the generated programs compute, and what is refused."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from projsym.bench import fma_peak, peak, read_bandwidth
from projsym.runtime import isa
from projsym.runtime.cache import compiled
from projsym.runtime.compiler import find
from projsym.runtime.isa import multiplies_pairs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_generated_multiply_add(dtype: str) -> None:
    library = ctypes.CDLL(str(compiled(peak.emit_fma(dtype), "test_fma", ("-ffp-contract=fast",), find())))
    library.fma_rounds.restype = ctypes.c_double
    number = ctypes.c_float if dtype == "float32" else ctypes.c_double
    # a -> a/2 + 1/4 from i ends at 1/2 + (i - 1/2)/2**r, exact in binary for r = 3.
    exact = library.lanes() * sum(0.5 + (i - 0.5) / 8 for i in range(peak.CHAINS))
    assert library.fma_rounds(ctypes.c_long(3), number(0.5), number(0.25)) == exact
    assert fma_peak(dtype) > 1e6


@pytest.mark.skipif(not multiplies_pairs(), reason="the CPU multiplies no pairs of bfloat16 numbers")
def test_generated_multiply_add_of_pairs() -> None:
    library = ctypes.CDLL(str(compiled(peak.emit_fma("bfloat16"), "test_fma", (), find())))
    library.fma_rounds.restype = ctypes.c_double
    # The bits of a float that is a bfloat16 number are those of it and of 0: one product of two in a lane.
    exact = library.lanes() * sum(i + 3 * 0.125 for i in range(peak.CHAINS))
    assert library.fma_rounds(ctypes.c_long(3), ctypes.c_float(0.5), ctypes.c_float(0.25)) == exact
    assert fma_peak("bfloat16") > fma_peak("float32")


def test_no_rate_of_pairs_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "multiplies_pairs", lambda: False)
    with pytest.raises(ValueError, match="dtype: got 'bfloat16', allowed are float32, float64"):
        fma_peak("bfloat16")


def test_generated_read() -> None:
    library = ctypes.CDLL(str(compiled(peak.emit_read(), "test_read", (), find())))
    library.read_all.restype = ctypes.c_long
    raw = np.random.default_rng(3).integers(0, 2**62, 4096 // 8 + 8)
    skip = -raw.ctypes.data % 64 // 8
    data = raw[skip : skip + 4096 // 8]
    assert library.read_all(
        data.ctypes.data_as(ctypes.c_void_p), ctypes.c_long(4096)
    ) == np.bitwise_xor.reduce(data)
    assert read_bandwidth(1, mebibytes=8) > 1e6


def test_refused() -> None:
    with pytest.raises(ValueError, match="dtype: got 'float16'"):
        fma_peak("float16")
    with pytest.raises(ValueError, match="threads: got 0"):
        fma_peak("float32", 0)
