"""Random rational instances: concrete spaces, sets, vectors, maps and numbers for the letters of a term."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from flint import arb, fmpq

Element = tuple[str, int]
"""A member of an index set: the set's name and a position."""

Vec = list[arb]


@dataclass(frozen=True)
class Range:
    """What an instance draws from: dimensions, set sizes and rationals ``n / d``."""

    dimensions: tuple[int, int] = (2, 5)
    sizes: tuple[int, int] = (2, 6)
    numerators: tuple[int, int] = (-200, 200)
    denominators: tuple[int, int] = (50, 150)


GENERIC = Range()
SMALL = (
    Range((1, 1), (2, 2), (-1, 2), (1, 1)),
    Range((1, 1), (2, 2), (-2, 3), (1, 2)),
    Range((2, 2), (2, 2), (-1, 2), (1, 1)),
    Range((2, 2), (3, 3), (-2, 3), (1, 2)),
)
"""Ranges in which a person can follow a counterexample by hand, simplest first."""


@dataclass
class Instance:
    """Values for every letter, drawn when first asked for and the same ever after.

    What a hypothesis demands is imposed by replacing how a letter is drawn (`vectors`, `maps`, `scalars`:
    name to a function of the instance, the element where there is one).
    """

    seed: int
    span: Range = GENERIC
    vectors: dict[str, Callable[[Element | None, str], Vec]] = field(default_factory=dict)
    maps: dict[str, Callable[[], list[Vec]]] = field(default_factory=dict)
    scalars: dict[str, Callable[[], arb]] = field(default_factory=dict)
    fixed_dimensions: dict[str, int] = field(default_factory=dict)
    fixed_sizes: dict[str, int] = field(default_factory=dict)
    drawn: dict[tuple[str, Element | None], object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def rational(self, positive: bool = False) -> fmpq:
        low, high = self.span.numerators
        n = self.random.randint(1 if positive else low, high)
        return fmpq(n, self.random.randint(*self.span.denominators))

    def dimension(self, space: str) -> int:
        """The dimension of a space in this instance."""
        if space not in self.fixed_dimensions:
            self.fixed_dimensions[space] = self.random.randint(*self.span.dimensions)
        return self.fixed_dimensions[space]

    def size(self, name: str) -> int:
        """The number of members of an index set in this instance."""
        if name not in self.fixed_sizes:
            self.fixed_sizes[name] = self.random.randint(*self.span.sizes)
        return self.fixed_sizes[name]

    def vector(self, name: str, space: str, at: Element | None) -> Vec:
        """The value of a vector, or of a member of a family."""
        key = (name, at)
        if key not in self.drawn:
            draw = self.vectors.get(name)
            n = self.dimension(space)
            self.drawn[key] = draw(at, space) if draw else [arb(self.rational()) for _ in range(n)]
        return self.drawn[key]  # type: ignore[return-value]

    def scalar(self, name: str, positive: bool, at: Element | None = None) -> arb:
        """The value of a scalar symbol, or of a member of a scalar family."""
        key = (name, at)
        if key not in self.drawn:
            draw = self.scalars.get(name)
            self.drawn[key] = draw() if draw else arb(self.rational(positive))
        return self.drawn[key]

    def matrix(self, name: str, source: str, target: str) -> list[Vec]:
        """The rows of a map's matrix, ``dimension(source)`` by ``dimension(target)``: ``x @ W``."""
        if (name, None) not in self.drawn:
            draw = self.maps.get(name)
            rows, columns = self.dimension(source), self.dimension(target)
            self.drawn[name, None] = (
                draw() if draw else [[arb(self.rational()) for _ in range(columns)] for _ in range(rows)]
            )
        return self.drawn[name, None]  # type: ignore[return-value]

    def on_sphere(self, radius: arb, dimension: int) -> Vec:
        """A rational point of the sphere of that radius (stereographic projection; an axis when small)."""
        if self.span is not GENERIC:
            axis = self.random.randrange(dimension)
            sign = self.random.choice((-1, 1))
            return [radius * sign if a == axis else arb(0) for a in range(dimension)]
        t = [self.rational() for _ in range(dimension - 1)]
        square = sum((x * x for x in t), fmpq(0))
        unit = [2 * x / (square + 1) for x in t] + [(square - 1) / (square + 1)]
        return [radius * arb(x) for x in unit]

    def described(self) -> tuple[tuple[str, str], ...]:
        """What was drawn, as pairs of name and text."""
        named = {_member(name, at): value for (name, at), value in self.drawn.items()}
        return tuple((name, show_value(value)) for name, value in sorted(named.items()))


def _member(name: str, at: Element | None) -> str:
    if at is None:
        return name
    return f"{name}_{at[1] + 1}" if at[0] in ("keys", "free") else f"{name}_{at[0]}{at[1] + 1}"


def show_value(value: object) -> str:
    """A number, vector or matrix as text, exact where it is a small rational."""
    if isinstance(value, list):
        return "(" + ", ".join(show_value(x) for x in value) + ")"
    assert isinstance(value, arb)
    if value.is_exact() and value.is_integer():
        return str(int(value.unique_fmpz()))
    return value.str(8, radius=False)
