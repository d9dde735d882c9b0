"""The ledger: every theorem and refusal that is known, proved on demand, as values and as JSON."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from .prove import Proof, lemmas, prove
from .refusal import REFUSALS, Refusal
from .text import text
from .theorem import REGISTRY, Kind, Theorem
from .verdict import Checked, Proved, Refuted, Unknown, Verdict

GROUP = "projsym.derivations"
"""Entry-point group: other packages name modules here whose theorems join the ledger."""


@dataclass(frozen=True)
class Refutation:
    """A refusal with its verdict."""

    refusal: Refusal
    verdict: Refuted | Unknown

    @property
    def good(self) -> bool:
        return isinstance(self.verdict, Refuted)


def load() -> None:
    """Import our own chapters and every module of the entry-point group."""
    importlib.import_module("projsym.derivations")
    for point in entry_points(group=GROUP):
        point.load()


def load_file(path: Path) -> ModuleType:
    """Import a Python file whose theorems are to join the ledger. FileNotFoundError if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(f"projsym_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def order(id: str) -> tuple[int, str, int, str]:
    """Sort key for ids: chapters as Roman numerals first, then numbers by value, series (v1) last."""
    chapters = ["I", "II", "III", "IV", "V", "VI"]
    head, _, rest = id.partition(".")
    digits = re.search(r"\d+", rest)
    place = chapters.index(head) if head in chapters else len(chapters)
    series = rest[: digits.start()] if digits else rest
    return place, series, int(digits[0]) if digits else 0, rest


def select(ids: Iterable[str] = ()) -> tuple[list[Theorem], list[Refusal]]:
    """The theorems and refusals with these ids, all if none is given; KeyError names one that is unknown.

    An id also selects what continues it: ``I.6`` selects I.6 and I.6c, ``IV.6`` every kernel theorem.
    """
    load()
    theorems = sorted(REGISTRY.values(), key=lambda t: order(t.id))
    refusals = sorted(REFUSALS.values(), key=lambda r: order(r.id))
    wanted = list(ids)
    if not wanted:
        return theorems, refusals
    for w in wanted:
        if not any(_matches(id, w) for id in (*(t.id for t in theorems), *(r.id for r in refusals))):
            raise KeyError(f"no theorem or refusal {w!r}; known: {', '.join(x.id for x in theorems)}, …")
    return (
        [t for t in theorems if any(_matches(t.id, w) for w in wanted)],
        [r for r in refusals if any(_matches(r.id, w) for w in wanted)],
    )


def _matches(id: str, wanted: str) -> bool:
    return id == wanted or (id.startswith(wanted) and not id[len(wanted)].isdigit())


def kinds(theorems: Iterable[Theorem]) -> dict[Kind, int]:
    """How many theorems there are of each kind of argument."""
    counted = Counter(t.kind for t in theorems)
    return {kind: counted[kind] for kind in Kind}


def prove_all(theorems: Iterable[Theorem]) -> Iterator[Proof]:
    """Proofs one by one, for progress displays."""
    for t in theorems:
        yield prove(t)


def refute_all(refusals: Iterable[Refusal]) -> Iterator[Refutation]:
    """Refusals with their verdicts, one by one."""
    for r in refusals:
        yield Refutation(r, r.refute())


def proof_json(p: Proof) -> dict[str, Any]:
    """A proof as the entry of ``derive --json``."""
    t = p.theorem
    entry: dict[str, Any] = {
        "kind": "theorem",
        "id": t.id,
        "title": t.title,
        "argument": str(t.kind),
        "verdict": p.verdict.name,
        "hypotheses": [h.statement for h in t.assumptions],
        "definitions": [h.statement for h in t.given if not h.assumed],
        "references": list(t.references),
        "steps": [
            {
                "law": str(s.step.reason),
                "before": s.step.before.text or text(s.step.before.term),
                "after": s.step.after.text or text(s.step.after.term),
                "verdict": s.verdict.name,
                "ms": round(s.milliseconds, 3),
            }
            for s in p.steps
        ],
        "oracle": _oracle(p.checked),
        "needs": [
            {"hypothesis": n.hypothesis.statement, "verdict": n.verdict.name, "witness": _witness(n.verdict)}
            for n in p.needs
        ],
    }
    if t.certificate is not None:
        entry["certificate"] = {
            "larger": t.certificate.larger.text or text(t.certificate.larger.term),
            "smaller": t.certificate.smaller.text or text(t.certificate.smaller.term),
            "note": t.certificate.note,
        }
    if t.contradiction is not None and p.closing is not None:
        entry["contradiction"] = {"statement": t.contradiction.statement, "witness": _witness(p.closing)}
    if t.conclusion is not None:
        lemma = t.conclusion.lemma
        entry["conclusion"] = {
            "statement": t.conclusion.statement,
            "uses_lemma": lemma.name,
            "lemma": lemma.statement,
            "reference": lemma.reference,
        }
    entry["lemmas"] = [
        {"name": x.name, "statement": x.statement, "reference": x.reference} for x in lemmas(t)
    ]
    return entry


def refusal_json(r: Refutation) -> dict[str, Any]:
    """A refusal as the entry of ``derive --json``."""
    x = r.refusal
    return {
        "kind": "refusal",
        "id": x.id,
        "title": x.claim,
        "verdict": r.verdict.name,
        "hypotheses": [h.statement for h in x.given],
        "left": x.shown[0] or text(x.left),
        "right": x.shown[1] or text(x.right),
        "witness": _witness(r.verdict),
        "repair": x.repair,
        "repaired_by": list(x.repaired_by),
    }


def _witness(v: Verdict) -> dict[str, Any] | None:
    if not isinstance(v, Refuted):
        return None
    return {"inputs": dict(v.witness.inputs), "left": v.witness.left, "right": v.witness.right}


def _oracle(v: Verdict) -> dict[str, Any]:
    if isinstance(v, Checked):
        return {"instances": v.instances, "worst_radius": v.worst_radius}
    return {"instances": 0, "worst_radius": None, "verdict": v.name}


def all_good(proofs: Iterable[Proof], refusals: Iterable[Refutation]) -> bool:
    """Whether everything is proved and every refusal refuted."""
    return all(isinstance(p.verdict, Proved) for p in proofs) and all(r.good for r in refusals)
