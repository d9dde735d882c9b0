"""Refusals: claims that are false as stated, each refuted rigorously and shown beside what repairs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flint import arb, ctx

from . import oracle
from .hypotheses import Hypothesis
from .instance import SMALL, Instance
from .verdict import ProofError, Refuted, Unknown

Number: TypeAlias = Any
"""An int or a python-flint rational (the library ships no types)."""


@dataclass(frozen=True)
class At:
    """A hand-made witness: vectors and matrices as rows of rationals, one list of rows for a family.

    families: name to the values of its members (over the set `over`).
    dimensions: of each space, where the vectors do not fix them (default: E from the first vector).
    """

    vectors: Mapping[str, Sequence[Number]] = field(default_factory=dict)
    families: Mapping[str, Sequence[Sequence[Number]]] = field(default_factory=dict)
    scalars: Mapping[str, Number] = field(default_factory=dict)
    maps: Mapping[str, Sequence[Sequence[Number]]] = field(default_factory=dict)
    dimensions: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    over: str = "keys"

    def instance(self) -> Instance:
        """The instance with exactly these values."""
        sizes = dict(self.sizes)
        if self.families:
            sizes[self.over] = len(next(iter(self.families.values())))
        out = Instance(0, SMALL[0], fixed_dimensions=dict(self.dimensions), fixed_sizes=sizes)
        for name, value in self.vectors.items():
            out.drawn[name, None] = [arb(x) for x in value]
        for name, members in self.families.items():
            for n, value in enumerate(members):
                out.drawn[name, (self.over, n)] = [arb(x) for x in value]
        for name, number in self.scalars.items():
            out.drawn[name, None] = arb(number)
        for name, rows in self.maps.items():
            out.drawn[name, None] = [[arb(x) for x in row] for row in rows]
        return out


@dataclass(frozen=True)
class Refusal:
    """A false claim ``left = right`` under `given`, and the true statements that repair it.

    repaired_by: ids of theorems; `repair`: the condition in words. at: a witness a person can follow;
    without it the smallest that the search finds is used. shown: how to print a side whose structure is not
    the best way to read it (a derivative, say).
    """

    id: str
    claim: str
    left: Any
    right: Any
    repair: str
    repaired_by: tuple[str, ...]
    given: tuple[Hypothesis, ...] = ()
    at: At | None = None
    shown: tuple[str | None, str | None] = (None, None)

    def refute(self) -> Refuted | Unknown:
        """``Refuted`` with disjoint balls, or ``Unknown``; never an opinion."""
        if self.at is None:
            witness = oracle.refute(self.left, self.right, self.given)
        else:
            before = ctx.prec
            ctx.prec = oracle.PRECISION
            try:
                witness, _ = oracle.differ(self.left, self.right, self.given, self.at.instance())
            finally:
                ctx.prec = before
        return Refuted(witness) if witness is not None else Unknown("no witness")

    def require(self) -> Refuted:
        """As :meth:`refute`, but ProofError unless refuted."""
        verdict = self.refute()
        if not isinstance(verdict, Refuted):
            raise ProofError(f"refusal {self.id}: {self.claim}: not refuted")
        return verdict


REFUSALS: dict[str, Refusal] = {}

Sides = Callable[[], tuple[Any, Any]]


def refusal(
    id: str,
    claim: str,
    *,
    repair: str,
    repaired_by: Sequence[str] = (),
    given: Sequence[Hypothesis] = (),
    at: At | None = None,
) -> Callable[[Sides], Refusal]:
    """Register the refusal of the equation whose two sides the decorated function returns.

    A side is a term, or a line made with :func:`projsym.proof.theorem.shown`.
    """

    def register(sides: Sides) -> Refusal:
        (left, first), (right, second) = (_side(x) for x in sides())
        r = Refusal(id, claim, left, right, repair, tuple(repaired_by), tuple(given), at, (first, second))
        known = REFUSALS.get(id)
        if known is not None and known.claim != claim:
            raise ValueError(f"refusal id {id!r} is taken by {known.claim!r}")
        REFUSALS[id] = r
        return r

    return register


def _side(x: Any) -> tuple[Any, str | None]:
    """A term and its text; lines are known by their attribute, as their module imports this one."""
    return (x.term, x.text) if hasattr(x, "term") else (x, None)
