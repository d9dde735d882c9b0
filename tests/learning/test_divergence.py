"""One step of descent: what VI.10 proves, what automatic differentiation of the layers does."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from projsym.learning.convert import tied_model
from projsym.learning.divergence import model_step, proven_outputs, scalar_outputs
from projsym.learning.model import Translator

F = Fraction
CASES = [
    (F(2), F(1), F(1), F(0), F(1)),
    (F(4), F(3), F(-1, 2), F(1), F(1, 4)),
    (F(1, 2), F(-5, 4), F(3, 2), F(2), F(1, 8)),
]


@pytest.mark.parametrize("case", CASES)
def test_outputs_after_a_step_are_the_proven_ones(case: tuple[Fraction, ...]) -> None:
    """Dyadic numbers of few bits: float64 is exact, so the two must be equal."""
    proven, found = proven_outputs(*case), scalar_outputs(*case)
    assert found == tuple(float(x) for x in proven)
    assert proven[0] != proven[1]


def test_no_step_no_difference() -> None:
    assert scalar_outputs(F(2), F(1), F(3), F(0), F(0)) == (3.0, 3.0)


def test_matched_models_part_in_one_step(build: Callable[..., Translator]) -> None:
    """Before: apart by rounding. After: by far more, and in proportion to the rate while that is small."""
    generator = torch.Generator().manual_seed(4)
    source, target = torch.randint(4, 30, (2, 4, 8), generator=generator)

    def loss(out: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(out.flatten(0, 1), target.flatten())

    steps = []
    for rate in (0.0, 1e-6, 2e-6):
        standard = build("standard")
        twin, _ = tied_model(standard)
        steps.append(model_step(standard, twin, lambda m: m(source, target), loss, rate))
    still, once, twice = steps
    assert still.apart_after == still.apart_before < 1e-9
    assert once.apart_after > 1000 * once.apart_before
    assert twice.apart_after / once.apart_after == pytest.approx(2, rel=0.2)
    assert once.loss_after[0] < once.loss_before[0] and once.loss_after[1] < once.loss_before[1]
