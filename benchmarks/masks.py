"""What masks cost: CPU time of one thread, least of interleaved runs, against the call without a mask.

``python benchmarks/masks.py`` prints a table for n = m = 2048, d = 64, float32: the time, its ratio to the
call without a mask, and the share of pairs that the mask leaves, which is what the ratio would be if only
these were paid for.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import projsym

N, D, RUNS = 2048, 64, 9


def cases() -> dict[str, tuple[dict[str, Any], float]]:
    """Arguments of each mask, and the share of pairs that it leaves."""
    below = (N + 1) / (2 * N)
    numbers = np.zeros((N, N), np.float32)
    return {
        "none": ({}, 1.0),
        "is_causal": ({"is_causal": True}, below),
        "window (127, 0)": ({"window": (127, 0)}, 128 / N),
        "kv_lengths n/4": ({"kv_lengths": [N // 4]}, 0.25),
        "attn_mask of numbers": ({"attn_mask": numbers}, 1.0),
        "attn_mask of booleans": ({"attn_mask": np.tri(N, dtype=bool)}, 1.0),
    }


def measure() -> dict[str, float]:
    """Least seconds by case."""
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, N, D), dtype=np.float32)
    best = dict.fromkeys(cases(), float("inf"))
    projsym.set_num_threads(1)
    for _ in range(RUNS):
        for name, (options, _) in cases().items():
            start = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
            projsym.attention(q, k, v, backend="c", **options)
            best[name] = min(best[name], time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - start)
    return best


def main() -> None:
    """Print the table."""
    best = measure()
    print("| mask | ms | of none | pairs left |\n|---|---|---|---|")
    for name, (_, share) in cases().items():
        print(f"| {name} | {1e3 * best[name]:.2f} | {best[name] / best['none']:.3f} | {share:.3f} |")


if __name__ == "__main__":
    main()
