"""The split: nothing of a held-out verse or clause is trained on."""

from __future__ import annotations

import pytest

from projsym.learning.clauses import read_table
from projsym.learning.corpus import CLAUSES, Pair, Splits, load_splits, part
from projsym.learning.vocabulary import END, PAD, START, UNKNOWN, Vocabulary


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_splits()


def sides(pairs: tuple[Pair, ...]) -> set[tuple[str, ...]]:
    return {side for p in pairs for side in (p.english, p.spanish)}


def test_counts(splits: Splits) -> None:
    parts = (splits.training, splits.validation, splits.test)
    assert [len(p) for p in parts] == [27_129, 3_152, 3_384] and splits.dropped == 522
    assert sum(len(p) for p in parts) + splits.dropped == len(read_table(CLAUSES))


def test_no_verse_is_in_two_parts(splits: Splits) -> None:
    verses = [{p.verse for p in pairs} for pairs in (splits.training, splits.validation, splits.test)]
    assert not verses[0] & verses[1] and not verses[0] & verses[2] and not verses[1] & verses[2]


def test_no_held_out_clause_was_seen_before(splits: Splits) -> None:
    assert not sides(splits.training) & (sides(splits.validation) | sides(splits.test))
    assert not sides(splits.validation) & sides(splits.test)


def test_dropping_was_needed() -> None:
    """Without it formulas would leak: the check above can fail."""
    rows = read_table(CLAUSES)
    seen = {english for verse, english, _ in rows if part(verse) == "training"}
    assert any(english in seen for verse, english, _ in rows if part(verse) == "test")


def test_limits_take_the_first_and_change_nothing_else(splits: Splits) -> None:
    small = load_splits(limit=100, held_out=10)
    assert small.training == splits.training[:100]
    assert (small.validation, small.test) == (splits.validation[:10], splits.test[:10])


@pytest.mark.parametrize("name", ["limit", "held_out"])
def test_limits_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: given 0"):
        load_splits(**{name: 0})


def test_vocabulary_orders_by_frequency_then_spelling() -> None:
    v = Vocabulary.of([["b", "a", "c"], ["c", "b"], ["c"]], 6)
    assert v.words[4:] == ("c", "b") and len(v) == 6
    assert v.encode(["a", "c"], 4) == [UNKNOWN, 4, PAD, PAD]
    assert v.encode(["c", "b"], 5, marks=True) == [START, 4, 5, END, PAD]
    assert v.encode(["c", "b"], 3, marks=True) == [START, 4, 5]
    assert v.decode([START, 4, 5, END, 4]) == ["c", "b"]


def test_vocabulary_refuses_what_it_cannot_be() -> None:
    with pytest.raises(ValueError, match="size: given 4"):
        Vocabulary.of([["a"]], 4)
    with pytest.raises(ValueError, match="words: given"):
        Vocabulary(("a", "b"))
