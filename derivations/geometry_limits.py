"""Chapter II, limits: small bandwidth with the exact remainder, large bandwidth by its first coefficients."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import DisjointUnion, IndexSet, Singleton
from projsym.algebra.terms import Vector, VectorFamily
from projsym.proof.hypotheses import EqualNorms, equal_norms
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    disjoint_union,
    distributivity,
    exponential_law,
    polarization,
    softmax_definition,
)
from projsym.proof.theorem import at_least, by, coefficient, shown, tends, theorem

from .geometry_lemmas import decay
from .notation import i, j, k, q, σ, τ

OTHERS, TIED = IndexSet("J"), IndexSet("T")
ALL = DisjointUnion(Singleton(i), OTHERS)

nearest = attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), k, ALL)
"""The projection with one key k_i set apart from all the others."""


def excess(l: Any) -> Any:
    """``exp(−gap_l/2σ²)`` with gap_l = ‖q − k_l‖² − ‖q − k_i‖²: below 1 for a key farther away than k_i."""
    return sp.exp(-(norm2(q - k[l]) - norm2(q - k[i])) / (2 * σ**2))


MASS = total(excess, OTHERS)
PULL = total(lambda l: excess(l) * (k[l] - k[i]), OTHERS)


@theorem("II.5", "Small bandwidth: the nearest key, with the exact remainder")
def nearest_key() -> Iterator[Any]:
    """P − k_i = Σ' (k_l − k_i) e_l / (1 + Σ' e_l), e_l = exp(−gap_l/2σ²), over the keys l other than i."""
    yield nearest - k[i]
    yield by(softmax_definition, disjoint_union, exponential_law, bilinearity), PULL / (1 + MASS)
    yield tends(decay, "P_σ(q; K) → k_i as σ → 0 when k_i is nearer to q than every other key")


E_ = ScalarFamily("excess", positive=True)
mass = total(lambda l: E_[l], OTHERS)
squares = total(lambda l: E_[l] * norm2(k[l] - k[i]), OTHERS)
pull = total(lambda l: E_[l] * (k[l] - k[i]), OTHERS)


@theorem("II.5b", "The remainder is at most the mass of the other keys times their squared distances")
def nearest_key_bound() -> Iterator[Any]:
    """‖P − k_i‖² ≤ (Σ' e_l) (Σ' e_l ‖k_l − k_i‖²), for the remainder of II.5 with any positive e_l."""
    yield mass * squares - norm2(pull / (1 + mass))
    yield (
        by(distributivity, bilinearity),
        total(lambda l: total(lambda t: E_[l] * E_[t] * norm2(k[l] - k[t]), OTHERS), OTHERS) / 2
        + norm2(pull) * (2 * mass + mass**2) / (1 + mass) ** 2,
    )
    yield at_least(mass * squares, norm2(pull / (1 + mass)))


e = VectorFamily("e")
tied = equal_norms(e)
ρ = tied.radius
TIES = total(lambda t: q + e[t], TIED) / total(lambda t: sp.S.One, TIED)
"""The mean of the nearest keys q + e_t, t in T."""


def beyond(l: Any) -> Any:
    """``exp(−(‖q − k_l‖² − ρ²)/2σ²)``."""
    return sp.exp(-(norm2(q - k[l]) - ρ**2) / (2 * σ**2))


def near(t: Any) -> Any:
    """``exp(−‖e_t‖²/2σ²)``."""
    return sp.exp(-norm2(e[t]) / (2 * σ**2))


def far(l: Any) -> Any:
    """``exp(−‖q − k_l‖²/2σ²)``."""
    return sp.exp(-norm2(q - k[l]) / (2 * σ**2))


@theorem("II.5t", "Small bandwidth with ties: the nearest keys share equally", given=[tied])
def nearest_keys_tied() -> Iterator[Any]:
    """Keys q + e_t at one distance ρ and others k_l: the limit is the mean of the former, exact remainder."""
    n = total(lambda t: sp.S.One, TIED)
    out = (total(lambda t: near(t) * (q + e[t]), TIED) + total(lambda l: far(l) * k[l], OTHERS)) / (
        total(near, TIED) + total(far, OTHERS)
    )
    yield out - TIES
    yield (
        by(tied, exponential_law, distributivity, bilinearity),
        total(lambda l: beyond(l) * (k[l] - TIES), OTHERS) / (n + total(beyond, OTHERS)),
    )
    yield tends(decay, "P_σ(q; K) → the mean of the nearest keys as σ → 0")


β = sp.Symbol("β", real=True)
"""The inverse 1/σ² (or 1/τ): the limit σ → ∞ is β → 0."""
wide = attend(lambda j: -β * norm2(q - k[j]) / 2, k)
wide_dot = attend(lambda j: β * inner(q, k[j]), k)
SIZE = total(lambda j: sp.S.One)
MEAN = total(lambda j: k[j]) / SIZE


def covariance(x: Vector) -> Vector:
    """``Cov(k) x = (1/m) Σ_j ⟨k_j − k̄, x⟩ (k_j − k̄)``."""
    return total(lambda j: inner(k[j] - MEAN, x) * (k[j] - MEAN)) / SIZE


THIRD = total(lambda j: norm2(k[j] - MEAN) * (k[j] - MEAN)) / SIZE
"""``(1/m) Σ_j ‖k_j − k̄‖² (k_j − k̄)``, a third central moment."""


@theorem("II.5m", "Infinite bandwidth: the mean of the keys")
def mean_of_keys() -> Iterator[Any]:
    """The constant term of the expansion in 1/σ²."""
    yield shown("P at 1/σ² = 0", attend(lambda j: sp.S.Zero, k))
    yield by(softmax_definition, exponential_law), MEAN


@theorem("II.5w", "Large bandwidth: the coefficient of 1/σ² has a third central moment")
def wide_bandwidth() -> Iterator[Any]:
    """Cov(k)(q − k̄) − ½ (1/m) Σ_j ‖k_j − k̄‖² (k_j − k̄), for any keys."""
    yield coefficient("∂P/∂β at β = 0, β = 1/σ²", wide, β)
    yield by(differentiation), covariance(q - MEAN) - THIRD / 2


sphere = equal_norms(k)


@theorem("II.5e", "Large bandwidth, equal norms: an affine map of the query", given=[sphere])
def wide_equal_norms() -> Iterator[Any]:
    """P = k̄ + Cov(k) q/σ² + O(1/σ⁴): linear attention. The mean is not subtracted from the query."""
    yield coefficient("∂P/∂β at β = 0, β = 1/σ²", wide, β)
    yield by(differentiation), covariance(q - MEAN) - THIRD / 2
    yield by(sphere, polarization, distributivity), covariance(q)


@theorem("II.5d", "High temperature, dot-product weights: the same affine map for any norms")
def wide_dot_product() -> Iterator[Any]:
    """The coefficient of 1/τ is Cov(k) q whatever the norms."""
    yield coefficient("∂T/∂β at β = 0, β = 1/τ", wide_dot, β)
    yield by(differentiation), covariance(q)


one_norm = equal_norms(k, ρ)
queries = VectorFamily("query")
same_norm = EqualNorms("queries of the same norm", "‖query_l‖ = ρ for all l", queries, ρ)
τ_dot = softmax(lambda l: inner(queries[i], k[l]) / τ)


@theorem(
    "II.5u",
    "On a sphere of radius ρ two weights differ at most by the factor exp(2ρ²/τ)",
    given=[one_norm, same_norm],
)
def discrimination() -> Iterator[Any]:
    """Unit vectors with τ = √d: exp(2/√d), 1.28 at d = 64; LayerNorm vectors (ρ² = d): exp(2√d)."""
    ratio = sp.log(τ_dot(i) / τ_dot(j))
    yield 2 * ρ**2 / τ - ratio
    yield (
        by(softmax_definition, exponential_law),
        2 * ρ**2 / τ - (inner(queries[i], k[i]) - inner(queries[i], k[j])) / τ,
    )
    yield (
        by(one_norm, same_norm, polarization),
        (norm2(queries[i] - k[i]) + norm2(queries[i] + k[j])) / (2 * τ),
    )
    yield at_least(2 * ρ**2 / τ, ratio, "equal only for k_i = query = −k_j")
