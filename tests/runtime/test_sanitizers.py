"""Every committed C kernel under the compiler's address and undefined-behaviour sanitizers, at edge sizes.

What they see: reads and writes outside the arrays and the work space, misaligned access, signed overflow,
shifts and conversions out of range, on the paths that these sizes take with this machine's instructions. What
they cannot see: reads inside an array that belong to another row, and uninitialised memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from projsym.runtime.manifest import load

# Unoptimised: every access that is written is made, and it compiles in a third of the time.
FLAGS = "-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
SIZES = [(0, 3, 7), (2, 0, 7), (1, 1, 7), (3, 127, 7), (49, 129, 16), (97, 17, 16)]
SIZES += [(1, 769, 7), (2, 800, 16), (5, 769, 7)]  # few queries, and keys in parts
# Each width is a compilation. The files of a kernel are one text but for types and lengths of vectors: that
# of float32 has both widths, the others the one whose rows end inside a vector.
ONE_WIDTH = sorted({(n, m, 7) for n, m, _ in SIZES})

SCRIPT = """
import sys
import numpy as np
from projsym.runtime.c_kernel import CKernel
from projsym.runtime.manifest import load
from projsym.runtime.storage import BITS, rounded, widened

name, of_float32, of_others = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
rng = np.random.default_rng(0)
entry = load()[name]
for dtype in [target[2:] for target in entry.files if target.startswith("c/")]:
    for n, m, d in of_float32 if dtype == "float32" else of_others:
        rows = {"i": n, "j": m}
        features = {x.feature: d + (x.feature != "d") for x in entry.vectors}
        kernel = CKernel(entry, dtype, features)
        arrays = {}
        for x in entry.inputs:
            if x.axes:
                shape = (2, *(rows[a] for a in x.axes), *([features[x.feature]] if x.feature else []))
                # The last row ends where the allocation does.
                drawn = rng.standard_normal(shape).astype("float32" if dtype == "bfloat16" else dtype)
                arrays[x.name] = rounded(drawn, BITS) if dtype == "bfloat16" else drawn
        outputs, status = kernel((2,), arrays, [1.0] * len(entry.parameters))
        unseen = 0 if m or name.endswith("_backward") else 2 * n  # rows without keys
        assert status == unseen, (name, dtype, n, m, d, status)
        if n and m:
            assert all(np.isfinite(widened(o)).all() for o in outputs), (name, dtype, n, m, d)
        ends = np.sort(rng.integers(0, m + 1, (2, 2, n)), axis=0)
        outputs, _ = kernel((2,), arrays, [1.0] * len(entry.parameters), (), (ends[0].copy(), ends[1].copy()))
        assert not any(np.isnan(widened(o)).any() for o in outputs), (name, dtype, n, m, d)
print("clean")
"""


def gcc() -> tuple[str, str]:
    """gcc and its sanitizer's library, which must be loaded before Python."""
    command = shutil.which("gcc")
    if command is None:
        # Where clang keeps its library differs from release to release; the kernels are the same text.
        pytest.skip("needs gcc: the sanitizer's library is preloaded from where gcc has it")
    asked = subprocess.run([command, "-print-file-name=libasan.so"], capture_output=True, text=True)
    library = asked.stdout.strip()
    if not Path(library).is_absolute():
        # Some distributions ship it as a package of its own.
        pytest.skip("this gcc has no address sanitizer")
    return command, library


def run(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, library = gcc()
    env = os.environ | {
        # Under the sanitizer's own allocator the compiler takes twice the time.
        "PROJSYM_CC": f"env -u LD_PRELOAD {command}",
        "PROJSYM_CFLAGS": FLAGS,
        "PROJSYM_CACHE_DIR": str(tmp_path),
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "2",
    }
    return subprocess.run([sys.executable, "-c", script, *arguments], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", sorted(load()))
def test_no_kernel_leaves_its_arrays(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, SCRIPT, name, repr(SIZES), repr(ONE_WIDTH))
    assert done.returncode == 0 and done.stdout == "clean\n", done.stdout + done.stderr[-4000:]


LAYERS = """
import sys
import numpy as np
import projsym

rng = np.random.default_rng(0)
for dtype in ("float32", "float64"):
    for n, m, width, d in eval(sys.argv[1]):
        def draw(*shape):
            return rng.standard_normal(shape).astype(dtype)
        for weights in (
            projsym.fold(draw(width, 2*d), draw(width, 2*d), draw(width, 2*d), draw(2*d, d + 1), heads=2),
            projsym.tie(draw(width, 2*d), draw(width, 2*d), draw(2*d, d + 1), heads=2),
        ):
            out, _ = projsym.layer_forward(draw(3, n, width), weights, context=draw(3, m, width), backend="c")
            assert np.isfinite(out).all()
print("clean")
"""


def test_no_layer_leaves_its_arrays(tmp_path: Path) -> None:
    sizes = [(1, 1, 7, 3), (5, 0, 7, 3), (49, 70, 7, 3), (20, 20, 16, 16)]
    done = run(tmp_path, LAYERS, repr(sizes))
    assert done.returncode == 0 and done.stdout == "clean\n", done.stdout + done.stderr[-4000:]


def test_the_sanitizer_is_on(tmp_path: Path) -> None:
    """A read of one element more than there is must be caught, or the tests above show nothing."""
    done = run(
        tmp_path,
        "import ctypes, numpy as np\n"
        "from projsym.runtime import cache, compiler\n"
        "source = 'float last(const float *x, long n) { return x[n]; }'\n"
        "f = ctypes.CDLL(str(cache.compiled(source, 'last', (), compiler.find()))).last\n"
        "x = np.zeros(4, np.float32)\n"
        "f(ctypes.c_void_p(x.ctypes.data), ctypes.c_long(4))\n",
    )
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
