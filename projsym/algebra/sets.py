"""Abstract finite index sets: the sizes that a theorem does not fix."""

from __future__ import annotations

import sympy as sp
from sympy.core.symbol import Str


def checked_name(name: str | Str) -> Str:
    """A name as a SymPy leaf; ValueError if it has a character that canonical keys use."""
    text = name.name if isinstance(name, Str) else name
    if not text or set(text) & set("[]()<>{}|.'*^+;:,%?=# "):
        raise ValueError(f"name {text!r}: use letters, digits and underscores")
    return name if isinstance(name, Str) else Str(name)


class IndexSet(sp.Basic):
    """A finite set of unspecified size. A normaliser over it is divided by only where it is not empty."""

    def __new__(cls, name: str | Str) -> IndexSet:
        return sp.Basic.__new__(cls, checked_name(name))

    @property
    def name(self) -> str:
        return str(self.args[0].name)


class DisjointUnion(sp.Basic):
    """The union of sets without common members: a sum over it is the sum of the sums."""

    def __new__(cls, *sets: sp.Basic) -> DisjointUnion:
        return sp.Basic.__new__(cls, *sets)


class Singleton(sp.Basic):
    """The set of one index: a sum over it is the body there."""

    def __new__(cls, index: sp.Symbol) -> Singleton:
        return sp.Basic.__new__(cls, index)

    @property
    def index(self) -> sp.Symbol:
        return self.args[0]


class EmptySet(sp.Basic):
    """The set without members: a sum over it is zero."""


EMPTY = EmptySet()
KEYS = IndexSet("keys")
"""The set of keys, j = 1…m."""


def index(name: str) -> sp.Symbol:
    """A free index: a statement about ``k[j]`` holds for every `j`."""
    return sp.Symbol(name, integer=True)
