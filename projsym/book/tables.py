"""The pages of the paper's claims and of benchmarks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from projsym.claims import Claim

__all__ = ["bench_page", "claims_page"]

_HOW = """# Speed

Times depend on the machine. To measure on yours:

```sh
pip install -e ".[audit,compare]"
projsym bench
```

Outputs are compared within proven bounds before anything is timed; ratios are the peer's time over ours, so
above 1 ours is faster. `python benchmarks/run_all.py` measures everything and saves it in `benchmarks`, where
this page finds it when the site is built again.
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
    """How to measure; and what is saved in dated folders of `folder`, newest name first, as it was saved.

    Of each folder first the table against peers with its figures, then what the other scripts printed.
    """
    parts = [_HOW]
    saved = sorted((p for p in folder.glob("*-*-*") if p.is_dir()), reverse=True)
    if not saved:
        parts.append("No table is saved in this checkout.")
    for day in saved:
        parts.append(f"## {day.name}")
        for path in sorted(day.glob("*.md")):
            parts.append(re.sub(r"^(#+ )", r"##\1", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
        for path in sorted(day.glob("*.svg")):
            svg = path.read_text(encoding="utf-8")
            parts.append(svg[svg.index("<svg") :].strip())
        texts = {p: p.read_text(encoding="utf-8").strip() for p in sorted(day.glob("*.txt"))}
        parts += _taken_with(texts.values())
        for path, text in texts.items():
            parts += [f"### {path.stem.replace('_', ' ')}", *_printed(text)]
    return "\n\n".join(parts) + "\n"


def _taken_with(texts: Iterable[str]) -> list[str]:
    """What the files say of the machine before their first empty line, once for all that say the same."""
    heads = dict.fromkeys(head for text in texts for head, _, rest in [text.partition("\n\n")] if rest)
    return ["\n".join(f"- {line}" for line in head.splitlines()) for head in heads]


def _printed(text: str) -> list[str]:
    """What a script printed after that: tables in Markdown as tables, everything else letter by letter."""
    head, _, rest = text.partition("\n\n")
    parts = []
    for is_table, lines in groupby((rest or head).splitlines(), lambda line: line.startswith("|")):
        block = "\n".join(lines).strip("\n")
        if block:
            parts.append(block if is_table else f"```text\n{block}\n```")
    return parts
