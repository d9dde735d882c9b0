"""What the machine can do: multiply-add rate and read bandwidth, by small generated programs.

The programs are printed here, compiled like the kernels, and run on as many Python threads as asked for (the
calls release the interpreter lock).
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from projsym.runtime import isa
from projsym.runtime.cache import compiled
from projsym.runtime.compiler import find

CHAINS = 12  # independent accumulators: two pipes of latency 4 and more, and they fit in 16 registers
TRIALS = 40  # of about a millisecond: with other load on the machine, one of them is undisturbed
_TYPES = {"float32": "float", "float64": "double", "bfloat16": "float"}
_PAIRS = """\
#include <immintrin.h>
#define MADD(a, x, y) (V)_mm512_dpbf16_ps((__m512)(a), (__m512bh)(x), (__m512bh)(y))
"""
_WIDTH = """\
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
"""


def emit_fma(dtype: str) -> str:
    """C text of ``T fma(long rounds)``: `CHAINS` vector multiply-adds a round, none waiting for another.

    Of bfloat16 a lane multiplies two pairs, and adds in float32.
    """
    if dtype not in _TYPES:
        raise ValueError(f"dtype: got {dtype!r}, allowed are {', '.join(_TYPES)}")
    t, chains = _TYPES[dtype], range(CHAINS)
    pairs = dtype == "bfloat16"
    lines = [
        _PAIRS if pairs else "#define MADD(a, x, y) ((a)*(x) + (y))",
        f"typedef {t} V __attribute__((vector_size(BYTES)));",
        f"int lanes(void) {{ return BYTES / (int) sizeof({t}); }}",
        f"double fma_rounds(long rounds, {t} x0, {t} y0) {{",
        "  V x = (V){0} + x0, y = (V){0} + y0;",
        *(f"  V a{i} = (V){{0}} + ({t}) {i};" for i in chains),
        "  for (long r = 0; r < rounds; r++) {",
        *(f"    a{i} = MADD(a{i}, x, y);" for i in chains),
        "  }",
        "  V s = " + " + ".join(f"a{i}" for i in chains) + ";",
        "  double total = 0;",
        f"  for (int l = 0; l < BYTES / (int) sizeof({t}); l++) total += s[l];",
        "  return total;",
        "}",
    ]
    return _WIDTH + "\n".join(lines) + "\n"


def emit_read() -> str:
    """C text of ``long read_all(const V *x, long bytes)``: `bytes` a multiple of 256, `x` aligned to 64."""
    return _WIDTH + "\n".join(
        [
            "typedef long V __attribute__((vector_size(BYTES)));",
            "long read_all(const V *x, long bytes) {",
            *(f"  V a{i} = {{0}};" for i in range(4)),
            "  for (long r = 0; r < bytes / BYTES; r += 4) {",
            *(f"    a{i} ^= x[r + {i}];" for i in range(4)),
            "  }",
            "  V s = a0 ^ a1 ^ a2 ^ a3;",
            "  long total = 0;",
            "  for (int l = 0; l < BYTES / (int) sizeof(long); l++) total ^= s[l];",
            "  return total;",
            "}",
            "",
        ]
    )


def fma_peak(dtype: str, threads: int = 1) -> float:
    """Multiply-adds a second times two (FLOP/s) of `threads` threads together: the best of a few trials.

    dtype: "float32", "float64", or "bfloat16" on a CPU that multiplies pairs of such numbers. Raises
    ValueError for another dtype and CompilerError without a compiler.
    A machine without fused multiply-add gives its rate of separate multiplications and additions.
    """
    if dtype == "bfloat16" and not isa.multiplies_pairs():
        raise ValueError("dtype: got 'bfloat16', allowed are float32, float64: this CPU multiplies no pairs")
    library = _fma_library(dtype)
    number = ctypes.c_double if dtype == "float64" else ctypes.c_float
    rounds = 400_000
    flops = 2 * CHAINS * library.lanes() * rounds * (2 if dtype == "bfloat16" else 1)
    work = functools.partial(library.fma_rounds, ctypes.c_long(rounds), number(0.5), number(0.25))
    rate: float = threads * flops / _least_wall([work] * threads)
    return rate


def read_bandwidth(threads: int = 1, mebibytes: int = 256) -> float:
    """Bytes a second that `threads` threads read from memory together, from `mebibytes` in all.

    The buffer should be several times the last-level cache, or its bandwidth is what is measured.
    """
    library = ctypes.CDLL(str(compiled(emit_read(), "bench_read", (), find())))
    library.read_all.restype = ctypes.c_long
    share = mebibytes * 2**20 // threads // 4096 * 4096
    buffer = np.ones(threads * share + 4096, np.uint8)
    start = buffer.ctypes.data + -buffer.ctypes.data % 4096
    work = [
        functools.partial(library.read_all, ctypes.c_void_p(start + i * share), ctypes.c_long(share))
        for i in range(threads)
    ]
    return threads * share / _least_wall(work)


@functools.cache
def _fma_library(dtype: str) -> ctypes.CDLL:
    # The kernels are compiled without contraction; here nothing is rounded that matters, and the text has
    # no intrinsics, so contraction is what turns it into multiply-adds.
    macros = ("-ffp-contract=fast",)
    library = ctypes.CDLL(str(compiled(emit_fma(dtype), f"bench_fma_{dtype}", macros, find())))
    library.fma_rounds.restype = ctypes.c_double
    return library


def _least_wall(work: Sequence[Callable[[], object]]) -> float:
    """Least time over trials from a common start to the end of the last."""
    if not work:
        raise ValueError("threads: got 0, allowed are integers of at least 1")
    barrier = Barrier(len(work))

    def one(f: Callable[[], object]) -> tuple[float, float]:
        barrier.wait()
        start = time.perf_counter()
        f()
        return start, time.perf_counter()

    best = float("inf")
    with ThreadPoolExecutor(len(work)) as pool:
        for _ in range(TRIALS):
            spans = list(pool.map(one, work))
            best = min(best, max(end for _, end in spans) - min(start for start, _ in spans))
    return best
