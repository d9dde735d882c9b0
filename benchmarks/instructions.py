"""How many instructions a kernel runs for each multiply-add instruction that its products need.

    python benchmarks/instructions.py [--json FILE]

Counted by valgrind (callgrind) in one call on one thread, so other work on the machine changes nothing.
"needed" is the products' multiply-adds over the lanes of a vector; "each" is the instructions run for one of
these. A processor that starts `w` instructions a cycle, `f` of them multiply-adds, cannot reach its peak with
more than `w/f` each: 3 where it starts six, two of them multiply-adds. What it waits for (memory, earlier
results) this cannot see. Needs valgrind, which knows no AVX-512 (where that is preferred, AVX2 is counted),
and gcc, by whose names for parallel regions a kernel is told from the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import projsym
from projsym.backward import attention_backward
from projsym.codegen.isa import BYTES, ISAS
from projsym.runtime import isa

CASES: tuple[tuple[str, tuple[int, int, int, int], str], ...] = (
    ("attention", (1, 1024, 1024, 64), "float32"),
    ("project", (1, 1024, 1024, 64), "float32"),
    ("attention", (1, 1024, 1024, 128), "float32"),
    ("attention", (1, 1024, 1024, 32), "float32"),
    ("attention", (1, 1024, 1024, 80), "float32"),
    ("attention", (1, 512, 512, 256), "float32"),
    ("attention", (8, 128, 128, 64), "float32"),
    ("attention", (32, 20, 20, 32), "float32"),
    ("causal", (1, 2048, 2048, 64), "float32"),
    ("project", (4, 1, 8192, 128), "float32"),
    ("attention", (4, 1, 8192, 128), "float32"),
    ("attention", (1, 512, 512, 64), "float64"),
    ("gradients", (1, 1024, 1024, 64), "float32"),
    ("gradients", (8, 128, 128, 64), "float32"),
    ("gradients", (32, 20, 20, 32), "float32"),
)
"""What is called, (heads, queries, keys, features), and the dtype."""

FUNCTIONS = {"project": "project_dot", "attention": "attention", "causal": "attention"}
PRODUCTS = {"gradients": 5}
"""Products of n by m by d: two in a forward pass."""


def run(what: str, shape: tuple[int, int, int, int], dtype: str) -> None:
    """One call; gradients are of a forward pass that NumPy makes, so that no other kernel is counted."""
    h, n, m, d = shape
    rng = np.random.default_rng(0)
    q, g = (rng.standard_normal((h, n, d)).astype(dtype) for _ in range(2))
    k, v = (rng.standard_normal((h, m, d)).astype(dtype) for _ in range(2))
    if what == "project":
        projsym.project(q, k, backend="c")
    elif what == "gradients":
        out, lse = projsym.attention(q, k, v, return_lse=True, backend="numpy")
        attention_backward(g, q, k, v, out, lse, backend="c")
    else:
        projsym.attention(q, k, v, is_causal=what == "causal", backend="c")


def count(what: str, shape: tuple[int, int, int, int], dtype: str) -> int:
    """Instructions inside the kernel in one call. Raises RuntimeError if valgrind tells none."""
    child = [sys.executable, __file__, "--child", what, *map(str, shape), dtype]
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(child, env=env, check=True)  # compiles
    name = FUNCTIONS.get(what, "attention_backward")
    with tempfile.TemporaryDirectory() as folder:
        tool = [
            "valgrind",
            "--tool=callgrind",
            f"--toggle-collect={name}._omp_fn*",
            f"--callgrind-out-file={folder}/out",
        ]
        done = subprocess.run([*tool, *child], env=env, check=True, stderr=subprocess.PIPE, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None or not int(found[1]):
        raise RuntimeError(f"{what}: valgrind counted nothing in {name}:\n{done.stderr[-2000:]}")
    return int(found[1])


def needed(what: str, shape: tuple[int, int, int, int], dtype: str) -> float:
    """Multiply-add instructions of the products; of causal ones, with the pairs that a query sees."""
    h, n, m, d = shape
    used = next(x for x in ISAS if x.name == isa.chosen())
    pairs = n * (n + 1) / 2 if what == "causal" else n * m
    return PRODUCTS.get(what, 2) * h * pairs * d / (used.bytes // BYTES[dtype])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        what, *sizes, dtype = chosen.child
        h, n, m, d = map(int, sizes)
        run(what, (h, n, m, d), dtype)
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind: not found; install it to count instructions")
    if isa.chosen() == "avx512":
        os.environ[isa.VARIABLE] = "avx2"
    print(f"counted: {isa.chosen()}\n")
    rows: list[dict[str, Any]] = []
    print(f"{'what':<10} {'H x n x m x d':<18} {'dtype':<8} {'instructions':>13} {'needed':>11} {'each':>6}")
    for what, shape, dtype in CASES:
        found, least = count(what, shape, dtype), needed(what, shape, dtype)
        size = "x".join(map(str, shape))
        print(f"{what:<10} {size:<18} {dtype:<8} {found:13d} {least:11.0f} {found / least:6.2f}", flush=True)
        rows.append({"what": what, "shape": shape, "dtype": dtype, "instructions": found, "needed": least})
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
