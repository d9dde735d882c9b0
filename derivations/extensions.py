"""Chapter V, second part: per-key bandwidth and metric, time, local-linear fits, iteration."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import DisjointUnion, IndexSet, Singleton
from projsym.algebra.terms import E, LinearMap, Vector, VectorSymbol
from projsym.proof.hypotheses import Defined, definition
from projsym.proof.laws import (
    adjoint,
    bilinearity,
    differentiation,
    disjoint_union,
    distributivity,
    exponential_law,
    linearity,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import by, shown, theorem

from .identity import a
from .notation import F, j, k, q, v, σ

VARIABLE = (
    "L. Breiman, W. Meisel and E. Purcell, Variable kernel estimates of multivariate densities, "
    "Technometrics 19 (1977)",
)
LINEAR = ("A. Katharopoulos et al., Transformers are RNNs, ICML 2020 (arXiv 2006.16236)",)
LOCAL = ("W. S. Cleveland, Robust locally weighted regression and smoothing scatterplots, JASA 74 (1979)",)

g, h = VectorSymbol("g"), VectorSymbol("h")
# V.2 — bandwidth and metric of their own

width, move = ScalarFamily("width", positive=True), ScalarFamily("t")
d = sp.Symbol("d", positive=True)


def spread(l: Any) -> Any:
    """The log of a normalised Gaussian density of width_l in d dimensions, up to a constant."""
    return -norm2(q - k[l]) / (2 * width[l] ** 2) - d * sp.log(width[l])


per_key = softmax(spread)
P_width = attend(spread, k)


@theorem("V.2a", "Per-key bandwidth: the exact bias", references=VARIABLE)
def per_key_bandwidth() -> Iterator[Any]:
    """Attention with keys k_j/width_j², the bias −‖k_j‖²/2 width_j² − d log width_j, and one more coordinate:
    ‖q‖² against −1/2 width_j². The query's norm does not cancel, unlike in I.3."""
    yield softmax(spread)(j)
    yield (
        by(polarization),
        softmax(
            lambda l: (
                inner(q, k[l] / width[l] ** 2)
                + norm2(q) * (-1 / (2 * width[l] ** 2))
                - norm2(k[l]) / (2 * width[l] ** 2)
                - d * sp.log(width[l])
            )
        )(j),
    )


@theorem("V.2w", "Per-key bandwidth: gradient with respect to the bandwidths")
def bandwidth_gradient() -> Iterator[Any]:
    """∂L/∂width_j = w_j r_j (‖q − k_j‖²/width_j³ − d/width_j), r_j = ⟨k_j − p, g⟩."""
    yield shown("D_width ⟨g, P⟩ [t]", directional(inner(g, P_width), {width: move}))
    yield (
        by(differentiation),
        total(
            lambda j: (
                per_key(j)
                * inner(k[j] - P_width, g)
                * (norm2(q - k[j]) / width[j] ** 3 - d / width[j])
                * move[j]
            )
        ),
    )


@theorem("V.2q", "Per-key bandwidth: gradient with respect to the query")
def per_key_query_gradient() -> Iterator[Any]:
    """∂L/∂q = Σ w_j r_j (k_j − q)/width_j²: the query itself stays in, Σ w_j r_j/width_j² is not 0."""
    yield shown("D_q ⟨g, P⟩ [h]", directional(inner(g, P_width), {q: h}))
    yield (
        by(differentiation),
        inner(
            total(lambda j: (per_key(j) * inner(k[j] - P_width, g) / width[j] ** 2) * (k[j] - q)),
            h,
        ),
    )


L = LinearMap("L")


@theorem("V.2m", "A metric of its own folds into the query, its key norms into the bias")
def metric() -> Iterator[Any]:
    """Elliptical distances ‖(q − k_j) L‖², Λ = L Lᵀ: dot products with q Λ and the bias −½‖k_j L‖²."""
    yield softmax(lambda l: -norm2((q - k[l]) @ L) / 2)(j)
    yield (
        by(bilinearity, adjoint),
        softmax(lambda l: inner(q @ (L @ L.T), k[l]) - norm2(k[l] @ L) / 2 - norm2(q @ L) / 2)(j),
    )
    yield (
        by(adjoint, shift_invariance),
        softmax(lambda l: inner(q @ (L @ L.T), k[l]) - norm2(k[l] @ L) / 2)(j),
    )


@theorem("V.2j", "A metric of its own: Jacobian")
def metric_jacobian() -> Iterator[Any]:
    """D P [h] = Σ w_j ⟨k_j − p, h Λ⟩ (k_j − p): the covariance after Λ; symmetric only if they commute."""

    def score(l: Any) -> Any:
        return -norm2((q - k[l]) @ L) / 2

    w, p = softmax(score), attend(score, k)
    yield shown("D_q P [h]", directional(p, {q: h}))
    yield by(differentiation), total(lambda j: (w(j) * inner(k[j] - p, h @ (L @ L.T))) * (k[j] - p))


# V.3 — time

γ, δ = sp.symbols("γ delta", positive=True)
now = sp.Symbol("t", real=True)
time = ScalarFamily("t")
PAST, WINDOW = IndexSet("past"), IndexSet("window")
n = sp.Symbol("n", integer=True)


@theorem("V.3", "Exponential forgetting is an additive score bias")
def forgetting() -> Iterator[Any]:
    """Weights that fade as exp(−γ(t − t_j)) are the bias γ t_j: the present time t cancels, so sampling times
    may be irregular and no key is touched again. A causal window (FIR) is the set summed over [I.10]."""

    def fade(l: Any) -> Any:
        return sp.exp(-γ * (now - time[l]))

    def faded(l: Any) -> Any:
        return fade(l) * sp.exp(a[l])

    yield total(lambda j: (faded(j) / total(faded, WINDOW)) * v[j], WINDOW)
    yield (
        by(exponential_law, softmax_definition),
        attend(lambda j: a[j] - γ * (now - time[j]), v, WINDOW),
    )
    yield by(shift_invariance), attend(lambda j: a[j] + γ * time[j], v, WINDOW)


def memory(over: Any, at: Any) -> Vector:
    """``Σ exp(−γ(t − t_j)) ⟨k_j, h⟩ v_j``: a faded sum of outer products, applied to `h`."""
    return total(lambda j: (sp.exp(-γ * (at - time[j])) * inner(k[j], h)) * v[j], over)


@theorem("V.3r", "First order in 1/τ it is recursive: O(d²) state", references=LINEAR)
def recursion() -> Iterator[Any]:
    """A new pair at time t + δ: the state fades by exp(−γδ) and gains one outer product (IIR). For every h;
    the states Σ fade, Σ fade k_j and Σ fade v_j follow the same recursion."""
    new = (sp.exp(-γ * (now + δ - time[n])) * inner(k[n], h)) * v[n]
    yield memory(DisjointUnion(PAST, Singleton(n)), now + δ)
    yield by(disjoint_union), memory(PAST, now + δ) + new
    yield by(exponential_law), sp.exp(-γ * δ) * memory(PAST, now) + new


def first_order(l: Any) -> Any:
    """``1 + a_l``, the first-order expansion of ``exp(a_l)``."""
    return 1 + a[l]


@theorem("V.3e", "First-order attention: the exact error", references=LINEAR)
def first_order_error() -> Iterator[Any]:
    """softmax − first order = Σ w_j e_j (v_j − first order) with e_j = 1 − (1 + a_j) exp(−a_j), 0 ≤ e_j, and
    e_j ≤ a_j² exp(|a_j|)/2 by Taylor's theorem: the error is of second order in 1/τ.
    Defined where Σ (1 + a_j) is not 0, and its weights are positive where all a_j > −1."""
    w = softmax(lambda l: a[l])
    o = total(lambda j: first_order(j) * v[j]) / total(first_order)
    yield attend(lambda j: a[j], v) - o
    yield (
        by(softmax_definition, exponential_law, distributivity),
        total(lambda j: (w(j) * (1 - first_order(j) * sp.exp(-a[j]))) * (v[j] - o)),
    )


# V.4 — local-linear fits

M = LinearMap("M", E, F)
offset, u = VectorSymbol("b", F), VectorSymbol("u")
w_a = softmax(lambda l: a[l])
centre = attend(lambda l: a[l], k)
affine = Defined("affine values", "v_j = k_j M + b for all j", v, lambda j: k[j] @ M + offset)
normal_equations = Defined(
    "normal equations",
    "u solves Σ w_j ⟨k_j − k̄, u⟩ (k_j − k̄) = q − k̄, k̄ = Σ w_j k_j (keys that span the space: one u)",
    q,
    centre + total(lambda j: (w_a(j) * inner(k[j] - centre, u)) * (k[j] - centre)),
)


@theorem("V.4m", "Local-linear weights have the query as their mean", given=[normal_equations])
def equivalent_weights() -> Iterator[Any]:
    """The equivalent weights w_j (1 + ⟨k_j − k̄, u⟩), for any scores a_j, also ones that depend on q."""
    yield total(lambda j: (w_a(j) * (1 + inner(k[j] - centre, u))) * k[j])
    yield by(normal_equations, softmax_definition, bilinearity, distributivity), q


@theorem("V.4n", "Local-linear weights sum to 1")
def equivalent_weights_sum() -> Iterator[Any]:
    """They are not all positive: an affine combination, not a mean."""
    yield total(lambda j: w_a(j) * (1 + inner(k[j] - centre, u)))
    yield by(softmax_definition, bilinearity, distributivity), sp.S.One


@theorem(
    "V.4",
    "Local-linear attention reproduces affine functions",
    given=[affine, normal_equations],
    references=LOCAL,
)
def local_linear() -> Iterator[Any]:
    """The fit at q gives q M + b, whatever the keys' density: no first-order bias, at boundaries too."""
    yield total(lambda j: (w_a(j) * (1 + inner(k[j] - centre, u))) * v[j])
    yield (
        by(affine, normal_equations, softmax_definition, bilinearity, distributivity, linearity),
        q @ M + offset,
    )


@theorem("V.4b", "The first-order bias of a kernel mean", given=[affine])
def kernel_mean_bias() -> Iterator[Any]:
    """On affine values the weighted mean is off by (k̄ − q) M, the mean-shift vector seen through M."""
    yield attend(lambda j: a[j], v) - (q @ M + offset)
    yield by(affine, softmax_definition, linearity, distributivity), (centre - q) @ M


# V.5 — iteration

ξ, p = VectorSymbol("ξ"), VectorSymbol("p")


def log_mass(x: Vector) -> Any:
    """``log Σ exp((⟨x, k_j⟩ − ½‖k_j‖²)/σ²)``."""
    return sp.log(total(lambda j: sp.exp((inner(x, k[j]) - norm2(k[j]) / 2) / σ**2)))


def energy(x: Vector) -> Any:
    """``½‖x‖² − σ² log_mass(x)``, which is ``−σ² log Σ exp(−‖x − k_j‖²/2σ²)``."""
    return norm2(x) / 2 - σ**2 * log_mass(x)


def weights(x: Vector) -> Any:
    """The Gaussian weights around `x`."""
    return softmax(lambda l: -norm2(x - k[l]) / (2 * σ**2))


step = definition(p, attend(lambda l: -norm2(ξ - k[l]) / (2 * σ**2), k), "p = P_σ(ξ; K), one step")


@theorem("V.5", "Every mean-shift step lowers the energy, by an exact amount", given=[step])
def energy_decrease() -> Iterator[Any]:
    """E(ξ) − E(p) = ½‖ξ − p‖² + σ² KL(w(ξ) ‖ w(p)), both parts at least 0: the density rises along P∘P∘…, and
    Σ ‖ξ_n − ξ_{n+1}‖² is at most twice the energy that is left."""
    yield energy(ξ) - energy(p)
    yield (
        by(step, softmax_definition, exponential_law, bilinearity, distributivity),
        norm2(ξ - p) / 2 + σ**2 * total(lambda j: weights(ξ)(j) * sp.log(weights(ξ)(j) / weights(p)(j))),
    )


@theorem("V.5r", "The residual is the score: a novelty measure")
def residual_is_score() -> Iterator[Any]:
    """−σ² D log density along q − P(q) is ‖q − P(q)‖²: it is 0 only at the density's critical points."""
    p_q = attend(lambda l: -norm2(q - k[l]) / (2 * σ**2), k)
    density = total(lambda j: sp.exp(-norm2(q - k[j]) / (2 * σ**2)))
    yield shown("−σ² D_q log density [q − P]", -(σ**2) * directional(sp.log(density), {q: q - p_q}))
    yield by(differentiation), norm2(q - p_q)
