"""Speed of weights of one's own beside the dot-product kernel, on one thread.

Prints, for each weight, CPU time of forward and of backward (all gradients, or those of query, key and value
alone) as the least of interleaved repetitions, and the ratio of the dot-product kernel's time to it: 0.8
means that it runs at 80 % of that kernel's speed. Before anything is timed, outputs in float32 are compared
with those of the same weight in float64.

    python benchmarks/own_attention.py [--n 1024] [--d 64] [--repeat 40]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import sympy as sp

import projsym
from projsym.own import ScalarFamily, i, inner, j, k, norm2, q

scale, slope = sp.symbols("scale slope", real=True)
cap, sigma, width_of_all, rate = sp.symbols("cap sigma h rate", positive=True)
width, time_of = ScalarFamily("width", positive=True), ScalarFamily("time")

WEIGHTS: dict[str, tuple[str, sp.Expr, dict[str, float]]] = {
    "dot product": ("weight", sp.exp(scale * inner(q, k[j])), {"scale": 0.125}),
    "ALiBi": ("weight", sp.exp(scale * inner(q, k[j]) - slope * (i - j)), {"scale": 0.125, "slope": 0.01}),
    "soft cap": ("score", cap * sp.tanh(scale * inner(q, k[j]) / cap), {"scale": 0.125, "cap": 50.0}),
    "forgetting": (
        "weight",
        sp.exp(scale * inner(q, k[j]) - rate * (time_of[i] - time_of[j])),
        {"scale": 0.125, "rate": 0.01},
    ),
    "bandwidth of a key": ("weight", sp.exp(-norm2(q - k[j]) / (2 * width[j] ** 2)), {}),
    "Student-t": ("weight", (1 + norm2(q - k[j]) / sigma**2) ** -2, {"sigma": 8.0}),
    "Epanechnikov": ("weight", sp.Max(0, 1 - norm2(q - k[j]) / width_of_all**2), {"h": 16.0}),
}


def numbers(name: str, n: int, dtype: type) -> dict[str, np.ndarray]:
    """Numbers of queries and keys that a weight needs."""
    if name == "forgetting":
        return {x: np.arange(n, dtype=dtype) for x in ("query_time", "key_time")}
    return {"width": np.full(n, 8.0, dtype)} if name == "bandwidth of a key" else {}


def least(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """The least CPU time of each call, in seconds, over rounds in which every call has its turn."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1024, help="queries, and keys")
    parser.add_argument("--d", type=int, default=64, help="features of queries, keys and values")
    parser.add_argument("--repeat", type=int, default=40, help="rounds")
    parser.add_argument("--only", nargs="*", help="names of weights")
    chosen = parser.parse_args()
    projsym.set_num_threads(1)
    rng = np.random.default_rng(0)
    wide = [rng.standard_normal((chosen.n, chosen.d)) for _ in range(4)]
    query, key, value, g = (x.astype(np.float32) for x in wide)
    forward: dict[str, Callable[[], object]] = {"attention": lambda: projsym.attention(query, key, value)}
    out, lse = projsym.attention(query, key, value, return_lse=True)
    backward: dict[str, Callable[[], object]] = {
        "attention": lambda: projsym.attention_backward(g, query, key, value, out, lse)
    }
    for name, (what, term, parameters) in WEIGHTS.items():
        if chosen.only and name not in chosen.only:
            continue
        given = numbers(name, chosen.n, np.float32)
        fixed = {x.name for x in term.free_symbols if not x.is_integer} | set(given)
        for label, left in ((name, ()), (f"{name}, fixed", sorted(fixed))):
            known = set() if not left else set(left)
            f = projsym.compile(**{what: term}, fixed=known, name="own")
            options = {**parameters, **given}
            made, saved = f(query, key, value, return_saved=True, **options)
            exact = f(*wide[:3], **parameters, **numbers(name, chosen.n, np.float64))
            assert abs(made - exact).max() < 1e-3, f"{name}: float32 and float64 disagree"
            forward[label] = lambda f=f, o=options: f(query, key, value, **o)
            backward[label] = lambda f=f, o=options, a=made, s=saved: f.backward(
                g, query, key, value, a, s, **o
            )
    print(f"n = m = {chosen.n}, d = {chosen.d}, float32, 1 thread, CPU time, least of {chosen.repeat}")
    for what, calls in (("forward", forward), ("backward", backward)):
        best = least(calls, chosen.repeat)
        for name, seconds in best.items():
            print(f"{what:<9} {name:<26} {1e3 * seconds:8.3f} ms   {best['attention'] / seconds:5.2f}")


if __name__ == "__main__":
    main()
