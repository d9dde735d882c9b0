"""Parameters and operations of the whole translation model, from the counts of `projsym.costs` [III.6].

Counted are the products of matrices, masked places included: 2 operations for a multiplication and an
addition, in the backward pass twice as many as forward. Not counted: softmax, norms, dropout, the optimiser
and memory traffic. So a ratio of counts predicts a ratio of times only as far as products take the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from projsym import costs

from .sizes import Form, Sizes, Variant

__all__ = ["FORM_OF", "Prediction", "model_operations", "model_parameters", "predict", "substituted"]

hidden, vocabulary = sp.symbols("F V", positive=True)

FORM_OF: dict[Form, costs.Form] = {
    "standard": costs.STANDARD,
    "tied": costs.TIED,
    "folded": costs.FOLDED,
    "tied-normalised": costs.TIED,
}
LAYERS = 3
"""Attention layers: of the encoder, of the decoder, and across."""


def model_parameters(form: costs.Form) -> sp.Expr:
    """All numbers that are learnt with fixed σ; `n` is the length of a sentence."""
    attention = LAYERS * (form.parameters + form.biases)
    embeddings = 2 * (vocabulary + costs.n) * costs.D
    forward = 2 * (2 * costs.D * hidden + hidden + costs.D)
    norms = 5 * 2 * costs.D
    return attention + embeddings + forward + norms + (costs.D + 1) * vocabulary


def model_operations(form: costs.Form) -> tuple[sp.Expr, sp.Expr]:
    """Of one step forward and backward: the attention layers', and the rest's."""
    rows = costs.batch * costs.n
    forward = 2 * (2 * 2 * rows * costs.D * hidden) + 2 * rows * costs.D * vocabulary
    return LAYERS * (form.forward + form.backward), 3 * forward


def substituted(expression: sp.Expr, sizes: Sizes, variant: Variant) -> int:
    """The number that a count is at these sizes."""
    values = {
        costs.batch: sizes.batch, costs.n: sizes.length, costs.D: sizes.width, costs.H: sizes.heads,
        costs.d_h: sizes.head_width(variant.head_width), hidden: sizes.hidden, vocabulary: sizes.vocabulary,
    }  # fmt: skip
    return int(expression.subs(values))


@dataclass(frozen=True)
class Prediction:
    """Operations of a step, and the standard form's over these: the speed-up if all products ran at one
    rate and took all the time."""

    attention: int
    rest: int
    attention_ratio: float
    step_ratio: float


def predict(sizes: Sizes, variant: Variant) -> Prediction:
    """What the counts say of a step of this variant against the standard form's."""
    attention, rest = (substituted(e, sizes, variant) for e in model_operations(FORM_OF[variant.form]))
    base, base_rest = (substituted(e, sizes, variant) for e in model_operations(costs.STANDARD))
    return Prediction(attention, rest, base / attention, (base + base_rest) / (attention + rest))
