"""The shipped clause pairs and their fixed split into training, validation and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from projsym.errors import refused

from .clauses import read_table

__all__ = ["CLAUSES", "Pair", "Splits", "load_splits", "part"]

CLAUSES = Path(__file__).parent / "data" / "clauses.tsv.xz"
_HELD_OUT = {"validation": range(10), "test": range(10, 20)}


@dataclass(frozen=True)
class Pair:
    """One clause in both languages: lower-case words, 1 to 20 a side."""

    verse: str
    english: tuple[str, ...]
    spanish: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """Three lists of pairs. Of validation and test, no verse and no clause of either side is in training; of
    test, none is in validation either. `dropped` counts the held-out pairs that this cost."""

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    dropped: int


def _hash(verse: str) -> int:
    return int.from_bytes(hashlib.sha256(verse.encode()).digest()[:8], "big")


def part(verse: str) -> str:
    """'training' (80 %), 'validation' or 'test' (10 % each) by the hash of the verse's name, so that all
    clauses of a verse go together and the split stays the same whatever else is in the table."""
    percent = _hash(verse) % 100
    return next((name for name, of in _HELD_OUT.items() if percent in of), "training")


def load_splits(path: Path = CLAUSES, limit: int | None = None, held_out: int | None = None) -> Splits:
    """Read and split the table; keep at most `limit` training pairs and `held_out` of either other part, the
    same ones each time.

    Formulas recur ("and it came to pass"): a held-out pair with a side that was seen before is dropped, else
    a model could score by memory. The limits come after that, so neither changes what the other keeps.
    ValueError unless each limit is None or at least 1.
    """
    for argument, value in (("limit", limit), ("held_out", held_out)):
        if value is not None and value < 1:
            raise ValueError(refused(argument, value, "None or an integer of at least 1"))
    rows: dict[str, list[Pair]] = {"training": [], "validation": [], "test": []}
    for verse, english, spanish in read_table(path):
        rows[part(verse)].append(Pair(verse, tuple(english.split(" ")), tuple(spanish.split(" "))))
    seen: set[tuple[str, ...]] = {side for p in rows["training"] for side in (p.english, p.spanish)}
    kept: dict[str, tuple[Pair, ...]] = {}
    for name in _HELD_OUT:
        kept[name] = tuple(p for p in rows[name] if p.english not in seen and p.spanish not in seen)
        seen |= {side for p in kept[name] for side in (p.english, p.spanish)}
    dropped = sum(len(rows[name]) - len(kept[name]) for name in _HELD_OUT)
    parts = {
        n: sorted(p, key=lambda q: _hash(q.verse)) for n, p in (kept | {"training": rows["training"]}).items()
    }
    validation, test = (tuple(parts[name][:held_out]) for name in _HELD_OUT)
    return Splits(tuple(parts["training"][:limit]), validation, test, dropped)
