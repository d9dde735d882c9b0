"""A proof as a person reads it: the chain law by law, both opinions, the reason for each hypothesis."""

from __future__ import annotations

import math
from textwrap import shorten

from .ledger import Refutation
from .prove import Proof, lemmas
from .text import text
from .theorem import Certificate, Kind, Line
from .verdict import Checked, Proved, Refuted, Unknown, Verdict

_UP = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def explain(p: Proof, width: int = 100) -> str:
    """The chain of a theorem with its verdicts.

    A step that is not proved shows what is known: the witness that refutes it, or what the normal form is
    left with.
    """
    t = p.theorem
    head = f"{t.id}  {t.title}"
    lemma_used = ", using a cited lemma" if lemmas(t) else ""
    # Of fixed width, so that the same proof is the same text but for the number.
    status = f"{_verdict(p.verdict)}{lemma_used} {p.milliseconds:5.0f} ms"
    lines = [f"{head}{' ' * max(2, width - len(head) - len(status))}{status}"]
    if t.doc:
        lines.append(f"     {t.doc}")
    if t.kind is not Kind.IDENTITY:
        lines.append(f"     argument     {t.kind}")
    for h in t.given:
        lines.append(f"     {'given' if h.assumed else 'where'}  {h.statement}")
    lines.append(f"       {line(t.steps[0].before)}")
    for s in p.steps:
        lines.append(f"     = {{ {s.step.reason} }}{_trouble(s.verdict)}")
        lines.append(f"       {line(s.step.after)}")
    lines += [f"     hence {x}" for x in conclusions(p)]
    for lemma in lemmas(t):
        lines.append(f"     uses lemma   {lemma.name} (cited, tested on instances): {lemma.statement}")
        lines.append(f"                  {lemma.reference}")
    lines += [f"     source       {r}" for r in t.references]
    lines.append(f"     checked      {_checked(p.checked)}")
    for n in p.needs:
        lines.append(f"     needed       without “{n.hypothesis.name}” {_without(n.verdict)}")
    return "\n".join(lines)


def explain_refusal(r: Refutation) -> str:
    """A false claim with its witness and what repairs it."""
    x = r.refusal
    lines = [f"{x.id}  {x.claim}   {r.verdict.name}"]
    lines += [f"     given  {h.statement}" for h in x.given]
    left, right = x.shown
    lines += [f"     claim  {left or text(x.left)}", f"          = {right or text(x.right)}"]
    if isinstance(r.verdict, Refuted):
        w = r.verdict.witness
        lines.append(f"     false at  {', '.join(f'{n} = {v}' for n, v in w.inputs)}")
        lines.append(f"     there     left {w.left}, right {w.right}")
    lines.append(f"     true is   {x.repair}" + (f"  [{', '.join(x.repaired_by)}]" if x.repaired_by else ""))
    return "\n".join(lines)


def conclusions(p: Proof) -> list[str]:
    """What follows from the last line of a chain: inequality, contradiction, or a lemma's consequence."""
    t, out = p.theorem, []
    if t.certificate is not None:
        out.append(certified(t.certificate) + _trouble(p.closing))
    if t.contradiction is not None:
        at = f" (there {p.closing.witness})" if isinstance(p.closing, Refuted) else "   NO WITNESS"
        out.append(t.contradiction.statement + at)
    if t.conclusion is not None:
        out.append(t.conclusion.statement)
    return out


def certified(c: Certificate) -> str:
    """What a certificate shows, and the reader's remark on equality, which is not checked."""
    note = f" (by the last line {c.note})" if c.note else ""
    return f"{line(c.larger)} ≥ {line(c.smaller)}{note}"


def line(x: Line) -> str:
    """A line of a chain."""
    return x.text or text(x.term)


def _verdict(v: Verdict) -> str:
    return "proved for all sizes" if isinstance(v, Proved) else v.name.upper()


def _trouble(v: Verdict | None) -> str:
    match v:
        case Refuted(witness):
            return f"   FALSE at {witness}"
        case Unknown(residual):
            return f"   NOT PROVED by this law; left with {shorten(residual, 120)}"
    return ""


def _checked(v: Verdict) -> str:
    match v:
        case Checked(instances, radius):
            return f"{instances} rational instances: balls overlap, radius ≤ {power_of_ten(radius)}"
        case Refuted(witness):
            return f"REFUTED at {witness}"
    return f"UNKNOWN: {v}"


def _without(v: Verdict) -> str:
    if isinstance(v, Refuted):
        return f"it is false: {v.witness}"
    return "it is not proved" if isinstance(v, Unknown) else "it still holds: the hypothesis is idle"


def power_of_ten(x: float) -> str:
    """A small positive number rounded up to one digit: ``2·10⁻⁷⁴``."""
    if x == 0:
        return "0"
    n = math.floor(math.log10(x))
    digit = math.ceil(x / 10.0**n)
    if digit == 10:
        digit, n = 1, n + 1
    return f"{digit}·10{str(n).translate(_UP)}"
