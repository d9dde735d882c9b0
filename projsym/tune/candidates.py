"""The register tiles worth measuring: those that fill the registers, and what the committed table has."""

from __future__ import annotations

from projsym import schedules
from projsym.schedules import REGISTERS, WIDEST, Row, fits

_ROWS = (2, 4, 6, 8, 12)
"""Rows of a tile that a block of 48 or 96 queries is a multiple of."""


def candidates(isa: str, committed: Row) -> list[Row]:
    """Rows ``(above, *TILE)`` for an instruction set, `committed` first, each of which fits its registers.

    Scores and sums are independent loops, so their tiles are not crossed: each is varied beside the committed
    other. A shape is taken for every width, with as many rows or keys as still fit.
    """
    above, vectors, keys, rows, features = committed
    found = [committed]
    room = REGISTERS[isa]
    for wide in range(1, WIDEST + 1):
        tallest = (room - 1 - wide) // wide
        for tall in {tallest, tallest - 1, tallest // 2 * 2}:
            found.append((above, wide, tall, rows, features))
    for wide in range(1, 2 * WIDEST + 1):
        for tall in [r for r in _ROWS if r * wide + wide + 1 <= room][-2:]:
            found.append((above, vectors, keys, tall, wide))
    return [row for row in dict.fromkeys(found) if min(row[1:]) > 0 and fits(isa, row)]


def committed(way: str, isa: str, dtype: str, features: int) -> Row:
    """The committed row for vectors of that many features, from 0 on."""
    return (0, *schedules.load().tiles[way, isa, dtype].row(features)[1:])
