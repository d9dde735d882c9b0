"""The letters of the normal form. Each is compared by a canonical text key, built once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .poly import Mono, Poly

Renaming = Mapping[str, str]


class Generator:
    """A canonical letter: `key` decides equality and order, `indices` are its free index names."""

    key: str
    indices: frozenset[str]
    positive: bool = False
    height: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Generator) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __lt__(self, other: Generator) -> bool:
        return self.key < other.key

    def __repr__(self) -> str:
        return self.key

    def renamed(self, names: Renaming) -> Generator:
        """The letter with free index names replaced."""
        return self


@dataclass(eq=False, repr=False)
class Sym(Generator):
    """A scalar symbol."""

    name: str
    positive: bool = False

    def __post_init__(self) -> None:
        self.key, self.indices = f"s:{self.name!r}", frozenset()


@dataclass(eq=False, repr=False)
class Member(Generator):
    """A member of a scalar family."""

    name: str
    at: str
    positive: bool = False

    def __post_init__(self) -> None:
        self.key, self.indices = f"m:{self.name!r}[{self.at}]", frozenset([self.at])

    def renamed(self, names: Renaming) -> Generator:
        return Member(self.name, names.get(self.at, self.at), self.positive)


@dataclass(frozen=True)
class Atom:
    """A vector letter: a symbol (`at` None) or a member of a family."""

    name: str
    at: str | None = None

    @property
    def key(self) -> str:
        return self.name if self.at is None else f"{self.name}[{self.at}]"

    def renamed(self, names: Renaming) -> Atom:
        return self if self.at is None else Atom(self.name, names.get(self.at, self.at))


Word = tuple[tuple[str, bool], ...]


def transpose(word: Word) -> Word:
    """The adjoint of a word of maps."""
    return tuple((n, not t) for n, t in reversed(word))


@dataclass(eq=False, repr=False)
class Product(Generator):
    """``<left @ word, right>``, the smaller of the two ways to write it."""

    left: Atom
    word: Word
    right: Atom

    def __post_init__(self) -> None:
        w, wt = (".".join(n + "'" * t for n, t in x) for x in (self.word, transpose(self.word)))
        a, b = f"<{self.left.key}|{w}|{self.right.key}>", f"<{self.right.key}|{wt}|{self.left.key}>"
        if b < a:
            self.left, self.word, self.right = self.right, transpose(self.word), self.left
        self.key = min(a, b)
        self.indices = frozenset(x.at for x in (self.left, self.right) if x.at is not None)

    def renamed(self, names: Renaming) -> Generator:
        return Product(self.left.renamed(names), self.word, self.right.renamed(names))


@dataclass(eq=False, repr=False)
class Exp(Generator):
    """``exp(mono)``; its exponent in a monomial is the coefficient: ``exp(c * mono)``."""

    mono: Mono
    positive: bool = True

    def __post_init__(self) -> None:
        self.key = f"E({mono_key(self.mono)})"
        self.indices, self.height = mono_indices(self.mono), mono_height(self.mono)

    def renamed(self, names: Renaming) -> Generator:
        return Exp(rename_mono(self.mono, names))


@dataclass(eq=False, repr=False)
class Function(Generator):
    """A function of polynomials that the theory in force does not look into: ``name(args)``.

    With ``name == "poly"`` it is its argument, kept whole as the base of a power.
    """

    name: str
    arguments: tuple[Poly, ...]
    positive: bool = False

    def __post_init__(self) -> None:
        self.key = f"{self.name}({'; '.join(p.key for p in self.arguments)})"
        self.indices = frozenset().union(*[p.indices for p in self.arguments])
        self.height = max((p.height for p in self.arguments), default=0)

    def renamed(self, names: Renaming) -> Generator:
        return Function(self.name, tuple(p.renamed(names) for p in self.arguments), self.positive)


@dataclass(eq=False, repr=False)
class Root(Generator):
    """A positive rational as the base of a fractional power."""

    value: Fraction
    positive: bool = True

    def __post_init__(self) -> None:
        self.key, self.indices = f"#{self.value}", frozenset()


@dataclass(eq=False, repr=False)
class Size(Generator):
    """The number of members of an index set, which is not empty where it is divided by."""

    name: str
    positive: bool = True

    def __post_init__(self) -> None:
        self.key, self.indices = f"|{self.name}|", frozenset()


@dataclass(eq=False, repr=False)
class Total(Generator):
    """The sum of a monomial over connected indices: no factor leaves it and it does not split.

    binders: pairs of bound index and set. Bound names are canonical (see `projsym.algebra.sums`).
    """

    binders: tuple[tuple[str, str], ...]
    mono: Mono
    indices: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        bound = ",".join(f"{b}:{s}" for b, s in self.binders)
        self.key = f"S[{bound}]({mono_key(self.mono)})"
        self.indices = mono_indices(self.mono) - {b for b, _ in self.binders}
        self.positive = all(g.positive for g, _ in self.mono)
        self.height = mono_height(self.mono) + 1

    def renamed(self, names: Renaming) -> Generator:
        free = {a: b for a, b in names.items() if a in self.indices}
        return Total(self.binders, rename_mono(self.mono, free)) if free else self


@dataclass(eq=False, repr=False)
class OpaqueTotal(Generator):
    """A sum over one index that the theory in force does not take apart."""

    bound: str
    over: str
    body: Poly

    def __post_init__(self) -> None:
        self.key = f"O[{self.bound}:{self.over}]({self.body.key})"
        self.indices = self.body.indices - {self.bound}
        self.height = self.body.height + 1

    def renamed(self, names: Renaming) -> Generator:
        free = {a: b for a, b in names.items() if a in self.indices}
        return OpaqueTotal(self.bound, self.over, self.body.renamed(free)) if free else self


def mono_key(mono: Mono) -> str:
    """A monomial as canonical text."""
    return "*".join(g.key if e == 1 else f"{g.key}^{e}" for g, e in mono)


def mono_indices(mono: Mono) -> frozenset[str]:
    """The free indices of a monomial."""
    return frozenset().union(*[g.indices for g, _ in mono])


def mono_height(mono: Mono) -> int:
    """How deep sums are nested in a monomial."""
    return max((g.height for g, _ in mono), default=0)


def make_mono(powers: Mapping[Generator, Fraction]) -> Mono:
    """The monomial with these exponents, in canonical order."""
    return tuple(sorted((t for t in powers.items() if t[1]), key=lambda t: t[0].key))


def rename_mono(mono: Mono, names: Renaming) -> Mono:
    """A monomial with index names replaced; letters that become equal are multiplied together."""
    powers: dict[Generator, Fraction] = {}
    for g, e in mono:
        h = g.renamed(names) if g.indices.intersection(names) else g
        powers[h] = powers.get(h, Fraction(0)) + e
    return make_mono(powers)
