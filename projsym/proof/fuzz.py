"""Fuzzing the decision procedure: wherever it says equal, ball arithmetic must not disagree."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import isnan
from typing import Any

from projsym.algebra.decide import residual
from projsym.algebra.theory import ALGEBRA, Ability, Theory, TheoryError

from . import oracle
from .edits import one_edit
from .instance import Range
from .random_terms import FREE, Terms
from .rewrites import rewritten
from .verdict import Witness

SPAN = Range(dimensions=(1, 2), sizes=(2, 3), numerators=(-9, 9), denominators=(2, 5))
"""Small instances: differences show as well and evaluation is fast."""


@dataclass(frozen=True)
class Finding:
    """A pair on which the two opinions disagree, with the seed that makes it again (`fuzz(1, seed)`)."""

    seed: int
    what: str
    left: Any
    right: Any
    witness: Witness


@dataclass(frozen=True)
class FuzzReport:
    """What the two opinions said about random pairs.

    rewritten pairs are equal by construction: `proved` or `missed` (undecided, a gap and no error).
    changed pairs differ in one node: `refuted` by balls, `equal` (decided equal, balls overlap) or
    `unknown`. unsound: decided equal and disproved. broken: equal by construction and disproved: a bug of
    the evaluator or of a rewriting. Both must be empty. undefined: no side could be judged there.
    """

    seed: int
    terms: int
    proved: int
    missed: int
    refuted: int
    equal: int
    unknown: int
    undefined: int
    unsound: tuple[Finding, ...]
    broken: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        return not self.unsound and not self.broken


class _Count(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


def fuzz(count: int, seed: int = 0, depth: int = 2, changes: int = 3) -> FuzzReport:
    """Judge `count` random terms: a rewriting of each against it, and against up to `changes` edits of it.

    Changed pairs are decided in the full algebra and in a random smaller theory. The n-th term depends on
    ``seed + n`` alone. Guarantees, for these pairs alone, that no equation was decided that two random
    instances disprove. It cannot see unsoundness outside what `projsym.proof.random_terms` generates.
    """
    n = _Count()
    unsound: list[Finding] = []
    broken: list[Finding] = []
    for s in range(seed, seed + count):
        rng = random.Random(s)
        terms = Terms(rng)
        term = terms.term(depth)
        same = rewritten(terms, term, FREE)
        witness, defined = disproved(term, same, s)
        if witness is not None:
            broken.append(Finding(s, "rewriting", term, same, witness))
        n["proved" if decided(term, same, ALGEBRA) else "missed" if defined else "undefined"] += 1
        smaller = Theory(frozenset(a for a in Ability if rng.random() < 0.7))
        for label, other in _edits(same, rng, changes):
            verdicts = [decided(same, other, theory) for theory in (ALGEBRA, smaller)]
            witness, defined = disproved(same, other, s, instances=2 if any(verdicts) else 1)
            if any(verdicts) and witness is not None:
                unsound.append(Finding(s, label, same, other, witness))
            n[
                "refuted" if witness else "equal" if verdicts[0] else "unknown" if defined else "undefined"
            ] += 1
    return FuzzReport(
        seed,
        count,
        proved=n["proved"],
        missed=n["missed"],
        refuted=n["refuted"],
        equal=n["equal"],
        unknown=n["unknown"],
        undefined=n["undefined"],
        unsound=tuple(unsound),
        broken=tuple(broken),
    )


def _edits(term: Any, rng: random.Random, count: int) -> list[tuple[str, Any]]:
    """Up to `count` different single-node edits."""
    found = (one_edit(term, rng) for _ in range(count))
    return list({e[1]: e for e in found if e is not None}.values())


def decided(left: Any, right: Any, theory: Theory) -> bool:
    """Whether the theory decides ``left = right``."""
    try:
        return not residual(left, right, theory)
    except (ZeroDivisionError, TheoryError):
        return False


def disproved(left: Any, right: Any, seed: int, instances: int = 2) -> tuple[Witness | None, bool]:
    """A witness against ``left = right``, and whether any instance had finite balls on both sides."""
    defined = False
    for n in range(instances):
        try:
            witness, radius = oracle.compare(left, right, (), instances * seed + n, SPAN)
        except ZeroDivisionError:
            continue
        if witness is not None:
            return witness, True
        defined = defined or not isnan(radius)
    return None, defined
