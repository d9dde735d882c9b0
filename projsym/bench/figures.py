"""Figures of a benchmark's result: roofline, ratio by shape, error against bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from projsym.figures.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION

matplotlib.use("Agg")

_MARKS = (("o", BLUE), ("^", VERMILION), ("s", GREEN), ("D", ORANGE), ("v", PURPLE))
"""Shape and colour say the same: what differs by colour differs by shape or line too."""


def write(data: dict[str, Any], folder: Path) -> list[Path]:
    """``roofline.svg``, ``ratio.svg`` and ``error.svg``; refused rows have no time and are left out."""
    rows = [r for r in data["rows"] if r["ours_min_s"] is not None]
    paths = []
    for name, draw in (("roofline", _roofline), ("ratio", _ratio), ("error", _error)):
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        draw(axes, rows, data)
        paths.append(folder / f"{name}.svg")
        with matplotlib.rc_context({"svg.hashsalt": "projsym"}):  # the same data give the same file
            figure.savefig(paths[-1], metadata={"Date": None})
        plt.close(figure)
    return paths


def _roofline(axes: Any, rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Rate against operations a byte, under what one thread and all threads can do."""
    for dtype, rate in data["fma_flops_per_s"].items():
        for n, bandwidth in data["read_bytes_per_s"].items():
            style = "-" if dtype == "float32" else "--"
            x = [0.25, int(n) * rate / bandwidth, 1e4]
            y = [min(int(n) * rate, a * bandwidth) / 1e9 for a in x]
            axes.loglog(
                x, y, style, color=BLUE if n == "1" else VERMILION, lw=1, label=f"{dtype}, threads: {n}"
            )
    for key in {(r["kernel"], r["dtype"], r["threads"]) for r in rows}:
        of = [r for r in rows if (r["kernel"], r["dtype"], r["threads"]) == key]
        x = [r["predicted_flops"] / r["predicted_bytes"] for r in of]
        axes.plot(x, [r["predicted_flops"] / r["ours_min_s"] / 1e9 for r in of], ".", color="k", ms=4)
    axes.set(xlabel="flops a byte", ylabel="GF/s", title="Rate of the kernels under the machine's")
    axes.legend(fontsize=7)


def _ratio(axes: Any, rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """The peer's least time over ours: a line a peer, all shapes, types and numbers of threads on it."""
    peers = list(dict.fromkeys(r["peer"] for r in rows))
    kernels = list(dict.fromkeys(r["kernel"] for r in rows))
    for n, kernel in enumerate(kernels):
        of = [r for r in rows if r["kernel"] == kernel]
        line = np.array([peers.index(r["peer"]) for r in of]) + 0.2 * (n - (len(kernels) - 1) / 2)
        mark, colour = _MARKS[n % len(_MARKS)]
        axes.plot([r["ratio_min"] for r in of], line, mark, color=colour, ms=4, alpha=0.6, label=kernel)
    axes.axvline(1, color="k", lw=0.8)
    axes.set_yticks(range(len(peers)), peers)
    axes.set(xscale="log", xlabel="peer's time over ours", title="Right of 1: ours is faster")
    axes.invert_yaxis()
    if rows:
        axes.legend(fontsize=8)


def _error(axes: Any, rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Largest error of our outputs against the proven bound."""
    of = [r for r in rows if r["err_bound"] and r["max_abs_err"]]
    axes.loglog([r["err_bound"] for r in of], [r["max_abs_err"] for r in of], "o", color=BLUE, ms=4)
    if of:
        ends = [min(r["max_abs_err"] for r in of), max(r["err_bound"] for r in of)]
        axes.loglog(ends, ends, color="k", lw=0.8)
    axes.set(xlabel="proven bound", ylabel="largest error", title="Below the line: within the bound")
