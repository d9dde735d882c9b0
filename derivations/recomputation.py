"""Chapter IV, last part: the backward pass without stored weights."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.terms import VectorFamily, VectorSymbol
from projsym.proof.hypotheses import definition
from projsym.proof.laws import differentiation, exponential_law, softmax_definition
from projsym.proof.theorem import by, shown, theorem

from .costs import FLASH
from .identity import a
from .notation import F, j, k, q, v, σ, τ

lse, row = sp.Symbol("lse", real=True), sp.Symbol("row", real=True)
f, g, h = VectorSymbol("f", F), VectorSymbol("g"), VectorSymbol("h")
H, G = VectorFamily("H"), VectorFamily("G", F)


@theorem(
    "IV.6",
    "Weights are recomputed from their scores and the saved log-sum-exp",
    given=[saved := definition(lse, sp.log(total(lambda l: sp.exp(a[l]))), "lse = log Σ_l exp(a_l)")],
    references=FLASH,
)
def recomputed_weights() -> Iterator[Any]:
    """One number for each row is saved instead of one for each pair."""
    yield softmax(lambda l: a[l])(j)
    yield by(saved, softmax_definition, exponential_law), sp.exp(a[j] - lse)


O = attend(lambda l: inner(q, k[l]) / τ, v)
dot_lse = definition(
    lse, sp.log(total(lambda l: sp.exp(inner(q, k[l]) / τ))), "lse = log Σ_l exp(⟨q, k_l⟩/τ)"
)
row_number = definition(row, inner(O, f), "row = ⟨o, f⟩, from the saved output o [III.4d]")


def recomputed(l: Any) -> Any:
    """``exp(⟨q, k_l⟩/τ − lse)``."""
    return sp.exp(inner(q, k[l]) / τ - lse)


@theorem("IV.6q", "Backward from the log-sum-exp: queries", given=[dot_lse, row_number], references=FLASH)
def backward_queries() -> Iterator[Any]:
    """∂L/∂q = (1/τ) Σ_j exp(⟨q, k_j⟩/τ − lse)(⟨v_j, f⟩ − row) k_j."""
    yield shown("D_q ⟨f, O⟩ [h]", directional(inner(f, O), {q: h}))
    yield (
        by(differentiation, dot_lse, row_number),
        inner(total(lambda j: (recomputed(j) * (inner(v[j], f) - row) / τ) * k[j]), h),
    )


@theorem("IV.6k", "Backward from the log-sum-exp: keys", given=[dot_lse, row_number], references=FLASH)
def backward_keys() -> Iterator[Any]:
    """∂L/∂k_j = (1/τ) exp(⟨q, k_j⟩/τ − lse)(⟨v_j, f⟩ − row) q: a sum over queries, for a batch of them."""
    yield shown("D_k ⟨f, O⟩ [H]", directional(inner(f, O), {k: H}))
    yield (
        by(differentiation, dot_lse, row_number),
        total(lambda j: inner((recomputed(j) * (inner(v[j], f) - row) / τ) * q, H[j])),
    )


@theorem("IV.6v", "Backward from the log-sum-exp: values", given=[dot_lse], references=FLASH)
def backward_values() -> Iterator[Any]:
    """∂L/∂v_j = exp(⟨q, k_j⟩/τ − lse) f."""
    yield shown("D_v ⟨f, O⟩ [G]", directional(inner(f, O), {v: G}))
    yield by(differentiation, dot_lse), total(lambda j: inner(recomputed(j) * f, G[j]))


P = attend(lambda l: -norm2(q - k[l]) / (2 * σ**2), k)
gauss_lse = definition(
    lse,
    sp.log(total(lambda l: sp.exp(-norm2(q - k[l]) / (2 * σ**2)))),
    "lse = log Σ_l exp(−‖q − k_l‖²/2σ²)",
)
row_projection = definition(row, inner(P, g), "row = ⟨p, g⟩, from the saved projection p")


@theorem(
    "IV.6p",
    "Backward from the log-sum-exp: the projection's query and keys",
    given=[gauss_lse, row_projection],
)
def backward_projection() -> Iterator[Any]:
    """∂L/∂q = Σ_j c_j k_j/σ² and ∂L/∂k_j = w_j g + c_j (q − k_j)/σ² with w_j = exp(−‖q − k_j‖²/2σ² − lse)
    and c_j = w_j (⟨k_j, g⟩ − row)."""

    def weight(l: Any) -> Any:
        return sp.exp(-norm2(q - k[l]) / (2 * σ**2) - lse)

    def share(l: Any) -> Any:
        return weight(l) * (inner(k[l], g) - row)

    yield shown("D ⟨g, P⟩ [h, H]", directional(inner(g, P), {q: h, k: H}))
    yield (
        by(differentiation, gauss_lse, row_projection),
        inner(total(lambda j: share(j) * k[j]) / σ**2, h)
        + total(lambda j: inner(weight(j) * g + (share(j) / σ**2) * (q - k[j]), H[j])),
    )
