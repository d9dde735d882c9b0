"""Chapter V, bandwidth of a key and metric together, and the gradients that V.2 still owes."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import LinearMap, VectorFamily
from projsym.proof.laws import adjoint, bilinearity, differentiation
from projsym.proof.theorem import by, shown, theorem

from .extensions import L, P_width, g, per_key, width
from .notation import j, k, q

H = VectorFamily("H")


@theorem("V.2", "Per-key bandwidth in a metric: the exact bias")
def bandwidth_and_metric() -> Iterator[Any]:
    """Distances ‖(q − k_j) L‖²/width_j², Λ = L Lᵀ: dot products of q Λ with k_j/width_j², the key bias
    −‖k_j L‖²/2 width_j² and the query's −‖q L‖²/2 width_j², which cancels only if all widths are equal."""
    yield softmax(lambda l: -norm2((q - k[l]) @ L) / (2 * width[l] ** 2))(j)
    yield (
        by(bilinearity, adjoint),
        softmax(
            lambda l: (
                inner(q @ (L @ L.T), k[l] / width[l] ** 2)
                - norm2(k[l] @ L) / (2 * width[l] ** 2)
                - norm2(q @ L) / (2 * width[l] ** 2)
            )
        )(j),
    )


@theorem("V.2k", "Per-key bandwidth: gradient with respect to the keys")
def per_key_gradient() -> Iterator[Any]:
    """∂L/∂k_j = w_j [g + r_j (q − k_j)/width_j²], r_j = ⟨k_j − p, g⟩."""
    yield shown("D_k ⟨g, P⟩ [H]", directional(inner(g, P_width), {k: H}))
    yield (
        by(differentiation),
        total(
            lambda j: inner(per_key(j) * (g + (inner(k[j] - P_width, g) / width[j] ** 2) * (q - k[j])), H[j])
        ),
    )


def score(l: Any) -> Any:
    """``−½ ‖(q − k_l) L‖²``."""
    return -norm2((q - k[l]) @ L) / 2


w, p = softmax(score), attend(score, k)
dL, t = LinearMap("dL"), sp.Symbol("t", real=True)


@theorem("V.2h", "A metric of its own: gradient with respect to the keys")
def metric_key_gradient() -> Iterator[Any]:
    """∂L/∂k_j = w_j [g + r_j (q − k_j) Λ], Λ = L Lᵀ."""
    yield shown("D_k ⟨g, P⟩ [H]", directional(inner(g, p), {k: H}))
    yield (
        by(differentiation),
        total(lambda j: inner(w(j) * (g + inner(k[j] - p, g) * ((q - k[j]) @ (L @ L.T))), H[j])),
    )


@theorem("V.2l", "A metric of its own: gradient with respect to the metric")
def metric_gradient() -> Iterator[Any]:
    """Along dL: −Σ w_j r_j ⟨(q − k_j) L, (q − k_j) dL⟩, so ∂L/∂L = −Σ w_j r_j (q − k_j) ⊗ (q − k_j) L."""

    def moving(l: Any) -> Any:
        return -norm2((q - k[l]) @ L + t * ((q - k[l]) @ dL)) / 2

    slope = directional(inner(g, attend(moving, k)), {t: sp.S.One})
    yield shown("D_L ⟨g, P⟩ [dL]", substitute(slope, {t: sp.S.Zero}))
    yield (
        by(differentiation),
        -total(lambda j: w(j) * inner(k[j] - p, g) * inner((q - k[j]) @ L, (q - k[j]) @ dL)),
    )
