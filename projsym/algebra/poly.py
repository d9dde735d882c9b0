"""Sparse Laurent polynomials over the rationals in the letters of `projsym.algebra.generators`."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import TypeAlias

from .generators import (
    Generator,
    Renaming,
    make_mono,
    mono_height,
    mono_indices,
    mono_key,
    rename_mono,
)

Mono: TypeAlias = tuple[tuple[Generator, Fraction], ...]


def multiply_monos(a: Mono, b: Mono) -> Mono:
    """The product of two monomials."""
    if not a or not b:
        return a or b
    powers = dict(a)
    for g, e in b:
        powers[g] = powers.get(g, Fraction(0)) + e
    return make_mono(powers)


def power_mono(mono: Mono, r: Fraction) -> Mono:
    """A monomial to a rational power (all letters positive, or `r` an integer)."""
    return tuple((g, e * r) for g, e in mono) if r else ()


class Poly:
    """An immutable polynomial: `terms` maps monomials to non-zero rational coefficients."""

    __slots__ = ("__dict__", "terms")

    def __init__(self, terms: dict[Mono, Fraction]) -> None:
        self.terms = terms

    @cached_property
    def key(self) -> str:
        """Canonical text: equal polynomials have equal keys."""
        return " + ".join(sorted(f"{c}*{mono_key(m)}" for m, c in self.terms.items())) or "0"

    @cached_property
    def indices(self) -> frozenset[str]:
        """The free indices."""
        return frozenset().union(*[mono_indices(m) for m in self.terms])

    @cached_property
    def height(self) -> int:
        """How deep sums are nested."""
        return max((mono_height(m) for m in self.terms), default=0)

    @cached_property
    def positive(self) -> bool:
        """Whether every term is visibly positive (and there is one)."""
        terms = self.terms.items()
        return bool(self.terms) and all(c > 0 and all(g.positive for g, _ in m) for m, c in terms)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key

    def __add__(self, other: Poly) -> Poly:
        terms = dict(self.terms)
        for m, c in other.terms.items():
            _accumulate(terms, m, c)
        return Poly(terms)

    def __sub__(self, other: Poly) -> Poly:
        return self + other.scaled(Fraction(-1))

    def __mul__(self, other: Poly) -> Poly:
        terms: dict[Mono, Fraction] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in other.terms.items():
                _accumulate(terms, multiply_monos(m1, m2), c1 * c2)
        return Poly(terms)

    def scaled(self, c: Fraction) -> Poly:
        """The polynomial times a rational."""
        return Poly({m: a * c for m, a in self.terms.items()} if c else {})

    def times_mono(self, mono: Mono) -> Poly:
        """The polynomial times a monomial."""
        return Poly({multiply_monos(m, mono): c for m, c in self.terms.items()})

    def renamed(self, names: Renaming) -> Poly:
        """The polynomial with index names replaced."""
        if not self.indices.intersection(names):
            return self
        terms: dict[Mono, Fraction] = {}
        for m, c in self.terms.items():
            _accumulate(terms, rename_mono(m, names), c)
        return Poly(terms)


def _accumulate(terms: dict[Mono, Fraction], mono: Mono, c: Fraction) -> None:
    total = terms.get(mono, 0) + c
    if total:
        terms[mono] = Fraction(total)
    else:
        terms.pop(mono, None)


ZERO = Poly({})
ONE = Poly({(): Fraction(1)})


def constant(c: Fraction | int) -> Poly:
    """A rational as a polynomial."""
    return Poly({(): Fraction(c)} if c else {})


def letter(g: Generator, e: Fraction | int = 1) -> Poly:
    """A power of one letter."""
    return Poly({((g, Fraction(e)),): Fraction(1)})
