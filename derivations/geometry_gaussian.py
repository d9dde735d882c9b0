"""Chapter II, keys from a Gaussian distribution: the projection is the Wiener filter, by two routes.

For every dimension: completing the square (II.6), and Tweedie on the smoothed density (II.6t). The covariance
is a linear map Σ whose sum with σ² has the inverse R Rᵀ; a finite family of keys is replaced by the integral.
`derived_by_integration` is a third route, in one dimension (along an eigenvector of Σ), by SymPy.
"""

from collections.abc import Iterator
from typing import Any

import sympy as sp
from flint import arb

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import inner, norm2
from projsym.algebra.terms import LinearMap, Vector, VectorSymbol
from projsym.proof.hypotheses import Equation, multiply
from projsym.proof.instance import Instance
from projsym.proof.laws import adjoint, bilinearity, differentiation
from projsym.proof.theorem import Scaled, by, shown, theorem, therefore

from .geometry_lemmas import convolution, mean_of_gaussian
from .learning import h
from .notation import q, σ

C, R, Λ = LinearMap("C"), LinearMap("R"), LinearMap("L")
mu, key, centre = VectorSymbol("mu"), VectorSymbol("key"), VectorSymbol("c")
WIENER = ("N. Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series (1949)",)


def precision(x: Vector) -> Vector:
    """``x (C + σ² 1)⁻¹``, with the inverse written as R Rᵀ (it is symmetric and positive definite)."""
    return x @ (R @ R.T)


def _unit_triangle(instance: Instance) -> tuple[list[list[arb]], list[list[arb]]]:
    """A random lower triangular matrix with ones on the diagonal, and its inverse, both exact."""
    n = instance.dimension("E")
    w = [[arb(instance.rational()) if r < p else arb(int(p == r)) for r in range(n)] for p in range(n)]
    inverse = [[arb(int(p == r)) for r in range(n)] for p in range(n)]
    for p in range(n):
        for r in range(p):
            inverse[p] = [s - w[p][r] * t for s, t in zip(inverse[p], inverse[r], strict=True)]
    return w, inverse


def _transposed(a: list[list[arb]]) -> list[list[arb]]:
    return [list(r) for r in zip(*a, strict=True)]


def _covariance(instance: Instance) -> None:
    """R random and C = (R Rᵀ)⁻¹ − σ² 1 (the identities do not need C to be positive)."""
    r, inverse = _unit_triangle(instance)
    s = instance.scalar("sigma", positive=True)
    smoothed = multiply(_transposed(inverse), inverse)
    instance.maps["R"] = lambda: r
    instance.maps["C"] = lambda: [
        [x - s * s * int(p == n) for n, x in enumerate(row)] for p, row in enumerate(smoothed)
    ]


displacement = q - mu
inverse_of_sum = Equation(
    "R Rᵀ inverts C + σ²",
    "x R Rᵀ (C + σ² 1) = x, here for x = q − μ",
    inner(precision(displacement) @ C + σ**2 * precision(displacement), h),
    inner(displacement, h),
    _covariance,
)


@theorem("II.6t", "Gaussian keys by Tweedie: the Wiener filter", given=[inverse_of_sum], references=WIENER)
def wiener_by_tweedie() -> Iterator[Any]:
    """P(q) = μ + (q − μ)(C + σ² 1)⁻¹ C: eigenvalues λ/(λ + σ²), near 1 along the surface and 0 across it."""
    log_density = -inner(precision(displacement), displacement) / 2
    yield shown(
        "⟨q, h⟩ + σ² D_q log N(q; μ, C + σ²) [h]",
        inner(q, h) + σ**2 * directional(log_density, {q: h}),
    )
    yield by(differentiation), inner(q - σ**2 * precision(displacement), h)
    yield by(inverse_of_sum, bilinearity, adjoint), inner(mu + precision(displacement) @ C, h)
    yield therefore(convolution, "P(q) = μ + (q − μ)(C + σ² 1)⁻¹ C for keys from N(μ, C), in every dimension")


def _posterior(instance: Instance) -> None:
    """C of the keys with its inverse L Lᵀ, and the centre that solves (c − μ) L Lᵀ = (q − c)/σ²: choose c."""
    r, _ = _unit_triangle(instance)
    s = instance.scalar("sigma", positive=True)
    instance.maps["L"] = lambda: r
    c, m = (instance.vector(name, "E", None) for name in ("c", "mu"))
    pulled = multiply([[x - y for x, y in zip(c, m, strict=True)]], multiply(r, _transposed(r)))[0]
    instance.vectors["q"] = lambda at, space: [x + s * s * y for x, y in zip(c, pulled, strict=True)]


posterior_centre = Equation(
    "balance at the centre",
    "(c − μ) C⁻¹ = (q − c)/σ², with C⁻¹ = L Lᵀ",
    inner((centre - mu) @ (Λ @ Λ.T), key - centre),
    inner(q - centre, key - centre) / σ**2,
    _posterior,
)


@theorem("II.6", "Gaussian keys by completing the square", given=[posterior_centre], references=WIENER)
def wiener_by_completing_the_square() -> Iterator[Any]:
    """Density times kernel is a Gaussian around c, the solution of (c − μ) C⁻¹ = (q − c)/σ².

    That is c = μ + (q − μ)(C + σ² 1)⁻¹ C, by II.6c.
    """
    yield inner((key - mu) @ (Λ @ Λ.T), key - mu) / 2 + norm2(q - key) / (2 * σ**2)
    yield (
        by(bilinearity, adjoint),
        inner((key - centre) @ (Λ @ Λ.T), key - centre) / 2
        + norm2(key - centre) / (2 * σ**2)
        + inner((centre - mu) @ (Λ @ Λ.T), centre - mu) / 2
        + norm2(q - centre) / (2 * σ**2)
        + inner((centre - mu) @ (Λ @ Λ.T), key - centre)
        - inner(q - centre, key - centre) / σ**2,
    )
    yield (
        by(posterior_centre),
        inner((key - centre) @ (Λ @ Λ.T), key - centre) / 2
        + norm2(key - centre) / (2 * σ**2)
        + inner((centre - mu) @ (Λ @ Λ.T), centre - mu) / 2
        + norm2(q - centre) / (2 * σ**2),
    )
    yield therefore(mean_of_gaussian, "P(q) = c for keys from N(μ, C), in every dimension")


@theorem("II.6c", "The centre is the Wiener filter", given=[inverse_of_sum])
def centre_is_wiener() -> Iterator[Any]:
    """With c = μ + (q − μ)(C + σ² 1)⁻¹ C: q − c = σ² (q − μ)(C + σ² 1)⁻¹, and (c − μ) C⁻¹ is 1/σ² of it."""
    yield inner(q - (mu + precision(displacement) @ C), h)
    yield by(bilinearity, adjoint, inverse_of_sum), σ**2 * inner(precision(displacement), h)


along, eigenvalue = VectorSymbol("e"), sp.Symbol("λ", positive=True)


def _eigenvector(instance: Instance) -> None:
    """A diagonal L, the first axis for e, and λ the inverse of the first squared entry."""
    n = instance.dimension("E")
    entries = [arb(instance.rational(positive=True)) for _ in range(n)]
    instance.maps["L"] = lambda: [[entries[p] if p == r else arb(0) for r in range(n)] for p in range(n)]
    length = arb(instance.rational(positive=True))
    instance.vectors["e"] = lambda at, space: [length if p == 0 else arb(0) for p in range(n)]
    instance.scalars["λ"] = lambda: 1 / entries[0] ** 2


eigen = Equation(
    "e is an eigenvector",
    "e C = λ e, with C⁻¹ = L Lᵀ: e C⁻¹ = e/λ",
    inner(along @ (Λ @ Λ.T), h),
    inner(along, h) / eigenvalue,
    _eigenvector,
)


@theorem("II.6e", "Along an eigenvector of C the displacement shrinks by λ/(λ + σ²)", given=[eigen])
def soft_projector() -> Iterator[Any]:
    """For q = μ + e the centre c = μ + λ/(λ + σ²) e balances (II.6): nearly q along the surface (λ large),
    nearly μ across it (λ small). Applied n times it gives (λ/(λ + σ²))ⁿ: idempotent for λ = 0 or ∞ only."""
    shrunk = eigenvalue / (eigenvalue + σ**2)
    c = mu + shrunk * along
    yield shown("⟨(c − μ) C⁻¹, h⟩", inner((c - mu) @ (Λ @ Λ.T), h))
    yield (
        by(Scaled(eigen, shrunk), bilinearity, adjoint),
        shown("⟨q − c, h⟩/σ² for q = μ + e", inner(mu + along - c, h) / σ**2),
    )


def derived_by_integration() -> tuple[sp.Expr, sp.Expr]:
    """The projection in one dimension by SymPy's integrator, and the Wiener filter it must equal.

    Keys N(μ, λ), λ > 0: both sides are expressions in q, μ, λ, σ. Along an eigenvector of C with eigenvalue λ
    the filter of any dimension is this one.
    """
    s, λ, a = sp.symbols("sigma lambda a", positive=True)
    x, b, at, mean = sp.symbols("x b q mu", real=True)
    # exp(−(x − μ)²/2λ − (q − x)²/2σ²) is exp(−a x² + b x) times a constant.
    mass, first = (sp.integrate(x**n * sp.exp(-a * x**2 + b * x), (x, -sp.oo, sp.oo)) for n in (0, 1))
    values = {a: 1 / (2 * λ) + 1 / (2 * s**2), b: mean / λ + at / s**2}
    return sp.cancel(sp.together(sp.expand(first / mass))).subs(values), mean + λ / (λ + s**2) * (at - mean)
