"""Chapter II, symmetries: translations, isometries, scaling with the bandwidth, order of the keys."""

from collections.abc import Iterator
from typing import Any

import sympy as sp
from flint import arb

from projsym.algebra.scalars import attend, norm2, total
from projsym.algebra.sets import KEYS, DisjointUnion, IndexSet
from projsym.algebra.terms import LinearMap, Vector, VectorSymbol, identity_map
from projsym.proof.hypotheses import MapEquation
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    adjoint,
    arithmetic,
    bilinearity,
    disjoint_union,
    distributivity,
    exponential_law,
    linearity,
    softmax_definition,
)
from projsym.proof.theorem import by, theorem

from .geometry import P
from .notation import k, q, σ

c = VectorSymbol("c")
U = LinearMap("U")
a = sp.Symbol("a", positive=True)


class Shifted:
    """The family ``k_j + c``."""

    def __getitem__(self, index: Any) -> Vector:
        return k[index] + c


class Mapped:
    """The family ``k_j W``."""

    def __init__(self, linear_map: LinearMap) -> None:
        self.linear_map = linear_map

    def __getitem__(self, index: Any) -> Vector:
        return k[index] @ self.linear_map


class Scaled:
    """The family ``a k_j``."""

    def __getitem__(self, index: Any) -> Vector:
        return a * k[index]


def onto(x: Vector, keys: Any, bandwidth: Any = σ, over: Any = KEYS) -> Vector:
    """``P_bandwidth(x; keys)``."""
    return attend(lambda j: -norm2(x - keys[j]) / (2 * bandwidth**2), keys, over)


@theorem("II.10", "Translations of query and keys translate the projection")
def translation() -> Iterator[Any]:
    """P(q + c; K + c) = P(q; K) + c."""
    yield onto(q + c, Shifted())
    yield by(arithmetic), attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), Shifted())
    yield by(softmax_definition, exponential_law, distributivity), P + c


def reflection(instance: Instance) -> None:
    """A Householder reflection: orthogonal, with rational entries."""
    n = instance.dimension("E")
    x = [arb(instance.rational(positive=True)) for _ in range(n)]
    square = sum((y * y for y in x), arb(0))
    instance.maps["U"] = lambda: [
        [arb(int(p == r)) - 2 * x[p] * x[r] / square for r in range(n)] for p in range(n)
    ]


orthogonal = MapEquation("U is orthogonal", "U Uᵀ = 1", U @ U.T, identity_map(), reflection)


@theorem("II.10o", "Isometries commute with the projection", given=[orthogonal])
def isometry() -> Iterator[Any]:
    """P(q U; K U) = P(q; K) U for U Uᵀ = 1."""
    yield onto(q @ U, Mapped(U))
    yield by(orthogonal, bilinearity, adjoint), attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), Mapped(U))
    yield by(linearity), P @ U


@theorem("II.10s", "Scaling everything, the bandwidth included, scales the projection")
def scaling() -> Iterator[Any]:
    """P_{aσ}(a q; a K) = a P_σ(q; K) for a > 0."""
    yield onto(a * q, Scaled(), a * σ)
    yield by(bilinearity), attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), Scaled())
    yield by(linearity), a * P


I, J = IndexSet("I"), IndexSet("J")


@theorem("II.10p", "The order of the keys does not matter")
def permutation() -> Iterator[Any]:
    """Keys are a set: blocks may change places, and with them, block by block, any permutation is made."""
    yield onto(q, k, over=DisjointUnion(I, J))
    yield (
        by(softmax_definition, disjoint_union),
        (
            total(lambda j: sp.exp(-norm2(q - k[j]) / (2 * σ**2)) * k[j], I)
            + total(lambda j: sp.exp(-norm2(q - k[j]) / (2 * σ**2)) * k[j], J)
        )
        / (
            total(lambda j: sp.exp(-norm2(q - k[j]) / (2 * σ**2)), I)
            + total(lambda j: sp.exp(-norm2(q - k[j]) / (2 * σ**2)), J)
        ),
    )
    yield by(softmax_definition, disjoint_union), onto(q, k, over=DisjointUnion(J, I))
