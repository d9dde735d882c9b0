"""Clause pairs out of verse pairs, by equal punctuation: how the shipped `clauses.tsv.xz` was made.

    python -m projsym.learning.clauses bible-en-es.tsv.xz clauses.tsv.xz

The rule: split both sides of a verse at ``. ; : ! ?`` and keep the verse only if the numbers of parts agree;
a part with more than 20 words on a side is split again at commas, if those numbers agree, and dropped
otherwise. Parts are paired in order. That they translate each other is likely, and not certain.
"""

from __future__ import annotations

import lzma
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MAX_WORDS", "clause_pairs", "read_table", "words", "write_table"]

MAX_WORDS = 20
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_STRONG, _COMMA = re.compile(r"[.;:!?]+"), re.compile(r",+")


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; an apostrophe inside a word stays, a hyphen separates."""
    return _WORD.findall(text.replace("’", "'").lower())


def clause_pairs(english: str, spanish: str) -> Iterator[tuple[list[str], list[str]]]:
    """The clause pairs of one verse pair, each side a list of 1 to 20 words; none if the counts differ."""
    for first, second in _paired(_STRONG, english, spanish):
        if _fits(first, second):
            yield words(first), words(second)
            continue
        for part, other in _paired(_COMMA, first, second):
            if _fits(part, other):
                yield words(part), words(other)


def _fits(first: str, second: str) -> bool:
    return max(len(words(first)), len(words(second))) <= MAX_WORDS


def _paired(mark: re.Pattern[str], first: str, second: str) -> list[tuple[str, str]]:
    """The parts that hold a word, side by side; empty if one side has more of them."""
    left, right = ([p for p in mark.split(text) if words(p)] for text in (first, second))
    return list(zip(left, right, strict=True)) if len(left) == len(right) else []


def read_table(path: Path) -> list[tuple[str, str, str]]:
    """Rows (verse, English, Spanish) of a tab-separated, xz-compressed table with a line of headings.

    ValueError with the number of the line unless every line has exactly three fields, none empty.
    """
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        lines = stream.read().removesuffix("\n").split("\n")
    if not lines or lines[0].split("\t") != ["verse", "en", "es"]:
        raise ValueError(f"{path.name}: the first line must be 'verse', 'en', 'es', separated by tabs")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != 3 or not all(fields):
            raise ValueError(f"{path.name}, line {number}: three fields separated by tabs, none empty")
        rows.append((fields[0], fields[1], fields[2]))
    return rows


def write_table(verses: list[tuple[str, str, str]], path: Path) -> int:
    """Write the clause pairs of `verses`, in order, the same bytes each time; returns how many."""
    lines = [
        f"{verse}\t{' '.join(first)}\t{' '.join(second)}\n"
        for verse, english, spanish in verses
        for first, second in clause_pairs(english, spanish)
    ]
    text = ("verse\ten\tes\n" + "".join(lines)).encode()
    path.write_bytes(lzma.compress(text, format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME))
    return len(lines)


if __name__ == "__main__":
    source, target = (Path(argument) for argument in sys.argv[1:])
    print(f"{write_table(read_table(source), target)} clause pairs in {target}")
