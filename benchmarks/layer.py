"""Whole layers against PyTorch's standard layer: forward, and forward with backward.

``python benchmarks/layer.py [--threads 2] [--seconds 20] [--shape 64,20,256,8] [--json FILE]``

The standard layer has four products with matrices of D×D, without biases, and PyTorch's attention between
them; forward it runs without gradients being recorded. The folded layer is the standard one of a single head
[I.7], the tied layer the standard one with as many heads where W_V = W_K [I.8]. Nothing is timed unless the
layers agree: ours in float32 with the same layer in float64 within `projsym.bounds_layer`, PyTorch's within
the same number (granted, not proved for it), and both layers in float64 with one another.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], object]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="for all timings of one table")
    parser.add_argument("--shape", default="64,20,256,8", help="sequences, tokens, width, heads")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def torch_layer(w: dict[str, np.ndarray], heads: int, dtype: Any) -> Any:
    """The standard layer as a module with those weights."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Standard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = len(w["q"])
            for name, matrix in w.items():
                linear = nn.Linear(width, width, bias=False, dtype=dtype)
                linear.weight.data.copy_(torch.from_numpy(matrix.T.copy()))
                setattr(self, name, linear)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            def split(linear: nn.Module) -> torch.Tensor:
                return linear(x).view(*x.shape[:-1], heads, -1).transpose(1, 2)

            made = functional.scaled_dot_product_attention(split(self.q), split(self.k), split(self.v))
            return self.o(made.transpose(1, 2).reshape(x.shape))

    return Standard()


def problem(shape: tuple[int, int, int, int]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Weights, inputs and upstream gradient in float32; W_V = W_K."""
    count, n, width, _ = shape
    rng = np.random.default_rng(0)
    w = {name: rng.standard_normal((width, width), dtype=np.float32) / width**0.5 for name in "qko"}
    x, g = (rng.standard_normal((count, n, width), dtype=np.float32) for _ in "xg")
    return {"q": w["q"], "k": w["k"], "v": w["k"], "o": w["o"]}, x, g


def gate(name: str, x: np.ndarray, ours: Any, wide: Any, standard: Any, exact: Any) -> float:
    """The worst error of ours over its bound; SystemExit if the layers disagree."""
    import torch

    from projsym import layer
    from projsym.bounds_layer import layer_bound

    bound = layer_bound(x, ours).out
    double = x.astype(np.float64)
    with torch.no_grad():
        peer, truth = standard(torch.from_numpy(x)).numpy(), exact(torch.from_numpy(double)).numpy()
    reference = layer(double, wide, backend="numpy")
    share = float((np.abs(layer(x, ours) - layer(double, cast(ours), backend="numpy")) / bound).max())
    apart = float(np.abs(reference - truth).max() / np.abs(truth).max())
    granted = float((np.abs(peer - truth) / bound).max())
    print(f"{name}: error/bound {share:.1e}, PyTorch {granted:.1e}; the two in float64 differ by {apart:.1e}")
    if not (share <= 1 and granted <= 1 and apart <= 1e-12):
        raise SystemExit(f"{name}: the layers disagree; nothing is timed")
    return share


def cast(weights: Any) -> Any:
    """The same numbers in float64."""
    from dataclasses import fields, replace

    arrays = {f.name: getattr(weights, f.name) for f in fields(weights)}
    return replace(
        weights, **{n: a.astype(np.float64) for n, a in arrays.items() if isinstance(a, np.ndarray)}
    )


def main() -> None:
    given = arguments()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    if os.environ.pop("OPENBLAS_CORETYPE", None):  # it would hold NumPy's products back
        os.execv(sys.executable, [sys.executable, *sys.argv])
    import torch

    from projsym import fold, layer, layer_backward, layer_forward, tie
    from projsym.bench.environment import environment
    from projsym.bench.peak import fma_peak
    from projsym.bench.timing import interleave

    torch.set_num_threads(given.threads)
    shape = tuple(int(n) for n in given.shape.split(","))
    count, n, width, heads = shape
    w, x, g = problem(shape)
    double = {name: m.astype(np.float64) for name, m in w.items()}
    folded = fold(w["q"], w["k"], w["v"], w["o"])
    tied = tie(w["q"], w["k"], w["o"], heads=heads)
    one, many = (torch_layer(w, h, torch.float32) for h in (1, heads))
    gate("folded", x, folded, fold(*(double[c] for c in "qkvo")), one, torch_layer(double, 1, torch.float64))
    gate(
        "tied",
        x,
        tied,
        tie(*(double[c] for c in "qko"), heads=heads),
        many,
        torch_layer(double, heads, torch.float64),
    )

    def forward(module: Any) -> Call:
        inputs = torch.from_numpy(x)

        def call() -> None:
            with torch.no_grad():
                module(inputs)

        return call

    def both(module: Any) -> Call:
        inputs, upstream = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(g)

        def call() -> None:
            inputs.grad = None
            module.zero_grad(set_to_none=True)
            module(inputs).backward(upstream)

        return call

    def ours(weights: Any) -> Call:
        return lambda: layer_backward(g, x, weights, saved=layer_forward(x, weights)[1])

    tables: dict[str, dict[str, Call]] = {
        "forward": {
            f"standard, {heads} heads": forward(many.eval()),
            "standard, 1 head": forward(one.eval()),
            "folded, 1 head": lambda: layer(x, folded),
            f"tied, {heads} heads": lambda: layer(x, tied),
        },
        "forward and backward": {
            f"standard, {heads} heads": both(many.train()),
            "standard, 1 head": both(one.train()),
            "folded, 1 head": ours(folded),
            f"tied, {heads} heads": ours(tied),
        },
    }
    products = 2 * count * n * width**2
    pairs = 2 * count * n * n * width
    flops = {"folded": 2 * products + 2 * pairs, "tied": 3 * products + 2 * pairs}
    peak = given.threads * fma_peak("float32")
    rows = []
    print(
        f"\n{count} x {n} tokens, width {width}, {given.threads} threads, FMA peak {peak / 1e9:.0f} Gflop/s"
    )
    for table, calls in tables.items():
        for call in calls.values():
            call()
        times = interleave(calls, given.seconds)
        base = {name: t for name, t in times.items() if name.startswith("standard")}
        print(
            f"\n{table:<24}{'least ms':>10}{'median ms':>11}{'of peak':>10}  standard over it (least, median)"
        )
        for name, t in times.items():
            kind = name.split(",")[0]
            of_peak = flops[kind] / t.least / peak if table == "forward" and kind in flops else None
            ratios = {b: (s.least / t.least, s.median_ratio(t)) for b, s in base.items() if name not in base}
            median = statistics.median(t.samples)
            told = "  ".join(f"{b.split(', ')[1]}: {a:.2f}, {m:.2f}" for b, (a, m) in ratios.items())
            share = f"{of_peak:9.0%}" if of_peak else " " * 9
            print(f"{name:<24}{1e3 * t.least:10.3f}{1e3 * median:11.3f} {share}  {told}")
            rows.append(
                {"table": table, "name": name, "least_s": t.least, "median_s": median, "of_peak": of_peak,
                 "ratios": ratios, "rounds": len(t.samples)}
            )  # fmt: skip
    if given.json:
        result = {"shape": shape, "threads": given.threads, "peak": peak, "rows": rows}
        given.json.write_text(json.dumps(result | {"environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
