"""What a call of `projsym.project` or `projsym.attention` costs over the kernel that it calls.

    python benchmarks/call_overhead.py [--json FILE]

"kernel" is the compiled C function called by ctypes with arguments made beforehand, into outputs made
beforehand, on one thread; "call" is the public function with the same arrays, which makes its outputs. Both
run in turns, in short batches; the minimum of the batches is shown, in microseconds, since other work on the
machine only adds. Read `overhead` as what Python adds; it is the same for all sizes as long as the arrays fit
the cache and the kernel uses one thread.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import projsym
from projsym.runtime import manifest
from projsym.runtime.c_kernel import CKernel
from projsym.runtime.layout import address, heads

SHAPES = ((1, 1, 1, 16), (1, 8, 8, 16), (8, 20, 20, 32))
CALLS, BATCHES = 200, 300


def raw(name: str, arrays: dict[str, Any], parameter: float) -> Callable[[], int]:
    """The C function with everything prepared; its outputs are overwritten by every call."""
    entry, (q, *_) = manifest.load(manifest.KERNELS)[name], arrays.values()
    sizes = {x.feature: arrays[x.name].shape[-1] for x in entry.vectors}
    kernel = CKernel(entry, q.dtype.name, sizes)
    word, pointer = ctypes.c_long, ctypes.c_void_p
    words: list[Any] = [word(len(q)), word(q.shape[1]), word(arrays["k"].shape[1])]
    for x in entry.vectors:
        a = arrays[x.name]
        words += [pointer(address(a)), pointer(heads(a, q.shape[:1], 2)[1]), word(a.shape[-1])]
    out = np.empty((*q.shape[:2], sizes[entry.outputs[0][1]]), q.dtype)
    nothing = [pointer(None)] * 4  # no logarithms, no ranges of keys
    words += [ctypes.c_double(parameter), pointer(address(out)), *nothing, ctypes.c_int(1)]
    function = kernel._function

    def call(keep: object = (arrays, out)) -> int:
        return function(*words)

    return call


def least(*calls: Callable[[], Any]) -> list[float]:
    """The least time of a call in microseconds, each measured in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(BATCHES):
        for n, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            best[n] = min(best[n], (time.perf_counter() - start) / CALLS * 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    print(f"{'function':<10} {'H x n x m x d':<14} {'kernel':>8} {'call':>8} {'overhead':>9}  µs, least")
    for h, n, m, d in SHAPES:
        rng = np.random.default_rng(0)
        q, k, v = (rng.standard_normal((h, x, d), dtype=np.float32) for x in (n, m, m))
        two = {"q": q, "k": k}
        three = two | {"v": v}
        cases: dict[str, tuple[str, dict[str, Any], float, Callable[[], Any]]] = {
            "project": ("project_dot", two, d**-0.5, partial(projsym.project, q, k)),
            "σ": ("project_gaussian", two, 2.0, partial(projsym.project, q, k, sigma=2.0)),
            "attention": ("attention", three, d**-0.5, partial(projsym.attention, q, k, v)),
        }
        for name, (kernel, arrays, parameter, call) in cases.items():
            prepared = raw(kernel, arrays, parameter)
            if prepared() or call() is None:
                raise SystemExit(f"{name}: the kernel's status is not 0")
            inner, outer = least(prepared, call)
            size = f"{h}x{n}x{m}x{d}"
            print(f"{name:<10} {size:<14} {inner:8.2f} {outer:8.2f} {outer - inner:9.2f}")
            rows.append({"function": name, "shape": [h, n, m, d], "kernel_us": inner, "call_us": outer})
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
