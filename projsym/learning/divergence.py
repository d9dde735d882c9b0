"""One step of descent from matched weights: the same function, another function after it [VI.10]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from .attention import Attention, explicit_core
from .sizes import Form

__all__ = ["Step", "model_step", "proven_outputs", "scalar_outputs"]


def proven_outputs(
    w_k: Fraction, w_v: Fraction, w_o: Fraction, goal: Fraction, rate: Fraction
) -> tuple[Fraction, Fraction]:
    """The outputs of a standard and a tied head after one step: the two sides of the refusal VI.10, exactly.

    One token x = 1 in one dimension, loss ½(output − goal)², tied with m = w_v w_o/w_k before the step.
    """
    from projsym.proof.ledger import load
    from projsym.proof.refusal import REFUSALS

    load()
    refusal = REFUSALS["VI.10"]
    values = {"w_k": w_k, "w_v": w_v, "w_o": w_o, "y": goal, "eta": rate}

    def at(side: object) -> Fraction:
        from sympy import Rational, sympify

        term = sympify(side)
        number = term.subs({s: Rational(*values[s.name].as_integer_ratio()) for s in term.free_symbols})
        return Fraction(int(number.p), int(number.q))

    return at(refusal.left), at(refusal.right)


def scalar_outputs(
    w_k: Fraction, w_v: Fraction, w_o: Fraction, goal: Fraction, rate: Fraction
) -> tuple[float, float]:
    """The same by automatic differentiation of this package's layers in float64, biases kept at 0.

    Dyadic rationals of few bits with w_k a power of two give no rounding at all: the result is then exact.
    """
    outputs = []
    weights_of: dict[Form, dict[str, Fraction]] = {
        "standard": {"query": Fraction(1), "key": w_k, "value": w_v, "output": w_o},
        "tied": {"query": Fraction(1), "key": w_k, "output": w_v * w_o / w_k},
    }
    for form, weights in weights_of.items():
        layer = Attention(form, 1, 1, 1, "fixed", explicit_core).double()
        trained = []
        with torch.no_grad():
            for name, value in weights.items():
                part = getattr(layer, name)
                part.weight.fill_(float(value))
                part.bias.zero_()
                trained.append(part.weight)
        x, visible = torch.ones(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.bool)
        gradients = torch.autograd.grad(((layer(x, x, visible) - float(goal)) ** 2).sum() / 2, trained)
        with torch.no_grad():
            for weight, gradient in zip(trained, gradients, strict=True):
                weight -= float(rate) * gradient
            outputs.append(layer(x, x, visible).item())
    return outputs[0], outputs[1]


@dataclass(frozen=True)
class Step:
    """Two models before and after one step of plain descent on the same batch.

    apart: the largest difference of an output, before and after. loss: of each model, before and after.
    """

    rate: float
    apart_before: float
    apart_after: float
    loss_before: tuple[float, float]
    loss_after: tuple[float, float]


def model_step(
    first: nn.Module,
    second: nn.Module,
    outputs: Callable[[nn.Module], Tensor],
    loss: Callable[[Tensor], Tensor],
    rate: float,
) -> Step:
    """Step both models in place by −rate times their gradient and compare `outputs`.

    Use float64: with float32 the models may be apart by rounding before the step already. The rate is that of
    descent, not of an adaptive optimiser.
    """
    before, losses = [], []
    for model in (first, second):
        model.eval()
        out = outputs(model)
        value = loss(out)
        gradients = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(model.parameters(), gradients, strict=True):
                if gradient is not None:
                    weight -= rate * gradient
        before.append(out.detach())
        losses.append(value.item())
    with torch.no_grad():
        after = [outputs(model) for model in (first, second)]
        ends = [loss(out).item() for out in after]
    return Step(
        rate,
        (before[0] - before[1]).abs().max().item(),
        (after[0] - after[1]).abs().max().item(),
        (losses[0], losses[1]),
        (ends[0], ends[1]),
    )
