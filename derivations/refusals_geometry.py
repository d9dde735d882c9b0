"""Chapter VI for chapter II: false statements on the geometry, each with a witness and what repairs it."""

from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.terms import LinearMap, VectorFamily
from projsym.proof.certificate import divergence
from projsym.proof.hypotheses import equal_norms
from projsym.proof.refusal import At, refusal
from projsym.proof.theorem import coefficient, shown

from .geometry import (
    P,
    density,
    energy,
    objective,
    potential,
    projection,
    u,
    w,
    weights,
    y,
    ξ,
)
from .geometry_bounds import GAP, MID, TWO, sphere, tanh, two_keys, ρ
from .geometry_limits import MEAN, covariance, wide, β
from .geometry_perturbation import δ
from .geometry_symmetry import Mapped, Scaled, Shifted, a, c, onto
from .learning import g, h
from .notation import i, j, k, q, v, σ, τ

Sides = tuple[Any, Any]
PLUS_MINUS: dict[str, Any] = {"families": {"k": [(1,), (-1,)]}, "dimensions": {"E": 1}}
"""Two keys, 1 and −1."""
ZERO_ONE: dict[str, Any] = {"families": {"k": [(0,), (1,)]}, "dimensions": {"E": 1}}
STRETCHED = shown("⟨h, D_q P [h]⟩", inner(h, directional(P, {q: h})))
SCORE = directional(sp.log(density(q)), {q: h})


@refusal(
    "VI.g1",
    "the projection is idempotent",
    repair="σ → 0, or proximal: P minimises ½‖q − x‖² + R(x)",
    repaired_by=("II.5", "II.4p", "II.7c"),
    at=At(vectors={"q": (1,)}, scalars={"sigma": 1}, **PLUS_MINUS),
)
def idempotent() -> Sides:
    """P(1) = tanh 1 = .76 and P(P(1)) = tanh .76 = .64."""
    return projection(projection(q)), projection(q)


@refusal(
    "VI.7",
    "it is a projection: applied to its own output it changes nothing",
    repair="σ → 0, or Gaussian keys with eigenvalues 0 or ∞ relative to σ²; else the proximal map of II.4p",
    repaired_by=("II.4p", "II.5", "II.6e", "II.7", "II.7c", "II.7k"),
    at=TWO,
)
def applied_twice() -> Sides:
    """Keys ±1 with σ² = ½: P(x) = tanh 2x, so P(1) = .9640 and P(P(1)) = .9586."""
    return projection(projection(q)), projection(q)


@refusal(
    "VI.g2",
    "a key is a fixed point: the projection of a key is the key",
    repair="in the limit σ → 0",
    repaired_by=("II.5",),
    at=At(scalars={"sigma": 1}, **PLUS_MINUS),
)
def key_is_fixed() -> Sides:
    """The metric projection onto a set keeps the points of the set."""
    return projection(k[i]), k[i]


values = VectorFamily("value")


@refusal(
    "VI.g3",
    "the Jacobian of attention is symmetric, whatever the values",
    repair="it is the cross-covariance of values and keys; symmetric for v = k",
    repaired_by=("II.2s", "II.2v"),
    at=At(
        vectors={"q": (0, 0), "g": (1, 0), "h": (0, 1)},
        scalars={"τ": 1},
        families={"k": [(1, 0), (-1, 0)], "value": [(0, 1), (0, -1)]},
        dimensions={"E": 2},
    ),
)
def symmetric_jacobian() -> Sides:
    """Keys along one axis, values along the other."""
    out = attend(lambda j: inner(q, k[j]) / τ, values)
    return (
        shown("⟨g, D_q SDPA [h]⟩", inner(g, directional(out, {q: h}))),
        shown("⟨h, D_q SDPA [g]⟩", inner(h, directional(out, {q: g}))),
    )


@refusal(
    "VI.g4",
    "the Jacobian is Σ w_j ⟨k_j, h⟩ k_j/σ², without the mean",
    repair="subtract the mean",
    repaired_by=("II.2",),
    at=At(vectors={"q": (0,), "h": (1,)}, scalars={"sigma": 1}, **ZERO_ONE),
)
def jacobian_without_mean() -> Sides:
    moved = shown("D_q P [h]", directional(P, {q: h}))
    return moved, total(lambda j: (w(j) * inner(k[j], h)) * k[j]) / σ**2


@refusal(
    "VI.g5",
    "⟨h, DP h⟩ is the sum over pairs of keys without the factor ½",
    repair="½: each pair counts twice",
    repaired_by=("II.2q",),
    at=At(vectors={"q": (0,), "h": (1,)}, scalars={"sigma": 1}, **PLUS_MINUS),
)
def pairs_without_half() -> Sides:
    pairs = total(lambda j: total(lambda l: w(j) * w(l) * inner(k[j] - k[l], h) ** 2))
    return STRETCHED, pairs / σ**2


@refusal(
    "VI.g6",
    "the displacement is σ times the score",
    repair="σ² times",
    repaired_by=("II.1",),
    at=At(vectors={"q": (1,), "h": (1,)}, scalars={"sigma": 2}, **PLUS_MINUS),
)
def tweedie_bandwidth() -> Sides:
    return inner(P - q, h), shown("σ D_q log density [h]", σ * SCORE)


@refusal(
    "VI.g7",
    "the projection moves down the density: P = q − σ² score",
    repair="upwards, to the keys",
    repaired_by=("II.1",),
    at=At(vectors={"q": (1,), "h": (1,)}, scalars={"sigma": 1}, **PLUS_MINUS),
)
def tweedie_sign() -> Sides:
    return inner(P, h), shown("⟨q, h⟩ − σ² D_q log density [h]", inner(q, h) - σ**2 * SCORE)


@refusal(
    "VI.g8",
    "a residual branch q − P(q) denoises: q + (q − P) = q + σ² score",
    repair="the branch P(q) − q does",
    repaired_by=("II.1",),
    at=At(vectors={"q": (1,), "h": (1,)}, scalars={"sigma": 1}, **PLUS_MINUS),
)
def residual_sign() -> Sides:
    return inner(q + (q - P), h), shown("⟨q, h⟩ + σ² D_q log density [h]", inner(q, h) + σ**2 * SCORE)


@refusal(
    "VI.g9",
    "the energy falls by ½‖ξ − P‖² + KL",
    repair="σ² KL",
    repaired_by=("II.1d",),
    at=At(vectors={"ξ": (1,)}, scalars={"sigma": 2}, **PLUS_MINUS),
)
def decrease_without_bandwidth() -> Sides:
    p = projection(ξ)
    return energy(ξ) - energy(p), norm2(ξ - p) / 2 + divergence(weights(ξ), weights(p))


@refusal(
    "VI.g10",
    "the energy falls by ½‖ξ − P‖² only",
    repair="and by σ² KL",
    repaired_by=("II.1d",),
    at=At(vectors={"ξ": (1,)}, scalars={"sigma": 1}, **PLUS_MINUS),
)
def decrease_without_divergence() -> Sides:
    return energy(ξ) - energy(projection(ξ)), norm2(ξ - projection(ξ)) / 2


@refusal(
    "VI.g11",
    "for large bandwidth the coefficient of 1/σ² is Cov(k)(q − k̄), for any keys",
    repair="minus half the third central moment, or equal norms",
    repaired_by=("II.5w", "II.5e"),
    at=At(vectors={"q": (0,)}, families={"k": [(0,), (0,), (3,)]}, dimensions={"E": 1}),
)
def without_third_moment() -> Sides:
    """Keys 0, 0, 3 (mean 1): covariance 2, so −2 against −2 − 1."""
    return coefficient("∂P/∂β at β = 0, β = 1/σ²", wide, β), covariance(q - MEAN)


equal = equal_norms(k)


@refusal(
    "VI.g12",
    "for equal norms the coefficient of 1/σ² is Cov(k)(q − k̄)",
    repair="Cov(k) q: no mean subtracted",
    repaired_by=("II.5e",),
    given=(equal,),
    at=At(
        vectors={"q": (0, 0)},
        families={"k": [(1, 0), (1, 0), (-1, 0)]},
        scalars={"ρ": 1},
        dimensions={"E": 2},
    ),
)
def equal_norms_with_mean() -> Sides:
    return coefficient("∂P/∂β at β = 0, β = 1/σ²", wide, β), covariance(q - MEAN)


@refusal(
    "VI.g13",
    "scaled dot-product attention commutes with translations of queries and keys",
    repair="Gaussian weights do",
    repaired_by=("II.10",),
    at=At(vectors={"q": (0,), "c": (1,)}, scalars={"τ": 1}, **PLUS_MINUS),
)
def dot_product_translated() -> Sides:
    out = attend(lambda j: inner(q + c, Shifted()[j]) / τ, Shifted())
    return out, attend(lambda j: inner(q, k[j]) / τ, k) + c


W = LinearMap("W")


@refusal(
    "VI.g14",
    "any linear map of queries and keys commutes with the projection",
    repair="isometries do",
    repaired_by=("II.10o",),
    at=At(vectors={"q": (1,)}, scalars={"sigma": 1}, maps={"W": [(2,)]}, **PLUS_MINUS),
)
def any_linear_map() -> Sides:
    return onto(q @ W, Mapped(W)), P @ W


@refusal(
    "VI.g15",
    "P_σ(a q; a K) = a P_σ(q; K)",
    repair="the bandwidth must be scaled too",
    repaired_by=("II.10s",),
    at=At(vectors={"q": (1,)}, scalars={"sigma": 1, "a": 2}, **PLUS_MINUS),
)
def scaled_at_one_bandwidth() -> Sides:
    return onto(a * q, Scaled()), a * P


@refusal(
    "VI.g16",
    "σ² = √d discriminates unit vectors: at d = 64 opposite keys differ twofold in weight",
    repair="at most exp(2/√d) = 1.28: near-uniform averaging; for LayerNorm vectors exp(2√d)",
    repaired_by=("II.5u",),
    given=(equal,),
    at=At(vectors={"q": (1,)}, scalars={"τ": 8, "ρ": 1}, **PLUS_MINUS),
)
def unit_vectors_discriminate() -> Sides:
    """The best case: the query is one key, the other is opposite."""
    weight = softmax(lambda l: inner(q, k[l]) / τ)
    return sp.Max(weight(i) / weight(j), 2), weight(i) / weight(j)


@refusal(
    "VI.g17",
    "the projection never expands distances, as the proximal map of a convex function",
    repair="for σ ≥ diam(K)/2; else R in ½‖q − x‖² + R(x) is not convex",
    repaired_by=("II.7b", "II.4p"),
    at=At(
        vectors={"q": (1,), "y": (-1,)},
        families={"k": [(2,), (-2,)]},
        scalars={"sigma": 1},
        dimensions={"E": 1},
    ),
)
def nonexpansive() -> Sides:
    """Keys ±2, σ = 1: P(±1) = ±2 tanh 2 = ±1.93, farther apart than ±1."""
    near, far = norm2(q - y), norm2(P - projection(y))
    return sp.Max(near, far), near


@refusal(
    "VI.g18",
    "the projection onto keys on a sphere lies on the sphere",
    repair="inside, by the weighted variance",
    repaired_by=("II.8s", "II.8c"),
    given=(sphere,),
    at=At(vectors={"q": (1,)}, scalars={"sigma": 1, "ρ": 1}, **PLUS_MINUS),
)
def lands_on_sphere() -> Sides:
    return norm2(P), ρ**2


@refusal(
    "VI.g19",
    "two keys: the tangent's argument is ⟨q − mid, k_i − k_j⟩/σ²",
    repair="over 2σ²",
    repaired_by=("II.7",),
    at=At(vectors={"q": (1,)}, scalars={"sigma": 1}, **PLUS_MINUS),
)
def two_keys_argument() -> Sides:
    return two_keys(q), MID + tanh(inner(q - MID, GAP) / σ**2) * GAP / 2


@refusal(
    "VI.g20",
    "scores moved by δ never move the output by more than diam(V) tanh(δ/4)",
    repair="tanh(δ/2), sharp",
    repaired_by=("II.9", "II.9s"),
    at=At(families={"v": [(1,), (0,)]}, scalars={"delta": 2}, dimensions={"F": 1}),
)
def half_the_bound() -> Sides:
    big, small = sp.exp(δ / 2), sp.exp(-δ / 2)
    move = norm2((big - small) / (big + small) * (v[i] - v[j]))
    bound = tanh(δ / 4) ** 2 * norm2(v[i] - v[j])
    return sp.Max(move, bound), bound


@refusal(
    "VI.g21",
    "the potential of the projection has the key norms with a plus",
    repair="−½‖k_j‖²",
    repaired_by=("II.3",),
    at=At(vectors={"q": (0,), "h": (1,)}, scalars={"sigma": 1}, **ZERO_ONE),
)
def potential_sign() -> Sides:
    wrong = σ**2 * sp.log(total(lambda j: sp.exp((inner(q, k[j]) + norm2(k[j]) / 2) / σ**2)))
    return (
        shown("D_q σ² log Σ_j exp((⟨q, k_j⟩ + ½‖k_j‖²)/σ²) [h]", directional(wrong, {q: h})),
        shown("D_q φ [h], φ of II.3", directional(potential(q), {q: h})),
    )


@refusal(
    "VI.g22",
    "F(u) − F(w) = σ² KL(w ‖ u)",
    repair="σ² KL(u ‖ w): the divergence is not symmetric",
    repaired_by=("II.4",),
)
def divergence_reversed() -> Sides:
    return objective(u) - objective(w), σ**2 * divergence(w, u)


@refusal(
    "VI.g23",
    "dot-product attention moves the query by the score of the kernel density, for any keys",
    repair="equal key norms",
    repaired_by=("I.4", "II.1"),
    at=At(vectors={"q": (0,), "h": (1,)}, scalars={"sigma": 1}, **ZERO_ONE),
)
def dot_product_score() -> Sides:
    out = attend(lambda j: inner(q, k[j]) / σ**2, k)
    return inner(out - q, h), shown("σ² D_q log density [h]", σ**2 * SCORE)


@refusal(
    "VI.g24",
    "mean shift converges linearly to each of its fixed points: DP is below 1 there",
    repair="at modes with a definite Hessian, or everywhere for σ > diam(K)/2",
    repaired_by=("V.5h", "II.7b", "II.7m"),
    at=At(
        vectors={"q": (0,), "h": (1,)},
        families={"k": [(2,), (-2,)]},
        scalars={"sigma": 1},
        dimensions={"E": 1},
    ),
)
def every_fixed_point_attracts() -> Sides:
    """Keys ±2, σ = 1: 0 is a fixed point and there P stretches by 4. At σ = 2 it stretches by 1 exactly, and
    the iteration converges, but more slowly than any geometric sequence."""
    return shown("max(⟨h, D_q P [h]⟩, ‖h‖²)", sp.Max(STRETCHED.term, norm2(h))), norm2(h)
