"""The tables of tile and block sizes."""

from __future__ import annotations

import itertools

import pytest

from projsym import schedules
from projsym.codegen import schedule
from projsym.codegen.isa import ISAS
from projsym.schedules import DTYPES, PASSES, REGISTERS, Tiles

GOOD = '[forward.avx2.float32]\norigin = "measured"\ntiles = [[0, 3, 4, 6, 2], [64, 2, 6, 6, 2]]\n'


def test_the_committed_table_has_every_entry() -> None:
    table = schedules.load()
    assert set(table.tiles) == set(itertools.product(PASSES, REGISTERS, DTYPES))
    assert set(table.blocks) == set(itertools.product(PASSES, DTYPES))
    assert {isa.name: isa.registers for isa in ISAS} == REGISTERS


def test_every_size_reaches_the_program() -> None:
    """The row in force for a number of features is what the printer's instruction set finds."""
    for (way, name, dtype), entry in schedules.load().tiles.items():
        tiles: dict[str, int] = {}
        isa = next(x for x in ISAS if x.name == name)
        for step in schedule.sizes(way, dtype):
            tiles = dict(step.apply(_program()).tiles) or tiles
        for features in (1, 32, 64, 80, 81, 96, 97, 128, 256, 1000):
            want = entry.row(features)[1:]
            assert tuple(isa.tile(tiles, t, features) for t in schedules.TILE) == want


def _program():  # type: ignore[no-untyped-def]
    from tests.codegen import _forms

    return _forms.dot()


def test_read_and_written() -> None:
    table = schedules.parse(GOOD, "x")
    assert table.tiles["forward", "avx2", "float32"] == Tiles(((0, 3, 4, 6, 2), (64, 2, 6, 6, 2)), "measured")
    assert schedules.text(table.tiles) == GOOD
    entry = table.tiles["forward", "avx2", "float32"]
    assert [entry.row(d)[1] for d in (1, 64, 65)] == [3, 3, 2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("forward", "sideways", r"x: given \[sideways\]; allowed: forward, backward"),
        ("avx2", "sse", r"x: given \[forward.sse\]; allowed: avx512, avx2, neon, c, blocks"),
        ("float32", "float16", r"\[forward.avx2.float16\]; allowed: float32, float64"),
        ("3, 4", "3, 5", r"tiles: given \[0, 3, 5, 6, 2\]; allowed: what fits 16 registers"),
        ("3, 4", "5, 1", r"given \[0, 5, 1, 6, 2\]; allowed: what fits"),
        ("[0, 3", "[1, 3", "allowed: rows of 5 integers, the first ascending from 0"),
        ("[64,", "[0,", "allowed: rows of 5 integers, the first ascending"),
        ("3, 4", "3, true", "allowed: rows of 5 integers"),
        ("3, 4", "3, 0", "the others at least 1"),
        ("3, 4, 6", "3, 4", "allowed: rows of 5 integers"),
        ("measured", "guessed", "origin: given 'guessed'; allowed: measured, stated"),
        ("tiles = ", "tiles ", r"^x: "),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedules.parse(GOOD.replace(old, new, 1), "x")
