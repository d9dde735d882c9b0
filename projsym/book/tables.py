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


_SUBSCRIPT = re.compile(r"(?<![\w`])(\w\u0302?)_(\w+)(?!`)")
"""A letter with an index, as in W_V, in a text without formulas."""

_CAPTIONS = {
    "roofline": "Dots: rates of the kernels, each at its operations a byte. Lines: the least of what the "
    "machine multiplies and what it reads.",
    "ratio": "Each mark is one shape, type and number of threads; right of the line the generated kernel is "
    "faster than the peer, left of it slower.",
    "error": "Each dot is one row of the table: the largest error of the kernel's output, against the bound "
    "that was proved for it.",
}
_WIDE = 8
"""Columns of a table that is set small."""


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
        cells = (c.claim, verdict, ", ".join(c.theorems) or "–", c.note)
        rows.append("| " + " | ".join(_SUBSCRIPT.sub(r"\1<sub>\2</sub>", x) for x in cells) + " |")
    head = "{.stack}\n| claim | verdict | behind it | note |\n|---|---|---|---|"
    return (
        "# What the paper claims and what holds\n\n"
        "Sentences of the abstract of arXiv 2602.02521, restated, and figures reported at second hand. What "
        f"stands behind each, {len(behind)} theorems and refusals in all, was proved or refuted again when "
        "this page was built.\n\n" + "\n".join([head, *rows]) + "\n"
    )


def bench_page(folder: Path) -> str:
    """How to measure; and what is saved in dated folders of `folder`, newest name first, as it was saved.

    Of each folder first the figures and the table against peers, then what the other scripts printed.
    """
    parts = [_HOW]
    saved = sorted((p for p in folder.glob("*-*-*") if p.is_dir()), reverse=True)
    if not saved:
        parts.append("No table is saved in this checkout.")
    for day in saved:
        parts.append(f"## {day.name}")
        figures = [_figure(path) for path in sorted(day.glob("*.svg"), reverse=True)]
        for path in sorted(day.glob("*.md")):
            text = re.sub(r"^(#+ )", r"##\1", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            before, bar, table = text.partition("\n|")
            parts += [before, *figures, *([_rows(bar.strip() + table)] if bar else [])]
            figures = []
        parts += figures
        texts = {p: p.read_text(encoding="utf-8").strip() for p in sorted(day.glob("*.txt"))}
        parts += _taken_with(texts.values())
        for path, text in texts.items():
            parts += [f"### {path.stem.replace('_', ' ')}", *_printed(text)]
    return "\n\n".join(parts) + "\n"


def _figure(path: Path) -> str:
    """The drawing with its caption."""
    svg = path.read_text(encoding="utf-8")
    caption = _CAPTIONS.get(path.stem, path.stem.replace("_", " "))
    drawn = svg[svg.index("<svg") :].strip()
    return f'<figure class="drawing">\n{drawn}\n<figcaption>{caption}</figcaption></figure>'


def _rows(table: str) -> str:
    """A table of many rows and columns: set small, and folded."""
    if table.partition("\n")[0].count("|") <= _WIDE + 1:
        return table
    rows = table.count("\n|") - 1
    return f"<details><summary>The table, {rows} rows</summary>\n\n{{.dense}}\n{table.strip()}\n\n</details>"


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
