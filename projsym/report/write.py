"""Writing a report: the data as they are, and the page made from them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from projsym.report import audit, derive, sections
from projsym.report.html import Html, join, tag, verdict
from projsym.report.style import CSS

SECTIONS: Mapping[str, tuple[str, Callable[[Any], Html]]] = {
    "summary": ("Summary", sections.summary),
    "claims": ("The paper's claims", sections.claims),
    "derive": ("Theorems", derive.section),
    "kernels": ("Generated kernels", sections.kernels),
    "audit": ("A real model", audit.section),
    "bench": ("Speed", sections.bench),
    "environment": ("Environment", sections.environment),
}
"""Keys of the data in the order of the page: heading and the function that shows the value."""


def write_report(data: Mapping[str, Any], folder: Path) -> None:
    """Write `report.json` and `report.html` into `folder`, which is made if need be.

    data: what `projsym reproduce` gives, the keys of `SECTIONS`; None stands for what was not run, and the
    page says so. The page has no script and loads nothing. It shows the verdicts that it is given and checks
    none; a verdict that it does not know is shown as bad.

    A number that JSON does not have (NaN, infinity: a check that failed) is null in the file and shown on the
    page.

    Raises ValueError for a key that is missing or unknown, TypeError for a value that is no JSON data, with
    its place. OSError if it cannot write.
    """
    if missing := SECTIONS.keys() - data.keys():
        raise ValueError(
            f"data: the keys {', '.join(sorted(missing))} are missing; None stands for 'not run'"
        )
    if unknown := data.keys() - SECTIONS.keys():
        raise ValueError(
            f"data: unknown keys {', '.join(sorted(unknown))}, allowed are {', '.join(SECTIONS)}"
        )
    plain = _plain(data, "data")
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "report.json": json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.html": page(data),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def page(data: Mapping[str, Any]) -> str:
    """The page for data that `write_report` takes."""
    links = [tag("a", heading, href=f"#{key}") for key, (heading, _) in SECTIONS.items()]
    body = [
        tag("h1", "Attention as projection: what is proved, generated and measured"),
        tag("nav", *links),
        *(_section(key, data[key]) for key in SECTIONS),
    ]
    head = [
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", "projsym report"),
        tag("style", Html(CSS)),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", *head), tag("body", join(body)), lang="en") + "\n"


def _section(key: str, value: Any) -> Html:
    heading, show = SECTIONS[key]
    shown = tag("p", verdict("not run")) if value is None else show(value)
    return tag("section", tag("h2", heading), shown, id=key)


def _plain(x: object, place: str) -> object:
    """The value as JSON holds it: null for a number that is not finite; else TypeError."""
    match x:
        case Mapping():
            for key in x:
                if not isinstance(key, str):
                    raise TypeError(f"{place}: got the key {key!r}, allowed are strings")
            return {key: _plain(value, f"{place}[{key!r}]") for key, value in x.items()}
        case list() | tuple():
            return [_plain(value, f"{place}[{n}]") for n, value in enumerate(x)]
        case float():
            return x if math.isfinite(x) else None
        case None | bool() | int() | str():
            return x
    raise TypeError(f"{place}: got {type(x).__name__}, allowed are JSON data")
