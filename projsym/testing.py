"""Assertions for notebooks and tests of other packages: each raises AssertionError that says what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from projsym.display import Page, counterexamples, ledger, page
from projsym.proof.ledger import Refutation, select
from projsym.proof.prove import Proof, require
from projsym.proof.refusal import REFUSALS, Refusal
from projsym.proof.theorem import REGISTRY, Theorem

__all__ = ["Record", "assert_proved", "assert_refuted", "assert_within"]


def assert_proved(theorem: str | Theorem) -> Proof:
    """Prove a theorem (by id or as a value) and return its proof.

    Raises ProofError, an AssertionError, unless every step is proved and no instance disagrees; KeyError for
    an unknown id. What a proof guarantees and cannot see: `projsym.proof.prove.prove`.
    """
    if isinstance(theorem, str):
        _known(theorem)
        theorem = REGISTRY[theorem]
    return require(theorem)


def assert_refuted(refusal: str | Refusal) -> Refutation:
    """Refute a false claim (by id or as a value) with a witness; ProofError if none is found."""
    if isinstance(refusal, str):
        _known(refusal)
        refusal = REFUSALS[refusal]
    return Refutation(refusal, refusal.require())


def assert_within(got: ArrayLike, expected: ArrayLike, bound: ArrayLike) -> NDArray[np.float64]:
    """``|got - expected| <= bound`` in every entry, the three broadcast together; returns the differences.

    The bound has to come from somewhere else: this function chooses no tolerance. Differences are taken in
    float64. A NaN anywhere, or an infinite bound, is a failure: neither says anything.
    """
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    gap: NDArray[Any] = np.abs(a - b)
    limit = np.broadcast_to(np.asarray(bound, np.float64), gap.shape)
    bad = ~((gap <= limit) & np.isfinite(limit))
    if bad.any():
        at = tuple(int(x) for x in np.argwhere(bad)[0])
        raise AssertionError(
            f"{int(bad.sum())} of {gap.size} entries outside the bound, "
            f"the first at {at}: difference {gap[at]:.3e}, bound {limit[at]:.3e}"
        )
    return gap


@dataclass
class Record:
    """Assertions that a notebook shows, and all of them once more at its end.

    Every method raises as the function of its name does, before anything is shown.
    """

    proofs: list[Proof] = field(default_factory=list)
    refutations: list[Refutation] = field(default_factory=list)

    def assert_proved(self, *theorems: str | Theorem) -> Page:
        """Prove and show: one theorem with its chain, several as a table."""
        made = [assert_proved(x) for x in theorems]
        self.proofs += made
        return page(made[0]) if len(made) == 1 else ledger(made)

    def assert_refuted(self, *refusals: str | Refusal) -> Page:
        """Refute and show each with its witness, one a line."""
        made = [assert_refuted(x) for x in refusals]
        self.refutations += made
        return counterexamples(made)

    def ledger(self) -> Page:
        """All that was asserted so far, in this order, each once."""
        proofs = {p.theorem.id: p for p in self.proofs}
        return ledger(proofs.values(), {r.refusal.id: r for r in self.refutations}.values())


def _known(id: str) -> None:
    """Load the ledger; KeyError for an id that is in none of its chapters."""
    select()
    if id not in REGISTRY and id not in REFUSALS:
        raise KeyError(f"no theorem or refusal {id!r}; `projsym derive` lists them")
