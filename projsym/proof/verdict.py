"""Verdicts. They are never merged: a failed proof is not a refutation, and a check is not a proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Witness:
    """Concrete inputs at which two sides differ. `exact` if their balls have radius zero."""

    inputs: tuple[tuple[str, str], ...]
    left: str
    right: str

    def __str__(self) -> str:
        at = ", ".join(f"{name} = {value}" for name, value in self.inputs)
        return f"{at}: left {self.left}, right {self.right}"


@dataclass(frozen=True)
class Proved:
    """Decided by the normal form: true for every size, dimension and value where both sides are defined."""

    name = "proved"


@dataclass(frozen=True)
class Checked:
    """True on instances: their balls overlap. Says nothing about other inputs."""

    instances: int
    worst_radius: float
    name = "checked"


@dataclass(frozen=True)
class Refuted:
    """False: disjoint balls at the witness."""

    witness: Witness
    name = "refuted"


@dataclass(frozen=True)
class Unknown:
    """Neither proved nor refuted; counts as a failure. `residual` is what the normal form is left with."""

    residual: str
    name = "unknown"


Verdict: TypeAlias = Proved | Checked | Refuted | Unknown


class ProofError(AssertionError):
    """A statement was not proved; the message says which step failed and what is known about it."""
