"""A kernel is a theorem's last line and a schedule; nothing else is written for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import sympy as sp

from projsym.proof.hypotheses import Defined
from projsym.proof.laws import LAWS, Law
from projsym.proof.ledger import load
from projsym.proof.oracle import unfold
from projsym.proof.prove import Proof, require
from projsym.proof.theorem import REGISTRY, Theorem
from projsym.proof.verdict import ProofError

from .lower import lower
from .program import Dot, Let, Program, Sum, exp2, whole
from .schedule import Step, apply, default, in_parts, without_maximum
from .validate import Obligation, validate

Schedule = Callable[[Program, str, str], Sequence[Step]]
"""The steps for a program, a dtype and a target."""


@dataclass(frozen=True)
class Kernel:
    """The kernel of a theorem.

    of: its last line is the output ``out``; every scalar it defines (``lse``) is an output as well.
    schedule: each step cites theorems or laws.
    """

    name: str
    of: Theorem
    schedule: Schedule = default
    divides: ClassVar[bool] = True  # whether the keys of few queries may be cut into parts

    def outputs(self) -> dict[str, Any]:
        """The terms that the kernel computes for one query."""
        saved = {h.letter.name: h.term for h in self.of.given if isinstance(h, Defined) and not h.assumed}
        return {"out": unfold(self.of.last, self.of.given)} | saved

    def build(self, dtype: str, target: str = "c") -> Built:
        """Lower, schedule and validate. ProofError unless theorem, citations and program are proved."""
        required(self.of)
        plain = self.lower()
        steps = tuple(self.schedule(plain, dtype, target))
        program, bounded = apply(plain, steps), None
        obligations = self.validate(program)
        free = without_maximum(plain, steps)
        if free:
            bounded = apply(plain, free)
            obligations += self.validate(bounded, "bounded ")
        shared = in_parts(program, dtype, steps) if target == "c" and self.divides else None
        parts = apply(plain, shared) if shared else None
        if parts:
            obligations += self.validate(parts, "parts ")
        cited = tuple(dict.fromkeys(c for s in (*steps, *(free or ()), *(shared or ())) for c in s.cites))
        laws = tuple(resolve(c) for c in cited)
        return Built(self, dtype, program, tuple(obligations), laws, bounded, parts)

    def lower(self) -> Program:
        """The unscheduled program."""
        return lower(self.name, self.outputs())

    def validate(self, program: Program, prefix: str = "") -> list[Obligation]:
        """The proof that a program computes the outputs, `prefix` before the names; ProofError if not."""
        return validate(program, self.outputs(), prefix)


@dataclass(frozen=True)
class Built:
    """A scheduled program with the proof that it computes the kernel's theorem.

    bounded: the same without a running maximum, for blocks of queries whose scores norms bound. parts: the
    same with the keys in parts, for calls with few queries.
    """

    kernel: Kernel
    dtype: str
    program: Program
    obligations: tuple[Obligation, ...]
    cited: tuple[Theorem | Law, ...]
    bounded: Program | None = None
    parts: Program | None = None

    @property
    def theorems(self) -> tuple[Theorem, ...]:
        """The theorem itself and those that the schedule cites."""
        return (self.kernel.of, *[t for t in self.cited if isinstance(t, Theorem)])


@cache
def required(theorem: Theorem) -> Proof:
    """The proof of a theorem, once a process; ProofError unless it is proved."""
    return require(theorem)


def resolve(citation: str) -> Theorem | Law:
    """The theorem (proved now) or law that a schedule step cites."""
    if citation in LAWS:
        return LAWS[citation]
    if citation not in REGISTRY:
        load()  # a theorem of one's own may be the first that is imported
    if citation not in REGISTRY:
        raise ProofError(f"a schedule step cites {citation!r}, which is neither a theorem nor a law")
    required(REGISTRY[citation])
    return REGISTRY[citation]


def operations(program: Program) -> str:
    """The arithmetic for one pair of query and key, counted on the tree, in words."""
    features = {x.name: x.feature for x in program.inputs}
    contractions: list[str] = []
    flops, exponentials = 0, 0
    for s in program.statements():
        match s:
            case Dot() if s.axes == "ij":
                contractions.append(f"2 {features[s.left]}")
            case Sum():
                if s.vector is None:
                    flops += 1
                else:
                    contractions.append(f"2 {features[s.vector]}")
            case Let() if s.axes == "ij":
                exponentials += len(s.value.atoms(exp2))
                flops += int(sp.count_ops(whole(s.value).replace(exp2, lambda a: a)))
    return " + ".join([*contractions, str(flops)]) + f" flops and {exponentials} exp2 per query and key"
