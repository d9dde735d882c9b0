"""Executing notebooks and storing them in one form, so that a new run changes nothing but what has changed.

The form: kernel and language without versions; cells named by their place; no metadata but tags; the pieces
of a stream joined; every text as a list of lines, as Jupyter stores it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TIMING = "nbval-ignore-output"
"""The tag of a cell whose outputs are measurements."""

_TIMEOUT = 600  # seconds a cell
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # what a terminal takes as a colour

Notebook = Any
"""A notebook of nbformat: a dictionary whose keys are attributes as well."""


def find(folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """The notebooks of a folder, in order; with names (or beginnings of names) those only.

    FileNotFoundError if the folder has none; ValueError for a name that fits none of them.
    """
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"no notebooks in {folder}")
    wanted = [Path(n).name.removesuffix(".ipynb") for n in names]
    for w in wanted:
        if not any(p.stem.startswith(w) for p in paths):
            raise ValueError(f"no notebook {w!r}; there are {', '.join(p.stem for p in paths)}")
    return [p for p in paths if not wanted or any(p.stem.startswith(w) for w in wanted)]


def read(path: Path) -> Notebook:
    """The notebook as stored."""
    import nbformat

    return nbformat.read(path, as_version=4)


def executed(path: Path) -> Notebook:
    """The notebook after a run from top to bottom in a new kernel, normalised; nothing is written.

    Raises RuntimeError with the cell and its traceback for the first cell that raises.
    """
    import nbclient
    from nbclient.exceptions import CellExecutionError

    book = read(path)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    where = {"metadata": {"path": str(path.parent)}}
    client = nbclient.NotebookClient(book, timeout=_TIMEOUT, kernel_name="python3", resources=where)
    try:
        client.execute()
    except CellExecutionError as e:
        raise RuntimeError(f"{path}: {_COLOUR.sub('', str(e))}") from e
    return normalised(book, path.stem)


def normalised(book: Notebook, stem: str) -> Notebook:
    """The same cells and outputs in the stored form; `stem` is the file's name, its first two signs go into
    the names of cells."""
    import nbformat

    book = nbformat.from_dict({**book, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})
    for number, cell in enumerate(book.cells):
        cell.id = f"{stem[:2]}-{number:03d}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags" and v})
        if cell.cell_type == "code":
            cell.outputs = list(_outputs(cell.outputs))
    return book


def _outputs(outputs: Iterable[Any]) -> Iterator[Any]:
    """Outputs without metadata, pieces of one stream that follow each other joined."""
    for name, group in groupby(outputs, key=lambda o: o.get("name", "")):
        parts = list(group)
        if name:
            parts[0].text = "".join(o.text for o in parts)
            parts = parts[:1]
        for o in parts:
            if "metadata" in o:
                o.metadata = type(o)()
            yield o


def write(book: Notebook, path: Path) -> None:
    """Store a notebook as Jupyter does."""
    import nbformat

    nbformat.validate(book)
    nbformat.write(book, path)


def differences(old: Notebook, new: Notebook) -> list[str]:
    """Cells whose source or outputs differ, as lines; empty if a run gives what is stored.

    It does not see outputs of timing cells and the content of figures, whose data the notebooks assert.
    """
    if len(old.cells) != len(new.cells):
        return [f"{len(old.cells)} cells stored, {len(new.cells)} after the run"]
    pairs = zip(old.cells, new.cells, strict=True)
    return [f"{b.id} differs" for a, b in pairs if _compared(a) != _compared(b)]


def _compared(cell: Any) -> Any:
    seen = [cell.id, cell.source, dict(cell.metadata), cell.get("execution_count")]
    if TIMING not in cell.metadata.get("tags", ()):
        seen += [_without_figures(o) for o in cell.get("outputs", ())]
    return seen


def _without_figures(output: Any) -> dict[str, Any]:
    data = {k: None if k.startswith("image/") else v for k, v in output.get("data", {}).items()}
    return {**output, "data": data}
