"""The benchmark's result: rows with their predictions, the machine, and the files that show them."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from projsym.bench import compilers, fixed, memory
from projsym.bench.environment import environment
from projsym.bench.measure import Progress, run, thread_counts
from projsym.bench.peak import fma_peak, read_bandwidth
from projsym.bench.predict import predict
from projsym.bench.rows import SHAPES, Row, Shape, multiplied


def result(
    shapes: Iterable[Shape] | None = None,
    threads: Iterable[int] | None = None,
    seconds: float = 0.4,
    progress: Progress | None = None,
    *,
    more: Mapping[str, Sequence[Shape]] | None = None,
) -> dict[str, Any]:
    """Plain data for JSON: date, environment, rates and rows; arguments as those of `projsym.bench.run`.

    Each row has beside the fields of `Row` the counts of `projsym.bench.predict`, predicted_s, and
    prediction_error = predicted_s / ours_min_s - 1, negative where the kernel takes longer.
    """
    chosen = list(SHAPES if shapes is None else shapes)
    counts = thread_counts(threads)
    # Other machines may share the memory, and can only lower its rate: the better of before and after.
    bandwidth = {n: read_bandwidth(n) for n in counts}
    with tempfile.TemporaryDirectory() as folder:
        rows = run(chosen, counts, seconds, progress, gates=Path(folder), more=more)
        if progress:
            progress(fixed.PEER)
        rows += fixed.rows(chosen, counts, seconds, Path(folder), more)
    if progress:
        progress("gcc and clang")
    compiled = compilers.compare([s for s in chosen if s.dtype == s.computed], seconds)
    if progress:
        progress("rates of the machine")
    measured = [*chosen, *(s for found in (more or {}).values() for s in found)]
    rates = {dtype: fma_peak(dtype) for dtype in sorted({s.multiplied for s in measured})}
    bandwidth = {n: max(first, read_bandwidth(n)) for n, first in bandwidth.items()}
    return {
        "date": datetime.date.today().isoformat(),
        "environment": environment(),
        "fma_flops_per_s": rates,
        "read_bytes_per_s": {str(n): x for n, x in bandwidth.items()},
        "rows": [_predicted(r, r.threads * rates[multiplied(r.dtype)], bandwidth[r.threads]) for r in rows],
        "compilers": compiled,
    }


def _predicted(row: Row, rate: float, bandwidth: float) -> dict[str, Any]:
    p = predict(row.kernel, row.shape, row.dtype, rate, bandwidth)
    error = None if row.ours_min_s is None else p.seconds / row.ours_min_s - 1
    counts = {
        "predicted_flops": p.flops,
        "predicted_exponentials": p.exponentials,
        "predicted_bytes": p.bytes,
    }
    return row.as_dict() | counts | {"predicted_s": p.seconds, "prediction_error": error}


def write(data: dict[str, Any], folder: Path) -> list[Path]:
    """``bench.json``, ``bench.md`` and, with Matplotlib, the figures of `projsym.bench.figures`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "bench.json", folder / "bench.md"]
    paths[0].write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    paths[1].write_text(markdown(data), "utf-8")
    try:
        from projsym.bench import figures
    except ImportError:
        return paths
    return paths + figures.write(data, folder)


def markdown(data: dict[str, Any]) -> str:
    """The machine, what may hold a peer back, and one line a row; ratios above 1: ours is faster."""
    e = data["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
    rates = ", ".join(f"{x / 1e9:.0f} GF/s {t}" for t, x in data["fma_flops_per_s"].items())
    widths = ", ".join(f"{x / 1e9:.1f} GB/s on {n}" for n, x in data["read_bytes_per_s"].items())
    found = [*e["notes"], *compilers.lines(data["compilers"]), *memory.lines(data["rows"])]
    lines = [
        f"# Kernels against peers, {data['date']}",
        "",
        f"{e['cpu']}, {e['cpus']} CPUs; {e['system']}; Python {e['python']}; {e['compiler']}; "
        f"{e['instructions']}.  ",
        f"{packages}.  ",
        f"One thread multiplies and adds {rates}; threads read {widths}.",
        "",
        *(f"- {note}" for note in found),
        "",
        "Least times. ratio: the peer's over ours, of the least times and the median within a round. of "
        "peak: of threads times the rate of one, by the operations needed: causal, those of the pairs seen. "
        "predicted: by counts and rates, over our time, less 1.",
        "",
    ]
    names = ["kernel", "H×n×m×d", "dtype", "threads", "peer", "ours ms", "peer ms", "ratio", "median"]
    names += ["of peak", "predicted", "error/bound"]
    return "\n".join([*lines, _line(names), _line(["---"] * len(names)), *map(_cells, data["rows"]), ""])


def _cells(r: dict[str, Any]) -> str:
    head = [r["kernel"], "×".join(map(str, r["shape"])), r["dtype"], str(r["threads"]), r["peer"]]
    if r["ours_min_s"] is None:
        return _line([*head, r["verdict"], *[""] * 6])
    share = (
        "" if not r["err_bound"] or r["max_abs_err"] is None else f"{r['max_abs_err'] / r['err_bound']:.2g}"
    )
    return _line(
        [
            *head,
            f"{1e3 * r['ours_min_s']:.3f}",
            f"{1e3 * r['peer_min_s']:.3f}",
            f"{r['ratio_min']:.2f}",
            f"{r['ratio_median']:.2f}",
            f"{r['peak_fraction']:.0%}",
            f"{r['prediction_error']:+.0%}",
            share,
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
