"""Random well-typed terms over a fixed stock of letters, reproducible from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, attend, exp2, inner, norm2, softmax, total
from projsym.algebra.sets import EMPTY, KEYS, DisjointUnion, IndexSet, Singleton, index
from projsym.algebra.terms import E, LinearMap, Space, Vector, VectorFamily, VectorSymbol, ZeroVector

F = Space("F")
VECTORS = {E: (VectorSymbol("q"), VectorSymbol("u")), F: (VectorSymbol("f", F), VectorSymbol("g", F))}
FAMILIES = {E: (VectorFamily("k"), VectorFamily("x")), F: (VectorFamily("v", F),)}
A, B, W = LinearMap("A"), LinearMap("B"), LinearMap("W", E, F)
MAPS = {(E, E): (A, A.T, B, A @ B), (E, F): (W, A @ W), (F, E): (W.T, W.T @ A.T), (F, F): (W.T @ W,)}
NUMBERS = (ScalarFamily("a"), ScalarFamily("b"))
POSITIVE = (ScalarFamily("r", positive=True),)
SYMBOLS = tuple(sp.symbols("c d", real=True))
SCALES = tuple(sp.symbols("τ σ", positive=True))
FREE = (index("i"), index("l"))
I, J = IndexSet("I"), IndexSet("J")
SETS = (KEYS, KEYS, I, J, DisjointUnion(I, J), DisjointUnion(KEYS, Singleton(FREE[0])))

Scope: TypeAlias = tuple[Any, ...]
"""The indices (SymPy symbols) that a term may use."""


@dataclass
class Terms:
    """Random terms. `depth` bounds nesting; `scope` lists the indices that may be used."""

    random: random.Random

    def pick(self, pool: Any) -> Any:
        """One of a sequence."""
        return self.random.choice(pool)

    def space(self) -> Space:
        return self.pick((E, E, F))

    def term(self, depth: int = 2) -> Any:
        """A scalar or a vector."""
        if self.random.random() < 0.25:
            return self.vector(depth, FREE, self.space())
        return self.scalar(depth, FREE)

    def rational(self) -> sp.Rational:
        """A small rational, never zero."""
        return sp.Rational(self.pick((-3, -2, -1, 1, 2, 3)), self.pick((1, 1, 2, 3)))

    def over(self, scope: Scope) -> Any:
        """An index set; sometimes a singleton or the empty set."""
        chance = self.random.random()
        if chance < 0.12:
            return Singleton(self.pick(scope))
        return EMPTY if chance < 0.15 else self.pick(SETS)

    def leaf(self, scope: Scope) -> sp.Expr:
        """A scalar without structure."""
        i = self.pick(scope)
        return self.pick((
            self.rational,
            lambda: self.pick(SYMBOLS),
            lambda: self.pick(SCALES),
            lambda: self.pick(NUMBERS)[i],
            lambda: self.pick(NUMBERS)[i],
            lambda: self.pick(POSITIVE)[i],
            lambda: self.products(0, scope),
        ))()  # fmt: skip

    def products(self, depth: int, scope: Scope) -> sp.Expr:
        """An inner product."""
        space = self.space()
        return inner(self.vector(depth, scope, space), self.vector(depth, scope, space))

    def scalar(self, depth: int, scope: Scope) -> sp.Expr:
        """A real number."""
        if depth <= 0:
            return self.leaf(scope)
        less = depth - 1
        make: Callable[[], sp.Expr] = self.pick((
            lambda: self.scalar(less, scope) + self.scalar(less, scope),
            lambda: self.scalar(less, scope) * self.scalar(less, scope),
            lambda: self.scalar(less, scope) - self.rational() * self.scalar(less, scope),
            lambda: self.scalar(less, scope) ** 2,
            lambda: self.scalar(less, scope) / self.positive(less, scope),
            lambda: self.products(less, scope),
            lambda: self.sum(less, scope),
            lambda: self.sum(less, scope),
            lambda: self.collision(scope) + self.scalar(less, scope),
            lambda: sp.exp(self.small(less, scope)),
            lambda: exp2(self.small(less, scope)),
            lambda: sp.log(self.positive(less, scope)),
            lambda: sp.tanh(self.small(less, scope)),
            lambda: self.softmax(less, scope)(self.pick(scope)),
            lambda: sp.Max(self.scalar(less, scope), self.scalar(less, scope)),
            lambda: sp.sqrt(self.positive(less, scope)),
        ))  # fmt: skip
        return make()

    def small(self, depth: int, scope: Scope) -> sp.Expr:
        """A scalar for an exponent: without exponentials of its own, so that values stay printable."""
        for _ in range(10):
            e = self.scalar(depth, scope)
            if not e.has(sp.exp, exp2):
                return e / 4
        return self.leaf(scope)

    def sum(self, depth: int, scope: Scope) -> sp.Expr:
        """A sum over some set; the body may use its index and all others."""
        return total(lambda j: self.scalar(depth, (*scope, j, j)), self.over(scope))

    def collision(self, scope: Scope) -> sp.Expr:
        """A sum over one index whose letters become equal there."""
        i, x = self.pick(scope), self.pick((*NUMBERS, *POSITIVE))
        return total(lambda j: x[j] * x[i] * self.leaf((*scope, j)), Singleton(i))

    def softmax(self, depth: int, scope: Scope) -> Callable[[Any], Any]:
        """Weights over the keys."""
        return softmax(lambda j: self.small(depth, (*scope, j, j)))

    def positive(self, depth: int, scope: Scope) -> sp.Expr:
        """A positive number."""
        return self.pick((
            lambda: self.pick(SCALES),
            lambda: self.pick(POSITIVE)[self.pick(scope)],
            lambda: 1 + norm2(self.vector(0, scope, self.space())),
            lambda: 1 + self.scalar(depth, scope) ** 2,
            lambda: sp.exp(self.small(depth, scope)) * self.pick(SCALES),
            lambda: total(lambda j: sp.exp(self.small(depth, (*scope, j)))),
            lambda: total(lambda j: self.pick(POSITIVE)[j] * self.pick(POSITIVE)[self.pick(scope)], I),
        ))()  # fmt: skip

    def vector(self, depth: int, scope: Scope, space: Space) -> Vector:
        """A vector of a space."""
        if depth <= 0:
            if self.random.random() < 0.5:
                return self.pick(VECTORS[space])
            return self.pick(FAMILIES[space])[self.pick(scope)]
        less = depth - 1
        source = self.space()
        return self.pick((
            lambda: self.vector(less, scope, space) + self.vector(less, scope, space),
            lambda: self.vector(less, scope, space) - self.vector(less, scope, space),
            lambda: self.scalar(less, scope) * self.vector(less, scope, space),
            lambda: self.vector(less, scope, source) @ self.pick(MAPS[source, space]),
            lambda: total(lambda j: self.vector(less, (*scope, j, j), space), self.over(scope)),
            lambda: attend(lambda j: self.small(less, (*scope, j)), self.pick(FAMILIES[space])),
            lambda: ZeroVector(space) + self.vector(less, scope, space),
        ))()  # fmt: skip
