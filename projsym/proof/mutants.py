"""Mutation of theorems: no changed line may be accepted by the normal form and disproved by balls."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from projsym.algebra.decide import Memory, residual
from projsym.algebra.theory import ALGEBRA, TheoryError

from . import oracle
from .edits import Letters, edits
from .instance import GENERIC
from .prove import step_residual
from .theorem import Line, Step, Theorem
from .verdict import Witness


@dataclass(frozen=True)
class Mutant:
    """A theorem with one node of one line changed. `line` counts from 0, the first line; it is never that."""

    theorem: Theorem
    line: int
    edit: str
    term: Any

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that the changed line is part of: into it, and out of it where there is one."""
        chain = self.theorem.steps
        into = replace(chain[self.line - 1], after=Line(self.term))
        if self.line == len(chain):
            return (into,)
        return into, replace(chain[self.line], before=Line(self.term))


@dataclass(frozen=True)
class Unsound:
    """A mutant that was accepted and is false: a bug in the normal form (or in the evaluator)."""

    mutant: Mutant
    accepted: str
    witness: Witness


@dataclass(frozen=True)
class MutationReport:
    """What became of the mutants of one theorem.

    killed: disproved by balls with a witness, and no decision accepted them. equivalent: accepted, and the
    balls overlap. unknown: neither. unsound: accepted and disproved; must be empty. possible: how many
    mutants there are, of which these were drawn.
    """

    theorem: str
    killed: int
    equivalent: int
    unknown: int
    unsound: tuple[Unsound, ...]
    possible: int

    @property
    def total(self) -> int:
        return self.killed + self.equivalent + self.unknown + len(self.unsound)


def mutants(theorem: Theorem) -> Iterator[Mutant]:
    """Every single-node mutant of every line but the first, in a fixed order."""
    letters = Letters.of(theorem.first, *[s.after.term for s in theorem.steps])
    for n, step in enumerate(theorem.steps, start=1):
        seen = {s.after.term for s in theorem.steps[n - 1 : n]}
        for edit, term in edits(step.after.term, letters):
            if term not in seen:
                seen.add(term)
                yield Mutant(theorem, n, edit, term)


def accepted(m: Mutant, memory: Memory | None = None) -> str | None:
    """What the normal form accepts about a mutant: a step of its line, or the whole statement; else None.

    memory: normal forms of what the mutants of one theorem have in common, which is nearly all of them.
    """
    for n, step in enumerate(m.steps):
        if _zero(lambda s=step: step_residual(s, memory)):
            return f"the step {'out of' if n else 'into'} line {m.line}"
    given = m.theorem.given
    theory = ALGEBRA
    for h in given:
        theory = theory | h.theory
    left, right = (oracle.unfold(x, given) for x in (m.theorem.first, m.term))
    return "the statement" if _zero(lambda: residual(left, right, theory, memory)) else None


def _zero(decide: Any) -> bool:
    try:
        return not decide()
    except (ZeroDivisionError, TheoryError):
        return False


def refuted(m: Mutant, instances: int = 2) -> Witness | None:
    """A generic instance at which the first line and the mutant differ, if one of a few shows it."""
    for seed in range(instances):
        try:
            found, _ = oracle.compare(m.theorem.first, m.term, m.theorem.given, seed, GENERIC)
        except ZeroDivisionError:
            continue
        if found is not None:
            return found
    return None


def kill(theorem: Theorem, limit: int | None = None, seed: int = 0) -> MutationReport:
    """Judge all mutants of a theorem, or `limit` of them drawn with `seed`.

    Guarantees, for the mutants tried, what :class:`MutationReport` says; ``Refuted`` is rigorous. It cannot
    see an unsoundness that no single-node change meets, nor one at which balls of two instances overlap.
    """
    pool = list(mutants(theorem))
    possible, memory = len(pool), Memory()
    if limit is not None and len(pool) > limit:
        pool = random.Random(f"{seed} {theorem.id}").sample(pool, limit)
    killed = equivalent = unknown = 0
    unsound: list[Unsound] = []
    for m in pool:
        why, witness = accepted(m, memory), refuted(m)
        if why is not None and witness is not None:
            unsound.append(Unsound(m, why, witness))
        elif witness is not None:
            killed += 1
        elif why is not None:
            equivalent += 1
        else:
            unknown += 1
    return MutationReport(theorem.id, killed, equivalent, unknown, tuple(unsound), possible)
