"""Chapter IV, as far as the forward kernels need it: the online merge, base two, the kernels' last lines."""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, attend, exp2, inner, norm2, total
from projsym.algebra.sets import EMPTY, DisjointUnion, IndexSet
from projsym.algebra.terms import Vector, VectorFamily, VectorSymbol
from projsym.proof.hypotheses import definition
from projsym.proof.laws import (
    disjoint_union,
    distributivity,
    exponential_law,
    hyperbolic,
    powers_of_two,
    softmax_definition,
)
from projsym.proof.text import text
from projsym.proof.theorem import REGISTRY as _REGISTRY
from projsym.proof.theorem import Theorem, build, by, theorem

from .notation import Z, bias, cap, k, q, scale, unit, v, σ, σ_j

ONLINE = (
    "M. Milakov and N. Gimelshein, Online normalizer calculation for softmax (arXiv 1805.02867), 2018",
    "M. N. Rabe and C. Staats, Self-attention does not need O(n²) memory (arXiv 2112.05682), 2021",
    "T. Dao et al., FlashAttention, NeurIPS 2022 (arXiv 2205.14135)",
)

a = ScalarFamily("a")
I, J = IndexSet("I"), IndexSet("J")
IJ = DisjointUnion(I, J)
m, m1, m2, m12, m23 = sp.symbols("m m_1 m_2 m_12 m_23", real=True)


def normaliser(over: Any, shift: Any) -> Any:
    """``Σ exp(a_j − shift)``."""
    return total(lambda j: sp.exp(a[j] - shift), over)


def accumulator(over: Any, shift: Any) -> Vector:
    """``Σ exp(a_j − shift) v_j``."""
    return total(lambda j: sp.exp(a[j] - shift) * v[j], over)


@theorem("IV.1a", "Merging normalisers: any shifts, any split of the keys", references=ONLINE)
def merge_normaliser() -> Iterator[Any]:
    """The state of I ⊔ J at shift m from the states of I and J at shifts m₁ and m₂."""
    yield normaliser(IJ, m)
    yield by(disjoint_union), normaliser(I, m) + normaliser(J, m)
    yield (
        by(exponential_law, distributivity),
        sp.exp(m1 - m) * normaliser(I, m1) + sp.exp(m2 - m) * normaliser(J, m2),
    )


@theorem("IV.1b", "Merging accumulators", references=ONLINE)
def merge_accumulator() -> Iterator[Any]:
    """The same for the weighted sum of values: tiles, threads and machines merge alike."""
    yield accumulator(IJ, m)
    yield by(disjoint_union), accumulator(I, m) + accumulator(J, m)
    yield (
        by(exponential_law),
        sp.exp(m1 - m) * accumulator(I, m1) + sp.exp(m2 - m) * accumulator(J, m2),
    )


s1, s2, s3, m3 = sp.symbols("s_1 s_2 s_3 m_3", real=True)


def merged(left: Any, left_shift: Any, right: Any, right_shift: Any, shift: Any) -> Any:
    """The merge of two states, at the shift of the result."""
    return sp.exp(left_shift - shift) * left + sp.exp(right_shift - shift) * right


@theorem("IV.1c", "The merge is associative")
def merge_associative() -> Iterator[Any]:
    """For arbitrary states (m_n, s_n) and intermediate shifts; vectors merge component by component."""
    yield merged(merged(s1, m1, s2, m2, m12), m12, s3, m3, m)
    yield by(exponential_law), sp.exp(m1 - m) * s1 + sp.exp(m2 - m) * s2 + sp.exp(m3 - m) * s3
    yield by(exponential_law), merged(s1, m1, merged(s2, m2, s3, m3, m23), m23, m)


@theorem("IV.1d", "The empty state is the unit")
def merge_unit() -> Iterator[Any]:
    """A block without keys changes nothing, whatever its shift."""
    yield merged(accumulator(I, m1), m1, accumulator(EMPTY, m2), m2, m1)
    yield by(disjoint_union), accumulator(I, m1)


@theorem("IV.1e", "The merge is commutative")
def merge_commutative() -> Iterator[Any]:
    """The order of blocks does not matter (in exact arithmetic)."""
    yield normaliser(DisjointUnion(I, J), m)
    yield by(disjoint_union), normaliser(I, m) + normaliser(J, m)
    yield by(disjoint_union), normaliser(DisjointUnion(J, I), m)


@theorem("IV.1", "Attention over a split set of keys is the merge of its parts", references=ONLINE)
def merge_attention() -> Iterator[Any]:
    """Read out of merged states: tiles, split-K over threads and reduction over machines are one identity."""
    yield attend(lambda j: a[j], v, IJ)
    yield by(softmax_definition, exponential_law, distributivity), accumulator(IJ, m) / normaliser(IJ, m)
    yield (
        by(disjoint_union, exponential_law),
        (sp.exp(m1 - m) * accumulator(I, m1) + sp.exp(m2 - m) * accumulator(J, m2))
        / (sp.exp(m1 - m) * normaliser(I, m1) + sp.exp(m2 - m) * normaliser(J, m2)),
    )


lse_I, lse_J = sp.symbols("lse_I lse_J", real=True)


def _log_sum_exp(letter: sp.Symbol, over: IndexSet) -> Any:
    z = sp.log(total(lambda j: sp.exp(a[j]), over))
    return definition(letter, z, f"{letter} = {text(z)}")


saved_I, saved_J = _log_sum_exp(lse_I, I), _log_sum_exp(lse_J, J)


@theorem("IV.1o", "Outputs merge by their log-sum-exps", given=[saved_I, saved_J])
def merge_outputs() -> Iterator[Any]:
    """Two finished results need no accumulators: each weighs exp(its log-sum-exp)."""
    yield attend(lambda j: a[j], v, IJ)
    yield (
        by(softmax_definition, disjoint_union),
        (accumulator(I, 0) + accumulator(J, 0)) / (normaliser(I, 0) + normaliser(J, 0)),
    )
    yield (
        by(softmax_definition, distributivity, exponential_law, saved_I, saved_J),
        (sp.exp(lse_I) * attend(lambda j: a[j], v, I) + sp.exp(lse_J) * attend(lambda j: a[j], v, J))
        / (sp.exp(lse_I) + sp.exp(lse_J)),
    )


t = sp.Symbol("t", real=True)


@theorem("IV.4b", "The exponential in base two")
def base_two() -> Iterator[Any]:
    """What the polynomial of a kernel approximates: exp(t) = 2^(t / log 2)."""
    yield sp.exp(t)
    yield by(powers_of_two), exp2(t / sp.log(2))


@theorem("IV.4t", "The hyperbolic tangent in base two")
def hyperbolic_base_two() -> Iterator[Any]:
    """One power of two and one division. The exponential's error counts at most half, as E/(1 + E)² <= 1/4;
    `projsym.codegen.tanh2.certificate` proves how much the result is off by, absolutely."""
    yield sp.tanh(t)
    yield by(hyperbolic, powers_of_two), 1 - 2 / (1 + exp2(2 * t / sp.log(2)))


lse = sp.Symbol("lse", real=True)
KERNEL_PREFIX = "IV.6/"


def kernel_theorem(
    name: str, title: str, scores: Callable[[Any], Any], values: VectorFamily, register: bool = True
) -> Theorem:
    """[IV.6] for one family of scores: the mean from weights recomputed with the saved log-sum-exp.

    Its last line, ``Σ_j exp(scores_j − lse) v_j`` with ``lse = log Σ_l exp(scores_l)``, specifies the kernel
    of that name.
    """

    z = total(lambda l: sp.exp(scores(l)))
    saved = definition(lse, sp.log(z), f"lse = {text(sp.log(z))}")

    def chain() -> Iterator[Any]:
        yield attend(scores, values)
        yield by(softmax_definition), total(lambda j: sp.exp(scores(j)) * values[j]) / z
        yield by(saved, exponential_law), total(lambda j: sp.exp(scores(j) - lse) * values[j])

    made = build(KERNEL_PREFIX + name, title, (saved,), chain)
    return _REGISTRY.setdefault(made.id, made) if register else made


attention = kernel_theorem(
    "attention", "Scaled dot-product attention from its log-sum-exp", lambda j: scale * inner(q, k[j]), v
)
attention_softcap = kernel_theorem(
    "attention_softcap",
    "Attention with soft-capped scores",
    lambda j: cap * sp.tanh(scale * inner(q, k[j]) / cap),
    v,
)
project_dot = kernel_theorem(
    "project_dot", "Projection, dot-product form", lambda j: scale * inner(q, k[j]), k
)
project_dot_biased = kernel_theorem(
    "project_dot_biased",
    "Projection, dot-product form with key bias",
    lambda j: scale * inner(q, k[j]) + bias[j],
    k,
)
project_gaussian = kernel_theorem(
    "project_gaussian", "Projection, Gaussian form", lambda j: -norm2(q - k[j]) / (2 * σ**2), k
)
project_gaussian_biased = kernel_theorem(
    "project_gaussian_biased",
    "Projection, Gaussian form with key bias",
    lambda j: -norm2(q - k[j]) / (2 * σ**2) + bias[j],
    k,
)

pair_bias = VectorSymbol("attn_mask", Z)
"""A row of numbers, one for each key, added to the scores: a float mask, -inf where a key is hidden."""
attention_masked = kernel_theorem(
    "attention_masked",
    "Attention with a number added to every score, and one to every key's",
    lambda j: scale * inner(q, k[j]) + bias[j] + inner(pair_bias, unit[j]),
    v,
)
project_dot_masked = kernel_theorem(
    "project_dot_masked",
    "Projection, dot-product form, with a number added to every score, and one to every key's",
    lambda j: scale * inner(q, k[j]) + bias[j] + inner(pair_bias, unit[j]),
    k,
)
project_gaussian_masked = kernel_theorem(
    "project_gaussian_masked",
    "Projection, Gaussian form, with a number added to every score, and one to every key's",
    lambda j: -norm2(q - k[j]) / (2 * σ**2) + bias[j] + inner(pair_bias, unit[j]),
    k,
)
project_bandwidths = kernel_theorem(
    "project_bandwidths",
    "Projection, Gaussian form with a bandwidth for each key",
    lambda j: -norm2(q - k[j]) / (2 * σ_j[j] ** 2),
    k,
)
"""The weights of [V.2] with the identity as the metric: the query's norm does not cancel."""
project_bandwidths_biased = kernel_theorem(
    "project_bandwidths_biased",
    "Projection, Gaussian form with a bandwidth and a bias for each key",
    lambda j: -norm2(q - k[j]) / (2 * σ_j[j] ** 2) + bias[j],
    k,
)
project_bandwidths_masked = kernel_theorem(
    "project_bandwidths_masked",
    "Projection, Gaussian form with a bandwidth for each key, and numbers added to every score and key's",
    lambda j: -norm2(q - k[j]) / (2 * σ_j[j] ** 2) + bias[j] + inner(pair_bias, unit[j]),
    k,
)
attention_softcap_masked = kernel_theorem(
    "attention_softcap_masked",
    "Attention with soft-capped scores, a number added to every score, and one to every key's",
    lambda j: cap * sp.tanh(scale * inner(q, k[j]) / cap) + bias[j] + inner(pair_bias, unit[j]),
    v,
)
