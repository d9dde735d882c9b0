"""From a trained standard layer to a tied one with the same outputs [I.8r], and how close the two must be.

Possible if W_K of each head has rank D, so d_h ≥ D; here d_h = D. With M_h = W_K⁻¹ W_V W_O of the head h,

    Σ_h w_h (x W_V + b_V) W_O + b_O = Σ_h w_h (x W_K + b_K) M_h + b_O + Σ_h (b_V W_O − b_K M_h)

for all weights w_h that sum to 1.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from projsym.errors import refused

from .attention import Attention
from .sizes import Variant
from .start import adopt

__all__ = ["head_matrices", "tie_into", "tied_model"]

Model = TypeVar("Model", bound=nn.Module)


def head_matrices(layer: Attention) -> dict[str, Tensor]:
    """The weights by head in float64, rows as inputs: W_K, W_V (H, D, d), W_O (H, d, D), b_K, b_V (H, 1, d)
    and b_O (D,). A tied layer has W_V = W_K and b_V = b_K."""
    if layer.key is None:
        raise ValueError(refused("layer", "a folded layer", "a layer with keys of its own"))
    heads, width = layer.heads, layer.width
    found = {"W_O": layer.output.weight.double().T.reshape(heads, -1, width)}
    for name, part in (("K", layer.key), ("V", layer.key if layer.value is None else layer.value)):
        found[f"W_{name}"] = part.weight.double().T.reshape(width, heads, -1).transpose(0, 1)
        found[f"b_{name}"] = part.bias.double().reshape(heads, 1, -1)
    return found | {"b_O": layer.output.bias.double()}


@torch.no_grad()
def tie_into(tied: Attention, standard: Attention) -> float:
    """Set a tied layer's output matrix and bias so that it computes what `standard` does; its other weights
    must be the same already. Solved in float64; returns the largest condition number of a head's W_K, which
    multiplies the rounding error of M.

    ValueError unless d_h = D and every W_K is numerically invertible (I.8: otherwise W_V cannot be dropped).
    """
    if standard.form != "standard" or tied.form != "tied":
        raise ValueError(refused("form", (tied.form, standard.form), "a tied and a standard layer"))
    if standard.head_width != standard.width:
        raise ValueError(
            refused("head_width", standard.head_width, f"{standard.width}, the input's width [I.8]")
        )
    w = head_matrices(standard)
    condition = float(torch.linalg.cond(w["W_K"]).max())
    if not condition * torch.finfo(torch.float64).eps < 1:
        raise ValueError(refused("W_K", f"condition number {condition:.1e}", "an invertible matrix [I.8r]"))
    m = torch.linalg.solve(w["W_K"], w["W_V"] @ w["W_O"])
    bias = w["b_O"] + (w["b_V"] @ w["W_O"] - w["b_K"] @ m).sum(dim=(0, 1))
    tied.output.weight.copy_(m.reshape(-1, standard.width).T)
    tied.output.bias.copy_(bias)
    return condition


def tied_model(standard: Model) -> tuple[Model, float]:
    """A tied model with the outputs of a standard one, in the same mode, and the largest condition number.

    Works for every model here that is built as ``type(model)(sizes, variant, core)`` from its own attributes.
    """
    layers = {n: p for n, p in standard.named_modules() if isinstance(p, Attention)}
    core = next(iter(layers.values())).core
    variant: Variant = standard.variant
    model = type(standard)(standard.sizes, Variant("tied", variant.head_width, variant.sigma), core)
    model.to(next(standard.parameters()))
    adopt(model, standard)
    conditions = [tie_into(model.get_submodule(name), layer) for name, layer in layers.items()]
    return model.train(standard.training), max(conditions)
