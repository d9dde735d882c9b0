"""Writing what was measured: into the committed table, or into one's own."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from projsym import schedules
from projsym.runtime import tuned
from projsym.schedules import COMMITTED, Row, Tiles

Key = tuple[str, str, str]


def rows(chosen: Mapping[int, Row]) -> tuple[Row, ...]:
    """Rows of a table from the tile chosen at each number of features: each holds up to its own number, the
    last one above as well; equal neighbours are one."""
    found: list[Row] = []
    above = 0
    for features in sorted(chosen):
        if not found or found[-1][1:] != chosen[features][1:]:
            found.append((above, *chosen[features][1:]))
        above = features
    return tuple(found)


def keep(found: Mapping[Key, tuple[Row, ...]], path: Path | None = None) -> Path:
    """Add rows to one's own table, in place of those of the same pass, instruction set and dtype.

    path: by default `projsym.runtime.tuned.table_file`. Written in one step. Kernels compiled from now on use
    it. Raises OSError, or ValueError if what is there is no table.
    """
    path = path or tuned.table_file()
    old = schedules.load(path).tiles if path.exists() else {}
    new = old | {key: Tiles(r, "measured") for key, r in found.items()}
    text = (
        f"# Measured on this machine by `projsym tune`; delete the file to go back.\n\n{schedules.text(new)}"
    )
    schedules.parse(text, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(name, path)
    return path


def commit(found: Mapping[Key, tuple[Row, ...]], path: Path = COMMITTED) -> Path:
    """Put rows into the committed table, its comments kept. `projsym generate` must follow."""
    text = path.read_text(encoding="utf-8")
    for key, r in found.items():
        entry = schedules.text({key: Tiles(r, "measured")})
        head = re.escape(entry.splitlines()[0])
        text, count = re.subn(rf'{head}\norigin = ".*"\ntiles = .*\n', entry, text)
        if count != 1:
            raise ValueError(f"{path}: no entry [{'.'.join(key)}] of the form that `projsym tune` writes")
    schedules.parse(text, str(path))
    path.write_text(text, encoding="utf-8")
    return path
