"""Chapter IV, the backward kernels: gradients from the saved log-sum-exp and output, without stored weights.

One theorem for each form. Its first line is the derivative of the loss along all arguments at once; its last
line is the sum of the gradients paired with their directions, written with what the forward pass saved.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, norm2, softmax, total
from projsym.algebra.sets import IndexSet
from projsym.algebra.terms import Vector, VectorFamily
from projsym.proof.hypotheses import definition
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    distributivity,
    exponential_law,
    fubini,
    softmax_definition,
)
from projsym.proof.theorem import REGISTRY as _REGISTRY
from projsym.proof.theorem import Theorem, build, by, shown

from .notation import Z, bias, cap, k, scale, unit, v, σ, σ_j

QUERIES = IndexSet("queries")
"""The set of queries, i = 1…n; a loss is a sum over it."""
queries = VectorFamily("q")
lse, lse_gradient = ScalarFamily("lse"), ScalarFamily("g_lse")
BACKWARD_PREFIX = "IV.6b/"

Pairwise = Callable[[Any, Any], Any]
"""A function of a query's index and a key's."""


@dataclass(frozen=True)
class Scores:
    """A family of scores ``of(i, j)`` and its partial derivatives, which the theorem proves.

    parameters: for each scalar parameter the derivative by it; key_scalars, query_scalars: for each number a
    key or a query. A family of weights, ``of(i, j) >= 0``, has the same fields.
    """

    of: Pairwise
    by_query: Callable[[Any, Any], Vector]
    by_key: Callable[[Any, Any], Vector]
    parameters: Mapping[sp.Symbol, Pairwise] = field(default_factory=dict)
    key_scalars: Mapping[ScalarFamily, Pairwise] = field(default_factory=dict)
    query_scalars: Mapping[ScalarFamily, Pairwise] = field(default_factory=dict)

    def directions(self, values: VectorFamily) -> dict[Any, Any]:
        """The direction of every argument: ``Dx`` for `x`."""
        found: dict[Any, Any] = {queries: VectorFamily("Dq"), k: VectorFamily("Dk")}
        found |= {p: sp.Symbol(f"D{p.name}", real=True) for p in self.parameters}
        found |= {b: ScalarFamily(f"D{b.name}") for b in (*self.key_scalars, *self.query_scalars)}
        return found if values is k else found | {values: VectorFamily(f"D{values.name}", values.space)}

    def paired(self, values: VectorFamily, g: VectorFamily, weight: Pairwise, through: Pairwise) -> Any:
        """The gradients paired with their directions: those by `values` from the normalised weights, all
        others from what each pair's derivatives are multiplied by."""
        along, tied = self.directions(values), values is k

        def by_key(j: Any) -> Vector:
            weights = total(lambda i: through(i, j) * self.by_key(i, j), QUERIES)
            return weights + total(lambda i: weight(i, j) * g[i], QUERIES) if tied else weights

        def scored(i: Any, slope: Pairwise) -> sp.Expr:
            return total(lambda j: through(i, j) * slope(i, j))

        def numbered(j: Any, slope: Pairwise) -> sp.Expr:
            return total(lambda i: through(i, j) * slope(i, j), QUERIES)

        line = total(
            lambda i: inner(total(lambda j: through(i, j) * self.by_query(i, j)), along[queries][i]), QUERIES
        ) + total(lambda j: inner(by_key(j), along[k][j]))
        if not tied:
            line += total(lambda j: inner(total(lambda i: weight(i, j) * g[i], QUERIES), along[values][j]))
        for p, slope in self.parameters.items():
            line += along[p] * total(lambda i: scored(i, slope), QUERIES)  # noqa: B023
        for b, slope in self.key_scalars.items():
            line += total(lambda j: numbered(j, slope) * along[b][j])  # noqa: B023
        for b, slope in self.query_scalars.items():
            line += total(lambda i: scored(i, slope) * along[b][i], QUERIES)  # noqa: B023
        return line


def backward_theorem(
    name: str, title: str, scores: Scores, values: VectorFamily, register: bool = True
) -> Theorem:
    """[IV.6b] for one family of scores: all gradients of ``Σ_i ⟨g_i, out_i⟩ + g_lse_i lse_i``.

    ``out_i`` is the mean of `values` by the softmax of the scores of query i and ``lse_i`` the logarithm of
    its normaliser. With ``w_ij = exp(scores_ij − lse_i)`` and ``r_ij = ⟨g_i, v_j⟩ − ⟨g_i, out_i⟩ + g_lse_i``
    the gradient through the scores is the sum of ``w_ij r_ij`` times the score's derivative.
    """
    g, out = VectorFamily("g", values.space), VectorFamily("out", values.space)

    def mean(i: Any) -> Vector:
        return attend(lambda j: scores.of(i, j), values)

    def log_sum(i: Any) -> sp.Expr:
        return sp.log(total(lambda l: sp.exp(scores.of(i, l))))

    saved_lse = definition(lse, log_sum, "lse_i = log Σ_l exp(scores_il), saved by the forward pass")
    saved_out = definition(out, mean, "out_i = Σ_j softmax_j(scores_ij) v_j, saved by the forward pass")

    def paired(weight: Pairwise, residual: Pairwise) -> Any:
        """The gradients from weights ``w_ij`` and residuals ``r_ij``."""
        return scores.paired(values, g, weight, lambda i, j: weight(i, j) * residual(i, j))

    directions = scores.directions(values)

    def chain() -> Iterator[Any]:
        loss = total(lambda i: inner(g[i], mean(i)) + lse_gradient[i] * log_sum(i), QUERIES)
        names = ", ".join(x.name for x in directions)
        yield shown(f"D_({names}) Σ_i ⟨g_i, out_i⟩ + g_lse_i lse_i", directional(loss, directions))
        yield (
            by(differentiation, fubini),
            paired(
                lambda i, j: softmax(lambda l: scores.of(i, l))(j),
                lambda i, j: inner(g[i], values[j] - mean(i)) + lse_gradient[i],
            ),
        )
        yield (
            by(saved_lse, saved_out, softmax_definition, exponential_law, bilinearity, distributivity),
            paired(
                lambda i, j: sp.exp(scores.of(i, j) - lse[i]),
                lambda i, j: inner(g[i], values[j]) - inner(g[i], out[i]) + lse_gradient[i],
            ),
        )

    made = build(BACKWARD_PREFIX + name, title, (saved_lse, saved_out), chain)
    return _REGISTRY.setdefault(made.id, made) if register else made


pair_bias = VectorFamily("attn_mask", Z)
"""A row of numbers for each query: ``⟨attn_mask_i, unit_j⟩`` is added to the score of the pair."""


def added(biased: bool, masked: bool) -> Pairwise:
    """What is added to a score: a key's bias, a pair's."""
    return lambda i, j: (bias[j] if biased else 0) + (inner(pair_bias[i], unit[j]) if masked else 0)


def dot_scores(biased: bool, masked: bool = False) -> Scores:
    """``scale ⟨q_i, k_j⟩``, with a key bias added where `biased` and a pair's where `masked`."""
    more = added(biased, masked)
    return Scores(
        lambda i, j: scale * inner(queries[i], k[j]) + more(i, j),
        lambda i, j: scale * k[j],
        lambda i, j: scale * queries[i],
        {scale: lambda i, j: inner(queries[i], k[j])},
        {bias: lambda i, j: sp.S.One} if biased else {},
    )


def gaussian_scores(biased: bool, masked: bool = False) -> Scores:
    """``−‖q_i − k_j‖²/2σ²``, with a key bias added where `biased` and a pair's where `masked`."""
    more = added(biased, masked)
    return Scores(
        lambda i, j: -norm2(queries[i] - k[j]) / (2 * σ**2) + more(i, j),
        lambda i, j: (k[j] - queries[i]) / σ**2,
        lambda i, j: (queries[i] - k[j]) / σ**2,
        {σ: lambda i, j: norm2(queries[i] - k[j]) / σ**3},
        {bias: lambda i, j: sp.S.One} if biased else {},
    )


def bandwidth_scores(biased: bool, masked: bool = False) -> Scores:
    """``−‖q_i − k_j‖²/2σ_j²``, a bandwidth for each key [V.2], with biases as above."""
    more = added(biased, masked)
    return Scores(
        lambda i, j: -norm2(queries[i] - k[j]) / (2 * σ_j[j] ** 2) + more(i, j),
        lambda i, j: (k[j] - queries[i]) / σ_j[j] ** 2,
        lambda i, j: (queries[i] - k[j]) / σ_j[j] ** 2,
        key_scalars={σ_j: lambda i, j: norm2(queries[i] - k[j]) / σ_j[j] ** 3}
        | ({bias: lambda i, j: sp.S.One} if biased else {}),
    )


attention_scores = Scores(
    lambda i, j: scale * inner(queries[i], k[j]), lambda i, j: scale * k[j], lambda i, j: scale * queries[i]
)
"""Attention's scale is held fixed: the gradient by it would cost a pass over every pair."""
masked_scores = replace(dot_scores(True, True), parameters={})

attention_backward = backward_theorem(
    "attention_backward", "Backward of scaled dot-product attention", attention_scores, v
)


def softcap_scores(masked: bool = False) -> Scores:
    """``cap tanh(scale ⟨q_i, k_j⟩/cap)``, scale and cap fixed; biases of keys and pairs if `masked`."""
    more = added(masked, masked)

    def slope(i: Any, j: Any) -> Any:
        return scale * (1 - sp.tanh(scale * inner(queries[i], k[j]) / cap) ** 2)

    return Scores(
        lambda i, j: cap * sp.tanh(scale * inner(queries[i], k[j]) / cap) + more(i, j),
        lambda i, j: slope(i, j) * k[j],
        lambda i, j: slope(i, j) * queries[i],
        key_scalars={bias: lambda i, j: sp.S.One} if masked else {},
    )


attention_softcap_backward = backward_theorem(
    "attention_softcap_backward", "Backward of attention with soft-capped scores", softcap_scores(), v
)
project_dot_backward = backward_theorem(
    "project_dot_backward", "Backward of the projection, dot-product form", dot_scores(False), k
)
project_dot_biased_backward = backward_theorem(
    "project_dot_biased_backward",
    "Backward of the projection, dot-product form with key bias",
    dot_scores(True),
    k,
)
project_gaussian_backward = backward_theorem(
    "project_gaussian_backward", "Backward of the projection, Gaussian form", gaussian_scores(False), k
)
project_gaussian_biased_backward = backward_theorem(
    "project_gaussian_biased_backward",
    "Backward of the projection, Gaussian form with key bias",
    gaussian_scores(True),
    k,
)
attention_masked_backward = backward_theorem(
    "attention_masked_backward",
    "Backward of attention with a number added to every score, and one to every key's",
    masked_scores,
    v,
)
project_dot_masked_backward = backward_theorem(
    "project_dot_masked_backward",
    "Backward of the projection, dot-product form, with biases of pairs and of keys",
    dot_scores(True, True),
    k,
)
project_gaussian_masked_backward = backward_theorem(
    "project_gaussian_masked_backward",
    "Backward of the projection, Gaussian form, with biases of pairs and of keys",
    gaussian_scores(True, True),
    k,
)
attention_softcap_masked_backward = backward_theorem(
    "attention_softcap_masked_backward",
    "Backward of attention with soft-capped scores, biases of pairs and of keys",
    softcap_scores(True),
    v,
)
project_bandwidths_backward = backward_theorem(
    "project_bandwidths_backward",
    "Backward of the projection, Gaussian form with a bandwidth for each key",
    bandwidth_scores(False),
    k,
)
project_bandwidths_biased_backward = backward_theorem(
    "project_bandwidths_biased_backward",
    "Backward of the projection, Gaussian form with a bandwidth and a bias for each key",
    bandwidth_scores(True),
    k,
)
project_bandwidths_masked_backward = backward_theorem(
    "project_bandwidths_masked_backward",
    "Backward of the projection, Gaussian form with a bandwidth for each key, biases of pairs and of keys",
    bandwidth_scores(True, True),
    k,
)
