"""Kernels of the backward pass: a theorem [IV.6b/…], its gradients read off its last line, and a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import sympy as sp

from projsym.algebra.scalars import FiniteSum, Inner, ScalarElement
from projsym.algebra.sets import KEYS
from projsym.algebra.terms import VectorElement
from projsym.derivations.backward import BACKWARD_PREFIX, QUERIES
from projsym.proof.theorem import REGISTRY, Theorem

from .kernel import Kernel, Schedule
from .lower_gradient import INDEX, Gradient, lower_gradients
from .program import Program
from .schedule_gradient import default
from .validate import Obligation
from .validate_gradient import validate_gradients

_AXES = {QUERIES: "i", KEYS: "j"}


def gradients(theorem: Theorem) -> dict[str, Gradient]:
    """The gradients in ``Σ_i ⟨dq_i, Dq_i⟩ + Σ_j ⟨dk_j, Dk_j⟩ + …``, a theorem's last line, by name.

    A number for each key is paired by a product; a parameter's gradient is a sum over the queries, of which
    this is one query's part. ValueError for a summand of any other shape.
    """
    found = dict(_gradient(term) for term in sp.Add.make_args(theorem.last))
    order = {"dq": 0, "dk": 1, "dv": 2}
    return dict(sorted(found.items(), key=lambda t: (order.get(t[0], 3), t[0])))


def _gradient(term: sp.Expr) -> tuple[str, Gradient]:
    scalars = [a for a in sp.Mul.make_args(term) if isinstance(a, sp.Symbol)]
    sums = [a for a in sp.Mul.make_args(term) if isinstance(a, FiniteSum)]
    if len(sums) == 1 and sums[0].args[2] in _AXES and len(scalars) + 1 == len(sp.Mul.make_args(term)):
        body, bound, over = sums[0].args
        at = {bound: INDEX[_AXES[over]]}
        if scalars and over == QUERIES:
            return _name(scalars[0].name), Gradient("i", body.xreplace(at))
        if isinstance(body, Inner) and isinstance(body.args[1], VectorElement):
            return _name(body.args[1].family), Gradient(_AXES[over], body.args[0].xreplace(at))
        members = [a for a in sp.Mul.make_args(body) if isinstance(a, ScalarElement) and a.family[0] == "D"]
        if len(members) == 1:
            return _name(members[0].family), Gradient(_AXES[over], (body / members[0]).xreplace(at))
    raise ValueError(f"not a gradient paired with its direction: {term}")


def _name(direction: str) -> str:
    return "d" + direction.removeprefix("D")


@dataclass(frozen=True)
class GradientKernel(Kernel):
    """The kernel of a theorem [IV.6b/…]: the gradients in its last line are the outputs."""

    schedule: Schedule = default
    divides: ClassVar[bool] = False

    def outputs(self) -> dict[str, Any]:
        """The gradients, by output name."""
        return dict(gradients(self.of))

    def lower(self) -> Program:
        return lower_gradients(self.name, gradients(self.of))

    def validate(self, program: Program, prefix: str = "") -> list[Obligation]:
        return validate_gradients(program, gradients(self.of), prefix)


def gradient_kernels() -> tuple[GradientKernel, ...]:
    """One kernel for each theorem [IV.6b/…]: its name is the last part of the id."""
    return tuple(
        GradientKernel(t.id.removeprefix(BACKWARD_PREFIX), t)
        for t in REGISTRY.values()
        if t.id.startswith(BACKWARD_PREFIX)
    )
