"""Translations and their scores against the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .corpus import Pair
from .model import Translator, source_mask
from .translation import EVALUATION_BATCH, Translation
from .vocabulary import END, PAD, START, UNKNOWN

__all__ = ["bleu_and_chrf", "greedy", "scores_on_test"]


@torch.no_grad()
def greedy(model: Translator, source: Tensor, words: int) -> Tensor:
    """The likeliest token after each other, (B, length); PAD after END.

    source: (B, n) of token numbers. words: entries of the target's vocabulary, which may be fewer than the
    model has rows; others, PAD, START and UNKNOWN are never chosen.
    """
    visible = source_mask(source)
    memory = model.encode(source, visible)
    given = source.new_full((len(source), 1), START)
    for _ in range(model.sizes.length):
        logits = model.decode(given, memory, visible)[:, -1]
        logits[:, [PAD, START, UNKNOWN]] = -torch.inf
        logits[:, words:] = -torch.inf
        ended = ((given == END) | (given == PAD)).any(1)
        given = torch.cat([given, logits.argmax(-1).masked_fill(ended, PAD)[:, None]], dim=1)
        given = given[:, : model.sizes.length + 1]
    return given[:, 1:]


def bleu_and_chrf(found: list[str], wanted: list[str]) -> dict[str, Any]:
    """BLEU and chrF of sacreBLEU with its default tokenisation, and their signatures.

    ModuleNotFoundError that names the extra if sacreBLEU is missing.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "sacrebleu is not installed; install it with `pip install 'projsym[learning]'`"
        ) from None
    bleu, chrf = BLEU(), CHRF()
    return {
        "bleu": bleu.corpus_score(found, [wanted]).score,
        "chrf": chrf.corpus_score(found, [wanted]).score,
        "signatures": [str(bleu.get_signature()), str(chrf.get_signature())],
    }


def scores_on_test(task: Translation, model: Translator, decoded: int | None = None) -> Mapping[str, Any]:
    """On the test part: test_loss, test_accuracy; bleu and chrf of its first `decoded` pairs (None: all)."""
    device = next(model.parameters()).device
    part = task.encoded(task.splits.test)
    part.to(device)
    loss, accuracy = task.scores(model, part)
    pairs: tuple[Pair, ...] = task.splits.test[:decoded]
    chunks = part.source[: len(pairs)].split(EVALUATION_BATCH)
    numbers = torch.cat([greedy(model, rows, len(task.spanish)) for rows in chunks])
    found = [" ".join(task.spanish.decode(row)) for row in numbers.tolist()]
    scores = bleu_and_chrf(found, [" ".join(p.spanish) for p in pairs])
    return {"test_loss": loss, "test_accuracy": accuracy, **scores}
