"""Chapter V, the moving least-squares projection: onto the local tangent plane instead of the local mean."""

from collections.abc import Iterator
from typing import Any

from flint import arb

from projsym.algebra.scalars import attend, norm2, softmax, total
from projsym.algebra.terms import E, LinearMap, Space, VectorFamily, VectorSymbol, identity_map
from projsym.proof.hypotheses import Defined, MapEquation
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    adjoint,
    bilinearity,
    distributivity,
    exponential_law,
    linearity,
    softmax_definition,
)
from projsym.proof.theorem import at_least, by, theorem

from .identity import a
from .notation import k, q

PLANE = Space("U")
"""The space of coordinates in the plane."""
T = LinearMap("T", PLANE, E)
origin, place, z = VectorSymbol("c"), VectorFamily("t", PLANE), VectorSymbol("z", PLANE)
LEVIN = ("D. Levin, The approximation power of moving least squares, Math. Comp. 67 (1998)",)


def _frame(instance: Instance) -> None:
    """Rows of T: the first axes of a Householder reflection of a larger space, orthonormal and rational."""
    d = instance.dimension("U")
    n = instance.fixed_dimensions["E"] = d + instance.dimension("E")
    x = [arb(instance.rational(positive=True)) for _ in range(n)]
    square = sum((y * y for y in x), arb(0))
    rows = [[arb(int(p == r)) - 2 * x[p] * x[r] / square for r in range(n)] for p in range(d)]
    instance.maps["T"] = lambda: rows


orthonormal = MapEquation(
    "orthonormal frame", "T Tᵀ = 1 on the plane's coordinates", T @ T.T, identity_map(PLANE), _frame
)
flat = Defined("keys in a plane", "k_j = c + t_j T for all j", k, lambda j: origin + place[j] @ T)
w = softmax(lambda l: a[l])
centre = attend(lambda l: a[l], k)
onto_plane = centre + (q - centre) @ (T.T @ T)
"""The moving least-squares projection of q: the local mean and the tangential part of the rest."""


@theorem(
    "V.4p",
    "Moving least squares maps to the nearest point of a flat surface",
    given=[orthonormal, flat],
    references=LEVIN,
)
def moving_least_squares() -> Iterator[Any]:
    """For keys in one plane, any weights and any point c + z T of it: by Pythagoras. The kernel mean is in
    the plane too, but slides along it [V.4b]."""
    point = origin + z @ T
    yield norm2(q - point) - norm2(q - onto_plane)
    yield (
        by(
            flat,
            orthonormal,
            bilinearity,
            adjoint,
            linearity,
            softmax_definition,
            exponential_law,
            distributivity,
        ),
        norm2(onto_plane - point),
    )
    yield at_least(norm2(q - point), norm2(q - onto_plane), "equal only for the projection itself")


@theorem("V.4t", "The tangent plane that loses least holds most of the Jacobian's trace", given=[orthonormal])
def best_plane() -> Iterator[Any]:
    """Σ w_j ‖off the plane‖² = Σ w_j ‖k_j − k̄‖² − Σ w_j ‖along it‖²: with Gaussian weights the plane is
    spanned by the leading eigenvectors of the weighted covariance, σ² times the Jacobian of P [II.2]."""

    def off(j: Any) -> Any:
        return (k[j] - centre) - (k[j] - centre) @ (T.T @ T)

    yield total(lambda j: w(j) * norm2(off(j)))
    yield (
        by(orthonormal, bilinearity, adjoint, distributivity),
        total(lambda j: w(j) * norm2(k[j] - centre)) - total(lambda j: w(j) * norm2((k[j] - centre) @ T.T)),
    )
