"""Where a training begins: one seed draws one standard model, and every form starts from it.

The folded form starts as the same function [I.7]; the tied forms keep all weights but W_V, so they start as
another function, with equal W_Q, W_K, W_O and equal everything else. Differences between forms at equal seeds
are then differences of the forms, not of the draw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from projsym.folding import fold_formula

from .attention import Attention

__all__ = ["adopt", "draw", "fold_into"]


@torch.no_grad()
def draw(model: nn.Module, seed: int) -> None:
    """Fill a standard model: Glorot's uniform matrices, biases 0, embeddings uniform in ±0.05 (Keras'
    choices). On the CPU in float32 whatever the model's device, so that a seed means one model."""
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.Linear):
            _uniform(part.weight, (6 / (part.in_features + part.out_features)) ** 0.5, generator)
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.Embedding):
            _uniform(part.weight, 0.05, generator)


def _uniform(weight: Tensor, limit: float, generator: torch.Generator) -> None:
    weight.copy_((2 * torch.rand(weight.shape, generator=generator) - 1) * limit)


@torch.no_grad()
def adopt(model: nn.Module, standard: nn.Module) -> None:
    """Give `model`, of any form, the parameters of a standard model of the same sizes; the folded form gets A
    and B, computed in float64."""
    own = dict(model.named_parameters())
    for name, value in standard.named_parameters():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)
    for name, part in model.named_modules():
        if isinstance(part, Attention) and part.form == "folded":
            fold_into(part, standard.get_submodule(name))


@torch.no_grad()
def fold_into(folded: Attention, standard: Attention) -> None:
    """Set A, a, B and b of [I.7] from the weights of a standard layer (no gain, no shift)."""
    heads, width = standard.heads, standard.width

    def columns(layer: nn.Linear) -> tuple[Tensor, Tensor]:
        """(H, D, d) and (H, 1, d) of a layer in front of the core."""
        weight, bias = layer.weight.double(), layer.bias.double()
        return weight.T.reshape(width, heads, -1).transpose(0, 1), bias.reshape(heads, 1, -1)

    (w_q, b_q), (w_k, _), (w_v, b_v) = (columns(x) for x in (standard.query, standard.key, standard.value))
    w_o = standard.output.weight.double().T.reshape(heads, -1, width)
    gain = torch.ones(width, 1, dtype=torch.float64, device=w_q.device)
    shift = torch.zeros(1, width, dtype=torch.float64, device=w_q.device)
    a_matrix, a_vector, b_matrix, constant = fold_formula(
        w_q, w_k, w_v, w_o, b_q, b_v, gain, shift, gain, shift
    )
    folded.query.weight.copy_(a_matrix.transpose(1, 2).reshape(heads * width, width))
    folded.query.bias.copy_(a_vector.reshape(-1))
    folded.output.weight.copy_(b_matrix.reshape(heads * width, width).T)
    folded.output.bias.copy_(standard.output.bias.double() + constant.sum(dim=(0, 1)))
    if folded.log_temperature is not None and standard.log_temperature is not None:
        folded.log_temperature.copy_(standard.log_temperature)
