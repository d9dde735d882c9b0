"""The section on the audit of a real model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from projsym.report.html import Html, details, join, number, spread, table, tag, verdict

_HEAD = ("difference", "bound", "key norms ±", "folded ±", "W_V", "defect of W_V", "bandwidth")
_LEGEND = (
    "Difference: largest in a head's output, over tokens and features. Key norms ±: standard deviation over "
    "mean of the norms of the head's own keys, and of the folded ones. Defect: least-squares distance of W_V "
    "from what the keys determine; 0 if values can be dropped. Bandwidth: σ over the root-mean-square "
    "distance of two keys."
)
_WORDS = {True: "droppable", False: "needed", None: "undecided"}


def section(audit: dict[str, Any]) -> Html:
    """The model, its layers, its heads folded away, and the whole model with its attention replaced."""
    heads = [h for layer in audit["layers"] for h in layer["heads"]]
    within = sum(_within(h) for h in heads)
    verdict_word = "within bound" if within == len(heads) else "beyond the bound"
    told = (
        f". Standard attention and its folded form agree within the error bound in {within} of {len(heads)} "
    )
    layers = [
        details(f"layer {x['layer']}, head by head", _table("head", [(h["head"], [h]) for h in x["heads"]]))
        for x in audit["layers"]
    ]
    return join(
        [
            tag("p", "Model: ", tag("code", audit["model"]), told, "heads: ", verdict(verdict_word)),
            _table("layer", [(x["layer"], x["heads"]) for x in audit["layers"]]),
            tag("p", _LEGEND, cls="soft"),
            *layers,
            tag("h3", "The whole model with every attention replaced by its projection"),
            _pairs(audit["end_to_end"]),
        ]
    )


def _table(first: str, rows: Sequence[tuple[object, Sequence[dict[str, Any]]]]) -> Html:
    return table((first, *_HEAD), [(name, *_row(heads)) for name, heads in rows], range(1, 8))


def _within(head: dict[str, Any]) -> bool:
    return bool(head.get("within_bound", head["fold_max_abs_err"] <= head["err_bound"]))


def _row(heads: Sequence[dict[str, Any]]) -> tuple[object, ...]:
    def column(key: str) -> list[Any]:
        return [h.get(key) for h in heads]

    words = sorted({_WORDS[x] for x in column("value_rank_condition")})
    return (
        number(max(column("fold_max_abs_err"))),
        number(max(column("err_bound"))),
        spread(column("key_norm_spread")),
        spread(column("key_norm_spread_folded")),
        ", ".join(words),
        spread(column("value_defect")),
        spread(column("effective_bandwidth")),
    )


def _pairs(data: dict[str, Any]) -> Html:
    """Names and numbers; nested data is left to the JSON file."""
    items = [(k, v) for k, v in data.items() if not isinstance(v, dict | list)]
    return tag("dl", *(x for k, v in items for x in (tag("dt", k.replace("_", " ")), tag("dd", number(v)))))
