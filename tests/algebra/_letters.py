"""The letters that the algebra's tests share."""

from __future__ import annotations

import sympy as sp

from projsym.algebra.scalars import ScalarFamily
from projsym.algebra.sets import IndexSet, index
from projsym.algebra.terms import LinearMap, Space, VectorFamily, VectorSymbol
from projsym.algebra.theory import ALGEBRA, Ability, Theory

F = Space("F")
q, u, w = VectorSymbol("q"), VectorSymbol("u"), VectorSymbol("w")
f = VectorSymbol("f", F)
k, x, v = VectorFamily("k"), VectorFamily("x"), VectorFamily("v", F)
A, W = LinearMap("A"), LinearMap("W", target=F)
a, b = ScalarFamily("a"), ScalarFamily("b")
r = ScalarFamily("r", positive=True)
c, d = sp.symbols("c d", real=True)
s, t = sp.symbols("s t", positive=True)
i, j, l = index("i"), index("j"), index("l")
I, J = IndexSet("I"), IndexSet("J")


def without(*abilities: Ability) -> Theory:
    """Every ability but these."""
    return Theory(ALGEBRA.abilities - frozenset(abilities))
