"""The other sections: summary, claims, kernels, benchmark, environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from projsym.report.html import Html, join, number, seconds, table, tag, verdict

Entries = Sequence[dict[str, Any]]

_KERNELS = (
    "Every kernel is printed from a theorem's last line. The scheduled program is raised back to a term and "
    "proved equal to that line; error is the largest found, bound the largest proven."
)
_BENCH = (
    "Ratios are the peer's time over ours: above 1, ours is faster. Runs are interleaved, with the same "
    "number of threads, after both outputs were found within their error bounds. The bar is the share of the "
    "multiply-add rate measured in the same run."
)
_BENCH_HEAD = (
    "kernel", "heads×n×m×d", "dtype", "threads", "peer", "ours", "peer", "ratio of minima", "median ratio",
    "of FMA peak", "error (bound)", "outputs",
)  # fmt: skip


def summary(entries: Entries) -> Html:
    """A row a stage: its verdict, what was done, and how long it took."""
    rows = [(x["stage"], verdict(x["verdict"]), x["detail"], seconds(x["seconds"])) for x in entries]
    total = sum(x["seconds"] or 0 for x in entries)
    return join([table(("stage", "verdict", "", "time"), rows, [3]), tag("p", f"In all {seconds(total)}.")])


def claims(entries: Entries) -> Html:
    """The paper's claims with their verdicts and the theorems behind them."""
    rows = []
    for x in entries:
        note = [tag("div", x["note"])] if x["note"] else []
        if x.get("hypotheses"):
            note.insert(0, tag("div", "under: ", x["hypotheses"], cls="soft"))
        rows.append((x["claim"], verdict(x["verdict"]), ", ".join(x["theorems"]), join(note)))
    return tag("div", table(("claim", "verdict", "theorems", "note"), rows), cls="prose")


def kernels(entries: Entries) -> Html:
    """The generated kernels: proof of their algebra, error found and proven bound."""
    rows = [
        (
            tag("code", x["file"]),
            x["dtype"],
            verdict("proved" if x["validated"] else "not proved"),
            ", ".join(x["theorems"]),
            number(x["exp_error"]),
            seconds(x["compile_s"]),
            number(x["max_abs_err"]),
            number(x["err_bound"]),
        )
        for x in entries
    ]
    head = ("file", "dtype", "equals theorem", "theorems", "exp error", "compiled in", "error", "bound")
    return join([tag("p", _KERNELS), table(head, rows, range(4, 8))])


def bench(entries: Entries) -> Html:
    """Timed comparisons; a refused row keeps its errors and has no times."""
    rows = [
        (
            x["kernel"],
            "×".join(map(str, x["shape"])),
            x["dtype"],
            x["threads"],
            x["peer"],
            seconds(x["ours_min_s"]),
            seconds(x["peer_min_s"]),
            _ratio(x["ratio_min"]),
            _ratio(x["ratio_median"]),
            _fraction(x["peak_fraction"]),
            f"{number(x['max_abs_err'])} ({number(x['err_bound'])})",
            verdict(x.get("verdict", "equal")),
        )
        for x in entries
    ]
    return join([tag("p", _BENCH), table(_BENCH_HEAD, rows, (3, 5, 6, 7, 8, 9, 10))])


def environment(data: dict[str, Any]) -> Html:
    """The machine and versions; nested values on one line."""
    items = [(k, v) for k, v in data.items() if k != "notes"]
    shown = [x for k, v in items for x in (tag("dt", k.replace("_", " ")), tag("dd", _flat(v)))]
    return join([tag("dl", *shown), *(tag("p", note, cls="soft") for note in data.get("notes", ()))])


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_flat(v) for v in value)
    return number(value)


def _ratio(x: object) -> str:
    return f"{x:.2f}×" if isinstance(x, float) else "–"


def _fraction(x: object) -> Html | str:
    if not isinstance(x, float):
        return "–"
    share = f"{100 * min(x, 1.0):.0f}%"
    style = f"background: linear-gradient(to right, var(--bar) {share}, transparent {share})"
    return tag("span", f"{100 * x:.0f} %", cls="bar", style=style)
