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
import numpy as np
import pytest

from projsym.book.links import notebook_sections
from projsym.display import Page, counterexamples, ledger, page, refused, table
from projsym.notebooks import METADATA, TIMING
from projsym.proof.ledger import select
from projsym.proof.prove import prove
from projsym.proof.verdict import ProofError
from projsym.testing import Record, assert_proved, assert_refuted, assert_within

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST_IGNORED_SHARE = 0.2
PRIVATE = re.compile(r"(/home/|/root/|/tmp/|/usr/|/work/|site-packages|0x[0-9a-f]{6,})")

Cell = Any
"""A cell of nbformat: a dictionary whose keys are attributes as well."""


def cells(path: Path, kind: str = "code") -> list[Cell]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def ignored(cell: Cell) -> bool:
    return TIMING in cell.metadata.get("tags", ())


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
    return any(called(n) == "picture" for n in ast.walk(ast.parse(cell.source)))


def test_the_notebooks_are_there() -> None:
    chapters = ["identity", "folding", "geometry", "learning", "computation", "extensions", "claims"]
    names = [f"{n:02}_{name}.ipynb" for n, name in enumerate([*chapters, "your_own_theorem"], 1)]
    assert [p.name for p in NOTEBOOKS][: len(names)] == names


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

    def test_every_figure_has_a_caption(self, path: Path) -> None:
        everything = nbformat.read(path, as_version=4).cells
        for c, below in pairwise(everything):
            if c.cell_type == "code" and draws(c):
                assert below.cell_type == "markdown" and below.source.startswith("*Caption.* "), c.id
                assert len(below.source.partition("\n\n")[0].split()) > 10, c.id

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

    def test_figures_are_vector_graphics_without_a_date(self, path: Path) -> None:
        for c in cells(path):
            figures = [o.data for o in c.outputs if "image" in str(list(o.get("data", {})))]
            assert bool(figures) == draws(c), c.id
            for data in figures:
                assert set(data) == {"image/svg+xml", "text/plain"}, c.id
                assert "<dc:date>" not in data["image/svg+xml"], c.id

    def test_nothing_depends_on_the_machine(self, path: Path) -> None:
        for c in cells(path):
            for o in c.outputs:
                data = o.get("data", {})
                seen = [o.get("text", ""), *(data[x] for x in data if x.startswith("text/"))]
                assert not PRIVATE.search("\n".join(seen)), c.id


def test_every_theorem_and_refusal_has_a_section() -> None:
    theorems, refusals = select()
    ids = [x.id for x in (*theorems, *refusals)]
    named = {id for path in NOTEBOOKS for id in notebook_sections(path, ids)}
    assert not set(ids) - named


# What the notebooks assert and show with.


def test_within_is_inclusive_and_broadcasts() -> None:
    gap = assert_within([[1.0, 2.0], [3.0, 4.5]], [1.0, 2.0], [[0.0], [2.5]])
    assert gap.tolist() == [[0.0, 0.0], [2.0, 2.5]]


@pytest.mark.parametrize(
    ("got", "expected", "bound"),
    [(1.0, 0.0, 0.5), (np.nan, 0.0, 1.0), (0.0, np.nan, 1.0), (0.0, 0.0, np.nan), (0.0, 0.0, np.inf)],
)
def test_within_refuses_excess_nan_and_empty_bounds(got: float, expected: float, bound: float) -> None:
    with pytest.raises(AssertionError, match="1 of 1 entries outside the bound"):
        assert_within(got, expected, bound)


def test_unknown_ids_are_named() -> None:
    for check in (assert_proved, assert_refuted):
        with pytest.raises(KeyError, match=r"no theorem or refusal 'I\.99'"):
            check("I.99")


def test_pages_show_what_a_chain_amounts_to() -> None:
    identity, contradiction = (page(assert_proved(x)).markdown for x in ("I.4", "II.7c"))
    bound = page(assert_proved("II.7b")).markdown
    assert "- argument: contraposition with a witness" in contradiction
    assert "- hence P(P(q)) ≠ P(q) for keys ±1" in contradiction and "left -0.0719" in contradiction
    assert "- argument: certificate" in bound and "- hence (high − low)²/(4 σ²) ≥ " in bound
    assert "argument" not in identity
    assert "*w*<sub>j</sub>) ≥ 0" in page(assert_proved("II.4")).markdown


def test_the_ledger_tells_proofs_citations_and_refutations_apart() -> None:
    shown = ledger([assert_proved("I.4"), assert_proved("I.6c")], [assert_refuted("VI.1")]).markdown
    plain, cited, false = shown.splitlines()[2:]
    assert plain.endswith("| equal norms | algebraic identity | proved |")
    assert cited.endswith("proved; cites: linear independence of exponentials |")
    assert "| witness | refuted; true is: equal key norms" in false


def test_a_record_keeps_what_it_showed_and_nothing_that_failed() -> None:
    book = Record()
    assert book.assert_proved("I.1") == page(assert_proved("I.1"))
    assert book.assert_proved("I.1", "I.2").title == "ledger"
    assert book.assert_refuted("VI.1") == counterexamples([assert_refuted("VI.1")])
    with pytest.raises(KeyError):
        book.assert_proved("I.3", "I.99")
    assert [line.split(" | ")[0] for line in book.ledger().markdown.splitlines()[2:]] == [
        "| I.1",
        "| I.2",
        "| VI.1",
    ]


def test_a_false_theorem_is_not_passed_and_shows_its_witness() -> None:
    t = assert_proved("I.4").theorem
    last = assert_proved("I.1").theorem.steps[0]
    wrong = type(t)("x.1", "Wrong", (), (type(last)(last.reason, last.before, t.steps[0].after),))
    with pytest.raises(ProofError):
        assert_proved(wrong)
    shown = page(prove(wrong))
    assert shown.title == "x.1: refuted" and "is false at `" in shown.markdown


def test_pages_hold_no_times_and_break_no_table() -> None:
    first, second = (page(assert_proved("I.4")) for _ in range(2))
    assert first == second and repr(first) == "<I.4: proved for all sizes>"
    assert "‖*k*<sub>j</sub>‖ = ρ" in first.markdown and r"\operatorname{softmax}_{j}" in first.markdown
    assert "cited lemma" in page(assert_proved("I.6c")).title
    refutation = assert_refuted("VI.1")
    assert refused(refutation).markdown.startswith("**[VI.1]")
    rows = counterexamples([refutation]).markdown.splitlines()
    assert len(rows) == 3 and {len(re.findall(r"(?<!\\)\|", r)) for r in rows} == {7}
    assert table("t", ("|a|",), [("x|y",)]) == Page("t", "| \\|a\\| |\n| --- |\n| x\\|y |")
