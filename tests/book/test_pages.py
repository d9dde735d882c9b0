"""How the pages are made, on small examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import projsym
from projsym.book import build_book, code_pages, links
from projsym.book.code_pages import kernels_page, source
from projsym.book.crossref import split
from projsym.book.docstrings import restructured
from projsym.book.figures import title
from projsym.book.tables import bench_page, claims_page
from projsym.claims import CLAIMS
from projsym.proof import ledger

ROOT = Path(__file__).resolve().parent.parent.parent
KNOWN = {
    "I.4": "theorems/I.4",
    "I.4a": "theorems/I.4a",
    "IV.6/x": "theorems/IV.6-x",
    "VI.g20": "refusals#refusal-vi-g20",
}


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("see [I.4], I.4a.", ["I.4", "I.4a"]),
        ("I.40, XI.4, 2.I.4 and I.4b are other things", []),
        ("by IV.6/x", ["IV.6/x"]),
        ("false by VI.g20; VI.g2 is another", ["VI.g20"]),
    ],
)
def test_only_known_ids_become_links(text: str, linked: list[str]) -> None:
    pieces = split(text, KNOWN)
    assert "".join(p for p, _ in pieces) == text
    assert [p for p, target in pieces if target] == linked


def test_every_id_of_the_ledger_would_be_found_in_text() -> None:
    theorems, refusals = ledger.select()
    for id in [x.id for x in (*theorems, *refusals)]:
        assert split(f"see [{id}], twice", {id: "page"})[1] == (id, "page")


def test_arguments_stand_on_their_own_lines_and_bars_are_text() -> None:
    lines = ["Mean of |x|.", "", "q: queries.", "    more of it.", "k: ``|y|``.", "", "- a"]
    assert restructured(lines) == [
        r"Mean of \|x\|.", "", "", "**q**: queries.", "more of it.", "", "**k**: ``|y|``.", "", "- a", "",
    ]  # fmt: skip


def test_literal_blocks_stay_and_indented_paragraphs_become_such() -> None:
    literal = ["As in::", "", "    |a| = 1", "", "    b: 2", "", "Then:", "", "    c = d"]
    assert restructured(literal) == [*literal[:7], "", "::", "", "    c = d", ""]


def notebook(path: Path, *cells: tuple[str, str]) -> Path:
    body = [{"cell_type": kind, "source": source, "metadata": {}} for kind, source in cells]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": body}))
    return path


def test_sections_that_name_an_id_in_code(tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "n.ipynb",
        ("markdown", "# N\n\nI.4"),
        ("code", 'f("I.4")'),
        ("markdown", "## 1.1 A"),
        ("code", 'f("I.4a")'),
        ("markdown", "text\n\n## 1.2 B"),
        ("code", "# I.4a\nf(x)"),
        ("code", 'f("I.4", "I.4a")'),
    )
    found = links.notebook_sections(path, KNOWN)
    assert {id: [s.title for s in x] for id, x in found.items()} == {
        "I.4a": ["1.1 A", "1.2 B"],
        "I.4": ["1.2 B"],
    }
    cells = json.loads(links.with_labels(path))["cells"]
    assert cells[2]["source"] == "(n-section-1)=\n## 1.1 A"
    assert "(n-section-2)=\n## 1.2 B" in cells[4]["source"] and found["I.4"][0].label == "n-section-2"


def test_tests_that_name_an_id(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    code = (
        '@mark("I.4")\ndef test_a():\n    pass\n\n\nclass TestB:\n    def test_c(self):\n        f("I.4a")\n'
    )
    (tmp_path / "tests/test_x.py").write_text(code + '\n\ndef helper():\n    f("I.4")\n')
    found = links.tests_naming(tmp_path, KNOWN)
    assert [(c.name, c.first, c.last) for c in found["I.4"]] == [("test_a", 1, 3)]
    assert [c.name for c in found["I.4a"]] == ["TestB.test_c"]


def test_tests_of_every_theorem_are_shown() -> None:
    shown = code_pages.tests_index(ROOT, ["tests/x.py"])
    for file, test in links.OF_EVERY_THEOREM:
        assert f"def {test}(" in source(ROOT, file, test) and f"def {test}(" in shown
    with pytest.raises(ValueError, match="no function 'test_none'"):
        source(ROOT, links.OF_EVERY_THEOREM[0][0], "test_none")


def test_a_drawing_has_the_title_in_its_metadata() -> None:
    assert title("<svg><dc:title>a &lt; b</dc:title></svg>") == "a < b"
    assert title("<svg/>") == "figure"


def test_claims_that_rest_on_nothing_are_not_shown() -> None:
    stands = {id for c in CLAIMS for id in c.theorems}
    assert "| **false as stated** |" in claims_page(CLAIMS, stands)
    assert "W<sub>V</sub>" in claims_page(CLAIMS, stands) and "W_" not in claims_page(CLAIMS, stands)
    with pytest.raises(ValueError, match=r"claims: I\.4 do not stand"):
        claims_page(CLAIMS, stands - {"I.4"})


def test_bench_page_shows_saved_tables_newest_first(tmp_path: Path) -> None:
    (tmp_path / "learning").mkdir()
    (tmp_path / "README.md").write_text("# Measurements\n")
    assert "No table is saved" in bench_page(tmp_path) and "# Measurements" not in bench_page(tmp_path)
    wide = "".join("|" + cell * 10 + "\n" for cell in (" a |", "---|", " 1 |"))
    for day in ("2026-01-01-one", "2026-02-01-two"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "bench.md").write_text(f"# Kernels {day}\n\n{wide}")
    (tmp_path / day / "ratio.svg").write_text('<?xml version="1.0"?>\n<svg id="ratio"></svg>\n')
    (tmp_path / day / "call_overhead.txt").write_text("5 µs\n")
    (tmp_path / day / "layer.txt").write_text("a CPU\nnote: x\n\nfolded  2\n\n| a |\n|---|\n| 1 |\nend\n")
    (tmp_path / day / "masks.txt").write_text("a CPU\nnote: x\n\nnone  1\n")
    page = bench_page(tmp_path)
    order = [
        "## 2026-02-01-two",
        "### Kernels",
        '<svg id="ratio"></svg>\n<figcaption>Each mark is one shape',
        "<details><summary>The table, 1 rows</summary>\n\n{.dense}\n| a | a |",
        "- a CPU\n- note: x\n",
        "### call overhead\n\n```text\n5 µs\n```",
        "### layer\n\n```text\nfolded  2\n```\n\n| a |\n|---|\n| 1 |\n\n```text\nend\n```",
        "### masks\n\n```text\nnone  1\n```",
    ]
    found = [page.index(x) for x in [*order, "## 2026-01-01-one"]]
    assert found == sorted(found) and "<?xml" not in page
    assert page.count("a CPU") == 1


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no folder 'docs'"):
        build_book(tmp_path, tmp_path / "out")


def test_every_kernel_of_the_manifest_is_on_the_page() -> None:
    folder = Path(projsym.__file__).parent / "kernels"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    page = kernels_page(folder, [])
    names = [*manifest["kernels"], *manifest["layers"]]
    assert {"layer_folded", "attention_backward"} <= set(names)
    for kernel in names:
        assert page.count(f"\n## `{kernel}`\n") == 1
    for file in (
        x for kind in ("kernels", "layers") for e in manifest[kind].values() for x in e["files"].values()
    ):
        assert f"<summary>{file} (" in page
