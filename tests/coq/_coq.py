"""Theorems for the tests of the exporter: the core, and false variants of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.coq.compile import Compiled
from projsym.derivations import computation as iv
from projsym.derivations import geometry as ii
from projsym.derivations import identity as i
from projsym.derivations.learning import h
from projsym.derivations.notation import j, k, q, v, σ, τ
from projsym.proof import ledger
from projsym.proof.laws import differentiation, disjoint_union, polarization, shift_invariance
from projsym.proof.theorem import REGISTRY, Theorem, build, by

Compile = Callable[[str, str], Compiled]
CORE = ("I.2", "I.3", "I.4", "I.6", "II.1", "II.2", "IV.1", "IV.1a", "IV.1b", "IV.1c", "IV.1d", "IV.1e")
"""What the second proof checker is asked about first."""


def named(*ids: str) -> list[Theorem]:
    """Theorems of the ledger by id."""
    ledger.load()
    return [REGISTRY[id] for id in ids]


def variant(id: str, title: str, last: Any, law: Any, given: tuple[Any, ...] | None = None) -> Theorem:
    """``first line of a theorem = last`` by one step that cites the law and all that is given."""
    (true,) = named(id)
    hypotheses = true.given if given is None else given

    def chain() -> Iterator[Any]:
        yield true.first
        yield by(law, *hypotheses), last

    return build("wrong", f"{id}: {title}", hypotheses, chain)


def wrong() -> dict[str, Theorem]:
    """False variants of the core, by what is wrong with them."""
    gauss = softmax(lambda l: -norm2(q - k[l]) / (2 * τ))(j)
    bias = softmax(lambda l: -norm2(q - k[l]) / (2 * τ) - norm2(k[l]) / (2 * τ))(j)
    average = (attend(lambda l: iv.a[l], v, iv.I) + attend(lambda l: iv.a[l], v, iv.J)) / 2
    unscaled = (iv.accumulator(iv.I, iv.m1) + iv.accumulator(iv.J, iv.m2)) / (
        iv.normaliser(iv.I, iv.m1) + iv.normaliser(iv.J, iv.m2)
    )
    covariance = total(lambda l: (ii.w(l) * inner(k[l] - ii.P, h)) * (k[l] - ii.P))
    not_centred = total(lambda l: (ii.w(l) * inner(k[l], h)) * k[l])
    scores = lambda l: -norm2(q - k[l]) / (2 * τ)  # noqa: E731
    found = [
        variant("I.2", "minus the scores", softmax(lambda l: i.c - i.a[l])(j), shift_invariance),
        variant("I.3", "the sign of the bias flipped", bias, polarization),
        variant("I.4", "the half dropped", softmax(lambda l: -norm2(q - k[l]) / τ)(j), polarization),
        variant("I.4", "any key norms", gauss, shift_invariance, ()),
        variant("I.6", "any values", attend(scores, k) @ i.M, polarization, (i.keys_equal,)),
        variant("II.1", "minus the displacement", inner(2 * q - ii.P, h), differentiation),
        variant("II.2", "without the mean", not_centred / σ**2, differentiation),
        variant("II.2", "sigma for its square", covariance / σ, differentiation),
        variant("IV.1", "merged without rescaling", unscaled, disjoint_union),
        variant("IV.1", "the outputs of blocks averaged", average, disjoint_union),
    ]
    return {t.title: replace(t, id=f"wrong.{n}") for n, t in enumerate(found)}


PROOF = re.compile(r"^Proof\..*?^Qed\.$", re.MULTILINE | re.DOTALL)


def admitted(text: str) -> str:
    """A file of Coq whose proofs are left out, whatever they are: only its statements are checked."""
    return PROOF.sub("Admitted.", text)
