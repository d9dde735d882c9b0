"""Words and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from projsym.errors import refused

__all__ = ["END", "PAD", "SPECIAL", "START", "UNKNOWN", "Vocabulary"]

PAD, UNKNOWN, START, END = range(4)
SPECIAL = ("[pad]", "[unknown]", "[start]", "[end]")


@dataclass(frozen=True)
class Vocabulary:
    """`words[i]` is the word with the number i; the first four are special."""

    words: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL or len(set(self.words)) != len(self.words):
            raise ValueError(refused("words", self.words[:5], f"distinct words that start with {SPECIAL}"))
        object.__setattr__(self, "_numbers", {w: i for i, w in enumerate(self.words)})

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], size: int) -> Vocabulary:
        """The most frequent words, at most `size` entries with the special ones; ties in code-point order."""
        if size <= len(SPECIAL):
            raise ValueError(refused("size", size, f"more than the {len(SPECIAL)} special entries"))
        counts = Counter(word for sentence in sentences for word in sentence)
        ordered = sorted(counts, key=lambda w: (-counts[w], w))
        return cls(SPECIAL + tuple(ordered[: size - len(SPECIAL)]))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: Sequence[str], length: int, marks: bool = False) -> list[int]:
        """Exactly `length` numbers, cut or filled with PAD; marks: START before and END after the words, cut
        like the rest."""
        numbers = [self._numbers.get(word, UNKNOWN) for word in sentence]
        if marks:
            numbers = [START, *numbers, END]
        return (numbers + [PAD] * length)[:length]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The words up to END or PAD, without START."""
        found = []
        for number in numbers:
            if number in (END, PAD):
                break
            if number != START:
                found.append(self.words[number])
        return found
