"""The weights of an attention layer, read from the layouts of others, and their tied and folded forms.

Matrices act on rows from the right, one a head: (H, inputs, outputs). Forms are computed in float64, whatever
the dtype of the layer that they are read from and that they go to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from projsym.audit.defect import value_defect
from projsym.errors import refused
from projsym.folding import fold_formula

__all__ = ["Linear", "Mode", "Weights", "bert_weights", "multihead_weights"]

Mode = Literal["standard", "tied", "folded"]
MODES: tuple[Mode, ...] = ("standard", "tied", "folded")

Linear = tuple[Tensor, Tensor]
"""Weight (outputs, inputs) and bias (outputs,), as `torch.nn.Linear` holds them."""


@dataclass(frozen=True)
class Weights:
    """w_q (H, D, d), w_k (H, C, d), w_v (H, C', e), w_o (H, e, O), b_q and b_k (H, 1, d), b_v (H, 1, e), b_o
    (O,); float64. The scale of the scores is 1/√d."""

    w_q: Tensor
    w_k: Tensor
    w_v: Tensor
    w_o: Tensor
    b_q: Tensor
    b_k: Tensor
    b_v: Tensor
    b_o: Tensor

    @classmethod
    def of(cls, maps: Iterable[Linear], heads: int) -> Weights:
        """From the linear maps of queries, keys, values and output. Raises ValueError unless the heads divide
        their widths."""
        wide = [tuple(x.detach().to(torch.float64) for x in pair) for pair in maps]
        (wq, bq), (wk, bk), (wv, bv), (wo, bo) = wide
        for name, size in (("query", len(wq)), ("output", wo.shape[1])):
            if heads < 1 or size % heads:
                raise ValueError(refused("heads", heads, f"a divisor of {size}, the width of {name}"))

        def columns(w: Tensor) -> Tensor:
            return w.reshape(heads, -1, w.shape[1]).mT

        def rows(b: Tensor) -> Tensor:
            return b.reshape(heads, 1, -1)

        by_head = wo.T.reshape(heads, -1, len(wo))
        return cls(columns(wq), columns(wk), columns(wv), by_head, rows(bq), rows(bk), rows(bv), bo)

    @property
    def heads(self) -> int:
        return len(self.w_q)

    @property
    def scale(self) -> float:
        return float(self.w_q.shape[2] ** -0.5)

    def linear(self, mode: Mode) -> dict[str, Linear]:
        """The linear maps of a form: query, key, value and output, those that it has.

        Raises ValueError for another mode; for "tied" where dropping W_V is not proven to be exact [I.8],
        naming the head; for "folded" and "tied" where keys and values have different inputs.
        """
        if mode not in MODES:
            raise ValueError(refused("mode", repr(mode), f"one of {MODES}"))
        if mode == "standard":
            return self._maps(self.w_q, self.b_q, self.w_o, self.b_o) | {
                "key": _join(self.w_k, self.b_k),
                "value": _join(self.w_v, self.b_v),
            }
        if self.w_k.shape[1] != self.w_v.shape[1]:
            given = f"{mode!r} with {self.w_k.shape[1]} features of keys and {self.w_v.shape[1]} of values"
            raise ValueError(refused("mode", given, "'standard': the form needs one input for both"))
        if mode == "tied":
            m = self._matrices()
            bias = self.b_o + (self.b_v @ self.w_o - self.b_k @ m).sum(dim=(0, 1))
            return self._maps(self.w_q, self.b_q, m, bias) | {"key": _join(self.w_k, self.b_k)}
        ones = torch.ones_like
        width, context = (w[0, :, :1] for w in (self.w_q, self.w_k))
        none = (ones(width), 0 * width.mT, ones(context), 0 * context.mT)
        a_matrix, a_vector, b_matrix, constants = fold_formula(
            self.w_q, self.w_k, self.w_v, self.w_o, self.b_q, self.b_v, *none
        )
        return self._maps(a_matrix, a_vector, b_matrix, constants.sum(dim=(0, 1)) + self.b_o)

    def _maps(self, w: Tensor, b: Tensor, out: Tensor, bias: Tensor) -> dict[str, Linear]:
        return {"query": _join(w, b), "output": (out.reshape(-1, out.shape[2]).T, bias)}

    def _matrices(self) -> Tensor:
        """M of each head with W_K M = W_V W_O, (H, d, O) [I.8]."""
        for head, (k, v, o) in enumerate(zip(self.w_k, self.w_v, self.w_o, strict=True)):
            found = value_defect(k.numpy(), v.numpy(), o.numpy())
            if not found.droppable:
                given = f"'tied', with W_V of head {head} not droppable (defect {found.defect:.2g})"
                raise ValueError(refused("mode", given, "'standard' or 'folded', or W_K of rank D [I.8]"))
        return torch.linalg.lstsq(self.w_k, self.w_v @ self.w_o, driver="gelsd").solution


def _join(w: Tensor, b: Tensor) -> Linear:
    """(H, inputs, outputs) and (H, 1, outputs) side by side, as of one linear map."""
    return w.mT.reshape(-1, w.shape[1]), b.reshape(-1)


def multihead_weights(layer: nn.MultiheadAttention) -> Weights:
    """From `torch.nn.MultiheadAttention`. Raises ValueError for `add_bias_kv` and `add_zero_attn`, which add
    keys that no input gives."""
    if layer.bias_k is not None or layer.add_zero_attn:
        given = "a MultiheadAttention with add_bias_kv or add_zero_attn"
        raise ValueError(refused("layer", given, "one without: those keys come from no input"))
    if layer.in_proj_weight is not None:
        q, k, v = layer.in_proj_weight.chunk(3)
    else:
        q, k, v = layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight
    biases = [None] * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    three = [(w, w.new_zeros(len(w)) if b is None else b) for w, b in zip((q, k, v), biases, strict=True)]
    return Weights.of([*three, _pair(layer.out_proj.weight, layer.out_proj.bias)], layer.num_heads)


def bert_weights(tensors: Mapping[str, Tensor], heads: int, prefix: str = "") -> Weights:
    """From the state dict of a BERT attention as Hugging Face writes it: ``self.query.weight`` … and
    ``output.dense.weight`` after `prefix`, such as ``encoder.layer.0.attention.``. KeyError for a missing
    one."""
    maps = []
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        name = f"{prefix}{part}.weight"
        if name not in tensors:
            raise KeyError(refused("tensors", f"no {name!r}", "the names of a BERT attention after prefix"))
        maps.append(_pair(tensors[name], tensors.get(f"{prefix}{part}.bias")))
    return Weights.of(maps, heads)


def _pair(weight: Tensor, bias: Tensor | None) -> Linear:
    return weight, weight.new_zeros(len(weight)) if bias is None else bias
