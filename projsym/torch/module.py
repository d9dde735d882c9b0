"""Multi-head attention as a layer, in the standard, the tied and the folded form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from projsym.errors import refused
from projsym.torch.functional import attention, project, recording
from projsym.torch.layer import layer as whole_layer
from projsym.torch.weights import MODES, Mode, Weights, bert_weights, multihead_weights

__all__ = ["ProjectionAttention"]

SHORT = 256
"""Tokens up to which a layer runs as one kernel: beyond, its products are not what takes the time."""


class ProjectionAttention(nn.Module):
    """Multi-head attention of x (..., n, D) to a context (..., m, C): (..., n, O), computed by projection.

    >>> import torch
    >>> x = torch.randn(2, 10, 16)
    >>> layer = ProjectionAttention(16, 4)                          # mode="standard"
    >>> layer(x).shape
    torch.Size([2, 10, 16])
    >>> ProjectionAttention(16, 1, mode="tied")(x, x[:, :3]).shape  # the keys are the values
    torch.Size([2, 10, 16])
    >>> folded = ProjectionAttention.of(layer.weights(), "folded")  # the same function [I.7]
    >>> torch.allclose(folded(x), layer(x), atol=1e-5)
    True

    With heads h side by side and scale 1/√d in every form:

    - standard: Σ_h softmax(scale (x W_Q + b_Q)(c W_K + b_K)ᵀ) (c W_V + b_V) W_O + b_O;
    - tied: the keys are the values, Σ_h P(x W_Q + b_Q; c W_K + b_K) M + b;
    - folded: keys and values are the context itself, Σ_h P(x A + a; c) B + b.

    The tied form is as wide a class of functions as the standard one only if W_K has rank C in every head, so
    d ≥ C [I.8]. The folded form is what every standard layer is [I.7]; A and B are D × C a head, so it has
    more parameters than the standard form unless heads are few.

    Where no gradient is recorded, the tied and the folded form of at most 256 tokens that see one another
    run as one operator, :func:`projsym.torch.layer`, unless a map is not a plain `torch.nn.Linear`.

    width: D. heads: H. head_width: d, by default D/H. context_width: C, by default D. All maps have biases.
    Raises ValueError for a mode that is none and for sizes below 1 or that do not divide.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mode: Mode = "standard",
        head_width: int | None = None,
        context_width: int | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(refused("mode", repr(mode), f"one of {MODES}"))
        if heads < 1 or (head_width is None and width % heads):
            raise ValueError(refused("heads", heads, f"a divisor of the width {width}, or give head_width"))
        context = width if context_width is None else context_width
        inner = width // heads if head_width is None else head_width
        for name, size in (("width", width), ("context_width", context), ("head_width", inner)):
            if size < 1:
                raise ValueError(refused(name, size, "an integer of at least 1"))
        self.mode, self.heads, self.scale = mode, heads, inner**-0.5
        rows = heads * (context if mode == "folded" else inner)
        self.query = nn.Linear(width, rows)
        self.key = None if mode == "folded" else nn.Linear(context, rows)
        self.value = nn.Linear(context, rows) if mode == "standard" else None
        self.output: nn.Module = nn.Linear(rows, width)

    @classmethod
    def of(cls, weights: Weights, mode: Mode = "standard", like: Tensor | None = None) -> ProjectionAttention:
        """A layer with given weights in a form; its dtype is that of `like`, float32 by default.

        Raises ValueError where the weights do not have that form; see `projsym.torch.weights.Weights.linear`.
        """
        maps = weights.linear(mode)
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer.mode, layer.heads, layer.scale = mode, weights.heads, weights.scale
        dtype = torch.float32 if like is None else like.dtype
        for name in ("query", "key", "value", "output"):
            setattr(layer, name, _linear(*maps[name], dtype) if name in maps else None)
        return layer

    @classmethod
    def from_multihead(cls, layer: nn.MultiheadAttention, mode: Mode = "standard") -> ProjectionAttention:
        """The function of a `torch.nn.MultiheadAttention`, batch first, in a form and in its dtype. Dropout
        is not taken over."""
        made = cls.of(multihead_weights(layer), mode, layer.out_proj.weight)
        return made.train(layer.training)

    @classmethod
    def from_bert(
        cls, tensors: dict[str, Tensor], heads: int, mode: Mode = "standard", *, prefix: str = ""
    ) -> ProjectionAttention:
        """The attention of a BERT layer, before its residual sum and LayerNorm, from a state dict; see
        `projsym.torch.weights.bert_weights` for the names."""
        weights = bert_weights(tensors, heads, prefix)
        return cls.of(weights, mode, tensors[f"{prefix}output.dense.weight"])

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        values: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """x (..., n, D) and context (..., m, C), x itself by default, with the same leading axes: (..., n,
        O).

        values: what the values are made of instead of the context, (..., m, C'); standard form only.
        attn_mask: broadcasts to (..., H, n, m); a boolean one is True where a row sees a key, another is
        added to the scores. is_causal: row i sees the keys up to i.
        """
        own = context is None or context is x
        context = x if context is None else context
        if values is not None and self.value is None:
            allowed = f"None: in the {self.mode} form the keys are the values"
            raise ValueError(refused("values", "a tensor", allowed))
        short = own and attn_mask is None and not is_causal and x.ndim > 1 and x.shape[-2] <= SHORT
        if short and self._plain() and not recording(x, *self.parameters()):
            return self._whole(x)
        more: dict[str, Any] = {"attn_mask": attn_mask, "is_causal": is_causal, "scale": self.scale}
        q = self._split(self.query(x))
        if self.key is None:
            return self.output(self._folded(q, context, more))
        k = self._split(self.key(context))
        if self.value is None:
            out = project(q, k, **more)
        else:
            v = self._split(self.value(context if values is None else values))
            out = attention(q, k, v, **more)
        return self.output(out.transpose(-3, -2).flatten(-2))

    def _plain(self) -> bool:
        """Whether the maps are what the operator takes, with nothing that a call of theirs would do more."""
        maps = [m for m in (self.query, self.key, self.output) if m is not None]
        return self.mode != "standard" and all(
            type(m) is nn.Linear and not m._forward_hooks and not m._forward_pre_hooks for m in maps
        )

    def _whole(self, x: Tensor) -> Tensor:
        query, key, output = self.query, self.key, self.output
        assert isinstance(output, nn.Linear)
        return whole_layer(
            x,
            query.weight.T,
            None if key is None else key.weight.T,
            output.weight.T,
            b_q=query.bias,
            b_k=None if key is None else key.bias,
            b_o=output.bias,
            heads=self.heads,
            scale=self.scale,
        )

    def _folded(self, q: Tensor, context: Tensor, more: dict[str, Any]) -> Tensor:
        """The keys are those of all heads. Unless rows see different keys a head is only more queries, in the
        order (token, head) of the memory."""
        mask = more["attn_mask"]
        if more["is_causal"] or (mask is not None and any(size > 1 for size in mask.shape[-3:-1])):
            return project(q, context.unsqueeze(-3), **more).transpose(-3, -2).flatten(-2)
        if mask is not None and mask.ndim > 2:
            more["attn_mask"] = mask.squeeze(-3)
        rows = q.transpose(-3, -2).flatten(-3, -2)
        return project(rows, context, **more).unflatten(-2, (-1, self.heads)).flatten(-2)

    def attention_weights(
        self, x: Tensor, context: Tensor | None = None, *, attn_mask: Tensor | None = None
    ) -> Tensor:
        """The weights of every head, (..., H, n, m), formed by PyTorch: what `forward` never stores. A row
        that sees no key has weights 0."""
        context = x if context is None else context
        keys = context.unsqueeze(-3) if self.key is None else self._split(self.key(context))
        scores = self._split(self.query(x)) @ keys.mT * self.scale
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
        seen = (scores > -torch.inf).any(-1, keepdim=True)
        return scores.masked_fill(~seen, 0.0).softmax(-1) * seen

    def _split(self, rows: Tensor) -> Tensor:
        """(..., n, H·d) -> (..., H, n, d), a view."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def weights(self) -> Weights:
        """The weights of a layer in the standard form, in float64. Raises ValueError in another form."""
        if self.key is None or self.value is None or not isinstance(self.output, nn.Linear):
            raise ValueError(refused("mode", repr(self.mode), "'standard', with its output matrix"))
        maps = ((m.weight, m.bias) for m in (self.query, self.key, self.value, self.output))
        return Weights.of(maps, self.heads)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, heads={self.heads}, scale={self.scale:.6g}"


def _linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    outputs, inputs = weight.shape
    made: Any = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made
