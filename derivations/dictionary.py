"""Chapter I, last part: the same formula under other names, each with the condition that it needs."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, total
from projsym.algebra.terms import E, LinearMap, Space, Vector, VectorFamily, VectorSymbol
from projsym.proof.hypotheses import equal_norms
from projsym.proof.laws import (
    adjoint,
    bilinearity,
    differentiation,
    distributivity,
    linearity,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import by, shown, theorem

from .identity import keys_equal
from .notation import F, k, q, v, σ, τ


def kernel(j: Any) -> Any:
    """The Gaussian kernel ``exp(−‖q − k_j‖²/2σ²)``."""
    return sp.exp(-norm2(q - k[j]) / (2 * σ**2))


@theorem(
    "I.13n",
    "Nadaraya–Watson regression is attention",
    given=[keys_equal],
    references=(
        "E. A. Nadaraya, On estimating regression, Theory Probab. Appl. 9 (1964)",
        "G. S. Watson, Smooth regression analysis, Sankhya A 26 (1964)",
    ),
)
def nadaraya_watson() -> Iterator[Any]:
    """The kernel estimate at q from observations v_j at k_j; for equal norms, dot products with τ = σ²."""
    yield total(lambda j: (kernel(j) / total(kernel)) * v[j])
    yield by(softmax_definition), attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), v)
    yield by(keys_equal, polarization, shift_invariance), attend(lambda j: inner(q, k[j]) / σ**2, v)


@theorem(
    "I.13m",
    "One mean-shift step goes from q to the projection",
    references=(
        "K. Fukunaga and L. Hostetler, The estimation of the gradient of a density function, IEEE Trans. "
        "Inf. Theory 21 (1975)",
        "Y. Cheng, Mean shift, mode seeking, and clustering, IEEE TPAMI 17 (1995)",
    ),
)
def mean_shift_step() -> Iterator[Any]:
    """q plus the kernel-weighted mean of the displacements k_j − q is P_σ(q; K), for any keys."""
    yield q + total(lambda j: (kernel(j) / total(kernel)) * (k[j] - q))
    yield by(distributivity), total(lambda j: (kernel(j) / total(kernel)) * k[j])
    yield by(softmax_definition), attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), k)


@theorem(
    "I.13", "Mean shift, kernel regression of the keys, projection, attention: one map", given=[keys_equal]
)
def one_map() -> Iterator[Any]:
    """A mean-shift step is the Nadaraya–Watson estimate at q of the keys from themselves, which is P_σ(q; K)
    for any keys, and for equal norms attention with keys as values, the Hopfield update."""
    yield q + total(lambda j: (kernel(j) / total(kernel)) * (k[j] - q))
    yield by(distributivity), total(lambda j: (kernel(j) / total(kernel)) * k[j])
    yield by(softmax_definition), attend(lambda j: -norm2(q - k[j]) / (2 * σ**2), k)
    yield by(keys_equal, polarization, shift_invariance), attend(lambda j: inner(q, k[j]) / σ**2, k)


ξ, h = VectorSymbol("ξ"), VectorSymbol("h")
inverse_temperature = sp.Symbol("β", positive=True)
HOPFIELD = ("H. Ramsauer et al., Hopfield networks is all you need, ICLR 2021 (arXiv 2008.02217)",)


def energy(x: Vector) -> Any:
    """The modern Hopfield energy ``½‖x‖² − (1/β) log Σ exp(β⟨x, k_j⟩)``, up to its constants."""
    β = inverse_temperature
    return norm2(x) / 2 - sp.log(total(lambda j: sp.exp(β * inner(x, k[j])))) / β


@theorem("I.13h", "The modern Hopfield update is attention", references=HOPFIELD)
def hopfield_update() -> Iterator[Any]:
    """A gradient step of length 1, ξ − ∇E(ξ), paired with any h: the patterns are keys and values."""
    yield shown("⟨ξ, h⟩ − D_ξ E [h]", inner(ξ, h) - directional(energy(ξ), {ξ: h}))
    yield by(differentiation), inner(attend(lambda j: inverse_temperature * inner(ξ, k[j]), k), h)


@theorem("I.13p", "With equal pattern norms it is the projection", given=[keys_equal], references=HOPFIELD)
def hopfield_projection() -> Iterator[Any]:
    """Patterns on a sphere: the retrieved pattern is P_σ(ξ; K) with σ² = 1/β."""
    β = inverse_temperature
    yield attend(lambda j: β * inner(ξ, k[j]), k)
    yield by(keys_equal, polarization, shift_invariance), attend(lambda j: -β * norm2(ξ - k[j]) / 2, k)


C = Space("C")
"""The space of latents, of a lower dimension than that of the inputs."""
latent = VectorFamily("latent", C)
W_UK, W_UV = LinearMap("W_UK", C, E), LinearMap("W_UV", C, F)
position = ScalarFamily("rope")
latent_equal = equal_norms(latent)
MLA = ("DeepSeek-AI, DeepSeek-V2, 2024 (arXiv 2405.04434), section 2.1",)


class _Up:
    """The family ``latent_j W``."""

    def __init__(self, weight: LinearMap) -> None:
        self.weight = weight

    def __getitem__(self, index: Any) -> Vector:
        return latent[index] @ self.weight


@theorem("I.13l", "Weight absorption of multi-head latent attention", references=MLA)
def latent_attention() -> Iterator[Any]:
    """Keys latent_j W_UK, values latent_j W_UV, and a decoupled rotary score rope_j: with the query q W_UKᵀ
    the latents are keys and values both, so one array is read for all heads."""
    yield attend(lambda j: (inner(q, latent[j] @ W_UK) + position[j]) / τ, _Up(W_UV))
    yield (
        by(bilinearity, adjoint, linearity),
        attend(lambda j: (inner(q @ W_UK.T, latent[j]) + position[j]) / τ, latent) @ W_UV,
    )


@theorem("I.13k", "Normalised latents: every head is a projection", given=[latent_equal], references=MLA)
def latent_projection() -> Iterator[Any]:
    """RMSNorm on the latents (its gain folded into W_UK and W_UV) gives equal norms; the rotary score stays
    as an exact bias of the keys."""
    z = q @ W_UK.T
    yield attend(lambda j: (inner(q, latent[j] @ W_UK) + position[j]) / τ, latent) @ W_UV
    yield by(bilinearity, adjoint), attend(lambda j: (inner(z, latent[j]) + position[j]) / τ, latent) @ W_UV
    yield (
        by(latent_equal, polarization, adjoint, shift_invariance),
        attend(lambda j: -norm2(z - latent[j]) / (2 * τ) + position[j] / τ, latent) @ W_UV,
    )
