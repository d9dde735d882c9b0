"""The section on theorems and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from projsym.report.html import Html, details, join, number, tag, verdict

_HOW = (
    "each for every number of keys and every dimension, by a chain of named laws whose every step was "
    "decided by a normal form. A second, independent opinion evaluates the sides in ball arithmetic on "
    "random rational instances."
)


def section(entries: Sequence[dict[str, Any]]) -> Html:
    """Theorems, each its chain folded away once it is proved; then the refusals."""
    theorems = [e for e in entries if e.get("kind") != "refusal"]
    refusals = [e for e in entries if e.get("kind") == "refusal"]
    proved = sum(e["verdict"] == "proved" for e in theorems)
    refuted = sum(e["verdict"] == "refuted" for e in refusals)
    told = f"{proved} of {len(theorems)} theorems are proved, {_HOW}"
    no = f"{refuted} of {len(refusals)} false statements are refuted, each at a witness where the balls of "
    return join(
        [
            tag("p", told),
            *(theorem(e) for e in theorems),
            tag("h3", "Refused"),
            tag("p", no, "the two sides do not meet."),
            *(refusal(e) for e in refusals),
        ]
    )


def theorem(entry: dict[str, Any]) -> Html:
    """One theorem: hypotheses, chain, the second opinion, and what each hypothesis is needed for."""
    steps = entry["steps"]
    lines: list[Html] = []
    for n, step in enumerate(steps):
        if n == 0 or step["before"] != steps[n - 1]["after"]:
            lines.append(tag("li", step["before"], cls="math"))
        law = (f"= {{ {step['law']} }} ", verdict(step["verdict"]), f" {number(step['ms'])} ms")
        lines += [tag("li", *law, cls="law"), tag("li", step["after"], cls="math")]
    kind = tag("p", f"argument: {entry['argument']}", cls="soft") if "argument" in entry else Html()
    given = tag("p", "given: ", "; ".join(entry["hypotheses"]) or "nothing", cls="soft")
    return details(
        _summary(entry, verdict(entry["verdict"])),
        kind,
        given,
        tag("ul", *lines, cls="chain"),
        _conclusion(entry),
        _oracle(entry["oracle"]),
        *(_need(x) for x in entry.get("needs", ())),
        is_open=entry["verdict"] != "proved",
    )


def refusal(entry: dict[str, Any]) -> Html:
    """One false statement with its witness and what repairs it."""
    parts = []
    if "left" in entry:
        parts.append(tag("p", "claimed: ", tag("code", entry["left"], " = ", entry["right"]), cls="soft"))
    parts.append(_witness("witness", entry["witness"]))
    if repair := entry.get("repair"):
        by = ", ".join(entry.get("repaired_by", ()))
        parts.append(tag("p", f"repaired by: {repair}", f" [{by}]" if by else "", cls="soft"))
    mark = verdict(entry["verdict"], expected=True)
    return details(_summary(entry, mark), *parts, is_open=entry["verdict"] != "refuted")


def _summary(entry: dict[str, Any], mark: Html) -> Html:
    return join([tag("span", entry["id"], cls="id"), entry["title"], mark])


def _conclusion(entry: dict[str, Any]) -> Html:
    """What follows from the chain: an inequality, a contradiction, or by a cited lemma; the sources."""
    told = []
    if c := entry.get("certificate"):
        told.append(f"hence {c['larger']} ≥ {c['smaller']}")
    if c := entry.get("contradiction"):
        told.append(f"hence {c['statement']}")
    if c := entry.get("conclusion"):
        told.append(f"hence {c['statement']}, by a cited lemma: {c['lemma']} ({c['reference']})")
    if references := entry.get("references"):
        told.append(f"source: {'; '.join(references)}")
    return join([tag("p", x, cls="soft") for x in told])


def _oracle(oracle: dict[str, Any]) -> Html:
    if not oracle["instances"]:
        return tag("p", "second opinion: ", verdict(oracle.get("verdict", "not run")), cls="soft")
    radius = number(oracle["worst_radius"])
    told = f"checked on {oracle['instances']} rational instances: balls overlap, radius at most {radius}"
    return tag("p", told, cls="soft")


def _need(need: dict[str, Any]) -> Html:
    if need["verdict"] != "refuted":
        told = f"whether “{need['hypothesis']}” is needed: "
        return tag("p", told, verdict(need["verdict"]), cls="soft")
    return _witness(f"without “{need['hypothesis']}” it is false", need["witness"])


def _witness(label: str, witness: Any) -> Html:
    """A witness as the ledger gives it; another form is shown as text."""
    if not isinstance(witness, dict) or "inputs" not in witness:
        return tag("p", f"{label}: {'none' if witness is None else witness}", cls="soft")
    at = ", ".join(f"{name} = {value}" for name, value in witness["inputs"].items())
    values = f"; left {witness['left']}, right {witness['right']}"
    return tag("p", f"{label}: ", tag("code", at), values, cls="soft")
