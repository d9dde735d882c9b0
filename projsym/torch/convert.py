"""Swapping the attention of a model for ours, in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from projsym.errors import refused
from projsym.torch.module import ProjectionAttention
from projsym.torch.weights import Mode, bert_weights

__all__ = ["BertSelf", "Multihead", "convert"]


def convert(model: nn.Module, mode: Mode = "standard") -> list[str]:
    """Swap every attention of a model that is a `torch.nn.MultiheadAttention`, or laid out as that of BERT in
    Hugging Face's transformers, for `ProjectionAttention`; returns the names of what was swapped, sorted.

    >>> import torch
    >>> model = torch.nn.TransformerEncoderLayer(16, 4, batch_first=True).eval()
    >>> x = torch.randn(2, 10, 16)
    >>> before = model(x)
    >>> convert(model)
    ['self_attn']
    >>> torch.allclose(model(x), before, atol=1e-5)
    True

    mode: the form of the layers. "standard" keeps the weights; "folded" makes keys and values of the inputs
    [I.7], the same function with more parameters; "tied" is refused where it would be another function [I.8].

    The parameters are new tensors: give an optimizer the converted model. Raises ValueError if nothing is
    found, or for the first layer that does not have the form; the model is then as it was. Dropout of
    weights, which the kernels never store, is refused in training, when it is called.
    """
    swaps: list[tuple[str, Callable[[], None]]] = []
    for name, module in model.named_modules(remove_duplicate=False):
        for child, part in module.named_children():
            path = f"{name}.{child}".lstrip(".")
            if isinstance(part, nn.MultiheadAttention):
                made = Multihead.of(part, mode)
                swaps.append((path, lambda m=module, c=child, x=made: setattr(m, c, x)))  # type: ignore[misc]
            elif _is_bert(part):
                core = _bert_core(part, mode)
                swaps.append((path, lambda p=part, x=core: _swap_bert(p, x)))  # type: ignore[misc]
    if not swaps:
        allowed = (
            "a model with torch.nn.MultiheadAttention inside it, or with attention laid out as that of BERT"
        )
        raise ValueError(refused("model", type(model).__name__, allowed))
    for _, swap in swaps:
        swap()
    return sorted(path for path, _ in swaps)


class Multihead(nn.Module):
    """`ProjectionAttention` with the call of `torch.nn.MultiheadAttention`."""

    # What PyTorch's encoder layers ask before they take a path of their own around this module.
    in_proj_weight = in_proj_bias = bias_k = bias_v = None
    _qkv_same_embed_dim = False

    def __init__(self, core: ProjectionAttention, batch_first: bool, dropout: float) -> None:
        super().__init__()
        self.core, self.batch_first, self.dropout = core, batch_first, dropout
        self.num_heads = core.heads

    @classmethod
    def of(cls, layer: nn.MultiheadAttention, mode: Mode) -> Multihead:
        made = cls(ProjectionAttention.from_multihead(layer, mode), layer.batch_first, layer.dropout)
        return made.train(layer.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention.forward`; the weights are formed only where they are asked for."""
        _no_dropout(self, self.dropout)
        swapped = not self.batch_first and query.ndim == 3
        given = [x.transpose(0, 1) if swapped else x for x in (query, key, value)]
        x, context, values = given
        mask = _visible(key_padding_mask, attn_mask, x, context, self.num_heads)
        other = None if value is key else values
        out = self.core(x, context, other, attn_mask=mask)
        weights = None
        if need_weights:
            weights = self.core.attention_weights(x, context, attn_mask=mask)
            weights = weights.mean(-3) if average_attn_weights else weights
        return (out.transpose(0, 1) if swapped else out), weights


def _visible(
    padding: Tensor | None, mask: Tensor | None, x: Tensor, context: Tensor, heads: int
) -> Tensor | None:
    """One mask of scores, (..., H or 1, n or 1, m), from those of MultiheadAttention, where True hides."""
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = ~mask
        if mask.ndim == 3:  # (B·H, n, m)
            mask = mask.unflatten(0, (-1, heads)) if x.ndim == 3 else mask
    if padding is None:
        return mask
    padding = ~padding if padding.dtype == torch.bool else padding
    padding = padding[..., None, None, :]
    if mask is None:
        return padding
    if mask.dtype == torch.bool and padding.dtype == torch.bool:
        return mask & padding
    return _additive(mask, x.dtype) + _additive(padding, x.dtype)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, -torch.inf)


class BertSelf(nn.Module):
    """The inner part of a BERT attention, up to the output matrix, which stays in its place."""

    def __init__(self, core: ProjectionAttention, dropout: float) -> None:
        super().__init__()
        self.core, self.dropout = core, dropout

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *others: object, **more: object
    ) -> tuple[Tensor, None]:
        """hidden_states (B, n, D), attention_mask (B, 1, 1 or n, n), boolean or added to the scores. The
        other arguments are those that transformers passes; a cache, cross-attention, and weights that are
        asked for are refused."""
        _no_dropout(self, self.dropout)
        asked = {name: x for name, x in more.items() if x is not None and x is not False and name in _REFUSED}
        if asked or any(x is not None and x is not False for x in others):
            given = ", ".join(asked) or "more positional arguments than a mask"
            raise ValueError(refused("attention", given, "hidden_states and attention_mask only"))
        return self.core(hidden_states, attn_mask=attention_mask), None


_CACHES = {"past_key_value", "past_key_values", "cache"}
_REFUSED = _CACHES | {"encoder_hidden_states", "encoder_attention_mask", "head_mask", "output_attentions"}


def _no_dropout(module: nn.Module, p: float) -> None:
    if module.training and p > 0:
        allowed = "0, or eval(): the kernels never store the weights that would be dropped"
        raise ValueError(refused("dropout", f"{p} in training", allowed))


def _is_bert(part: nn.Module) -> bool:
    inner, outer = getattr(part, "self", None), getattr(part, "output", None)
    linear = [getattr(inner, n, None) for n in ("query", "key", "value")] + [getattr(outer, "dense", None)]
    return all(isinstance(x, nn.Linear) for x in linear) and hasattr(inner, "num_attention_heads")


def _bert_core(part: nn.Module, mode: Mode) -> ProjectionAttention:
    inner = part.self
    kind = getattr(inner, "position_embedding_type", "absolute")
    causal = getattr(inner, "is_decoder", False)
    if kind != "absolute" or causal or getattr(part, "is_cross_attention", False):
        raise ValueError(
            refused("model", "a decoder, or relative positions", "an encoder with absolute positions")
        )
    weights = bert_weights(dict(part.state_dict()), inner.num_attention_heads)
    return ProjectionAttention.of(weights, mode, inner.query.weight)


def _swap_bert(part: nn.Module, core: ProjectionAttention) -> None:
    """The output matrix goes to where BERT has its own; the rest comes before it."""
    dropout = getattr(part.self, "dropout", None)
    p = dropout.p if isinstance(dropout, nn.Dropout) else 0.0
    part.output.dense, core.output = core.output, nn.Identity()
    part.self = BertSelf(core, p).train(part.training)
