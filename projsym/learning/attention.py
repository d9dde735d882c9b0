"""An attention layer in four forms, around one replaceable core.

The core computes ``softmax(scale q kᵀ) v`` over the visible keys. Everything else about a form is which
products with weights stand before and after it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from projsym.torch import attention

from .sizes import Form, Sigma

__all__ = ["CORES", "Attention", "Core", "explicit_core", "projsym_core", "torch_core"]

Core = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""(q (B, H, n, d), k (B, H, m, d), v (B, H, m, e), visible, scale) -> (B, H, n, e).

visible (B or 1, 1, n or 1, m) of bool: which keys a row may use; every row sees at least one. For the tied
forms v is k, the same tensor."""


def torch_core(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """PyTorch's own scaled_dot_product_attention."""
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)


def explicit_core(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """The definition, with the weights stored: slower, any dtype and device, differentiable twice."""
    scores = (q @ k.mT * scale).masked_fill(~visible, -torch.inf)
    return scores.softmax(-1) @ v


def projsym_core(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """The generated kernels, forward and backward: on the CPU, float32 or float64, differentiable once."""
    return attention(q, k, v, attn_mask=visible, scale=scale)


CORES: dict[str, Core] = {"torch": torch_core, "projsym": projsym_core, "explicit": explicit_core}
"""By the names that the commands use."""


class Attention(nn.Module):
    """Attention of x to a context, with biases everywhere, as in Keras: (B, n, D), (B, m, D) -> (B, n, D).

    width: D. head_width: d_h of the standard form; the scale is 1/√d_h in every form, so that a folded layer
    can be formed from a standard one. Parameters are left unset: see `projsym.learning.start`.
    """

    def __init__(
        self, form: Form, width: int, heads: int, head_width: int, sigma: Sigma, core: Core = torch_core
    ) -> None:
        super().__init__()
        self.form, self.width, self.heads, self.head_width = form, width, heads, head_width
        self.core, self.scale = core, head_width**-0.5
        inner = heads * (width if form == "folded" else head_width)
        linear = nn.utils.skip_init
        self.query = linear(nn.Linear, width, inner)
        self.key = None if form == "folded" else linear(nn.Linear, width, inner)
        self.value = linear(nn.Linear, width, inner) if form == "standard" else None
        self.output = linear(nn.Linear, inner, width)
        # The temperature τ = σ² starts at √d_h: what is learned is the logarithm of σ² over that.
        self.log_temperature = nn.Parameter(torch.zeros(heads, 1)) if sigma == "learned" else None

    def forward(self, x: Tensor, context: Tensor, visible: Tensor) -> Tensor:
        """visible (B or 1, 1, n or 1, m): which keys a row may use."""
        q = self._scaled(self.query(x).unflatten(-1, (self.heads, -1)))
        if self.key is None:
            return self.output(self._folded(q, context, visible))
        k = self._split(self.key(context))
        if self.form == "tied-normalised":
            # ‖k‖² = d_h v/(v + ε) with v the mean square before: equal norms for ε ≪ v.
            k = nn.functional.rms_norm(k, (self.head_width,), eps=torch.finfo(k.dtype).eps)
        v = k if self.value is None else self._split(self.value(context))
        out = self.core(q.transpose(1, 2), k, v, visible, self.scale)
        return self.output(out.transpose(1, 2).flatten(2))

    def _folded(self, q: Tensor, context: Tensor, visible: Tensor) -> Tensor:
        """The inputs are the keys and values of all heads: a head is only more queries, and no array is
        copied. Rows are ordered as (token, head)."""
        rows = q.flatten(1, 2).unsqueeze(1)
        if visible.shape[-2] > 1:
            visible = visible.repeat_interleave(self.heads, dim=-2)
        keys = context.unsqueeze(1)
        out = self.core(rows, keys, keys, visible, self.scale)
        return out.squeeze(1).unflatten(1, (-1, self.heads)).flatten(2)

    def _scaled(self, q: Tensor) -> Tensor:
        """Queries (B, n, H, d) over the learned part of the temperature."""
        return q if self.log_temperature is None else q * torch.exp(-self.log_temperature)

    def _split(self, rows: Tensor) -> Tensor:
        """(B, m, H·d) -> (B, H, m, d)."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    @property
    def sigma(self) -> Tensor:
        """σ of each head, (H,)."""
        temperature = torch.full((self.heads,), 1 / self.scale)
        if self.log_temperature is not None:
            temperature = temperature * self.log_temperature.detach().exp()[:, 0]
        return temperature.sqrt()
