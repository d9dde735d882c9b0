"""The attention kernel as gcc and as clang compile it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from projsym.bench.gate import Gate
from projsym.bench.rows import Shape
from projsym.bench.timing import interleave
from projsym.runtime import compiler, manifest
from projsym.runtime.c_kernel import CKernel
from projsym.runtime.threads import default_threads, get_num_threads, set_num_threads

NAMES = ("gcc", "clang")
SHOWN = 0.05
"""A difference of least times that is worth a line."""
SEED = 20260202


def compare(shapes: Iterable[Shape], seconds: float) -> list[dict[str, Any]]:
    """For every shape the least seconds of a call on one thread by compiler, timed in turns, and versions.

    None unless both are installed. Raises CompilerError if one of them cannot compile the kernel, and
    RuntimeError if an output is outside its error bound.
    """
    tools = {name: compiler.named(path) for name in NAMES if (path := shutil.which(name))}
    if len(tools) < len(NAMES):
        return []
    before = None if get_num_threads() == default_threads() else get_num_threads()
    set_num_threads(1)
    try:
        return [_one(shape, tools, seconds) for shape in shapes]
    finally:
        set_num_threads(before)


def _one(shape: Shape, tools: dict[str, compiler.Compiler], seconds: float) -> dict[str, Any]:
    heads, n, m, d = shape.sizes
    rng = np.random.default_rng(SEED)
    q, k, v = (rng.standard_normal((heads, x, d)).astype(shape.dtype) for x in (n, m, m))
    entry = manifest.load(manifest.KERNELS)["attention"]
    gate = Gate(q, k, v, entry.order(f"c/{shape.dtype}", n, m, d))
    calls: dict[str, Callable[[], Any]] = {}
    for name, tool in tools.items():
        kernel = CKernel(entry, shape.dtype, {"d": d, "dv": d}, tools=tool)
        plan = kernel.plan((heads,), {"q": q, "k": k, "v": v}, ("lse",))
        calls[name] = partial(plan, (q, k, v), (d**-0.5,))
        (out, _), status = calls[name]()
        if status or not gate.check(out, peer=False).equal:
            raise RuntimeError(f"attention {shape}, compiled by {name}: outside its error bound")
    times = {name: t.least for name, t in interleave(calls, seconds).items()}
    versions = {name: tool.version.splitlines()[0] for name, tool in tools.items()}
    return {"shape": list(shape.sizes), "dtype": shape.dtype, "seconds": times, "versions": versions}


def lines(found: list[dict[str, Any]]) -> list[str]:
    """One line for every difference above `SHOWN`, or that there is none."""
    text = []
    for x in found:
        slow, fast = sorted(x["seconds"], key=x["seconds"].__getitem__, reverse=True)
        ratio = x["seconds"][slow] / x["seconds"][fast]
        if ratio > 1 + SHOWN:
            size = "×".join(map(str, x["shape"]))
            text.append(
                f"attention {size} {x['dtype']}, 1 thread: {fast} {ratio:.2f} times as fast as {slow}"
            )
    if found and not text:
        text.append(f"gcc and clang differ by at most {SHOWN:.0%} on every shape, on one thread")
    return text
