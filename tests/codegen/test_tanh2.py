"""The certificate of tanh2 against dense evaluation, and the C of it on every instruction set."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import mpmath
import numpy as np
import pytest

from projsym.codegen import tanh2
from projsym.codegen.c_prelude import prelude

from ._ckernel import FLAGS, ISA_FLAGS, ISAS

MANY = """
void many(const T *x, T *y, long n) { for (long i = 0; i < n; i += W) STORE(y + i, TANH2(LOAD(x + i))); }
"""
DTYPES = ("float32", "float64")


def arguments(dtype: str) -> np.ndarray:
    """Densely where the function bends, both signs of every binade, both clamps, and the ends of the type."""
    rng = np.random.default_rng(0)
    most = np.finfo(dtype).maxexp - 1
    wide = rng.uniform(1, 2, 4 * 2 * most) * 2.0 ** np.repeat(np.arange(-most, most), 4)
    near = np.concatenate([np.linspace(-30, 30, 6001), rng.uniform(-30, 30, 6000), rng.uniform(90, 130, 500)])
    ends = np.array([0.0, np.finfo(dtype).max, np.inf])
    x = np.concatenate([near, -near, wide, -wide, ends, -ends]).astype(dtype)
    return np.concatenate([x, np.zeros(-len(x) % 64, dtype)])


def function(dtype: str, isa: str, folder: Path, text: str = tanh2.C):  # type: ignore[no-untyped-def]
    """The compiled TANH2 as a function of an array."""
    source, library = folder / f"{dtype}_{isa}.c", folder / f"{dtype}_{isa}.so"
    source.write_text(prelude(dtype, {}) + text + MANY)
    command = ["gcc", *FLAGS, "-Wno-unused-function", *ISA_FLAGS[isa], str(source)]
    subprocess.run([*command, "-o", str(library), "-lm"], check=True)
    many = ctypes.CDLL(str(library)).many

    def call(x: np.ndarray) -> np.ndarray:
        room = np.empty(2 * len(x) + 128, x.dtype)
        start = (-room.ctypes.data % 64) // x.itemsize
        a, b = room[start : start + len(x)], room[start + len(x) : start + 2 * len(x)]
        a[:] = x
        many(ctypes.c_void_p(a.ctypes.data), ctypes.c_void_p(b.ctypes.data), ctypes.c_long(len(x)))
        return b.copy()

    return call


def errors(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with mpmath.workprec(150):
        half = mpmath.log(2) / 2
        exact = [mpmath.tanh(mpmath.mpf(float(a)) * half) for a in x]
        return np.array([float(abs(mpmath.mpf(float(b)) - e)) for b, e in zip(y, exact, strict=True)])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_compiled_function_is_within_the_certified_error(dtype: str, isa: str, tmp_path: Path) -> None:
    x = arguments(dtype)
    call, bound = function(dtype, isa, tmp_path), tanh2.certificate(dtype).error
    y = call(x)
    seen = errors(x, y).max()
    assert seen <= bound <= 4 * seen
    assert y[x == np.inf].tolist() == [1.0] and y[x == -np.inf].tolist() == [-1.0]
    assert np.isnan(call(np.full(64, np.nan, dtype))).all()


def test_a_wrong_constant_is_seen(tmp_path: Path) -> None:
    wrong = tanh2.C.replace("SET1((T)2)/", "SET1((T)2.000002)/")
    assert wrong != tanh2.C
    x = arguments("float32")
    y = function("float32", "c", tmp_path, wrong)(x)
    assert errors(x, y).max() > tanh2.certificate("float32").error


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bound_is_five_roundings_and_half_an_exponential(dtype: str) -> None:
    """Near -1 the quotient is near 2 and has two roundings of 2u; the rest is one of the difference."""
    bound, u = tanh2.certificate(dtype).error, float(np.finfo(dtype).eps) / 2
    assert 4 * u < bound < 6 * u


def test_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="'float16'"):
        tanh2.certificate("float16")
