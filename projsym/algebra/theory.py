"""Theories: which facts a step may use.

Field arithmetic and the linear structure of vectors are always available. Everything else is an ability that
a law grants; without it the normal form keeps the corresponding node whole, so that a step that cites the
wrong law is not accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from .generators import Product, Word
from .poly import Poly


class Ability(StrEnum):
    """What a theory can look into."""

    BILINEARITY = "the inner product is bilinear"
    ADJOINT = "linear maps are linear and have adjoints"
    EXPONENTIAL = "exp(a+b) = exp(a) exp(b) and log inverts exp"
    SUMS = "finite sums are linear and may be exchanged"
    UNIONS = "a sum over a disjoint union is the sum of the sums"
    SOFTMAX = "softmax is a quotient of exponentials"
    HYPERBOLIC = "tanh x = 1 − 2/(1 + exp 2x)"


ProductRule = Callable[[Product], Poly | None]
"""Replaces an inner product by a polynomial, or declines."""

WordRule = tuple[Word, Word]
"""An oriented equation between words of linear maps."""


@dataclass(frozen=True)
class Theory:
    """Abilities and the rewrite rules that hypotheses contribute. Theories are joined with ``|``."""

    abilities: frozenset[Ability] = frozenset()
    product_rules: tuple[ProductRule, ...] = field(default=(), compare=False)
    word_rules: tuple[WordRule, ...] = ()

    def __or__(self, other: Theory) -> Theory:
        return Theory(
            self.abilities | other.abilities,
            self.product_rules + other.product_rules,
            self.word_rules + other.word_rules,
        )

    def can(self, ability: Ability) -> bool:
        return ability in self.abilities


class TheoryError(ValueError):
    """A term that the theory in force cannot represent; the message names the ability it lacks."""


ALGEBRA = Theory(frozenset(Ability))
"""Every ability, no hypotheses."""
