"""Chapter I, first half: dot-product attention is a Gaussian-weighted mean of the keys."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.terms import E, LinearMap, ZeroVector
from projsym.proof.hypotheses import Agree, Equation, definition, equal_norms, linear_values
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    bilinearity,
    distributivity,
    exponential_law,
    linearity,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import Scaled, by, theorem, therefore

from .lemmas import exponentials_independent
from .notation import F, i, j, k, q, v, τ

a = ScalarFamily("a")
c = sp.Symbol("c", real=True)
keys_equal = equal_norms(k)


@theorem("I.1", "Polarization")
def polarization_identity() -> Iterator[Any]:
    """An inner product is determined by three squared norms."""
    yield inner(q, k[j])
    yield by(bilinearity), (norm2(q) + norm2(k[j]) - norm2(q - k[j])) / 2


@theorem("I.2", "Softmax does not see a constant")
def softmax_shift() -> Iterator[Any]:
    """A score that is the same for every key cancels."""
    yield softmax(lambda l: a[l] + c)(j)
    yield by(softmax_definition), sp.exp(a[j] + c) / total(lambda l: sp.exp(a[l] + c))
    yield by(exponential_law, distributivity), sp.exp(a[j]) / total(lambda l: sp.exp(a[l]))
    yield by(softmax_definition), softmax(lambda l: a[l])(j)


@theorem("I.3", "The query norm cancels, the key norm is an exact bias")
def key_norm_is_a_bias() -> Iterator[Any]:
    """Dot-product weights are Gaussian weights with the bias ‖k_j‖²/2τ, for any keys and any query."""
    yield softmax(lambda j: inner(q, k[j]) / τ)(j)
    yield (
        by(polarization),
        softmax(lambda j: norm2(q) / (2 * τ) - norm2(q - k[j]) / (2 * τ) + norm2(k[j]) / (2 * τ))(j),
    )
    yield by(shift_invariance), softmax(lambda j: -norm2(q - k[j]) / (2 * τ) + norm2(k[j]) / (2 * τ))(j)


@theorem("I.4", "Equal key norms are enough", given=[keys_equal])
def equal_key_norms_are_enough() -> Iterator[Any]:
    """The bias of I.3 is a constant when all keys have one norm. Nothing is asked of the query."""
    yield softmax(lambda j: inner(q, k[j]) / τ)(j)
    yield by(polarization), softmax(lambda j: (norm2(q) + norm2(k[j]) - norm2(q - k[j])) / (2 * τ))(j)
    yield by(shift_invariance), softmax(lambda j: (norm2(k[j]) - norm2(q - k[j])) / (2 * τ))(j)
    yield by(keys_equal, shift_invariance), softmax(lambda j: -norm2(q - k[j]) / (2 * τ))(j)


dot, gauss = ScalarFamily("dot", positive=True), ScalarFamily("gauss", positive=True)
dot_weights = definition(
    dot, softmax(lambda l: inner(q, k[l]) / τ), "dot_j = softmax_j(⟨q, k_j⟩/τ), the dot-product weights"
)
gauss_weights = definition(
    gauss,
    softmax(lambda l: -norm2(q - k[l]) / (2 * τ)),
    "gauss_j = softmax_j(−‖q − k_j‖²/2τ), Gaussian weights",
)
weights_agree = Agree(
    "weights agree", "gauss_j = dot_j for all j, at one query q", gauss, dot, make=keys_equal.impose
)


@theorem("I.5", "Equal key norms are necessary", given=[dot_weights, gauss_weights, weights_agree])
def equal_key_norms_are_necessary() -> Iterator[Any]:
    """If both kinds of weights agree at a single query, any two keys have the same norm."""
    yield norm2(k[i]) - norm2(k[j])
    yield (
        by(dot_weights, gauss_weights, softmax_definition, exponential_law, polarization),
        2 * τ * sp.log((dot[i] / dot[j]) / (gauss[i] / gauss[j])),
    )
    yield by(weights_agree), sp.S.Zero


M = LinearMap("M", E, F)
values_linear = linear_values(v, k, M)


@theorem("I.6", "Linear values: attention is a projection of the query", given=[keys_equal, values_linear])
def attention_is_a_projection() -> Iterator[Any]:
    """With values that are one linear map of the keys, attention is P_σ(q; K) M, σ² = τ."""
    yield attend(lambda j: inner(q, k[j]) / τ, v)
    yield by(values_linear), total(lambda j: softmax(lambda l: inner(q, k[l]) / τ)(j) * (k[j] @ M))
    yield by(linearity), attend(lambda j: inner(q, k[j]) / τ, k) @ M
    yield (
        by(keys_equal, polarization, shift_invariance),
        attend(lambda j: -norm2(q - k[j]) / (2 * τ), k) @ M,
    )


def _values_from_keys(instance: Instance) -> None:
    """Instances at which attention equals the projection for the query at hand: v_j = k_j M, equal norms."""
    keys_equal.impose(instance)

    def draw(at: Any, space: str) -> Any:
        key = instance.vector("k", "E", at)
        rows = instance.matrix("M", "E", "F")
        return [sum(x * r[b] for x, r in zip(key, rows, strict=True)) for b in range(len(rows[0]))]

    instance.vectors["v"] = draw


projections_agree = Equation(
    "attention is the projection",
    "Σ_j softmax_j(⟨q, k_j⟩/τ) v_j = (Σ_j softmax_j(⟨q, k_j⟩/τ) k_j) M for all q; the k_j are distinct",
    attend(lambda j: inner(q, k[j]) / τ, v),
    attend(lambda j: inner(q, k[j]) / τ, k) @ M,
    make=_values_from_keys,
)


@theorem("I.6c", "Converse: only linear values give a projection", given=[projections_agree])
def only_linear_values() -> Iterator[Any]:
    """If it holds for all queries, every value is its key times M (dot-product weights; I.4 turns them)."""
    z = total(lambda l: sp.exp(inner(q, k[l]) / τ))
    yield total(lambda j: sp.exp(inner(q, k[j]) / τ) * (v[j] - k[j] @ M))
    yield (
        by(softmax_definition, linearity),
        z * (attend(lambda j: inner(q, k[j]) / τ, v) - attend(lambda j: inner(q, k[j]) / τ, k) @ M),
    )
    yield by(Scaled(projections_agree, z), distributivity), ZeroVector(F)
    yield therefore(exponentials_independent, "v_j = k_j M for every j")
