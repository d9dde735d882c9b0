"""Chapter III, as far as the forward kernels need it: gradients of the projection."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.terms import VectorFamily, VectorSymbol
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    distributivity,
    exponential_law,
    softmax_definition,
)
from projsym.proof.theorem import by, shown, theorem

from .notation import F, k, q, v, σ, τ

g, h = VectorSymbol("g"), VectorSymbol("h")
H = VectorFamily("H")

gaussian = softmax(lambda l: -norm2(q - k[l]) / (2 * σ**2))
P = attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), k)
dot = softmax(lambda l: inner(q, k[l]) / τ)
T = attend(lambda j: inner(q, k[j]) / τ, k)


@theorem("III.1", "Gradient with respect to the query")
def gradient_query() -> Iterator[Any]:
    """∂L/∂q = (1/σ²) Σ_j w_j r_j k_j with r_j = ⟨k_j − p, g⟩, for the upstream gradient g."""
    yield shown("D_q ⟨g, P⟩ [h]", directional(inner(g, P), {q: h}))
    yield by(differentiation), inner(total(lambda j: gaussian(j) * inner(k[j] - P, g) * k[j]) / σ**2, h)


@theorem("III.2", "Gradient with respect to the keys, Gaussian form")
def gradient_keys() -> Iterator[Any]:
    """∂L/∂k_j = w_j [g + r_j (q − k_j)/σ²]: through the value and through the weights."""
    yield shown("D_k ⟨g, P⟩ [H]", directional(inner(g, P), {k: H}))
    yield (
        by(differentiation),
        total(lambda j: inner(gaussian(j) * (g + (inner(k[j] - P, g) / σ**2) * (q - k[j])), H[j])),
    )


@theorem("III.2t", "Gradient with respect to the keys, dot-product form")
def gradient_keys_tied() -> Iterator[Any]:
    """∂L/∂k_j = w_j [g + r_j q/τ] when keys are the values of dot-product attention."""
    yield shown("D_k ⟨g, T⟩ [H]", directional(inner(g, T), {k: H}))
    yield (
        by(differentiation),
        total(lambda j: inner(dot(j) * (g + (inner(k[j] - T, g) / τ) * q), H[j])),
    )


@theorem("III.3", "Gradient with respect to the bandwidth")
def gradient_bandwidth() -> Iterator[Any]:
    """∂L/∂σ = Σ_j w_j r_j ‖q − k_j‖²/σ³."""
    yield shown("D_σ ⟨g, P⟩", directional(inner(g, P), {σ: sp.S.One}))
    yield by(differentiation), total(lambda j: gaussian(j) * inner(k[j] - P, g) * norm2(q - k[j])) / σ**3


@theorem("III.1z", "The residuals r_j have the weighted mean 0")
def residuals_vanish() -> Iterator[Any]:
    """Σ_j w_j r_j = 0: in the gradients any constant may be subtracted from k_j, q or p say."""
    yield total(lambda j: gaussian(j) * inner(k[j] - P, g))
    yield by(bilinearity, softmax_definition, exponential_law, distributivity), sp.S.Zero


f = VectorSymbol("f", F)
G = VectorFamily("G", F)


@theorem("III.4v", "Gradient with respect to separate values")
def gradient_values() -> Iterator[Any]:
    """∂L/∂v_j = w_j g."""
    out = attend(lambda j: inner(q, k[j]) / τ, v)
    yield shown("D_v ⟨f, SDPA⟩ [G]", directional(inner(f, out), {v: G}))
    yield by(differentiation), total(lambda j: inner(dot(j) * f, G[j]))
