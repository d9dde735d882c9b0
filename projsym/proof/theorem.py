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
from typing import Any

import sympy as sp

from projsym.algebra.terms import Vector
from projsym.algebra.theory import Theory

from .hypotheses import Equation, Hypothesis
from .laws import Law


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
    """What a lemma makes of the last line of a chain."""

    lemma: Lemma
    statement: str


def therefore(lemma: Lemma, statement: str) -> Conclusion:
    """Close a chain with a cited lemma; the ledger shows that the theorem uses it."""
    return Conclusion(lemma, statement)


@dataclass(frozen=True)
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

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"theorem {self.id}: a chain needs at least one step")
        for s in self.steps:
            equation = (s.reason.equation.equation,) if s.reason.equation else ()
            for h in (*s.reason.hypotheses, *equation):
                if h not in self.given:
                    raise ValueError(f"theorem {self.id}: a step cites {h.name!r}, which is not given")
            if isinstance(s.before.term, Vector) != isinstance(s.after.term, Vector):
                raise TypeError(f"theorem {self.id}: a step equates a scalar with a vector")

    @property
    def first(self) -> Any:
        """The left side of the statement."""
        return self.steps[0].before.term

    @property
    def last(self) -> Any:
        """The right side of the statement: what kernels are generated from."""
        return self.steps[-1].after.term

    @property
    def assumptions(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that restrict something (definitions left out)."""
        return tuple(h for h in self.given if h.assumed)


Chain = Callable[[], Iterator[Any]]
REGISTRY: dict[str, Theorem] = {}


def build(
    id: str, title: str, given: Sequence[Hypothesis], chain: Chain, references: Sequence[str] = ()
) -> Theorem:
    """A theorem from a generator function that yields its lines."""
    lines = iter(chain())
    before = _line(next(lines))
    steps: list[Step] = []
    conclusion = None
    for item in lines:
        if conclusion is not None:
            raise ValueError(f"theorem {id}: nothing may follow a conclusion")
        if isinstance(item, Conclusion):
            conclusion = item
            continue
        reason, after = item
        step = Step(reason, before, _line(after))
        steps.append(step)
        before = step.after
    doc = (chain.__doc__ or "").strip()
    return Theorem(id, title, tuple(given), tuple(steps), conclusion, tuple(references), doc)


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
