"""Chapter II, first half: the projection as a gradient, its Jacobian, its potential, its variational form."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.terms import Vector, VectorSymbol
from projsym.proof.certificate import divergence
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    distributivity,
    exponential_law,
    polarization,
    softmax_definition,
)
from projsym.proof.theorem import at_least, by, shown, theorem, therefore

from .geometry_lemmas import two_stages
from .learning import dot, f, g, h
from .notation import k, q, v, σ, τ

ξ = VectorSymbol("ξ")
y = VectorSymbol("y")


def density(x: Vector) -> Any:
    """``Σ_j exp(−‖x − k_j‖²/2σ²)``: the kernel density of the keys up to a constant."""
    return total(lambda j: sp.exp(-norm2(x - k[j]) / (2 * σ**2)))


def energy(x: Vector) -> Any:
    """``−σ² log density``."""
    return -(σ**2) * sp.log(density(x))


def weights(x: Vector) -> Any:
    """The Gaussian weights of the keys as seen from `x`, a function of the index."""
    return softmax(lambda l: -norm2(x - k[l]) / (2 * σ**2))


def projection(x: Vector) -> Vector:
    """``P_σ(x; K)``."""
    return attend(lambda j: -norm2(x - k[j]) / (2 * σ**2), k)


w, P = weights(q), projection(q)
TWEEDIE = (
    "H. Robbins, An empirical Bayes approach to statistics, Proc. 3rd Berkeley Symp. Math. Statist. 1 (1956)",
    "B. Efron, Tweedie's formula and selection bias, JASA 106 (2011)",
)
MOREAU = ("J.-J. Moreau, Proximité et dualité dans un espace hilbertien, Bull. Soc. Math. France 93 (1965)",)
MEAN_SHIFT = ("D. Comaniciu and P. Meer, Mean shift, IEEE TPAMI 24 (2002)",)
HOPFIELD = ("H. Ramsauer et al., Hopfield networks is all you need, ICLR 2021",)


@theorem("II.1", "Tweedie: the displacement is σ² times the score of the kernel density", references=TWEEDIE)
def tweedie() -> Iterator[Any]:
    """P(q) = q + σ² ∇ log Σ_j exp(−‖q − k_j‖²/2σ²); fixed points are critical points of the density."""
    yield shown("⟨q, h⟩ + σ² D_q log density [h]", inner(q, h) - directional(energy(q), {q: h}))
    yield by(differentiation), inner(q, h) + total(lambda j: w(j) * inner(k[j] - q, h))
    yield by(bilinearity, softmax_definition, distributivity), inner(P, h)


@theorem("II.1e", "The kernel energy is a Hopfield energy with a key bias", references=HOPFIELD)
def energy_view() -> Iterator[Any]:
    """−σ² log density = ½‖ξ‖² − σ² lse((⟨ξ, k_j⟩ − ½‖k_j‖²)/σ²)."""
    yield energy(ξ)
    yield (
        by(polarization),
        -(σ**2)
        * sp.log(total(lambda j: sp.exp(-norm2(ξ) / (2 * σ**2) + (inner(ξ, k[j]) - norm2(k[j]) / 2) / σ**2))),
    )
    yield (
        by(exponential_law, distributivity),
        norm2(ξ) / 2 - σ**2 * sp.log(total(lambda j: sp.exp((inner(ξ, k[j]) - norm2(k[j]) / 2) / σ**2))),
    )


@theorem("II.1d", "The energy falls by exactly ½‖ξ − P‖² + σ² KL at every step", references=MEAN_SHIFT)
def exact_decrease() -> Iterator[Any]:
    """So iterating P (mean shift) never lowers the density, and stands still only at a fixed point."""
    p = projection(ξ)
    yield shown("E(ξ) − E(P(ξ)), E = −σ² log density", energy(ξ) - energy(p))
    yield (
        by(softmax_definition, exponential_law, distributivity, bilinearity),
        norm2(ξ - p) / 2 + σ**2 * divergence(weights(ξ), weights(p)),
    )
    yield at_least(shown("E(ξ)", energy(ξ)), shown("E(P(ξ))", energy(p)), "equal only where ξ = P(ξ)")


@theorem("II.8b", "A block that adds the projection to the token doubles the token: q + P = 2 q + σ² score")
def residual_block() -> Iterator[Any]:
    """A residual block denoises (q + σ² score, II.1) when its branch returns P(q) − q."""
    yield shown("⟨q + P(q), h⟩", inner(q + P, h))
    yield (
        by(differentiation),
        shown("2⟨q, h⟩ + σ² D_q log density [h]", 2 * inner(q, h) - directional(energy(q), {q: h})),
    )


@theorem("II.2", "The Jacobian is the weighted covariance over σ²")
def jacobian() -> Iterator[Any]:
    """D P [h] = (1/σ²) Σ_j w_j ⟨k_j − p, h⟩ (k_j − p), p = P_σ(q; K)."""
    yield shown("D_q P [h]", directional(P, {q: h}))
    yield by(differentiation), total(lambda j: (w(j) * inner(k[j] - P, h)) * (k[j] - P)) / σ**2


@theorem("II.2s", "The Jacobian is symmetric")
def jacobian_symmetric() -> Iterator[Any]:
    """⟨g, DP [h]⟩ = ⟨h, DP [g]⟩."""
    yield shown("⟨g, D_q P [h]⟩", inner(g, directional(P, {q: h})))
    yield by(differentiation), total(lambda j: w(j) * inner(k[j] - P, g) * inner(k[j] - P, h)) / σ**2
    yield by(differentiation), shown("⟨h, D_q P [g]⟩", inner(h, directional(P, {q: g})))


STRETCH = shown("⟨h, D_q P [h]⟩", inner(h, directional(P, {q: h})))


@theorem("II.2p", "The Jacobian is positive semidefinite: a sum of squares")
def jacobian_positive() -> Iterator[Any]:
    """⟨h, DP h⟩ = (1/σ²) Σ_j w_j ⟨k_j − p, h⟩²."""
    yield STRETCH
    yield by(differentiation), total(lambda j: w(j) * inner(k[j] - P, h) ** 2) / σ**2
    yield at_least(STRETCH)


@theorem("II.2q", "The Jacobian is positive semidefinite: pairs of keys, without the mean")
def jacobian_pairs() -> Iterator[Any]:
    """⟨h, DP h⟩ = (1/2σ²) Σ_j Σ_l w_j w_l ⟨k_j − k_l, h⟩²: zero only if all keys are alike along h."""
    yield STRETCH
    yield (
        by(differentiation),
        total(lambda j: total(lambda l: w(j) * w(l) * inner(k[j] - k[l], h) ** 2)) / (2 * σ**2),
    )
    yield at_least(STRETCH, note="equal only if ⟨k_j, h⟩ is the same for all j")


@theorem("II.2v", "With separate values the Jacobian is the cross-covariance of values and keys")
def jacobian_values() -> Iterator[Any]:
    """D SDPA [h] = (1/τ) Σ_j w_j ⟨k_j − k̄, h⟩ (v_j − v̄): not symmetric, see the refusal."""
    out = attend(lambda j: inner(q, k[j]) / τ, v)
    mean = attend(lambda j: inner(q, k[j]) / τ, k)
    yield shown("⟨f, D_q SDPA [h]⟩", inner(f, directional(out, {q: h})))
    yield by(differentiation), total(lambda j: dot(j) * inner(k[j] - mean, h) * inner(v[j] - out, f)) / τ


def potential(x: Vector) -> Any:
    """``φ(x) = σ² log Σ_j exp((⟨x, k_j⟩ − ½‖k_j‖²)/σ²)``."""
    return σ**2 * sp.log(total(lambda j: sp.exp((inner(x, k[j]) - norm2(k[j]) / 2) / σ**2)))


@theorem("II.3", "The projection is the gradient of a potential")
def gradient_of_potential() -> Iterator[Any]:
    """P = ∇φ with φ(q) = σ² log Σ_j exp((⟨q, k_j⟩ − ½‖k_j‖²)/σ²)."""
    yield shown("D_q φ [h]", directional(potential(q), {q: h}))
    yield by(differentiation), inner(P, h)


@theorem("II.3c", "The potential is convex: it lies above its tangents by σ² KL")
def potential_convex() -> Iterator[Any]:
    """φ(y) − φ(q) − ⟨P(q), y − q⟩ = σ² KL(w(q) ‖ w(y)) for any two points."""
    yield shown("φ(y) − φ(q) − ⟨P(q), y − q⟩", potential(y) - potential(q) - inner(P, y - q))
    yield (
        by(softmax_definition, exponential_law, distributivity, bilinearity),
        σ**2 * divergence(w, weights(y)),
    )
    tangent = shown("φ(q) + ⟨P(q), y − q⟩", potential(q) + inner(P, y - q))
    yield at_least(shown("φ(y)", potential(y)), tangent)


c = ScalarFamily("c")
u = softmax(lambda l: c[l])
"""Any point of the open simplex: every positive `u` that adds to 1 is the softmax of its logarithms."""
x_u = total(lambda j: u(j) * k[j])


def objective(weight: Any) -> Any:
    """``F(u) = ½ Σ_j u_j ‖q − k_j‖² + σ² Σ_j u_j log u_j``."""
    return total(lambda j: weight(j) * norm2(q - k[j])) / 2 + σ**2 * total(
        lambda j: weight(j) * sp.log(weight(j))
    )


def spread(weight: Any, mean: Vector) -> Any:
    """``r(u) = ½ Σ_j u_j ‖x − k_j‖² + σ² Σ_j u_j log u_j`` with the mean x = Σ_j u_j k_j."""
    return total(lambda j: weight(j) * norm2(mean - k[j])) / 2 + σ**2 * total(
        lambda j: weight(j) * sp.log(weight(j))
    )


@theorem("II.4", "The weights minimise expected distance plus σ² times negative entropy")
def variational() -> Iterator[Any]:
    """F(u) − F(w) = σ² KL(u ‖ w) for every u in the open simplex (its closure follows by continuity)."""
    yield shown("F(u) − F(w)", objective(u) - objective(w))
    yield by(softmax_definition, exponential_law, distributivity), σ**2 * divergence(u, w)
    yield at_least(shown("F(u)", objective(u)), shown("F(w)", objective(w)), "equal only for u = w")


@theorem("II.4d", "Expected distance splits into the distance of the mean and the spread around it")
def distance_splits() -> Iterator[Any]:
    """½ Σ u_j ‖q − k_j‖² = ½‖q − x‖² + ½ Σ u_j ‖x − k_j‖², x = Σ_j u_j k_j (Huygens and Steiner)."""
    yield total(lambda j: u(j) * norm2(q - k[j])) / 2
    yield (
        by(bilinearity, softmax_definition, exponential_law, distributivity),
        norm2(q - x_u) / 2 + total(lambda j: u(j) * norm2(x_u - k[j])) / 2,
    )


@theorem("II.4p", "The projection is a proximal map: it minimises ½‖q − x‖² + R(x)", references=MOREAU)
def proximal() -> Iterator[Any]:
    """R(x) is the least r(u) = ½ Σ u_j ‖x − k_j‖² + σ² Σ u_j log u_j over the u with Σ u_j k_j = x."""
    # R need not be convex: for σ < diam/2 the map can expand distances (refusal VI.g17), which no proximal
    # map of a convex function does.
    any_point = shown("½‖q − x‖² + r(u)", norm2(q - x_u) / 2 + spread(u, x_u))
    projected = shown("½‖q − P‖² + r(w)", norm2(q - P) / 2 + spread(w, P))
    yield shown("½‖q − x‖² + r(u) − ½‖q − P‖² − r(w), x = Σ u_j k_j", any_point.term - projected.term)
    yield (
        by(bilinearity, softmax_definition, exponential_law, distributivity),
        shown("F(u) − F(w)", objective(u) - objective(w)),
    )
    yield by(softmax_definition, exponential_law, distributivity), σ**2 * divergence(u, w)
    yield at_least(any_point, projected)
    yield therefore(two_stages, "P_σ(q; K) = argmin_x ½‖q − x‖² + R(x) over the hull of the keys")


FENCHEL = ("W. Fenchel, On conjugate convex functions, Canad. J. Math. 1 (1949)",)


@theorem("II.4f", "Fenchel and Young: φ(q) + R(x) + ½‖x‖² ≥ ⟨q, x⟩, equal at x = P(q)", references=FENCHEL)
def fenchel_young() -> Iterator[Any]:
    """φ(q) + ½‖x‖² + r(u) − ⟨q, x⟩ = σ² KL(u ‖ w) with x = Σ u_j k_j."""
    above = potential(q) + norm2(x_u) / 2 + spread(u, x_u)
    yield shown("φ(q) + ½‖x‖² + r(u) − ⟨q, x⟩", above - inner(q, x_u))
    yield (
        by(softmax_definition, exponential_law, distributivity, bilinearity),
        σ**2 * divergence(u, w),
    )
    yield at_least(shown("φ(q) + ½‖x‖² + r(u)", above), inner(q, x_u), "equal only for u = w, x = P(q)")
