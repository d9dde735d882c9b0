"""Chapter V, iteration: how fast mean shift converges."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import inner, norm2
from projsym.proof.laws import differentiation
from projsym.proof.theorem import by, shown, theorem, therefore

from .geometry import MEAN_SHIFT, P, density
from .geometry_lemmas import linear_rate
from .learning import h
from .notation import q, σ


@theorem(
    "V.5h",
    "At a mode the Jacobian is below 1 exactly where the log density is curved downwards",
    references=MEAN_SHIFT,
)
def curvature() -> Iterator[Any]:
    """σ² times the second derivative of log density is ⟨h, DP h⟩ − ‖h‖². At a strict maximum with a definite
    Hessian every eigenvalue of DP, symmetric and at least 0 [II.2p], is below 1."""
    first = directional(sp.log(density(q)), {q: h})
    yield shown("σ² D²_q log density [h, h]", σ**2 * directional(first, {q: h}))
    yield (
        by(differentiation),
        shown("⟨h, D_q P [h]⟩ − ‖h‖²", inner(h, directional(P, {q: h})) - norm2(h)),
    )
    yield therefore(
        linear_rate,
        "mean shift converges linearly near such a mode, at the rate of the largest eigenvalue of DP there; "
        "for σ > diam(K)/2 from anywhere, at the rate diam(K)²/4σ² [II.7b]",
    )
