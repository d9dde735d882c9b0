"""The theorems of a weight: the mean and what is saved of it, and its gradients from what was saved.

A weight that is one exponential has those of the committed kernels, [IV.6] and [IV.6b]. A plain weight
``w >= 0`` is normalised by the sum of the weights, which is what is saved; no maximum is subtracted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import sympy as sp
from flint import ctx

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import ScalarFamily, attend, inner, total
from projsym.algebra.terms import Vector, VectorFamily
from projsym.derivations.backward import QUERIES, backward_theorem
from projsym.proof import oracle
from projsym.proof.evaluate import Evaluator
from projsym.proof.hypotheses import Domain, definition
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    bilinearity,
    differentiation,
    distributivity,
    exponential_law,
    fubini,
    softmax_definition,
)
from projsym.proof.text import text
from projsym.proof.theorem import Theorem, build, by, shown

from .form import Form
from .slopes import slopes

PREFIX = "own/"
_TRIES = 400


def forward(name: str, form: Form) -> Theorem:
    """The mean of the values and the saved number of each query."""
    if form.exponential:
        return _exponential(name, form)

    def weight(j: Any) -> Any:
        return form.row(form.term, j)

    z = total(weight)
    mass = sp.Symbol("mass", positive=True)
    saved = definition(mass, z, f"mass = {text(z)}")

    def chain() -> Iterator[Any]:
        yield total(lambda j: (weight(j) / z) * form.values[j])
        yield by(saved), total(lambda j: (weight(j) / mass) * form.values[j])
        yield by(distributivity), (1 / mass) * total(lambda j: weight(j) * form.values[j])

    given = (supported(z), saved)
    return build(PREFIX + name, f"Attention of your own: {name}", given, chain)


def _exponential(name: str, form: Form) -> Theorem:
    """As the committed kernels' theorems, for scores that may hold logarithms of factors."""

    def score(j: Any) -> Any:
        return form.row(form.term, j)

    z = total(lambda l: sp.exp(score(l)))
    lse = sp.Symbol("lse", real=True)
    saved = definition(lse, sp.log(z), f"lse = {text(sp.log(z))}")

    def chain() -> Iterator[Any]:
        yield attend(score, form.values)
        yield (
            by(softmax_definition, exponential_law),
            total(lambda j: sp.exp(score(j)) * form.values[j]) / z,
        )
        yield by(saved, exponential_law), total(lambda j: sp.exp(score(j) - lse) * form.values[j])

    return build(PREFIX + name, f"Attention of your own: {name}", (saved,), chain)


def backward(name: str, form: Form, fixed: Collection[str]) -> Theorem:
    """All gradients of ``Σ_i ⟨g_i, out_i⟩ + g_saved_i saved_i``."""
    derived = slopes(form, fixed)
    name = f"{name}_backward"
    if form.exponential:
        return backward_theorem(name, f"Backward of {name}", derived, form.values, register=False)
    values = form.values
    g, out = VectorFamily("g", values.space), VectorFamily("out", values.space)
    mass, mass_gradient = ScalarFamily("mass", positive=True), ScalarFamily("g_mass")

    def sum_of(i: Any) -> Any:
        return total(lambda l: derived.of(i, l))

    def mean(i: Any) -> Vector:
        return total(lambda j: (derived.of(i, j) / sum_of(i)) * values[j])

    saved = (
        definition(mass, sum_of, "mass_i = Σ_l w_il, saved by the forward pass"),
        definition(out, mean, "out_i = Σ_j (w_ij/mass_i) v_j, saved by the forward pass"),
    )
    directions = derived.directions(values)

    def chain() -> Iterator[Any]:
        loss = total(lambda i: inner(g[i], mean(i)) + mass_gradient[i] * sum_of(i), QUERIES)
        names = ", ".join(x.name for x in directions)
        yield shown(f"D_({names}) Σ_i ⟨g_i, out_i⟩ + g_mass_i mass_i", directional(loss, directions))
        yield (
            by(differentiation, fubini),
            derived.paired(
                values, g,
                lambda i, j: derived.of(i, j) / sum_of(i),
                lambda i, j: inner(g[i], values[j] - mean(i)) / sum_of(i) + mass_gradient[i],
            ),
        )  # fmt: skip
        yield (
            by(*saved, bilinearity, distributivity),
            derived.paired(
                values, g,
                lambda i, j: derived.of(i, j) / mass[i],
                lambda i, j: (inner(g[i], values[j]) - inner(g[i], out[i])) / mass[i] + mass_gradient[i],
            ),
        )  # fmt: skip

    at = sp.Dummy("i", integer=True)
    given = (supported(sum_of(at), at), *saved)
    return build(PREFIX + name, f"Backward of {name}", given, chain)


def supported(weights: Any, query: sp.Symbol | None = None) -> Domain:
    """The sum of the weights is positive, of every query where `query` is its index in the sum."""

    def make(instance: Instance) -> None:
        """Take the letters of the first instance of a sequence at which that is so."""
        before, ctx.prec = ctx.prec, oracle.PRECISION
        try:
            for n in range(_TRIES):
                trial = Instance(1000 * instance.seed + n, instance.span)
                trial.scalars |= instance.scalars
                evaluate = Evaluator(trial, {})
                members = range(trial.size(QUERIES.name) if query else 1)
                places = [{query: (QUERIES.name, r)} if query else {} for r in members]
                if all(evaluate.scalar(weights, place) > 0 for place in places):
                    instance.drawn |= trial.drawn
                    instance.fixed_sizes |= trial.fixed_sizes
                    instance.fixed_dimensions |= trial.fixed_dimensions
                    return
        finally:
            ctx.prec = before

    return Domain("support", "the weights of a query do not add to 0", make)
