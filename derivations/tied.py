"""Chapter I, the tied form in detail: biases, the defect where it loses something, norms after LayerNorm."""

from collections.abc import Iterator
from typing import Any

import sympy as sp
from flint import arb, arb_mat

from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.terms import E, LinearMap, Vector, VectorSymbol
from projsym.proof.hypotheses import MapEquation, definition
from projsym.proof.instance import Instance
from projsym.proof.laws import adjoint, arithmetic, bilinearity, distributivity, linearity, softmax_definition
from projsym.proof.theorem import at_least, by, theorem

from .folding import M, factors, keys, layer, query
from .notation import W_K, W_O, W_V, X, Y, b_K, b_O, b_V, i, x, τ


def scores(j: Any) -> Any:
    """The scores of a head with biases, from the token x_i."""
    return inner(query(x[i]), keys[j]) / τ


weight = softmax(scores)


@theorem("I.8b", "With biases the tied form is off by a constant", given=[factors])
def tied_with_biases() -> Iterator[Any]:
    """If W_V W_O = W_K M: keys x_j W_K + b_K as values, M after them, and a constant."""
    yield layer(x[i])
    yield (
        by(linearity, distributivity, softmax_definition),
        total(lambda j: weight(j) * (x[j] @ (W_V @ W_O))) + b_V @ W_O + b_O,
    )
    yield by(factors), total(lambda j: weight(j) * (x[j] @ (W_K @ M))) + b_V @ W_O + b_O
    yield (
        by(linearity, distributivity, softmax_definition),
        attend(scores, keys) @ M + (b_V @ W_O + b_O - b_K @ M),
    )


W_plus = LinearMap("W⁺", E, X)
N = LinearMap("N", E, Y)
y = VectorSymbol("y", Y)


def _least_squares(instance: Instance) -> None:
    """A tall W_K of full column rank and W⁺ = (W_Kᵀ W_K)⁻¹ W_Kᵀ."""
    d = instance.dimension("E")
    n = instance.fixed_dimensions["X"] = d + instance.dimension("X")
    rows = [[arb(int(p == r)) for r in range(d)] for p in range(d)]
    rows += [[arb(instance.rational()) for _ in range(d)] for _ in range(n - d)]
    w = arb_mat(rows)
    plus = (w.transpose() * w).inv() * w.transpose()
    instance.maps["W_K"] = lambda: rows
    instance.maps["W⁺"] = lambda: [[plus[p, r] for r in range(n)] for p in range(d)]


normal_equations = MapEquation(
    "normal equations", "W_Kᵀ W_K W⁺ = W_Kᵀ", W_K.T @ W_K @ W_plus, W_K.T, _least_squares
)


def seen(z: Vector) -> Vector:
    """What `z` in the input space has in common with the keys' directions, ``z (W_K W⁺)ᵀ``."""
    return z @ (W_K @ W_plus).T


@theorem("I.8d", "The defect of the tied form is what the keys do not see", given=[normal_equations])
def least_squares_defect() -> Iterator[Any]:
    """For every M, here N, and along every output direction y, with B = W_V W_O: the defect B − W_K N is at
    least (1 − W_K W⁺) B, and W⁺ B for N attains it. Summed over a basis: the least-squares defect, which is 0
    if and only if B = W_K W⁺ B [I.8n]."""
    value = y @ (W_V @ W_O).T
    defect, least = norm2(value - y @ (W_K @ N).T), norm2(value - seen(value))
    yield defect - least
    yield by(normal_equations, bilinearity, adjoint), norm2(seen(value) - y @ (W_K @ N).T)
    yield at_least(defect, least, "equal for N = W⁺ W_V W_O")


u = VectorSymbol("u", X)
D, ε, variance = sp.symbols("D ε v", positive=True)
mean_square = definition(
    variance, norm2(u) / D, "v = ‖u‖²/D, the variance of a centred vector u of D components"
)


@theorem("I.7e", "LayerNorm gives ‖x̂‖² = D v/(v + ε), not quite D", given=[mean_square])
def layer_norm() -> Iterator[Any]:
    """Equal norms hold up to the norm's ε: D − ‖x̂‖² = D ε/(v + ε), and what is left of it enters the scores
    as the exact bias of I.3. RMSNorm is the same without centring."""
    yield norm2(u / sp.sqrt(variance + ε))
    yield by(mean_square, bilinearity), D * variance / (variance + ε)


@theorem("I.7b", "The norm's ε takes less than D ε/v from the squared norm", given=[])
def layer_norm_gap() -> Iterator[Any]:
    """0 < D − ‖x̂‖² < D ε/v: small unless the variance is as small as ε."""
    gap = D - D * variance / (variance + ε)
    yield D * ε / variance - gap
    yield by(arithmetic), D * ε**2 / (variance * (variance + ε))
    yield at_least(D * ε / variance, gap)
