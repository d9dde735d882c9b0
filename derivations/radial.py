"""Chapter V, first part: other radial kernels."""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import IndexSet
from projsym.algebra.terms import Vector, VectorSymbol
from projsym.proof.hypotheses import definition
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    exponential_law,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import by, shown, theorem

from .identity import a, keys_equal
from .notation import j, k, q, σ, τ

EPANECHNIKOV = (
    "V. A. Epanechnikov, Non-parametric estimation of a multivariate probability density, Theory "
    "Probab. Appl. 14 (1969)",
)

h = VectorSymbol("h")
α = sp.Symbol("alpha", positive=True)


def s2(j: Any) -> Any:
    """``‖q − k_j‖²``."""
    return norm2(q - k[j])


def mean(kernel: Callable[[Any], Any], over: Any = None) -> Vector:
    """The kernel-weighted mean of the keys, ``Σ g_j k_j / Σ g_j``."""
    where = () if over is None else (over,)
    return total(lambda j: kernel(j) * k[j], *where) / total(kernel, *where)


@theorem("V.1", "How a weighted mean moves when its scores move")
def score_velocity() -> Iterator[Any]:
    """With scores a_j moving at b_j: Σ w_j b_j (k_j − p). For a radial kernel g the score is log g, and
    b_j = (g'/g)(‖q − k_j‖²) 2⟨q − k_j, h⟩ when the query moves along h; the others are instances."""
    b, w = ScalarFamily("b"), softmax(lambda l: a[l])
    p = attend(lambda j: a[j], k)
    yield shown("D_a P [b]", directional(p, {a: b}))
    yield by(differentiation), total(lambda j: (w(j) * b[j]) * (k[j] - p))


def laplace(j: Any) -> Any:
    """``exp(−‖q − k_j‖/σ)``."""
    return sp.exp(-sp.sqrt(s2(j)) / σ)


@theorem("V.1l", "Laplace kernel: Jacobian")
def laplace_jacobian() -> Iterator[Any]:
    """Each key pulls with a unit vector: −⟨(q − k_j)/‖q − k_j‖, h⟩/σ. Not defined where q is a key."""
    p = mean(laplace)

    def rate(j: Any) -> Any:
        return -inner(q - k[j], h) / (σ * sp.sqrt(s2(j)))

    yield shown("D_q P [h]", directional(p, {q: h}))
    yield by(differentiation), total(lambda j: (laplace(j) / total(laplace) * rate(j)) * (k[j] - p))


def student(j: Any) -> Any:
    """``(1 + ‖q − k_j‖²/σ²)^(−α)``: Student's t with α = (ν + d)/2 and σ² for ν σ²; Cauchy for α = 1."""
    return (1 + s2(j) / σ**2) ** (-α)


def student_score(j: Any) -> Any:
    """The logarithm of `student`."""
    return -α * sp.log(1 + s2(j) / σ**2)


@theorem("V.1s", "Student-t and Cauchy kernels are softmax of a logarithm")
def student_scores() -> Iterator[Any]:
    """The score −α log(1 + ‖q − k_j‖²/σ²): heavy tails, weights fall as a power of the distance."""
    yield attend(student_score, k)
    yield by(softmax_definition, exponential_law), mean(student)


@theorem(
    "V.1w",
    "Without a bandwidth the Student-t kernel is inverse distance weighting",
    references=("D. Shepard, A two-dimensional interpolation function, Proc. 23rd ACM Nat. Conf. (1968)",),
)
def student_limit() -> Iterator[Any]:
    """The scores −α log(σ² + ‖q − k_j‖²) give the same weights; at σ = 0 they are powers of the distance, and
    the mean interpolates: it tends to k_i as q does."""
    yield attend(student_score, k)
    yield by(shift_invariance, bilinearity), attend(lambda j: -α * sp.log(σ**2 + s2(j)), k)


@theorem("V.1t", "Student-t and Cauchy kernels: Jacobian")
def student_jacobian() -> Iterator[Any]:
    """A far key loses its pull: the factor 1/(σ² + ‖q − k_j‖²) makes the mean robust against outliers."""
    w, p = softmax(student_score), attend(student_score, k)

    def rate(j: Any) -> Any:
        return -2 * α * inner(q - k[j], h) / (σ**2 + s2(j))

    yield shown("D_q P [h]", directional(p, {q: h}))
    yield by(differentiation), total(lambda j: (w(j) * rate(j)) * (k[j] - p))


NEAR = IndexSet("near")


def parabola(j: Any) -> Any:
    """``1 − ‖q − k_j‖²/σ²``, the Epanechnikov kernel where it is positive."""
    return 1 - s2(j) / σ**2


@theorem("V.1e", "Epanechnikov kernel: Jacobian", references=EPANECHNIKOV)
def epanechnikov_jacobian() -> Iterator[Any]:
    """Over `near`, the keys with ‖q − k_j‖ < σ (all others have weight 0 exactly); where no key is at
    distance σ that set is constant near q and the kernel is smooth."""
    p = mean(parabola, NEAR)
    z = total(parabola, NEAR)
    yield shown("D_q P [h]", directional(p, {q: h}))
    yield (
        by(differentiation),
        total(lambda j: (-2 * inner(q - k[j], h) / (σ**2 * z)) * (k[j] - p), NEAR),
    )


@theorem(
    "V.1m",
    "Epanechnikov mean shift is the plain mean of the neighbours",
    references=("D. Comaniciu and P. Meer, Mean shift, IEEE TPAMI 24 (2002)",),
)
def epanechnikov_shift() -> Iterator[Any]:
    """(σ²/2) D_q Σ g_j [h] = Σ_near ⟨k_j − q, h⟩: the density rises towards the unweighted mean."""
    yield shown("(σ²/2) D_q Σ_near g [h]", σ**2 / 2 * directional(total(parabola, NEAR), {q: h}))
    yield by(differentiation), inner(total(lambda j: k[j] - q, NEAR), h)


κ = sp.Symbol("kappa", positive=True)
unit_query = VectorSymbol("q_unit")
concentration = definition(κ, sp.sqrt(norm2(q)) / τ, "κ = ‖q‖/τ, the concentration")
direction = definition(unit_query, q / sp.sqrt(norm2(q)), "q_unit = q/‖q‖, the mean direction")


@theorem(
    "V.1f", "Dot-product attention has von Mises–Fisher weights", given=[concentration, direction, keys_equal]
)
def von_mises_fisher() -> Iterator[Any]:
    """On the sphere exp(κ⟨q/‖q‖, k_j⟩): the query's norm is the concentration, and the same weights are
    Gaussian in the distance to the query's direction. Not defined for q = 0 (uniform weights there)."""
    yield softmax(lambda j: inner(q, k[j]) / τ)(j)
    yield by(concentration, direction, bilinearity), softmax(lambda j: κ * inner(unit_query, k[j]))(j)
    yield (
        by(keys_equal, polarization, shift_invariance),
        softmax(lambda j: -κ * norm2(unit_query - k[j]) / 2)(j),
    )
