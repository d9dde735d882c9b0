"""What was wanted of the kernels, beside what a folder's `bench.json` holds: met or short, row by row.

    python benchmarks/targets.py FOLDER

"of peak" is of the threads' rate of multiply-adds, or of the rate at which they read memory where there is
one query; "over the best" is the ratio of least times to the fastest peer of that row, with the median of
rounds in brackets; peers that took more threads than their row has are left out. A dash: nothing was wanted.
A row that was refused is shown as such. "of peak" of causal attention counts the pairs that are seen alone.
Where the ratio is short, the fraction of the peak at which it would be reached stands in brackets: near or
above 100 % the peer leaves no room for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORWARD, GRADIENTS = ("attention", "project"), ("attention with gradients",)
Row = dict[str, Any]


@dataclass(frozen=True)
class Aim:
    """Wanted of kernels at shapes (heads, queries, keys, features): a fraction of the peak, a ratio.

    peers, threads: of the rows that something is wanted of; None: of all.
    """

    what: str
    kernels: tuple[str, ...]
    shapes: tuple[tuple[int, int, int, int], ...]
    peak: float | None
    ratio: float
    dtype: str = "float32"
    peers: tuple[str, ...] | None = None
    threads: tuple[int, ...] | None = None

    def covers(self, row: Row) -> bool:
        """Whether something is wanted of a row."""
        return (
            row["kernel"] in self.kernels
            and tuple(row["shape"]) in self.shapes
            and row["dtype"] == self.dtype
            and (self.peers is None or row["peer"] in self.peers)
            and (self.threads is None or row["threads"] in self.threads)
        )


LONG = tuple((h, n, n, 64) for h, n in ((1, 1024), (8, 1024), (1, 2048), (1, 4096)))
IN_NUMPY, WHOLE = ("attention in NumPy",), ((1, 4096, 4096, 64), (8, 1024, 1024, 64))
DECODE = ((32, 1, 8192, 128), (8, 1, 32768, 64))
OVER_NUMPY = Aim("over NumPy, on 1 thread", IN_NUMPY, WHOLE, None, 2.3, peers=("numpy",), threads=(1,))
AIMS = (
    Aim("forward, 64 features", FORWARD, LONG, 0.9, 1.25),
    Aim("forward, 128 features", FORWARD, ((2, 1024, 1024, 128),), 0.9, 1.15),
    Aim("forward, other widths", FORWARD, tuple((2, 1024, 1024, d) for d in (32, 80, 96, 256)), 0.75, 1.0),
    Aim("64 short heads", FORWARD, ((64, 128, 128, 64),), 0.85, 1.5),
    Aim("the paper's size", FORWARD, ((512, 20, 20, 32),), 0.55, 3.5),
    Aim("the paper's size, few heads", FORWARD, ((8, 20, 20, 32),), None, 3.5),
    Aim("one query, keys only", ("project",), DECODE, 0.9, 1.7),
    Aim("with gradients", GRADIENTS, (*LONG, (64, 128, 128, 64)), 0.88, 1.3),
    Aim("with gradients, short", GRADIENTS, ((512, 20, 20, 32), (8, 20, 20, 32)), None, 1.3),
    Aim("float64", FORWARD, ((8, 512, 512, 64),), 0.8, 1.2, "float64"),
    Aim("bfloat16", FORWARD, ((8, 1024, 1024, 64),), 0.6, 2.0, "bfloat16"),
    Aim("causal", ("causal attention",), ((1, 2048, 2048, 64),), 0.8, 1.25),
    OVER_NUMPY,
    Aim("over PyTorch as installed", IN_NUMPY, WHOLE, None, 1.4, peers=("torch",)),
)
MEMORY = 40
"""What NumPy works in, over what the kernel in NumPy works in."""


def groups(rows: list[Row], aim: Aim) -> Iterator[tuple[tuple[str, tuple[int, ...], int], list[Row]]]:
    """The rows of an aim: those of one kernel, shape and number of threads together."""
    found: dict[tuple[str, tuple[int, ...], int], list[Row]] = {}
    for row in rows:
        if aim.covers(row):
            found.setdefault((row["kernel"], tuple(row["shape"]), row["threads"]), []).append(row)
    yield from found.items()


def line(aim: Aim, key: tuple[str, tuple[int, ...], int], rows: list[Row], read: dict[str, float]) -> str:
    """One line of the table."""
    kernel, shape, threads = key
    good = [r for r in rows if r["verdict"] == "equal" and r["ratio_min"] and " on " not in r["peer"]]
    head = f"| {aim.what} | {kernel} {'×'.join(map(str, shape))} | {threads} |"
    if not good:
        return f"{head} refused | | | | |"
    best = min(good, key=lambda r: r["ratio_min"])
    part = best["peak_fraction"]
    if shape[1] == 1:
        part = best["predicted_bytes"] / best["ours_min_s"] / read[str(threads)]
    ratio, short = best["ratio_min"], []
    if aim.peak is not None and part < aim.peak:
        short.append("peak")
    if ratio < aim.ratio:
        short.append(f"ratio ({part * aim.ratio / ratio:.0%})")
    wanted = "–" if aim.peak is None else f"{aim.peak:.0%}"
    return (
        f"{head} {part:.0%} | {wanted} | {best['peer']} | {ratio:.2f} ({best['ratio_median']:.2f}) | "
        f"{aim.ratio:.2f} | {'short: ' + ', '.join(short) if short else 'met'} |"
    )


def table(bench: dict[str, Any]) -> list[str]:
    """All lines."""
    read = {str(k): float(v) for k, v in bench["read_bytes_per_s"].items()}
    lines = [
        "| what | row | threads | of peak | wanted | best peer | over the best | wanted | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for aim in AIMS:
        lines += [line(aim, key, rows, read) for key, rows in groups(bench["rows"], aim)]
    return lines


def both(bench: dict[str, Any]) -> list[str]:
    """Of one query: how much longer keys and values take than keys alone."""
    least = {
        (r["kernel"], tuple(r["shape"]), r["dtype"], r["threads"]): r["ours_min_s"] for r in bench["rows"]
    }
    found = []
    for shape in DECODE:
        for threads in (1, 2):
            pair = [least.get((k, shape, "float32", threads)) for k in ("attention", "project")]
            if all(pair):
                size = "×".join(map(str, shape))
                found.append(
                    f"- {size}, {threads} threads: keys and values {pair[0] / pair[1]:.2f} times as long"
                )
    return found


def memory(bench: dict[str, Any]) -> list[str]:
    """Of the kernel in NumPy: what it and whole arrays work in, beside the output, on one thread."""
    found = []
    for r in filter(OVER_NUMPY.covers, bench["rows"]):
        ours, theirs, text = r["ours_work_bytes"], r["peer_work_bytes"], "refused"
        if ours and theirs:
            text = f"{ours / 1e6:.2f} MB, 1/{theirs / ours:.1f} of {theirs / 1e6:.2f} MB: "
            text += "met" if theirs >= MEMORY * ours else "short"
        found.append(f"- {'×'.join(map(str, r['shape']))}: {text}")
    return found or ["- not measured"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    bench = json.loads((parser.parse_args().folder / "bench.json").read_text(encoding="utf-8"))
    print(f"# What was wanted, and what was measured on {bench['date'][:10]}\n")
    print("\n".join(table(bench)))
    print("\nOne query (wanted: 1.8 or more):\n")
    print("\n".join(both(bench)))
    print(f"\nMemory of attention in NumPy, beside its output (wanted: at most 1/{MEMORY} of NumPy's):\n")
    print("\n".join(memory(bench)))


if __name__ == "__main__":
    main()
