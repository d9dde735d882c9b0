"""Chapter I, masks once more: what restricts the keys of a row, forward and backward.

Every theorem over the set of keys holds for any finite set, the keys that one row sees as well. Here stands
why a mask is such a set: causality, windows and lengths are ranges of keys, a boolean mask any subset of
them.
"""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, total
from projsym.algebra.sets import DisjointUnion, IndexSet
from projsym.algebra.terms import Vector, VectorFamily
from projsym.proof.hypotheses import definition
from projsym.proof.laws import (
    differentiation,
    disjoint_union,
    distributivity,
    exponential_law,
    fubini,
    softmax_definition,
)
from projsym.proof.theorem import by, shown, theorem

from .backward import QUERIES, lse, lse_gradient
from .identity import a
from .notation import F, unit, v

SEEN, HIDDEN, BEFORE, AFTER = (IndexSet(x) for x in ("seen", "hidden", "before", "after"))
mark, hidden_mark = ScalarFamily("c"), ScalarFamily("c_hidden")
hidden_score, hidden_value = ScalarFamily("a_hidden"), VectorFamily("v_hidden", F)
marked = definition(mark, lambda j: sp.S.One, "c_j = 1 for every key that the row sees")
struck = definition(hidden_mark, lambda j: sp.S.Zero, "c_j = 0 for every key that is hidden from it")


def shown_part(over: Any) -> tuple[Any, Any]:
    """``Σ c_j exp(a_j) v_j`` and ``Σ c_j exp(a_j)`` over keys that are seen."""
    return (
        total(lambda j: (mark[j] * sp.exp(a[j])) * v[j], over),
        total(lambda j: mark[j] * sp.exp(a[j]), over),
    )


def hidden_part(over: Any) -> tuple[Any, Any]:
    """The same over keys that are hidden, whose scores and values may be any."""
    return (
        total(lambda j: (hidden_mark[j] * sp.exp(hidden_score[j])) * hidden_value[j], over),
        total(lambda j: hidden_mark[j] * sp.exp(hidden_score[j]), over),
    )


@theorem(
    "I.10m", "A mask restricts the set of keys, whatever stands at hidden places", given=[marked, struck]
)
def mask_restricts() -> Iterator[Any]:
    """With weights c_j exp(a_j), c_j = 1 or 0, the output is attention over the seen keys alone."""
    (values, mass), (hidden_values, hidden_mass) = shown_part(SEEN), hidden_part(HIDDEN)
    yield (values + hidden_values) / (mass + hidden_mass)
    yield by(marked, struck, distributivity, softmax_definition), attend(lambda j: a[j], v, SEEN)


@theorem("I.10w", "Causality, windows and lengths: a row sees a range of keys", given=[marked, struck])
def range_of_keys() -> Iterator[Any]:
    """Keys before lo_i and keys from hi_i on are hidden: attention over the range between. Causality is the
    range without a beginning and hi_i = i + 1, a length the range up to it, a window both ends."""
    (values, mass), (early, early_mass), (late, late_mass) = (
        shown_part(SEEN),
        hidden_part(BEFORE),
        hidden_part(AFTER),
    )
    yield (early + values + late) / (early_mass + mass + late_mass)
    yield by(marked, struck, distributivity, softmax_definition), attend(lambda j: a[j], v, SEEN)


scores, marks, along = (
    VectorFamily("a", unit.space),
    VectorFamily("c", unit.space),
    VectorFamily("Da", unit.space),
)
g, out, along_value = VectorFamily("g", F), VectorFamily("out", F), VectorFamily("Dv", F)


def masked_weight(i: Any, j: Any) -> Any:
    """``c_ij exp(a_ij)``, the entries of row i being its inner products with the unit vectors."""
    return inner(marks[i], unit[j]) * sp.exp(inner(scores[i], unit[j]))


def masked_sum(i: Any) -> sp.Expr:
    """``Σ_j c_ij exp(a_ij)``."""
    return total(lambda j: masked_weight(i, j))


def masked_mean(i: Any) -> Vector:
    """``Σ_j c_ij exp(a_ij) v_j`` over the sum of weights."""
    return total(lambda j: masked_weight(i, j) * v[j]) / masked_sum(i)


saved_lse = definition(lse, lambda i: sp.log(masked_sum(i)), "lse_i = log Σ_l c_il exp(a_il)")
saved_out = definition(out, masked_mean, "out_i = Σ_j c_ij exp(a_ij − lse_i) v_j")


@theorem("I.10b", "Backward through a mask: only pairs that are seen count", given=[saved_lse, saved_out])
def masked_backward() -> Iterator[Any]:
    """For any scores a_ij and marks c_ij, w_ij = c_ij exp(a_ij − lse_i): a score's gradient is
    w_ij (⟨g_i, v_j⟩ − ⟨g_i, out_i⟩ + g_lse_i), a value's Σ_i w_ij g_i. With c_ij = 0 a pair adds nothing to a
    sum over keys or over queries: both run over the seen pairs, and the gradients of [IV.6b] with them."""

    def weight(i: Any, j: Any) -> Any:
        return inner(marks[i], unit[j]) * sp.exp(inner(scores[i], unit[j]) - lse[i])

    def residual(i: Any, j: Any) -> Any:
        return inner(g[i], v[j]) - inner(g[i], out[i]) + lse_gradient[i]

    loss = total(lambda i: inner(g[i], masked_mean(i)) + lse_gradient[i] * sp.log(masked_sum(i)), QUERIES)
    yield shown(
        "D_(a, v) Σ_i ⟨g_i, out_i⟩ + g_lse_i lse_i", directional(loss, {scores: along, v: along_value})
    )
    yield (
        by(differentiation, fubini, saved_lse, saved_out, exponential_law, distributivity),
        total(lambda i: inner(total(lambda j: (weight(i, j) * residual(i, j)) * unit[j]), along[i]), QUERIES)
        + total(lambda j: inner(total(lambda i: weight(i, j) * g[i], QUERIES), along_value[j])),
    )


ONE, TWO = IndexSet("one"), IndexSet("two")
upstream = ScalarFamily("x")


@theorem("I.10g", "Grouped queries: heads that share keys add up in the gradient of the keys")
def grouped_queries() -> Iterator[Any]:
    """Query heads that read one head of keys are one set of queries, so every theorem holds as it is; only a
    sum over the queries, as in a key's gradient, becomes the sum of those of the heads."""
    queries = VectorFamily("q")
    yield total(lambda i: upstream[i] * queries[i], DisjointUnion(ONE, TWO))
    yield (
        by(disjoint_union),
        total(lambda i: upstream[i] * queries[i], ONE) + total(lambda i: upstream[i] * queries[i], TWO),
    )
