"""The pages of the paper's claims and of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from projsym.claims import Claim
from projsym.display import table
from projsym.report.html import number, seconds

__all__ = ["bench_page", "claims_page"]

_HOW = """# Speed

Times depend on the machine. To measure on yours:

```sh
pip install -e ".[audit,compare]"
projsym bench
```

Outputs are compared within proven bounds before anything is timed; ratios are the peer's time over ours, so
above 1 ours is faster. `projsym bench --json > benchmarks/YEAR-MONTH-DAY.json` saves a table that this page
shows when the site is built again.
"""


def claims_page(claims: Sequence[Claim], stands: Collection[str]) -> str:
    """The table of claims; ValueError if something that a claim rests on does not stand.

    stands: ids of the theorems that are proved and the refusals that are refuted.
    """
    behind = {id for c in claims for id in c.theorems}
    if fallen := sorted(behind - set(stands)):
        raise ValueError(f"claims: {', '.join(fallen)} do not stand, so the claims that name them do not")
    rows = []
    for c in claims:
        verdict = f"**{c.verdict}**" + (f": {c.hypotheses}" if c.hypotheses else "")
        rows.append(f"| {c.claim} | {verdict} | {', '.join(c.theorems) or '–'} | {c.note} |")
    head = "{.stack}\n| claim | verdict | behind it | note |\n|---|---|---|---|"
    return (
        "# What the paper claims and what holds\n\n"
        "Sentences of the abstract of arXiv 2602.02521, restated, and figures reported at second hand. What "
        f"stands behind each, {len(behind)} theorems and refusals in all, was proved or refuted again when "
        "this page was built.\n\n" + "\n".join([head, *rows]) + "\n"
    )


def bench_page(folder: Path) -> str:
    """How to measure; and the saved tables in `folder`, newest name first, as they were saved."""
    parts = [_HOW]
    saved = sorted((p for p in folder.glob("*") if p.suffix in (".json", ".md")), reverse=True)
    if not saved:
        parts.append("No table is saved in this checkout.")
    for path in saved:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            parts.append(text.replace("\n# ", "\n## ").removeprefix("# "))
            continue
        data = json.loads(text)
        rows = data["bench"] if isinstance(data, dict) else data
        parts += [f"## {path.stem}", _rows(rows)]
    return "\n\n".join(parts) + "\n"


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("kernel", "heads×n×m×d", "dtype", "threads", "peer", "ours", "peer's", "ratio (min)", "outputs")
    body = [
        (
            r["kernel"],
            "×".join(map(str, r["shape"])),
            r["dtype"],
            r["threads"],
            r["peer"],
            seconds(r["ours_min_s"]),
            seconds(r["peer_min_s"]),
            number(r["ratio_min"]),
            r.get("verdict", "equal"),
        )
        for r in rows
    ]
    return table("bench", head, body).markdown
