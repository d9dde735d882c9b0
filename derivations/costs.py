"""Chapters III and IV, the parts about cost: gradients of every form, counts, bounded scores, traffic."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import LinearMap, VectorFamily, VectorSymbol
from projsym.costs import FOLDED, STANDARD, TIED, D, H, batch, blocks, d_h, distance_extra, n
from projsym.proof.laws import (
    adjoint,
    arithmetic,
    bilinearity,
    differentiation,
    distributivity,
    exponential_law,
    softmax_definition,
)
from projsym.proof.theorem import at_least, by, shown, theorem

from .identity import a
from .notation import W_K, W_Q, F, X, Y, i, j, k, q, v, x, τ

# III.4 — separate values

f, h = VectorSymbol("f", F), VectorSymbol("h")
directions = VectorFamily("H")
w = softmax(lambda l: inner(q, k[l]) / τ)
O = attend(lambda l: inner(q, k[l]) / τ, v)
FLASH = ("T. Dao et al., FlashAttention, NeurIPS 2022 (arXiv 2205.14135), appendix B",)


@theorem("III.4q", "Separate values: gradient with respect to the query", references=FLASH)
def standard_query() -> Iterator[Any]:
    """∂L/∂q = (1/τ) Σ w_j ⟨v_j − o, f⟩ k_j for the upstream gradient f and the output o."""
    yield shown("D_q ⟨f, O⟩ [h]", directional(inner(f, O), {q: h}))
    yield by(differentiation), inner(total(lambda j: (w(j) * inner(v[j] - O, f) / τ) * k[j]), h)


@theorem("III.4k", "Separate values: gradient with respect to the keys", references=FLASH)
def standard_keys() -> Iterator[Any]:
    """∂L/∂k_j = (w_j/τ) ⟨v_j − o, f⟩ q: the path through the weights only."""
    yield shown("D_k ⟨f, O⟩ [H]", directional(inner(f, O), {k: directions}))
    yield (
        by(differentiation),
        total(lambda j: inner((w(j) * inner(v[j] - O, f) / τ) * q, directions[j])),
    )


@theorem("III.4d", "One number for each row replaces a sum over keys", references=FLASH)
def row_number() -> Iterator[Any]:
    """Σ_j w_j ⟨v_j, f⟩ = ⟨o, f⟩: what the backward pass subtracts is known from the saved output."""
    yield total(lambda j: w(j) * inner(v[j], f))
    yield by(bilinearity), inner(O, f)


values_move = VectorFamily("G", F)


@theorem("III.4", "Separate values: all gradients of scaled dot-product attention", references=FLASH)
def standard_gradients() -> Iterator[Any]:
    """Moving queries, keys and values together: with r_j = ⟨v_j − o, f⟩ the gradients are Σ w_j r_j k_j/τ,
    w_j r_j q/τ and w_j f."""

    def r(l: Any) -> Any:
        return w(l) * inner(v[l] - O, f) / τ

    yield shown("D ⟨f, O⟩ [h, H, G]", directional(inner(f, O), {q: h, k: directions, v: values_move}))
    yield (
        by(differentiation),
        inner(total(lambda j: r(j) * k[j]), h)
        + total(lambda j: inner(r(j) * q, directions[j]))
        + total(lambda j: inner(w(j) * f, values_move[j])),
    )


@theorem("III.4t", "Separate values: gradient with respect to the temperature")
def standard_temperature() -> Iterator[Any]:
    """∂L/∂τ = −(1/τ²) Σ w_j ⟨v_j − o, f⟩ ⟨q, k_j⟩."""
    yield shown("D_τ ⟨f, O⟩", directional(inner(f, O), {τ: sp.S.One}))
    yield by(differentiation), -total(lambda j: w(j) * inner(v[j] - O, f) * inner(q, k[j])) / τ**2


# III.5 — the folded form

A, dA = LinearMap("A", X, X), LinearMap("dA", X, X)
B, dB = LinearMap("B", X, Y), LinearMap("dB", X, Y)
offset, g = VectorSymbol("a", X), VectorSymbol("g", Y)
t = sp.Symbol("t", real=True)
y = x[i] @ A + offset


def folded_mean(z: Any) -> Any:
    """``Σ softmax_j(⟨z, x_j⟩/τ) x_j``."""
    return attend(lambda l: inner(z, x[l]) / τ, x)


@theorem("III.5", "Gradients of the folded form in A and B")
def folded_gradients() -> Iterator[Any]:
    """For the row i: ∂L/∂A = x_i ⊗ c with c = (1/τ) Σ w_j ⟨(x_j − p) B, g⟩ x_j, and ∂L/∂B = p ⊗ g. Two
    matrices of gradients for each head, and none in W_Q, W_K, W_V, W_O."""
    path = inner(g, folded_mean(y + t * (x[i] @ dA)) @ B + t * (folded_mean(y + t * (x[i] @ dA)) @ dB))
    p, weight = folded_mean(y), softmax(lambda l: inner(y, x[l]) / τ)
    c = total(lambda j: (weight(j) * inner((x[j] - p) @ B, g) / τ) * x[j])
    yield shown("D ⟨g, P B⟩ [dA, dB]", substitute(directional(path, {t: sp.S.One}), {t: sp.S.Zero}))
    yield by(differentiation), inner(x[i] @ dA, c) + inner(p @ dB, g)


dQ, dK = LinearMap("dQ", X), LinearMap("dK", X)
c_i = VectorSymbol("c", X)


@theorem("III.5q", "From the gradient in A back to W_Q and W_K")
def unfold_gradients() -> Iterator[Any]:
    """∂L/∂A = x_i ⊗ c gives ∂L/∂W_Q = x_i ⊗ c W_K and ∂L/∂W_K = c ⊗ x_i W_Q, for A = W_Q W_Kᵀ: the chain rule
    that the folded form does not pay for."""
    yield inner(x[i] @ (dQ @ W_K.T) + x[i] @ (W_Q @ dK.T), c_i)
    yield by(bilinearity, adjoint), inner(x[i] @ dQ, c_i @ W_K) + inner(x[i] @ W_Q, c_i @ dK)


# III.6 — counts


def factored(e: sp.Expr) -> sp.Expr:
    """A count as a product, for lines that are to be read."""
    return sp.factor(e)


@theorem("III.6", "Operations of the standard form")
def count_standard() -> Iterator[Any]:
    """Four products with weights, two with the n × n matrix of each head; the backward pass has twice as
    many."""
    yield shown("the sum over all products", STANDARD.forward)
    yield by(arithmetic), 4 * batch * n * H * d_h * (2 * D + n)


@theorem("III.6t", "The tied form saves one product of four")
def count_tied() -> Iterator[Any]:
    """Whatever the sizes."""
    yield factored(STANDARD.forward) - factored(TIED.forward)
    yield by(arithmetic), 2 * batch * n * D * H * d_h


@theorem("III.6r", "Tying speeds attention up by less than 4/3")
def tied_ratio() -> Iterator[Any]:
    """4/3 minus the ratio of operations is positive, forward and (both twice that) backward, and nothing
    else of the model gets faster: a measured 1.35 cannot come from fewer operations of the tied form
    alone."""
    ratio = factored(STANDARD.forward) / factored(TIED.forward)
    yield sp.Rational(4, 3) - ratio
    yield by(arithmetic), 2 * n / (3 * (3 * D + 2 * n))
    yield at_least(sp.Rational(4, 3), ratio, "strictly greater")


@theorem("III.6f", "The folded form wins if and only if D (2 d_h − D) > n (D − d_h)")
def count_folded() -> Iterator[Any]:
    """Always if d_h ≥ D; never if d_h ≤ D/2, as with heads of width D/H; between, for n < D (2 d_h − D)/(D
    − d_h). The number of heads does not matter."""
    yield factored(STANDARD.forward) - factored(FOLDED.forward)
    yield by(arithmetic), 4 * batch * n * H * (D * (2 * d_h - D) - n * (D - d_h))


@theorem("III.6g", "The folded form beats the tied form if and only if D (3 d_h − 2 D) > 2 n (D − d_h)")
def count_folded_tied() -> Iterator[Any]:
    """Always if d_h ≥ D; never if d_h ≤ 2D/3; between, for n < D (3 d_h − 2 D)/2(D − d_h)."""
    yield factored(TIED.forward) - factored(FOLDED.forward)
    yield by(arithmetic), 2 * batch * n * H * (D * (3 * d_h - 2 * D) - 2 * n * (D - d_h))


@theorem("III.6h", "With heads as wide as the input folding saves less than half")
def folded_ratio() -> Iterator[Any]:
    """For d_h = D (the Keras translation example) the ratio of operations is 2 − n/(D + n): between 1 and
    2."""
    yield factored(STANDARD.forward).subs(d_h, D) / factored(FOLDED.forward)
    yield by(arithmetic), 2 - n / (D + n)


@theorem("III.6p", "Parameters: folding saves some if and only if d_h > D/2")
def count_parameters() -> Iterator[Any]:
    """Standard minus folded, biases apart; tied against standard it is always D H d_h fewer."""
    yield STANDARD.parameters - FOLDED.parameters
    yield by(arithmetic), 2 * D * H * (2 * d_h - D)


@theorem("III.6w", "Computing distances adds work")
def count_distances() -> Iterator[Any]:
    """What −‖q − k‖²/2τ costs beyond ⟨q, k⟩/τ, as a share of the scores' operations: 2/n + 1/d_h from the
    product and norms computed once, ½ from differences. Never less than 0; the gain is in products with
    weights."""
    scores = next(p for p in STANDARD.products if p.name == "scores")
    yield distance_extra(direct=False) / scores.flops
    yield by(arithmetic), 2 / n + 1 / d_h


# IV.2 — bounded scores


@theorem("IV.2a", "Cauchy–Schwarz, as a certificate")
def cauchy_schwarz() -> Iterator[Any]:
    """‖q‖²‖k‖² − ⟨q, k⟩² is a square times a square, so |⟨q, k⟩| ≤ ‖q‖‖k‖ (q ≠ 0; both are 0 otherwise)."""
    yield norm2(q) * norm2(k[j]) - inner(q, k[j]) ** 2
    yield by(bilinearity), norm2(q) * norm2(k[j] - (inner(q, k[j]) / norm2(q)) * q)
    yield at_least(norm2(q) * norm2(k[j]), inner(q, k[j]) ** 2)


bound = sp.Symbol("B", real=True)


@theorem("IV.2", "A static shift is as good as the running maximum")
def static_shift() -> Iterator[Any]:
    """Any B serves. With B ≥ |a_j| for all j every exponent lies in [−2B, 0]: no overflow, and nothing is
    lost if exp(−2B) is a normal number; `projsym.costs.score_range` gives the largest such B of a dtype."""
    yield attend(lambda l: a[l], v)
    yield (
        by(softmax_definition, exponential_law, distributivity),
        total(lambda j: (sp.exp(a[j] - bound) / total(lambda l: sp.exp(a[l] - bound))) * v[j]),
    )


@theorem("IV.2g", "The Gaussian form has its shift built in")
def gaussian_shift() -> Iterator[Any]:
    """A score shifted by (‖q‖² + ‖k_j‖²)/2τ is minus a square: at most 0, and 0 only at q = k_j."""
    yield inner(q, k[j]) / τ - (norm2(q) + norm2(k[j])) / (2 * τ)
    yield by(bilinearity), -norm2(q - k[j]) / (2 * τ)


# IV.3 — traffic

MULTI_QUERY = (
    "N. Shazeer, Fast transformer decoding: one write-head is all you need (arXiv 1911.02150), 2019",
)

size = sp.Symbol("bytes", positive=True)


@theorem("IV.3", "Decoding reads half the bytes when keys are values", references=MULTI_QUERY)
def decode_bytes() -> Iterator[Any]:
    """Half of the standard form's traffic and one query and output more: the cache is read once, not
    twice."""
    yield TIED.decode_traffic(size)
    yield by(arithmetic), STANDARD.decode_traffic(size) / 2 + size * batch * H * d_h


@theorem("IV.3p", "Prefill reads each block of keys once")
def prefill_bytes() -> Iterator[Any]:
    """What the tied form saves is one array for each block of queries: half of the streamed bytes."""
    yield STANDARD.prefill_traffic(size) - TIED.prefill_traffic(size)
    yield by(arithmetic), size * batch * H * n * d_h * blocks


@theorem("IV.3b", "The backward pass of the tied form saves two arrays")
def backward_bytes() -> Iterator[Any]:
    """The values and their gradient; what streams for each block of keys is the same."""
    yield STANDARD.backward_traffic(size) - TIED.backward_traffic(size)
    yield by(arithmetic), 2 * size * batch * H * n * d_h


@theorem("IV.3f", "The folded form keeps one cache for all heads", references=MULTI_QUERY)
def folded_cache() -> Iterator[Any]:
    """D numbers a token against 2 H d_h: half if H d_h = D, more than the tied form's H d_h only if H d_h <
    D."""
    yield FOLDED.cache / STANDARD.cache
    yield by(arithmetic), sp.Rational(1, 2) - (H * d_h - D) / (2 * H * d_h)
