"""The translation transformer of the Keras example: one encoder and one decoder layer, post-norm.

F. Chollet, *English-to-Spanish translation with a sequence-to-sequence Transformer*, keras.io. Differences:
matrices start as Glorot's uniform ones over (inputs, all heads' outputs); the mask of the target's padding is
implied by the causal one, for padding comes last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import Attention, Core, torch_core
from .sizes import Sizes, Variant
from .vocabulary import PAD

__all__ = ["Embedding", "FeedForward", "Translator", "causal", "source_mask"]

EPSILON = 1e-3  # of Keras' LayerNormalization
DROPOUT = 0.5  # before the last layer


def causal(length: int, device: torch.device | None = None) -> Tensor:
    """(1, 1, n, n): a row sees itself and what is before it."""
    return torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()


class Embedding(nn.Module):
    """Token plus learned position: (B, n) of integers -> (B, n, D)."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.token = nn.utils.skip_init(nn.Embedding, vocabulary, width)
        self.position = nn.utils.skip_init(nn.Embedding, length, width)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.token(numbers) + self.position.weight[: numbers.shape[1]]


class FeedForward(nn.Module):
    """Two layers with a ReLU between, row by row."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.utils.skip_init(nn.Linear, width, hidden)
        self.second = nn.utils.skip_init(nn.Linear, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


class Translator(nn.Module):
    """Source and target (B, n) of token numbers, PAD at the end -> logits (B, n, vocabulary).

    Row t of the logits depends on the source and on the target up to t. Parameters are left unset: see
    `projsym.learning.start`.
    """

    def __init__(self, sizes: Sizes, variant: Variant, core: Core = torch_core) -> None:
        super().__init__()
        self.sizes, self.variant = sizes, variant
        width = sizes.width

        def attention() -> Attention:
            head_width = sizes.head_width(variant.head_width)
            return Attention(variant.form, width, sizes.heads, head_width, variant.sigma, core)

        self.source = Embedding(sizes.vocabulary, sizes.length, width)
        self.target = Embedding(sizes.vocabulary, sizes.length, width)
        self.encoder_attention, self.decoder_attention = attention(), attention()
        self.cross_attention = attention()
        self.encoder_forward = FeedForward(width, sizes.hidden)
        self.decoder_forward = FeedForward(width, sizes.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(width, EPSILON) for _ in range(5))
        self.dropout = nn.Dropout(DROPOUT)
        self.logits = nn.utils.skip_init(nn.Linear, width, sizes.vocabulary)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        visible = source_mask(source)
        return self.decode(target, self.encode(source, visible), visible)

    def encode(self, source: Tensor, visible: Tensor) -> Tensor:
        """(B, n) -> (B, n, D); rows of padding hold numbers that `visible` hides later."""
        x = self.source(source)
        x = self.norms[0](x + self.encoder_attention(x, x, visible))
        return self.norms[1](x + self.encoder_forward(x))

    def decode(self, target: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """Logits of the next token after each row of the target, (B, t, vocabulary)."""
        x = self.target(target)
        x = self.norms[2](x + self.decoder_attention(x, x, causal(target.shape[1], x.device)))
        x = self.norms[3](x + self.cross_attention(x, memory, visible))
        x = self.norms[4](x + self.decoder_forward(x))
        return self.logits(self.dropout(x))


def source_mask(source: Tensor) -> Tensor:
    """(B, 1, 1, n): every row sees the words and no padding."""
    return (source != PAD)[:, None, None, :]
