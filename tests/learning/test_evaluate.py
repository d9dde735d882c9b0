"""Greedy translation and its scores."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from projsym.learning.corpus import Splits
from projsym.learning.evaluate import bleu_and_chrf, greedy, scores_on_test
from projsym.learning.model import Translator
from projsym.learning.sizes import Sizes, Variant
from projsym.learning.translation import Translation
from projsym.learning.vocabulary import END, PAD, START, UNKNOWN


def test_greedy_is_the_likeliest_token_after_each_prefix(build: Callable[..., Translator]) -> None:
    model = build("standard")
    source = torch.randint(4, 30, (6, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.logits.bias[END] += 1.5  # so that some end early
        model.logits.bias[28] += 9
    found = greedy(model, source, 28)
    assert found.shape == (6, 8) and not ((found == START) | (found == UNKNOWN)).any()
    assert (found == END).any() and (found[:, -1] != PAD).any()
    given = torch.cat([torch.full((6, 1), START), found], 1)[:, :-1]
    logits = model(source, given)
    assert (logits.argmax(-1) >= 28).any()  # what must not be chosen would be
    logits[..., [PAD, START, UNKNOWN, 28, 29]] = -torch.inf
    live = found != PAD
    assert torch.equal(logits.argmax(-1)[live], found[live])
    ended = (found == END).cumsum(1) - (found == END).long() > 0
    assert torch.equal(~live, ended)


def test_scores_of_a_perfect_and_of_a_wrong_translation() -> None:
    text = ["uno dos tres cuatro cinco", "y fué la luz en la tierra"]
    perfect, wrong = bleu_and_chrf(text, text), bleu_and_chrf(["k", "w"], text)
    assert perfect["bleu"] == pytest.approx(100) and perfect["chrf"] == pytest.approx(100)
    assert wrong["bleu"] < 1 and wrong["chrf"] < 1 and len(perfect["signatures"]) == 2


def test_what_is_wanted_is_the_next_of_what_is_given(sizes: Sizes, splits: Splits) -> None:
    task = Translation(sizes, Variant("standard"), splits)
    part = task.training
    assert (part.given[:, 0] == START).all() and torch.equal(part.given[:, 1:], part.wanted[:, :-1])
    for pair, source, wanted in zip(splits.training, part.source, part.wanted, strict=True):
        assert tuple(task.spanish.decode(wanted.tolist())) == pair.spanish
        assert tuple(task.english.decode(source.tolist())) == pair.english
        assert wanted[len(pair.spanish)] == END


def test_loss_and_accuracy_leave_padding_out(sizes: Sizes, splits: Splits) -> None:
    """Against a loop over the tokens of one sentence after the other."""
    task = Translation(sizes, Variant("standard"), splits)
    model = task.build(0).double().eval()
    losses, right = [], []
    part = task.validation
    for i in range(len(part.source)):
        logits = model(part.source[i : i + 1], part.given[i : i + 1])[0]
        for t, token in enumerate(part.wanted[i].tolist()):
            if token != PAD:
                losses.append(-logits[t].log_softmax(0)[token].item())
                right.append(int(logits[t].argmax()) == token)
    loss, accuracy = task.scores(model, part)
    assert accuracy == sum(right) / len(right)
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_scores_on_the_test_part(sizes: Sizes, splits: Splits) -> None:
    task = Translation(sizes, Variant("tied"), splits)
    found = scores_on_test(task, task.build(0).eval(), decoded=3)  # type: ignore[arg-type]
    assert set(found) == {"test_loss", "test_accuracy", "bleu", "chrf", "signatures"}


def test_a_missing_sacrebleu_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(ModuleNotFoundError, match=r"projsym\[learning\]"):
        bleu_and_chrf(["a"], ["a"])
