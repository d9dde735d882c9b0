"""Typed terms: vectors of abstract inner-product spaces, linear maps, indexed families.

A vector has a :class:`Space` and no dimension: what is proved about it holds for every dimension. A family
`k[j]` has one member for each index of an abstract finite :class:`~projsym.algebra.sets.IndexSet`: what is
proved about sums over it holds for every size. Scalars are SymPy expressions; the leaves this package adds
to them are in `projsym.algebra.scalars`.

Row convention, as in code: a linear map is applied on the right, ``x @ W``, and ``W_Q @ W_K.T`` is the map
``x -> (x W_Q) W_K^T``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sympy as sp
from sympy.core.symbol import Str

from .sets import checked_name


class Space(sp.Basic):
    """A real inner-product space of unspecified dimension."""

    def __new__(cls, name: str | Str) -> Space:
        return sp.Basic.__new__(cls, checked_name(name))

    @property
    def name(self) -> str:
        return str(self.args[0].name)


E = Space("E")
"""The space that vectors belong to when none is named: that of queries and keys."""


class Vector(sp.Basic):
    """Base of all vector terms. Supports ``+ - * /`` with scalars and ``@`` with a :class:`LinearMap`."""

    _op_priority = 20.0
    space: Space

    def __add__(self, other: Any) -> Vector:
        return VectorAdd(self, _vector(other, "+")) if other != 0 else self

    __radd__ = __add__

    def __sub__(self, other: Any) -> Vector:
        return VectorAdd(self, -_vector(other, "-"))

    def __neg__(self) -> Vector:
        return VectorScale(sp.S.NegativeOne, self)

    def __mul__(self, scalar: Any) -> Vector:
        return VectorScale(_scalar(scalar), self)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Vector:
        return VectorScale(1 / _scalar(scalar), self)

    def __matmul__(self, linear_map: LinearMap) -> Vector:
        if not isinstance(linear_map, LinearMap):
            raise TypeError(f"x @ W needs a LinearMap on the right, got {linear_map!r}; see inner(u, v)")
        return VectorApply(self, linear_map)


def _vector(x: Any, op: str) -> Vector:
    if not isinstance(x, Vector):
        raise TypeError(f"'{op}' between a vector and {x!r}: both sides must be vectors")
    return x


def _scalar(x: Any) -> sp.Expr:
    if isinstance(x, Vector):
        raise TypeError("a vector times a vector is not a scalar multiple; use inner(u, v)")
    return sp.sympify(x)


def same_space(what: str, *vectors: Vector) -> Space:
    """The space that all the vectors share; TypeError if they do not."""
    spaces = {v.space for v in vectors}
    if len(spaces) != 1:
        raise TypeError(f"{what}: vectors of different spaces {sorted(s.name for s in spaces)}")
    return spaces.pop()


class VectorSymbol(Vector):
    """A named vector."""

    def __new__(cls, name: str | Str, space: Space = E) -> VectorSymbol:
        return sp.Basic.__new__(cls, checked_name(name), space)

    @property
    def name(self) -> str:
        return str(self.args[0].name)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[1]


class VectorElement(Vector):
    """The member of a family at an index."""

    def __new__(cls, family: Str, space: Space, index: sp.Symbol) -> VectorElement:
        return sp.Basic.__new__(cls, family, space, index)

    @property
    def family(self) -> str:
        return str(self.args[0].name)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[1]

    @property
    def index(self) -> sp.Symbol:
        return self.args[2]


class VectorFamily:
    """An indexed family of vectors; ``k[j]`` is its member at index `j`."""

    def __init__(self, name: str, space: Space = E) -> None:
        self.name, self.space = name, space

    def __getitem__(self, index: sp.Symbol) -> VectorElement:
        return VectorElement(checked_name(self.name), self.space, index)

    def __repr__(self) -> str:
        return f"VectorFamily({self.name!r}, {self.space.name})"


class ZeroVector(Vector):
    """The zero of a space."""

    def __new__(cls, space: Space = E) -> ZeroVector:
        return sp.Basic.__new__(cls, space)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[0]


class VectorAdd(Vector):
    """A sum of vectors of one space."""

    def __new__(cls, *terms: Vector) -> VectorAdd:
        same_space("sum", *terms)
        return sp.Basic.__new__(cls, *terms)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[0].space


class VectorScale(Vector):
    """A scalar multiple: args are the scalar and the vector."""

    def __new__(cls, scalar: sp.Expr, vector: Vector) -> VectorScale:
        return sp.Basic.__new__(cls, sp.sympify(scalar), vector)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[1].space


class VectorSum(Vector):
    """The sum of a vector-valued body over an index set: args are body, bound index, set."""

    def __new__(cls, body: Vector, index: sp.Symbol, over: sp.Basic) -> VectorSum:
        return sp.Basic.__new__(cls, body, index, over)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[0].space

    @property
    def free_symbols(self) -> set[sp.Basic]:
        return (self.args[0].free_symbols - {self.args[1]}) | self.args[2].free_symbols


class Letter(NamedTuple):
    """A named map in a word; `source` and `target` are the names of its spaces before transposing."""

    name: str
    transposed: bool
    source: str
    target: str


class LinearMap(sp.Basic):
    """A linear map between spaces: a word of named maps and transposes.

    ``LinearMap("W", X, H)`` maps ``x`` in X to ``x @ W`` in H; ``W.T`` is its adjoint; ``W @ V`` applies `W`
    first. The empty word is the identity.
    """

    def __new__(cls, word: str | sp.Tuple, source: Space = E, target: Space = E) -> LinearMap:
        if isinstance(word, str):
            word = sp.Tuple(sp.Tuple(checked_name(word), sp.S.Zero, source, target))
        return sp.Basic.__new__(cls, word, source, target)

    @property
    def word(self) -> tuple[tuple[str, bool], ...]:
        """The letters, first applied first: pairs of a name and whether it is transposed."""
        return tuple((x.name, x.transposed) for x in self.letters)

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters with the spaces that the named map (not its adjoint) goes between."""
        return tuple(Letter(str(n.name), bool(t), a.name, b.name) for n, t, a, b in self.args[0])

    @property
    def source(self) -> Space:
        return self.args[1]

    @property
    def target(self) -> Space:
        return self.args[2]

    @property
    def T(self) -> LinearMap:
        """The adjoint: ``inner(x @ W, y) == inner(x, y @ W.T)``."""
        word = sp.Tuple(*[sp.Tuple(n, 1 - t, a, b) for n, t, a, b in reversed(self.args[0])])
        return LinearMap(word, self.target, self.source)

    def __matmul__(self, other: LinearMap) -> LinearMap:
        if not isinstance(other, LinearMap):
            raise TypeError(f"cannot compose a linear map with {other!r}")
        if self.target != other.source:
            raise TypeError(f"cannot compose: {self.target.name} is not {other.source.name}")
        return LinearMap(self.args[0] + other.args[0], self.source, other.target)


def identity_map(space: Space = E) -> LinearMap:
    """The identity of a space."""
    return LinearMap(sp.Tuple(), space, space)


class VectorApply(Vector):
    """A linear map applied to a vector: args are the vector and the map."""

    def __new__(cls, vector: Vector, linear_map: LinearMap) -> VectorApply:
        if vector.space != linear_map.source:
            raise TypeError(f"x @ W: x is in {vector.space.name}, W maps from {linear_map.source.name}")
        return sp.Basic.__new__(cls, vector, linear_map)

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.args[1].target
