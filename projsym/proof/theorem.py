"""Theorems as values: hypotheses, a chain of lines, and a named reason for every step.

A derivation reads like a calculation::

    @theorem("I.4", "Equal key norms are enough", given=[equal_norms(k)])
    def equal_key_norms_are_enough():
        yield first_line
        yield by(polarization), second_line
        yield by(equal_norms, shift_invariance), last_line
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import Vector
from projsym.algebra.theory import Theory

from .certificate import relies_on_gibbs
from .hypotheses import Equation, Hypothesis
from .laws import Law
from .refusal import At


class Kind(StrEnum):
    """The kinds of argument. A theorem's kind is read off its chain and how it closes, never declared."""

    IDENTITY = "algebraic identity"
    CERTIFICATE = "certificate"
    KL_CERTIFICATE = "KL certificate"
    CONTRAPOSITION = "contraposition with a witness"
    LIMIT = "limit with exact remainder"
    COEFFICIENT = "asymptotic coefficient"
    LEMMA = "identity with a cited lemma"


@dataclass(frozen=True)
class Scaled:
    """An equational hypothesis used with a factor: the step changes a term by ``factor * (left - right)``."""

    equation: Equation
    factor: Any = sp.S.One


@dataclass(frozen=True)
class Reason:
    """What a step cites: laws and hypotheses, nothing else."""

    laws: tuple[Law, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    equation: Scaled | None = None

    @property
    def theory(self) -> Theory:
        """All that the step may use."""
        out = Theory()
        for law in self.laws:
            out = out | law.theory
        for h in self.hypotheses:
            out = out | h.theory
        return out

    def __str__(self) -> str:
        equation = (self.equation.equation.name,) if self.equation else ()
        return ", ".join((*(h.name for h in self.hypotheses), *equation, *(law.name for law in self.laws)))


def by(*reasons: Law | Hypothesis | Scaled) -> Reason:
    """The reason of a step. An :class:`Equation` is used once, with factor 1 unless wrapped in `Scaled`."""
    laws, hypotheses, equation = [], [], None
    for r in reasons:
        match r:
            case Law():
                laws.append(r)
            case Equation():
                equation = Scaled(r)
            case Scaled():
                equation = r
            case Hypothesis():
                hypotheses.append(r)
            case _:
                raise TypeError(f"a step cites laws and hypotheses, not {r!r}")
    if not reasons:
        raise TypeError("a step must cite a law or a hypothesis")
    return Reason(tuple(laws), tuple(hypotheses), equation)


@dataclass(frozen=True)
class Line:
    """A line of a chain: a term, and how to print it where its structure is not the best way to read it."""

    term: Any
    text: str | None = None
    latex: str | None = None


def shown(text: str, term: Any, latex: str | None = None) -> Line:
    """A line that prints as `text` (an operator applied, say) and means `term`."""
    return Line(term, text, latex)


@dataclass(frozen=True)
class Coefficient(Line):
    """A first line that is the derivative of a term with respect to a parameter, at 0."""


def coefficient(text: str, term: Any, parameter: sp.Symbol) -> Coefficient:
    """The coefficient of the first power of `parameter` in the expansion of `term` at 0.

    ValueError if the term does not depend on the parameter.
    """
    if parameter not in term.free_symbols:
        raise ValueError(f"coefficient: the term does not depend on {parameter}")
    slope = directional(term, {parameter: sp.S.One})
    return Coefficient(substitute(slope, {parameter: sp.S.Zero}), text)


@dataclass(frozen=True)
class Step:
    """One equality of a chain."""

    reason: Reason
    before: Line
    after: Line


@dataclass(frozen=True)
class Lemma:
    """A cited result, not proved here. `test` raises unless it holds on the instances that it tries."""

    name: str
    statement: str
    reference: str
    test: Callable[[], None]


@dataclass(frozen=True)
class Conclusion:
    """What a lemma makes of the last line of a chain. limit: the lemma sends that line to its limit."""

    lemma: Lemma
    statement: str
    limit: bool = False


def therefore(lemma: Lemma, statement: str) -> Conclusion:
    """Close a chain with a cited lemma; the ledger shows that the theorem uses it."""
    return Conclusion(lemma, statement)


def tends(lemma: Lemma, statement: str) -> Conclusion:
    """Close a chain whose last line is an exact remainder: the elementary bound `lemma` gives the limit."""
    return Conclusion(lemma, statement, limit=True)


@dataclass(frozen=True)
class Certificate:
    """``larger >= smaller`` because ``larger - smaller`` is the first line and the last is visibly >= 0."""

    larger: Line
    smaller: Line
    note: str = ""


def at_least(larger: Any, smaller: Any = 0, note: str = "") -> Certificate:
    """Close a chain with the inequality that it certifies. note: what a reader sees of when both are equal.

    Only the inequality is checked. Sides are terms, or lines made with :func:`shown`.
    """
    return Certificate(_line(larger), _line(smaller), note)


@dataclass(frozen=True)
class Contradiction:
    """The chain shows that a hypothesis implies ``first = last``; at the witness these differ."""

    statement: str
    at: At


def contradicted(statement: str, at: At) -> Contradiction:
    """Close a chain by contraposition: first and last line differ at this witness."""
    return Contradiction(statement, at)


@dataclass(frozen=True, repr=False)
class Theorem:
    """A statement ``first line = last line`` under hypotheses, with the chain that proves it.

    Nothing is checked by constructing one; see :func:`projsym.proof.prove.prove`.
    """

    id: str
    title: str
    given: tuple[Hypothesis, ...]
    steps: tuple[Step, ...]
    conclusion: Conclusion | None = None
    references: tuple[str, ...] = ()
    doc: str = ""
    certificate: Certificate | None = None
    contradiction: Contradiction | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"theorem {self.id}: a chain needs at least one step")
        if self.contradiction is not None and not self.assumptions:
            raise ValueError(f"theorem {self.id}: contraposition needs a hypothesis to contradict")
        if self.contradiction is not None and self.certificate is not None:
            raise ValueError(f"theorem {self.id}: a certificate and a contraposition are two theorems")
        for s in self.steps:
            equation = (s.reason.equation.equation,) if s.reason.equation else ()
            for h in (*s.reason.hypotheses, *equation):
                if h not in self.given:
                    raise ValueError(f"theorem {self.id}: a step cites {h.name!r}, which is not given")
            if isinstance(s.before.term, Vector) != isinstance(s.after.term, Vector):
                raise TypeError(f"theorem {self.id}: a step equates a scalar with a vector")

    def __repr__(self) -> str:
        # All its terms fill pages, and whoever logs the registry prints every theorem.
        return f"<theorem {self.id}: {self.title}>"

    @property
    def first(self) -> Any:
        """The left side of the statement."""
        return self.steps[0].before.term

    @property
    def last(self) -> Any:
        """The right side of the statement: what kernels are generated from."""
        return self.steps[-1].after.term

    @property
    def kind(self) -> Kind:
        """Which kind of argument this is."""
        if self.certificate is not None:
            return Kind.KL_CERTIFICATE if relies_on_gibbs(self.last) else Kind.CERTIFICATE
        if self.contradiction is not None:
            return Kind.CONTRAPOSITION
        if self.conclusion is not None:
            return Kind.LIMIT if self.conclusion.limit else Kind.LEMMA
        return Kind.COEFFICIENT if isinstance(self.steps[0].before, Coefficient) else Kind.IDENTITY

    @property
    def assumptions(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that restrict something (definitions left out)."""
        return tuple(h for h in self.given if h.assumed)


Chain = Callable[[], Iterator[Any]]
REGISTRY: dict[str, Theorem] = {}
_CLOSINGS: dict[type, str] = {
    Conclusion: "conclusion", Certificate: "certificate", Contradiction: "contradiction"
}  # fmt: skip


def build(
    id: str, title: str, given: Sequence[Hypothesis], chain: Chain, references: Sequence[str] = ()
) -> Theorem:
    """A theorem from a generator function that yields its lines."""
    lines = iter(chain())
    before = _line(next(lines))
    steps: list[Step] = []
    closing: dict[str, Any] = {}
    for item in lines:
        name = _CLOSINGS.get(type(item))
        if name is not None:
            if name in closing:
                raise ValueError(f"theorem {id}: two closings of one kind")
            closing[name] = item
            continue
        if closing:
            raise ValueError(f"theorem {id}: nothing may follow a conclusion")
        reason, after = item
        step = Step(reason, before, _line(after))
        steps.append(step)
        before = step.after
    doc = (chain.__doc__ or "").strip()
    return Theorem(id, title, tuple(given), tuple(steps), references=tuple(references), doc=doc, **closing)


def theorem(
    id: str, title: str, given: Sequence[Hypothesis] = (), references: Sequence[str] = ()
) -> Callable[[Chain], Theorem]:
    """Register the theorem whose chain the decorated generator function yields.

    The name then stands for the :class:`Theorem`. ValueError if the id is taken by another theorem.
    """

    def register(chain: Chain) -> Theorem:
        t = build(id, title, given, chain, references)
        known = REGISTRY.get(id)
        if known is not None and known.title != title:
            raise ValueError(f"theorem id {id!r} is taken by {known.title!r}")
        REGISTRY[id] = t
        return t

    return register


def _line(x: Any) -> Line:
    return x if isinstance(x, Line) else Line(x if isinstance(x, Vector) else sp.sympify(x))
