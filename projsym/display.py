"""Proofs, refusals and figures' captions as Markdown with LaTeX, for notebooks and reports.

The text is the same on every machine: no times, no paths, no memory addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from projsym.proof.ledger import Refutation
from projsym.proof.prove import Need, Proof, lemmas
from projsym.proof.show import conclusions, power_of_ten
from projsym.proof.text import latex
from projsym.proof.theorem import Kind, Line, Reason
from projsym.proof.verdict import Checked, Proved, Refuted, Unknown, Verdict

__all__ = ["Page", "counterexamples", "ledger", "page", "refused", "sources", "table"]

# After a slash only a single letter: x/w_j is a quotient, IV.6/project_dot is not.
_NAME = re.compile(r"(?<![\w\\])(?<!/(?=[^\W_]{2}))(\w{1,8}?[\u0302\u0303]?)_([0-9A-Za-zα-ωΑ-Ω]+)")


@dataclass(frozen=True)
class Page:
    """Markdown that Jupyter renders; `title` is what plain text shows."""

    title: str
    markdown: str

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return f"<{self.title}>"


def page(proof: Proof) -> Page:
    """A theorem's chain, law by law, with both opinions and the reason for every hypothesis."""
    t = proof.theorem
    verdict = _verdict(proof.verdict) + (", from a cited lemma" if lemmas(t) else "")
    lines = [f"**[{t.id}] {_prose(t.title)}**: *{verdict}*", ""]
    if t.doc:
        lines += [_prose(t.doc), ""]
    lines += [f"- {'given' if h.assumed else 'where'} {_prose(h.statement)}" for h in t.given]
    lines += [f"- argument: {t.kind}"] if t.kind is not Kind.IDENTITY else []
    lines += ["", _chain(proof), ""]
    lines += [f"- hence {_prose(x)}" for x in conclusions(proof)]
    for lemma in lemmas(t):
        cited = f"{_prose(lemma.statement)} ({lemma.reference})"
        lines.append(f"- cites the lemma “{lemma.name}” (tested on instances, not proved here): {cited}")
    for s in proof.steps:
        if isinstance(s.verdict, Refuted):
            lines += [f"- the step by “{s.step.reason}” is false at `{s.verdict.witness}`"]
        elif isinstance(s.verdict, Unknown):
            lines += [f"- the step by “{s.step.reason}” is not proved"]
    lines += [f"- second opinion: {_checked(proof.checked)}"]
    lines += [f"- without “{_prose(n.hypothesis.name)}” {_without(n)}" for n in proof.needs]
    return Page(f"{t.id}: {verdict}", "\n".join(lines))


def refused(refutation: Refutation) -> Page:
    """A false claim, the inputs at which its two sides differ, and what repairs it."""
    r = refutation.refusal
    lines = [f"**[{r.id}] “{_prose(r.claim)}”**: *{refutation.verdict.name}*", ""]
    lines += [f"- given {_prose(h.statement)}" for h in r.given]
    left, right = (
        rf"\text{{{told}}}" if told else latex(side)
        for side, told in zip((r.left, r.right), r.shown, strict=True)
    )
    lines += ["", rf"$${left} \;\overset{{?}}{{=}}\; {right}$$", ""]
    if isinstance(refutation.verdict, Refuted):
        w = refutation.verdict.witness
        at = ", ".join(f"{n} = {v}" for n, v in w.inputs)
        lines += [f"- at `{at}` the left side is {w.left} and the right side {w.right}"]
    by = f" [{', '.join(r.repaired_by)}]" if r.repaired_by else ""
    lines += [f"- true is: {_prose(r.repair)}{by}"]
    return Page(f"{r.id}: {refutation.verdict.name}", "\n".join(lines))


def counterexamples(refutations: Iterable[Refutation]) -> Page:
    """False claims in words, one a line, each with its witness and what is true instead."""
    rows = []
    for r in refutations:
        x = r.refusal
        cells = ("none found", "", "")
        if isinstance(r.verdict, Refuted):
            w = r.verdict.witness
            cells = (", ".join(f"{n} = {v}" for n, v in w.inputs), w.left, w.right)
        rows.append((x.id, x.claim, *cells, x.repair))
    return table("counterexamples", ("", "false claim", "at", "left", "right", "true is"), rows)


def sources(proofs: Iterable[Proof]) -> Page:
    """The original sources of what these theorems state and of the lemmas that they cite, each once."""
    used: dict[str, list[str]] = {}
    for p in proofs:
        for reference in (*p.theorem.references, *(x.reference for x in lemmas(p.theorem))):
            used.setdefault(reference, []).append(p.theorem.id)
    rows = [(reference, ", ".join(ids)) for reference, ids in used.items()]
    return table("sources", ("source", "of"), rows)


def ledger(proofs: Iterable[Proof], refutations: Iterable[Refutation] = ()) -> Page:
    """What was decided, one line each: statement, hypotheses, kind of argument, verdict.

    A proof that cites lemmas names them; for a false claim the last column says what is true.
    """
    rows = []
    for p in proofs:
        t = p.theorem
        cited = "; ".join(f"cites: {lemma.name}" for lemma in lemmas(t))
        given = "; ".join(h.name for h in t.assumptions) or "none"
        verdict = "proved" if isinstance(p.verdict, Proved) else p.verdict.name
        rows.append((t.id, t.title, given, str(t.kind), "; ".join(x for x in (verdict, cited) if x)))
    for r in refutations:
        x = r.refusal
        given = "; ".join(h.name for h in x.given) or "none"
        rows.append((x.id, f"“{x.claim}”", given, "witness", f"{r.verdict.name}; true is: {x.repair}"))
    return table("ledger", ("id", "statement", "hypotheses", "argument", "verdict"), rows)


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> Page:
    """A Markdown table; numbers must come rounded."""
    columns = [str(cell).replace("|", r"\|") for cell in head]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_prose(str(cell)).replace("|", r"\|") for cell in row) + " |" for row in rows]
    return Page(title, "\n".join(lines))


def _chain(proof: Proof) -> str:
    rows = [f"& {_line(proof.steps[0].step.before)}"]
    for s in proof.steps:
        rows += [rf"={{}}\; & \{{\;{_reason(s.step.reason)}\;\}}", f"& {_line(s.step.after)}"]
    return "$$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$$"


def _line(x: Line) -> str:
    return x.latex or (latex(x.term) if x.text is None else _words(x.text))


def _reason(reason: Reason) -> str:
    return rf"\small{{}}{_words(str(reason))}"


def _words(text: str) -> str:
    """Upright text, symbols with an index within it in mathematics."""
    inside = _NAME.sub(r"}\1_{\2}\\text{", text)
    return rf"\text{{{inside}}}".replace(r"\text{}", "")


def _prose(text: str) -> str:
    """Unicode mathematics in running text: subscripts set as such, Markdown's own signs escaped."""
    plain = text.replace("`", "").replace("*", r"\*").replace("<", "&lt;")
    return _NAME.sub(r"*\1*<sub>\2</sub>", plain)


def _verdict(v: Verdict) -> str:
    return "proved for all sizes" if isinstance(v, Proved) else v.name


def _checked(v: Verdict) -> str:
    match v:
        case Checked(instances, radius):
            radius_text = power_of_ten(radius)
            return f"{instances} rational instances in ball arithmetic agree, radius ≤ {radius_text}"
        case Refuted():
            return "refuted as well, on a random instance: the balls are disjoint"
    return v.name


def _without(n: Need) -> str:
    match n.verdict:
        case Refuted(witness):
            return f"it is false: `{witness}`"
        case Unknown():
            return "it is not proved"
    return "it still holds: the hypothesis is idle"
