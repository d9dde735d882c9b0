"""The rule that makes clause pairs, and the reader of the shipped table."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import pytest

from projsym.learning.clauses import MAX_WORDS, clause_pairs, read_table, words, write_table
from projsym.learning.corpus import CLAUSES


def test_words_are_lower_case_without_punctuation() -> None:
    assert words("“God’s Spirit—was, ‘hovering’ over Beth-el!” ¿Qué?") == [
        "god's", "spirit", "was", "hovering", "over", "beth", "el", "qué",
    ]  # fmt: skip


def test_equal_counts_of_parts_are_paired_in_order() -> None:
    found = list(clause_pairs("One, two: three.", "Uno: dos, tres."))
    assert found == [(["one", "two"], ["uno"]), (["three"], ["dos", "tres"])]


def test_unequal_counts_give_nothing() -> None:
    assert list(clause_pairs("One: two.", "Uno.")) == []


def test_long_clauses_are_split_at_commas_if_their_numbers_agree() -> None:
    left = " ".join(["a"] * MAX_WORDS) + ", b"
    assert [len(a) for a, _ in clause_pairs(left, "x, y")] == [MAX_WORDS, 1]
    assert list(clause_pairs(left, "x, y, z")) == []
    assert list(clause_pairs("a " * (MAX_WORDS + 1), "x")) == []


def test_written_tables_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv.xz"
    assert write_table([("V 1:1", "One: two.", "Uno: dos.")], path) == 2
    first = path.read_bytes()
    assert read_table(path) == [("V 1:1", "one", "uno"), ("V 1:1", "two", "dos")]
    write_table([("V 1:1", "One: two.", "Uno: dos.")], path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verse\ten\n", "the first line must be"),
        ("verse\ten\tes\na\tb\n", "line 2: three fields"),
        ("verse\ten\tes\na\tb\tc\na\t\tc\n", "line 3: three fields"),
    ],
)
def test_malformed_tables_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.tsv.xz"
    path.write_bytes(lzma.compress(text.encode()))
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_shipped_table_is_what_its_readme_says() -> None:
    rows = read_table(CLAUSES)
    assert len(rows) == 34_187
    for _, english, spanish in rows:
        for side in (english, spanish):
            assert 1 <= len(side.split(" ")) <= MAX_WORDS and words(side) == side.split(" ")
    readme = (CLAUSES.parent / "README.md").read_text(encoding="utf-8")
    assert "34,187" in readme and "not carry that name" in " ".join(readme.split())
    assert hashlib.sha256(CLAUSES.read_bytes()).hexdigest() in readme
