"""Text: the shipped passage, files, and tokens that are neither padded nor cut."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from projsym.audit.text import default_sentences, read_sentences, tokenise

Write = Callable[..., Path]


def test_passage_is_twenty_sentences_with_its_source() -> None:
    sentences = default_sentences()
    assert len(sentences) == len(set(sentences)) == 20
    assert "public domain" in files("projsym.audit").joinpath("passage_source.txt").read_text("utf-8")


def test_one_sentence_a_line(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("a b\n\n  c\n", encoding="utf-8")
    assert read_sentences(file) == ["a b", "c"]
    file.write_text("\n \n")
    with pytest.raises(ValueError, match="holds no sentence; allowed is one sentence a line"):
        read_sentences(file)


def test_tokens_are_whole_and_unpadded(write_model: Write) -> None:
    file = write_model() / "tokenizer.json"  # asks for padding to 8 and truncation to 2
    assert tokenise(["a b c d", "h", "?"], file, positions=8) == [[1, 2, 3, 4], [8], [0]]


def test_too_long_and_no_tokenizer(write_model: Write, tmp_path: Path) -> None:
    file = write_model() / "tokenizer.json"
    with pytest.raises(ValueError, match="sentence 2 has 3 tokens; allowed are 2"):
        tokenise(["a", "a b c"], file, positions=2)
    with pytest.raises(FileNotFoundError, match=r"no absent\.json beside the weights"):
        tokenise(["a"], tmp_path / "absent.json", positions=2)
