"""Register tiles of one's own, as `projsym tune` writes them to the kernel cache, given to the compiler.

A kernel's source has the committed tiles; macros replace them. Tiles change speed, and which of several equal
sums is formed first: the error bounds hold for all of them.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

from projsym import schedules
from projsym.errors import BackendWarning
from projsym.runtime import cache, isa
from projsym.runtime.manifest import Entry


def table_file() -> Path:
    """Where the table of this user's CPUs lies."""
    return cache.user_cache() / "schedules.toml"


def macros(entry: Entry, dtype: str, features: int, name: str | None = None) -> tuple[str, ...]:
    """``-D`` flags of the tiles for vectors of at most `features` features; none where nothing was tuned.

    name: the instruction set, by default the chosen one."""
    path = table_file()
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        return ()
    table = _load(path, stamp)
    way = "backward" if any(axes == "j" for axes in entry.output_axes) else "forward"
    tiles = table.tiles.get((way, name or isa.chosen(), dtype)) if table else None
    if tiles is None:
        return ()
    return definitions(tiles.row(features))


def definitions(row: schedules.Row) -> tuple[str, ...]:
    """The ``-D`` flags of a row of a table."""
    return tuple(f"-DTILE_{n.upper()}={x}" for n, x in zip(schedules.TILE, row[1:], strict=True))


@functools.cache
def _load(path: Path, stamp: int) -> schedules.Table | None:
    """The table as of a time of change; None, said once by BackendWarning, if it is not one."""
    try:
        return schedules.load(path)
    except (OSError, ValueError) as e:
        warnings.warn(f"the committed tiles are used: {e}", BackendWarning, stacklevel=2)
        return None
