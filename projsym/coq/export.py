"""Theorems as Coq sections: variables, hypotheses, a lemma for each step, the theorem by transitivity."""

from __future__ import annotations

from typing import Any

from projsym.algebra.terms import Vector
from projsym.algebra.theory import ALGEBRA
from projsym.proof.hypotheses import Hypothesis
from projsym.proof.theorem import Step, Theorem

from .certificate import Certificate
from .declare import Assumed, Names, assume
from .names import NotExported, identifier
from .printer import TermPrinter


def coq_name(theorem_id: str) -> str:
    """The name of a theorem in Coq: ``I.4`` is ``I_4``."""
    return identifier(theorem_id.replace(".", "_").replace("/", "_"))


def section(theorem: Theorem) -> str:
    """A theorem as a section of Coq: the statement and the proof of every step, generated from its terms.

    Each step is a lemma that may use the hypotheses that the step cites (not: only the laws that it cites).
    The section's ``Theorem`` says ``first line = last line``. NotExported for terms, hypotheses or a
    conclusion that have no Coq here.
    """
    if theorem.conclusion is not None:
        raise NotExported("a cited lemma")
    if theorem.contradiction is not None:
        raise NotExported("a proof by contraposition")
    if any(s.reason.equation for s in theorem.steps):
        raise NotExported("an equation as hypothesis")
    names = Names()
    for line in (theorem.first, *(s.after.term for s in theorem.steps)):
        names.visit(line)
    assumed = {h: assume(h, names) for h in theorem.given}
    name = coq_name(theorem.id)
    out = [
        f"(* {theorem.id}: {_comment(theorem.title)}. Statement and proof: generated. *)",
        f"Section Section_{name}.",
        *names.declarations(),
        *(f"Hypothesis {a.name} : {a.text}." for a in assumed.values()),
    ]
    chain = []
    for n, step in enumerate(theorem.steps, 1):
        out += _lemma(f"{name}_step_{n}", step, assumed, names)
        chain.append(f"{name}_step_{n}{_arguments(names)}")
    out += [
        f"Theorem {name}{_binders(names)} :",
        f"  {_equation(theorem.first, theorem.last, names)}.",
        "Proof.",
        *(f"  etransitivity; [exact ({c}) |]." for c in chain[:-1]),
        f"  exact ({chain[-1]}).",
        "Qed.",
        f"End Section_{name}.",
    ]
    return "\n".join(out) + "\n"


def _lemma(name: str, step: Step, assumed: dict[Hypothesis, Assumed], names: Names) -> list[str]:
    cited = [assumed[h] for h in step.reason.hypotheses]
    theory = ALGEBRA
    for h in step.reason.hypotheses:
        theory = theory | h.theory

    def unfold(term: Any) -> Any:
        for h in step.reason.hypotheses:
            term = h.rewrite(term)
        return term

    certificate = Certificate(
        theory,
        unfold,
        definitions=tuple(a.name for a in cited if not a.norms),
        norms=tuple(a.name for a in cited if a.norms),
    )
    left, right = step.before.term, step.after.term
    return [
        f"(* by {_comment(str(step.reason))} *)",
        f"Lemma {name}{_binders(names)} :",
        f"  {_equation(left, right, names)}.",
        "Proof.",
        *(f"  {line}" for line in certificate.equation(left, right, dict(names.indices))),
        "Qed.",
    ]


def _equation(left: Any, right: Any, names: Names) -> str:
    printer = TermPrinter(names.indices)
    show = printer.vector if isinstance(left, Vector) else printer.scalar
    return f"{show(left)}\n  = {show(right)}"


def _binders(names: Names) -> str:
    found = sorted(names.indices.values())
    return f" ({' '.join(found)} : Index)" if found else ""


def _arguments(names: Names) -> str:
    return "".join(f" {i}" for i in sorted(names.indices.values()))


def _comment(text: str) -> str:
    return text.replace("(*", "( *").replace("*)", "* )").rstrip(".")
