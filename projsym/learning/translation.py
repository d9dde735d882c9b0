"""The translation task: English clauses to Spanish ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Core, torch_core
from .corpus import Pair, Splits
from .model import Translator
from .sizes import Sizes, Variant
from .start import adopt, draw
from .vocabulary import PAD, Vocabulary

__all__ = ["Encoded", "Translation"]

EVALUATION_BATCH = 256


class Encoded:
    """A list of pairs as numbers: source, given (from START) and wanted (to END), each (N, length).

    A Spanish side of 20 words loses its END, as in the Keras example.
    """

    def __init__(
        self, pairs: tuple[Pair, ...], english: Vocabulary, spanish: Vocabulary, length: int
    ) -> None:
        self.source = torch.tensor([english.encode(p.english, length) for p in pairs])
        both = torch.tensor([spanish.encode(p.spanish, length + 1, marks=True) for p in pairs])
        self.given, self.wanted = both[:, :-1].contiguous(), both[:, 1:].contiguous()

    def to(self, device: torch.device) -> None:
        """Move the three tensors."""
        self.source, self.given = self.source.to(device), self.given.to(device)
        self.wanted = self.wanted.to(device)


class Translation:
    """A `Task` for one variant. Vocabularies are of the training part, cut to `sizes.vocabulary`."""

    def __init__(self, sizes: Sizes, variant: Variant, splits: Splits, core: Core = torch_core) -> None:
        self.sizes, self.variant, self.core, self.splits = sizes, variant, core, splits
        pairs = splits.training
        self.english = Vocabulary.of((p.english for p in pairs), sizes.vocabulary)
        self.spanish = Vocabulary.of((p.spanish for p in pairs), sizes.vocabulary)
        self.training, self.validation = self.encoded(pairs), self.encoded(splits.validation)
        parts = (t for e in (self.training, self.validation) for t in (e.source, e.wanted))
        self.digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in parts)).hexdigest()

    def encoded(self, pairs: tuple[Pair, ...]) -> Encoded:
        return Encoded(pairs, self.english, self.spanish, self.sizes.length)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "task": "translation", **asdict(self.sizes), **asdict(self.variant),
            "core": self.core.__name__, "examples": self.digest
        }  # fmt: skip

    @property
    def examples(self) -> int:
        return len(self.training.source)

    @property
    def batch(self) -> int:
        return self.sizes.batch

    def build(self, seed: int) -> nn.Module:
        """The variant, started from the standard model of this seed."""
        standard = Translator(self.sizes, Variant("standard", self.variant.head_width, self.variant.sigma))
        draw(standard, seed)
        model = Translator(self.sizes, self.variant, self.core)
        adopt(model, standard)
        return model

    def loss(self, model: nn.Module, index: Tensor) -> Tensor:
        """Mean cross entropy of the next token over all tokens that are not padding."""
        part = self.training
        logits = model(part.source[index], part.given[index])
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), part.wanted[index].flatten(), ignore_index=PAD
        )

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """validation_loss (nats a token) and validation_accuracy (share of tokens)."""
        loss, accuracy = self.scores(model, self.validation)
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    @torch.no_grad()
    def scores(self, model: nn.Module, part: Encoded) -> tuple[float, float]:
        """Cross entropy a token and share of right tokens, both with the true words before it given."""
        loss, right, tokens = 0.0, 0, 0
        for index in torch.arange(len(part.source)).split(EVALUATION_BATCH):
            wanted = part.wanted[index]
            logits = model(part.source[index], part.given[index])
            flat = logits.flatten(0, 1)
            loss += nn.functional.cross_entropy(
                flat, wanted.flatten(), ignore_index=PAD, reduction="sum"
            ).item()
            right += int(((logits.argmax(-1) == wanted) & (wanted != PAD)).sum())
            tokens += int((wanted != PAD).sum())
        return loss / tokens, right / tokens

    def to(self, device: torch.device) -> None:
        self.training.to(device)
        self.validation.to(device)
