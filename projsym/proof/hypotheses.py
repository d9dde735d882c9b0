"""Hypotheses: explicit objects that a theorem is given and a step must cite to use.

Each kind contributes rules to the normal form (what it lets a proof do) and constrains the instances of the
oracle (what it demands of concrete inputs). It is used only where it is cited; the ledger shows for every
one what becomes of the theorem without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from flint import arb

from projsym.algebra.generators import Product
from projsym.algebra.normal import Normaliser
from projsym.algebra.poly import Poly
from projsym.algebra.scalars import ScalarElement, ScalarFamily
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import LinearMap, VectorElement, VectorFamily, VectorSymbol
from projsym.algebra.theory import Theory

from .instance import Element, Instance, Vec


@dataclass(frozen=True)
class Hypothesis:
    """Base: a name to cite and a sentence to print.

    `assumed` is False for a definition, which restricts nothing and cannot be dropped.
    """

    name: str
    statement: str

    assumed = True

    @property
    def theory(self) -> Theory:
        """What the hypothesis adds to the normal form."""
        return Theory()

    def rewrite(self, term: Any) -> Any:
        """The term with the hypothesis' definitions unfolded."""
        return term

    def impose(self, instance: Instance) -> None:
        """Make the instance satisfy the hypothesis."""


@dataclass(frozen=True)
class EqualNorms(Hypothesis):
    """``<k_j, k_j> = radius**2`` for every member of a family."""

    family: VectorFamily
    radius: sp.Symbol

    @property
    def theory(self) -> Theory:
        value = Normaliser()(self.radius**2)

        def rule(g: Product) -> Poly | None:
            same = g.left == g.right and g.left.at is not None and not g.word
            return value if same and g.left.name == self.family.name else None

        return Theory(product_rules=(rule,))

    def impose(self, instance: Instance) -> None:
        def draw(at: Element | None, space: str) -> Vec:
            radius = instance.scalar(self.radius.name, positive=True)
            return instance.on_sphere(radius, instance.dimension(space))

        instance.vectors[self.family.name] = draw


def equal_norms(family: VectorFamily, radius: sp.Symbol | None = None) -> EqualNorms:
    """All members of `family` have one norm, called `radius` (a positive symbol; default ρ)."""
    radius = sp.Symbol("ρ", positive=True) if radius is None else radius
    return EqualNorms("equal norms", f"‖{family.name}_j‖ = {radius} for all j", family, radius)


@dataclass(frozen=True)
class Defined(Hypothesis):
    """A letter stands for a term: a family ``x[j]`` (`term` is a function of the index) or a symbol."""

    letter: VectorFamily | ScalarFamily | VectorSymbol | sp.Symbol
    term: Any
    assumed: bool = True

    def rewrite(self, term: Any) -> Any:
        return substitute(term, {self.letter: self.term}) if self._occurs(term) else term

    def _occurs(self, term: Any) -> bool:
        if not isinstance(self.letter, VectorFamily | ScalarFamily):
            return bool(term.has(self.letter))
        kind = VectorElement if isinstance(self.letter, VectorFamily) else ScalarElement
        return any(x.family == self.letter.name for x in term.atoms(kind))


@dataclass(frozen=True)
class Agree(Hypothesis):
    """``left[j] = right[j]`` for every `j`: two scalar families are the same numbers.

    make: draws instances at which what the two are defined as agrees.
    """

    left: ScalarFamily
    right: ScalarFamily
    make: Callable[[Instance], None]

    def rewrite(self, term: Any) -> Any:
        return substitute(term, {self.left: lambda j: self.right[j]})

    def impose(self, instance: Instance) -> None:
        self.make(instance)


def linear_values(values: VectorFamily, keys: VectorFamily, linear_map: LinearMap) -> Defined:
    """``v_j = k_j M`` for every `j`: the values are one linear map of the keys."""
    name = "".join(n + "ᵀ" * t for n, t in linear_map.word)
    text = f"{values.name}_j = {keys.name}_j {name} for all j"
    return Defined("values linear in keys", text, values, lambda j: keys[j] @ linear_map)


def definition(letter: Any, term: Any, statement: str) -> Defined:
    """A name for a term: nothing is assumed."""
    return Defined(f"definition of {letter.name}", statement, letter, term, assumed=False)


@dataclass(frozen=True)
class Domain(Hypothesis):
    """Where the terms of a theorem are defined (a root or logarithm of a positive number, say).

    An equality holds wherever both sides are defined, so a proof needs nothing from it and it is no
    assumption; it is stated for the reader and keeps the instances of the oracle inside the domain.
    """

    make: Callable[[Instance], None]
    assumed = False

    def impose(self, instance: Instance) -> None:
        self.make(instance)


@dataclass(frozen=True)
class Products(Hypothesis):
    """Inner products of letters that are known: `rule` replaces ``⟨u, v⟩`` by a polynomial, or declines.

    make: draws instances at which every replacement is an equality.
    """

    rule: Callable[[Product], Poly | None]
    make: Callable[[Instance], None]

    @property
    def theory(self) -> Theory:
        return Theory(product_rules=(self.rule,))

    def impose(self, instance: Instance) -> None:
        self.make(instance)


@dataclass(frozen=True)
class MapEquation(Hypothesis):
    """``left = right`` between words of linear maps, used from left to right (and transposed).

    make: sets the instance's matrices so that the equation holds.
    """

    left: LinearMap
    right: LinearMap
    make: Callable[[Instance], None]

    @property
    def theory(self) -> Theory:
        return Theory(word_rules=((self.left.word, self.right.word),))

    def impose(self, instance: Instance) -> None:
        self.make(instance)


@dataclass(frozen=True)
class Equation(Hypothesis):
    """``left = right`` between terms, used additively: a step may change a term by ``left - right``.

    make: draws instances that satisfy it.
    """

    left: Any
    right: Any
    make: Callable[[Instance], None]

    def impose(self, instance: Instance) -> None:
        self.make(instance)


def multiply(a: list[Vec], b: list[Vec]) -> list[Vec]:
    """The product of two matrices of balls, as rows."""
    columns = list(zip(*b, strict=True))
    return [[sum((x * y for x, y in zip(r, c, strict=True)), arb(0)) for c in columns] for r in a]
