"""Pages of theorems and refusals, written from the ledger when the site is built."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from projsym.book.links import OF_EVERY_THEOREM, Section, TestCode
from projsym.display import page, refused
from projsym.proof.ledger import Refutation, order
from projsym.proof.prove import Proof
from projsym.proof.theorem import Theorem

__all__ = [
    "CHAPTERS",
    "Uses",
    "chapter_of",
    "chapter_page",
    "chapters_page",
    "label",
    "name",
    "refusals_page",
    "theorem_page",
]

CHAPTERS = {
    "I": "The identity",
    "II": "Geometry: in which sense it is a projection",
    "III": "Learning",
    "IV": "Computation: each optimisation is a theorem",
    "V": "Extensions",
    "other": "Theorems of other packages",
}
_HEAD = (
    "{.stack .theorems}\n| id | theorem | argument | kernels | notebooks | tests |\n|---|---|---|---|---|---|"
)
_KERNELS_SHOWN = 1
"""In a chapter's table; of more only the number is given, their names are on the theorem's page."""

_FILES = tuple(dict.fromkeys(file for file, _ in OF_EVERY_THEOREM))


@dataclass(frozen=True)
class Uses:
    """What hangs on theorems and refusals: id -> kernels, tests that name it, notebook sections."""

    kernels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tests: Mapping[str, Sequence[TestCode]] = field(default_factory=dict)
    notebooks: Mapping[str, Sequence[Section]] = field(default_factory=dict)


def chapter_of(id: str) -> str:
    """The chapter's Roman numeral, "other" for an id that has none."""
    head = id.partition(".")[0]
    return head if head in CHAPTERS else "other"


def name(id: str) -> str:
    """An id as a part of file names."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", id)


def label(id: str) -> str:
    """An id as a label: docutils knows labels in lower case only."""
    return re.sub(r"[^a-z0-9]+", "-", id.lower())


def theorem_page(proof: Proof, uses: Uses, refusals: Sequence[str] = ()) -> str:
    """A theorem's chain as the notebooks show it, with links to what uses it.

    refusals: ids of false claims that it repairs.
    """
    t = proof.theorem
    shown = page(proof).markdown.partition("\n")[2].strip()
    chapter, verdict = chapter_of(t.id), page(proof).title.partition(": ")[2]
    parts = [
        "---\norphan: true\n---",
        f"(theorem-{label(t.id)})=",
        f"# {t.id} {_plain(t.title)}",
        f"*{verdict}* · argument: {t.kind} · [{_title(chapter)}](chapter-{chapter}.md)",
        shown,
        "## Where it is used",
        *_list("Kernels generated with it", [_kernel(k) for k in uses.kernels.get(t.id, ())], "none"),
        *_list("Repairs", [f"[{r}](#refusal-{label(r)})" for r in refusals]),
        *_list("Notebooks", [_section(s) for s in uses.notebooks.get(t.id, ())], "none"),
        *_list("Tests that name it", [_test(c) for c in uses.tests.get(t.id, ())]),
        "Tests of [every theorem](#tests-of-every-theorem), here of this one, and the proof on a terminal:",
        f"```sh\npytest {' '.join(_FILES)} -k '[{t.id}]'\nprojsym derive {t.id}\n```",
    ]
    if t.references:
        parts += ["References: " + "; ".join(map(_plain, t.references)) + "."]
    return "\n\n".join(parts) + "\n"


def chapter_page(chapter: str, proofs: Sequence[Proof], uses: Uses) -> str:
    """The table of a chapter's theorems.

    Their pages stand in no table of contents: the theme writes all of it on every page.
    """
    rows = []
    for p in sorted(proofs, key=lambda p: order(p.theorem.id)):
        t = p.theorem
        here = f"{name(t.id)}.md#where-it-is-used"
        kernels = [_kernel(k) for k in uses.kernels.get(t.id, ())]
        if len(kernels) > _KERNELS_SHOWN:
            kernels = [f"[{len(kernels)}]({here})"]
        sections = [_section(s, short=True) for s in uses.notebooks.get(t.id, ())]
        count = len(OF_EVERY_THEOREM) + len(uses.tests.get(t.id, ()))
        used = (", ".join(kernels), ", ".join(sections), f"[{count}]({here})")
        cells = (f"[{t.id}]({name(t.id)}.md)", _indexed(t.title), str(t.kind), *used)
        rows.append("| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |")
    head = f"# {_title(chapter)}\n\n{len(rows)} theorems, all proved for every size.\n\n"
    return head + "\n".join([_HEAD, *rows, ""])


def chapters_page(chapters: Sequence[str], theorems: Sequence[Theorem]) -> str:
    """The page over all chapters; their pages have the tables."""
    count = Counter(chapter_of(t.id) for t in theorems)
    kinds = Counter(str(t.kind) for t in theorems)
    listed = [f"- [{_title(c)}](chapter-{c}.md): {count[c]} theorems" for c in chapters]
    of = [f"- {kind}: {n}" for kind, n in kinds.most_common()]
    toc = "\n".join(["```{toctree}", ":hidden:", *(f"chapter-{c}" for c in chapters), "```"])
    return "\n\n".join(
        [
            "# Theorems",
            f"{len(theorems)} theorems, each proved again when this page was built: every step by a normal "
            "form, for all sizes and dimensions, and every line tested in ball arithmetic. [What a proof "
            "cannot see](../index.md#what-a-proof-cannot-see).",
            "\n".join(listed),
            "Kinds of argument:",
            "\n".join(of),
            "Tests that watch [every theorem](../tests/index.md).",
            toc,
        ]
    )


def _title(chapter: str) -> str:
    return CHAPTERS[chapter] if chapter == "other" else f"{chapter}. {CHAPTERS[chapter]}"


def refusals_page(refutations: Sequence[Refutation], uses: Uses, theorems: Sequence[str]) -> str:
    """Every false claim with its witness, what repairs it, and where it is shown."""
    rows = ["{.stack}", "| id | false claim | true is |", "|---|---|---|"]
    parts = []
    for r in refutations:
        x = r.refusal
        target = f"refusal-{label(x.id)}"
        cells = (f"[{x.id}](#{target})", _indexed(x.claim), _indexed(x.repair))
        rows.append("| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |")
        parts += [f"({target})=", f"## {x.id} {_plain(x.claim)}", refused(r).markdown.partition("\n")[2]]
        repaired = [f"[{id}](theorems/{name(id)}.md)" for id in x.repaired_by if id in set(theorems)]
        parts += _list("Repaired by", repaired)
        parts += _list("Notebooks", [_section(s) for s in uses.notebooks.get(x.id, ())])
        parts += _list("Tests that name it", [_test(c) for c in uses.tests.get(x.id, ())])
    head = (
        f"# What is refuted\n\n{len(refutations)} claims that are false as stated. The two sides of each are "
        "enclosed in balls that do not meet, at the inputs shown."
    )
    return "\n\n".join([head, "\n".join(rows), *parts]) + "\n"


def _plain(text: str) -> str:
    """Text of a title: Markdown's own signs escaped."""
    return re.sub(r"([\\`*_<>\[\]$])", r"\\\1", text)


def _indexed(text: str) -> str:
    """The same with an index of a single letter, as in W_V, set as such."""
    return re.sub(r"(?<!\w)(\w)\\_(\w+)", r"\1<sub>\2</sub>", _plain(text))


def _list(what: str, items: Sequence[str], without: str = "") -> list[str]:
    shown = ", ".join(items) or without
    return [f"{what}: {shown}"] if shown else []


def _kernel(kernel: str) -> str:
    return f"[{_plain(kernel)}](#kernel-{kernel.replace('_', '-')})"


def _section(s: Section, short: bool = False) -> str:
    """A link to a section; short: by its number alone, where the heading begins with one."""
    number = s.title.partition(" ")[0]
    return f"[{number if short and number[:1].isdigit() else _plain(s.title)}](#{s.label})"


def _test(c: TestCode) -> str:
    return f"[{_plain(c.name)}](#{c.label})"
