"""Running notebooks: what is stored does not depend on the run, and a difference is found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import CliRunner, Result
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from projsym import notebooks
from projsym.cli import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    timing = new_code_cell("import time\ntime.perf_counter()", metadata={"tags": [notebooks.TIMING], "x": 1})
    book = new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Mine"}, "author": "me"},
        cells=[
            new_markdown_cell("# Title"),
            new_code_cell("print(1, flush=True)\nprint(2)\nassert True\n3"),
            timing,
        ],
    )
    nbformat.write(book, tmp_path / "07_short.ipynb")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["notebooks", *arguments])


def test_a_second_run_changes_timings_only(folder: Path) -> None:
    path = folder / "07_short.ipynb"
    assert run("--execute", "--folder", str(folder)).exit_code == 0
    first = notebooks.read(path)
    assert first.metadata == notebooks.METADATA
    assert [c.id for c in first.cells] == ["07-000", "07-001", "07-002"]
    assert first.cells[2].metadata == {"tags": [notebooks.TIMING]}
    assert [o.output_type for o in first.cells[1].outputs] == ["stream", "execute_result"]
    assert first.cells[1].outputs[0].text == "1\n2\n"
    checked = run("--check", "07", "--folder", str(folder))
    assert checked.exit_code == 0 and "as stored" in checked.output

    second = notebooks.executed(path)
    assert second.cells[2].outputs != first.cells[2].outputs
    second.cells[2].outputs = first.cells[2].outputs
    assert nbformat.writes(second) == nbformat.writes(first)


def test_check_names_the_cell_and_writes_nothing(folder: Path) -> None:
    path = folder / "07_short.ipynb"
    run("--execute", "--folder", str(folder))
    book = notebooks.read(path)
    book.cells[1].outputs[0].text = "1\n7\n"
    notebooks.write(book, path)
    before = path.read_bytes()
    checked = run("--check", "--folder", str(folder))
    assert checked.exit_code == 1 and "07-001 differs" in checked.output
    assert path.read_bytes() == before


def test_figures_are_not_compared_but_their_presence_is() -> None:
    def book(**data: Any) -> Any:
        return new_notebook(
            cells=[new_code_cell("f", outputs=[new_output("display_data", data=data)], id="a")]
        )

    svg = {"image/svg+xml": "<svg>1</svg>", "text/plain": "<f>"}
    other = svg | {"image/svg+xml": "<svg>2</svg>"}
    assert not notebooks.differences(book(**svg), book(**other))
    assert notebooks.differences(book(**svg), book(**{"text/plain": "<f>"}))
    assert notebooks.differences(book(**svg), book(**svg | {"text/plain": "<g>"}))


def test_more_cells_are_a_difference() -> None:
    old = new_notebook(cells=[new_code_cell("1", id="a")])
    new = copy.deepcopy(old)
    new.cells.append(new_code_cell("2", id="b"))
    assert notebooks.differences(old, new) == ["1 cells stored, 2 after the run"]


def test_names_are_beginnings_and_unknown_ones_are_named(folder: Path) -> None:
    assert [p.stem for p in notebooks.find(folder, ["07_sh"])] == ["07_short"]
    result = run("99", "--folder", str(folder))
    assert result.exit_code == 2 and "no notebook '99'; there are 07_short" in result.output
    assert run("--folder", str(folder / "none")).exit_code == 2


def test_a_cell_that_fails_is_shown_and_nothing_is_written(folder: Path) -> None:
    path = folder / "07_short.ipynb"
    book = notebooks.read(path)
    book.cells.append(new_code_cell("assert 1 == 2, 'no'"))
    nbformat.write(book, path)
    before = path.read_bytes()
    result = run("--execute", "--folder", str(folder))
    assert result.exit_code == 1 and "AssertionError: no" in result.output and "\x1b" not in result.output
    assert path.read_bytes() == before


def test_execute_and_check_exclude_each_other(folder: Path) -> None:
    assert run("--execute", "--check", "--folder", str(folder)).exit_code == 2
