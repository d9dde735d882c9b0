"""Chapter V, other radial kernels: weights, limits of small and large bandwidth, concentration."""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, softmax, total
from projsym.algebra.sets import Singleton
from projsym.algebra.terms import Vector, VectorSymbol
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    disjoint_union,
    distributivity,
    exponential_law,
    softmax_definition,
)
from projsym.proof.theorem import by, coefficient, shown, tends, theorem

from .geometry_lemmas import decay
from .geometry_limits import ALL, MEAN, OTHERS, SIZE, THIRD, covariance, β
from .notation import i, k, q, σ, τ
from .radial import h, laplace, mean, parabola, s2, α, κ

g = ScalarFamily("g", positive=True)


def remainder(ratio: Callable[[Any], Any]) -> Vector:
    """``Σ' r_l (k_l − k_i) / (1 + Σ' r_l)`` over the keys l other than i."""
    return total(lambda l: ratio(l) * (k[l] - k[i]), OTHERS) / (1 + total(ratio, OTHERS))


@theorem("V.1n", "Any kernel: the distance from a key is the exact share of all others")
def one_key_apart() -> Iterator[Any]:
    """For positive kernel values g_l: with r_l = g_l/g_i. Where all r_l tend to 0 the mean tends to k_i: for
    small bandwidth (Laplace, Gaussian), or a query that tends to the key (Student-t at σ = 0)."""
    yield mean(lambda l: g[l], ALL) - k[i]
    yield by(disjoint_union, distributivity), remainder(lambda l: g[l] / g[i])


def distance(l: Any) -> Any:
    """``‖q − k_l‖``."""
    return sp.sqrt(s2(l))


@theorem("V.1lw", "Laplace kernel: weights are a softmax of distances")
def laplace_weights() -> Iterator[Any]:
    """Scores −‖q − k_j‖/σ: the distance and not its square."""
    yield attend(lambda l: -distance(l) / σ, k)
    yield by(softmax_definition), mean(laplace)


@theorem("V.1ls", "Laplace kernel, small bandwidth: the nearest key, with the exact remainder")
def laplace_nearest() -> Iterator[Any]:
    """Ratios exp(−(‖q − k_l‖ − ‖q − k_i‖)/σ)."""
    yield mean(laplace, ALL) - k[i]
    yield (
        by(disjoint_union, exponential_law, distributivity),
        remainder(lambda l: sp.exp(-(distance(l) - distance(i)) / σ)),
    )
    yield tends(decay, "P → k_i as σ → 0 when k_i is nearer than every other key (the lemma with σ for 2σ²)")


@theorem("V.1lb", "Laplace kernel, large bandwidth: the mean, then minus the covariance with the distance")
def laplace_wide() -> Iterator[Any]:
    """The coefficient of 1/σ is −(1/m) Σ ‖q − k_j‖ (k_j − k̄): not affine in the query."""
    yield coefficient("∂P/∂β at β = 0, β = 1/σ", attend(lambda l: -β * distance(l), k), β)
    yield by(differentiation), -total(lambda j: distance(j) * (k[j] - MEAN)) / SIZE


@theorem("V.1tb", "Student-t kernel, large bandwidth: the Gaussian's coefficient times 2α")
def student_wide() -> Iterator[Any]:
    """The coefficient of 1/σ²; for α = ½ it is that of the Gaussian kernel [II.5w]."""
    wide = attend(lambda l: -α * sp.log(1 + β * s2(l)), k)
    yield coefficient("∂P/∂β at β = 0, β = 1/σ²", wide, β)
    yield by(differentiation), 2 * α * (covariance(q - MEAN) - THIRD / 2)


@theorem("V.1eb", "Epanechnikov kernel, large bandwidth: exact, not only to first order")
def epanechnikov_wide() -> Iterator[Any]:
    """Where all keys are within σ: k̄ + (2 Cov(k)(q − k̄) − third moment)/(σ² − mean ‖q − k_j‖²)."""
    yield mean(parabola)
    yield (
        by(bilinearity, distributivity),
        MEAN + (2 * covariance(q - MEAN) - THIRD) / (σ**2 - total(s2) / SIZE),
    )


@theorem("V.1es", "Epanechnikov kernel, small bandwidth: a single neighbour is returned exactly")
def epanechnikov_single() -> Iterator[Any]:
    """Compact support makes it exactly sparse: no remainder at all once only one key is within σ."""
    yield mean(parabola, Singleton(i))
    yield by(disjoint_union), k[i]


u = VectorSymbol("u")


@theorem("V.1fc", "Von Mises–Fisher, high concentration: the key of the largest cosine, exact remainder")
def concentrated() -> Iterator[Any]:
    """Weights exp(κ⟨u, k_l⟩) for a direction u: ratios exp(−κ⟨u, k_i − k_l⟩)."""
    yield attend(lambda l: κ * inner(u, k[l]), k, ALL) - k[i]
    yield (
        by(softmax_definition, disjoint_union, exponential_law, bilinearity),
        remainder(lambda l: sp.exp(-κ * inner(u, k[i] - k[l]))),
    )
    yield tends(decay, "P → k_i as κ → ∞ when ⟨u, k_i⟩ exceeds all others (the lemma with 1/κ for 2σ²)")


@theorem("V.1fd", "Von Mises–Fisher, low concentration: the mean of the keys, then the covariance")
def diffuse() -> Iterator[Any]:
    """The coefficient of κ is Cov(k) u, whatever the norms."""
    yield coefficient("∂P/∂β at β = 0, β = κ", attend(lambda l: β * inner(u, k[l]), k), β)
    yield by(differentiation), covariance(u)


@theorem("V.1fj", "Von Mises–Fisher: Jacobian")
def von_mises_jacobian() -> Iterator[Any]:
    """With respect to the query, κ u = q/τ: the weighted covariance over τ, as in II.2."""
    w, p = softmax(lambda l: inner(q, k[l]) / τ), attend(lambda l: inner(q, k[l]) / τ, k)
    yield shown("D_q P [h]", directional(p, {q: h}))
    yield by(differentiation), total(lambda j: (w(j) * inner(k[j] - p, h)) * (k[j] - p)) / τ
