"""The text that an audit runs on: sentences and their token ids.

The default passage is twenty verses of the World English Bible (public domain); `passage_source.txt` says
which and from where.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

__all__ = ["default_sentences", "read_sentences", "tokenise"]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def default_sentences() -> list[str]:
    """The passage shipped with the package, one sentence a line."""
    return _lines(files("projsym.audit").joinpath("passage.txt").read_text(encoding="utf-8"))


def read_sentences(path: str | Path) -> list[str]:
    """Sentences of a UTF-8 file, one a line, blank lines dropped. ValueError if there is none."""
    sentences = _lines(Path(path).read_text(encoding="utf-8"))
    if not sentences:
        raise ValueError(f"text: {path} holds no sentence; allowed is one sentence a line")
    return sentences


def tokenise(sentences: Sequence[str], tokenizer_file: str | Path, *, positions: int) -> list[list[int]]:
    """Token ids with the model's own tokenizer.json, special tokens included, neither padded nor cut.

    Raises FileNotFoundError without the file, ValueError for a sentence of more than `positions` tokens.
    """
    if not Path(tokenizer_file).is_file():
        raise FileNotFoundError(f"model: no {Path(tokenizer_file).name} beside the weights: cannot read text")
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise ModuleNotFoundError("tokenizers is not installed: `pip install 'projsym[audit]'`") from None
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = [list(encoding.ids) for encoding in tokenizer.encode_batch(list(sentences))]
    for number, ids in enumerate(tokens, 1):
        if len(ids) > positions:
            raise ValueError(f"text: sentence {number} has {len(ids)} tokens; allowed are {positions}")
    return tokens
