"""Result tables of an experiment: three CSV tables and one JSON file, with the date in their names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projsym.errors import refused

__all__ = ["CURVES", "RUNS", "TIMING", "Tables", "csv_text", "read_csv"]

KEYS = ("phase", "task", "form", "head_width", "sigma", "seed")
CURVES, RUNS, TIMING = "curves", "runs", "timing"
REQUIRED = {
    CURVES: (*KEYS, "epoch", "training_loss"),
    RUNS: (*KEYS, "parameters"),
    TIMING: ("variant", "core", "step"),
}
_TEXT = {"phase", "task", "form", "head_width", "sigma", "variant", "core", "device"}
_WHOLE = {"seed", "epoch", "parameters", "rounds", "steps"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tables:
    """curves: a row for each epoch of a run. runs: a row for each run. timing: a row for each variant and
    core. about: settings, environment and everything that is no table."""

    curves: Sequence[Row]
    runs: Sequence[Row]
    timing: Sequence[Row]
    about: Mapping[str, Any]

    def write(self, folder: Path, experiment: str, date: str) -> list[Path]:
        """``DATE-EXPERIMENT-curves.csv`` and so on; date as YYYY-MM-DD. Empty tables are left out."""
        folder.mkdir(parents=True, exist_ok=True)
        made = []
        for name, rows in ((CURVES, self.curves), (RUNS, self.runs), (TIMING, self.timing)):
            if rows:
                made.append(folder / f"{date}-{experiment}-{name}.csv")
                made[-1].write_text(csv_text(rows), encoding="utf-8")
        made.append(folder / f"{date}-{experiment}.json")
        text = json.dumps(self.about, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True)
        made[-1].write_text(text + "\n", encoding="utf-8")
        return made

    @classmethod
    def read(cls, folder: Path, experiment: str, date: str) -> Tables:
        """What `write` wrote. FileNotFoundError without the JSON file; ValueError for a malformed table."""
        about = json.loads((folder / f"{date}-{experiment}.json").read_text(encoding="utf-8"))
        found = {}
        for name, required in REQUIRED.items():
            path = folder / f"{date}-{experiment}-{name}.csv"
            found[name] = read_csv(path, required) if path.is_file() else []
        return cls(found[CURVES], found[RUNS], found[TIMING], about)


def csv_text(rows: Sequence[Row]) -> str:
    """CSV with every digit; columns in the order of their first use, an empty field where a row lacks one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read_csv(path: Path, required: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows with text, whole numbers and floats by the name of the column; empty fields are left out.

    ValueError, with the file and line, for a missing column, a row of another length, or no number.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        names = next(reader, [])
        missing = [name for name in required if name not in names]
        if missing:
            raise ValueError(refused(f"{path.name}, columns", names, f"a table with {', '.join(missing)}"))
        rows = []
        for number, fields in enumerate(reader, start=2):
            if len(fields) != len(names):
                raise ValueError(refused(f"{path.name}, line {number}", fields, f"{len(names)} fields"))
            pairs = zip(names, fields, strict=True)
            try:
                rows.append({name: _value(name, field) for name, field in pairs if field != ""})
            except ValueError:
                raise ValueError(refused(f"{path.name}, line {number}", fields, "numbers")) from None
    return rows


def _value(name: str, field: str) -> str | int | float:
    if name in _TEXT:
        return field
    return int(field) if name in _WHOLE else float(field)
