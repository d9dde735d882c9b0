"""Tables of tile and block sizes: what they hold, how they are read, checked and written.

The committed table is ``projsym/codegen/schedules.toml``, from which kernels are generated. A table of one's
own, of tiles only, lies in the kernel cache and is used when a kernel is compiled (`projsym tune` writes it).
This module imports nothing of the package, since both sides read it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSES = ("forward", "backward")
DTYPES = ("float32", "float64")
TILE = ("query_vectors", "keys", "rows", "features")
REGISTERS = {"avx512": 32, "avx2": 16, "neon": 32, "c": 16}
"""Vector registers of every instruction set that there are kernels for."""
WIDEST = 4
"""Vectors of queries in a register tile at most."""
ORIGINS = ("measured", "stated")
COMMITTED = Path(__file__).resolve().parent / "codegen" / "schedules.toml"

Row = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Tiles:
    """Register tiles of one pass, instruction set and dtype: rows ``(above, *TILE)``, ascending from 0."""

    rows: tuple[Row, ...]
    origin: str = "stated"

    def row(self, features: int) -> Row:
        """The row for vectors of at most `features` features."""
        return next(r for r in reversed(self.rows) if features > r[0] or not r[0])


@dataclass(frozen=True)
class Blocks:
    """Queries in a block, and keys: pairs ``(above, keys)``, ascending from 0.

    parts: keys in a part, where queries are too few to share among threads; few: queries at most that keys
    take the lanes of. Both 0 for a pass without.
    """

    queries: int
    keys: tuple[tuple[int, int], ...]
    parts: int = 0
    few: int = 0


@dataclass(frozen=True)
class Table:
    """tiles by (pass, instruction set, dtype); blocks by (pass, dtype)."""

    tiles: dict[tuple[str, str, str], Tiles]
    blocks: dict[tuple[str, str], Blocks]


def fits(isa: str, row: Row) -> bool:
    """Whether accumulators, a row of factors and a broadcast fit the registers, for both tiles of a row."""
    _, vectors, keys, rows, features = row
    room = REGISTERS[isa]
    return vectors <= WIDEST and all(a * b + b + 1 <= room for a, b in ((keys, vectors), (rows, features)))


def parse(text: str, name: str) -> Table:
    """A table from TOML. Raises ValueError, naming `name` and the entry, for anything that is not allowed."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ValueError(f"{name}: {e}") from e
    table = Table({}, {})
    for way, isas in data.items():
        if way not in PASSES or not isinstance(isas, dict):
            raise ValueError(f"{name}: given [{way}]; allowed: {', '.join(PASSES)}")
        for isa, dtypes in isas.items():
            allowed = (*REGISTERS, "blocks")
            if isa not in allowed or not isinstance(dtypes, dict):
                raise ValueError(f"{name}: given [{way}.{isa}]; allowed: {', '.join(allowed)}")
            for dtype, entry in dtypes.items():
                where = f"{name}: [{way}.{isa}.{dtype}]"
                if dtype not in DTYPES or not isinstance(entry, dict):
                    raise ValueError(f"{where}; allowed: {', '.join(DTYPES)}")
                if isa == "blocks":
                    table.blocks[way, dtype] = _blocks(entry, where)
                else:
                    table.tiles[way, isa, dtype] = _tiles(entry, isa, where)
    return table


def load(path: Path = COMMITTED) -> Table:
    """The table of a file. Raises OSError or ValueError."""
    return parse(path.read_text(encoding="utf-8"), str(path))


def _tiles(entry: dict[str, Any], isa: str, where: str) -> Tiles:
    rows = _ascending(entry.get("tiles"), 1 + len(TILE), f"{where} tiles")
    for row in rows:
        if not fits(isa, row):  # type: ignore[arg-type]
            raise ValueError(
                f"{where} tiles: given {list(row)}; allowed: what fits {REGISTERS[isa]} registers"
            )
    origin = entry.get("origin", "stated")
    if origin not in ORIGINS:
        raise ValueError(f"{where} origin: given {origin!r}; allowed: {', '.join(ORIGINS)}")
    return Tiles(rows, origin)  # type: ignore[arg-type]


def _blocks(entry: dict[str, Any], where: str) -> Blocks:
    queries = entry.get("queries")
    if type(queries) is not int or queries < 1:
        raise ValueError(f"{where} queries: given {queries!r}; allowed: an integer of at least 1")
    keys = _ascending(entry.get("keys"), 2, f"{where} keys")
    parts, few = entry.get("parts", 0), entry.get("few", 0)
    if type(parts) is not int or parts < 0 or any(parts % size for _, size in keys):
        raise ValueError(f"{where} parts: given {parts!r}; allowed: 0, or a multiple of every block of keys")
    if type(few) is not int or not 0 <= few <= queries:
        raise ValueError(f"{where} few: given {few!r}; allowed: an integer from 0 to {queries}")
    return Blocks(queries, keys, parts, few)  # type: ignore[arg-type]


def _ascending(rows: Any, width: int, where: str) -> tuple[tuple[int, ...], ...]:
    allowed = f"rows of {width} integers, the first ascending from 0, the others at least 1"
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{where}: given {rows!r}; allowed: {allowed}")
    for row in rows:
        if not isinstance(row, list) or len(row) != width or any(type(x) is not int for x in row):
            raise ValueError(f"{where}: given {row!r}; allowed: {allowed}")
    starts = [row[0] for row in rows]
    if starts[0] != 0 or starts != sorted(set(starts)) or any(x < 1 for row in rows for x in row[1:]):
        raise ValueError(f"{where}: given {rows!r}; allowed: {allowed}")
    return tuple(tuple(row) for row in rows)


def text(tiles: dict[tuple[str, str, str], Tiles]) -> str:
    """Tiles as TOML."""
    parts = []
    for (way, isa, dtype), t in sorted(tiles.items()):
        rows = ", ".join(str(list(r)) for r in t.rows)
        parts.append(f'[{way}.{isa}.{dtype}]\norigin = "{t.origin}"\ntiles = [{rows}]\n')
    return "\n".join(parts)
