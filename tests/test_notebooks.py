"""The notebooks as files: executed in order, asserting in every section, free of what differs by machine.

Their outputs are compared by nbval when pytest runs over notebooks/; these tests watch what nbval lets pass.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
IGNORE = "nbval-ignore-output"
LARGEST_IGNORED_SHARE = 0.2
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PRIVATE = re.compile(r"(/home/|/root/|/tmp/|/usr/|/work/|site-packages|0x[0-9a-f]{6,})")

Cell = Any
"""A cell of nbformat: a dictionary whose keys are attributes as well."""


def cells(path: Path, kind: str = "code") -> list[Cell]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def ignored(cell: Cell) -> bool:
    return IGNORE in cell.metadata.get("tags", ())


def called(node: ast.AST) -> str:
    """The name of the function that a call calls, without what it belongs to; "" for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


def asserts(cell: Cell) -> bool:
    nodes = ast.walk(ast.parse(cell.source))
    return any(isinstance(n, ast.Assert) or called(n).startswith("assert_") for n in nodes)


def times(cell: Cell) -> bool:
    return any(called(n) == "interleave" for n in ast.walk(ast.parse(cell.source)))


def draws(cell: Cell) -> bool:
    return any(called(n) == "subplots" for n in ast.walk(ast.parse(cell.source)))


def test_the_notebooks_are_there() -> None:
    assert [p.name for p in NOTEBOOKS][:2] == ["01_identity.ipynb", "02_folding.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestNotebook:
    def test_is_valid(self, path: Path) -> None:
        nbformat.validate(nbformat.read(path, as_version=4))

    def test_ran_from_top_to_bottom(self, path: Path) -> None:
        code = cells(path)
        assert [c.execution_count for c in code] == list(range(1, len(code) + 1))

    def test_has_no_error_and_no_warning(self, path: Path) -> None:
        for c in cells(path):
            for o in c.outputs:
                assert o.output_type != "error", c.id
                assert o.get("name") != "stderr", c.id

    def test_exactly_the_timing_cells_are_ignored(self, path: Path) -> None:
        code = cells(path)
        assert [c.id for c in code if ignored(c)] == [c.id for c in code if times(c)]
        assert sum(map(ignored, code)) <= LARGEST_IGNORED_SHARE * len(code)

    def test_timed_functions_are_compared_first(self, path: Path) -> None:
        for c in filter(times, cells(path)):
            assert asserts(c), c.id

    def test_data_of_every_figure_are_asserted(self, path: Path) -> None:
        for c in filter(draws, cells(path)):
            assert asserts(c), c.id

    def test_every_section_asserts(self, path: Path) -> None:
        everything = nbformat.read(path, as_version=4).cells
        texts = [n for n, c in enumerate(everything) if c.cell_type == "markdown"]
        starts = [n for n in texts if "\n## " in f"\n{everything[n].source}"]
        assert starts
        for start, end in pairwise([*starts, len(everything)]):
            code = [c for c in everything[start:end] if c.cell_type == "code"]
            assert any(map(asserts, code)), everything[start].source.splitlines()[0]

    def test_every_text_leads_to_a_checked_cell(self, path: Path) -> None:
        """Between two pieces of text something is asserted, but for the imports and the closing words."""
        everything = nbformat.read(path, as_version=4).cells
        texts = [n for n, c in enumerate(everything) if c.cell_type == "markdown"]
        for start, end in list(pairwise(texts))[1:]:
            assert any(map(asserts, everything[start + 1 : end])), everything[start].source[:60]

    def test_metadata_are_normalised(self, path: Path) -> None:
        book = nbformat.read(path, as_version=4)
        assert book.metadata == METADATA
        for number, c in enumerate(book.cells):
            assert c.id == f"{path.stem[:2]}-{number:03d}"
            assert set(c.metadata) <= {"tags"}
            for o in c.get("outputs", ()):
                assert not o.get("metadata"), c.id

    def test_nothing_depends_on_the_machine(self, path: Path) -> None:
        for c in cells(path):
            for o in c.outputs:
                data = o.get("data", {})
                seen = [o.get("text", ""), *(data[x] for x in data if x.startswith("text/"))]
                assert not PRIVATE.search("\n".join(seen)), c.id
