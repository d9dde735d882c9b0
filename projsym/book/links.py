"""Where a theorem is used: kernels by their manifest, tests and notebooks by the ids they name in code."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "OF_EVERY_THEOREM",
    "Section",
    "TestCode",
    "kernel_theorems",
    "notebook_sections",
    "read_notebook",
    "tests_naming",
    "with_labels",
]

OF_EVERY_THEOREM = (
    ("tests/derivations/test_chapters.py", "test_every_step_is_proved_and_every_line_checked"),
    ("tests/derivations/test_chapters.py", "test_every_assumed_hypothesis_is_needed_and_cited"),
    ("tests/derivations/test_chapters.py", "test_no_step_is_trivial_unless_it_cites_nothing_more"),
    ("tests/proof/test_mutants.py", "test_no_mutant_is_accepted_and_disproved"),
)
"""Files and functions of the tests that have every theorem of the ledger as a parameter, by its id."""

_HEADING = re.compile(r"^## +(.*)$", re.MULTILINE)


@dataclass(frozen=True, order=True)
class TestCode:
    """A test function (``test_f`` or ``TestC.test_f``) in a file, its first and last line."""

    __test__ = False

    file: str
    name: str
    first: int
    last: int

    @property
    def label(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.file}-{self.name}".lower())


@dataclass(frozen=True, order=True)
class Section:
    """A second-level section of a notebook: the notebook's stem, its number in the file, its heading."""

    notebook: str
    number: int
    title: str

    @property
    def label(self) -> str:
        return f"{self.notebook.lower().replace('_', '-')}-section-{self.number}"


def kernel_theorems(manifest: Path) -> dict[str, list[str]]:
    """Kernel name -> ids of the theorems that it cites, from the manifest of the generated files."""
    read = json.loads(manifest.read_text(encoding="utf-8"))
    kernels = read["kernels"] | read["layers"]
    return {name: list(entry["theorems"]) for name, entry in sorted(kernels.items())}


def tests_naming(root: Path, ids: Collection[str]) -> dict[str, list[TestCode]]:
    """Id -> test functions under `root`/tests whose code (decorators too) has the id as a string.

    It cannot see a test that makes up the id, or takes all of them from the ledger. Tests of the site are
    left out: to them an id is an address.
    """
    found: dict[str, set[TestCode]] = defaultdict(set)
    for path in sorted((root / "tests").rglob("test_*.py")):
        if path.is_relative_to(root / "tests" / "book"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, node in _functions(tree):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            code = TestCode(path.relative_to(root).as_posix(), name, first, node.end_lineno or node.lineno)
            for id in _strings(node) & set(ids):
                found[id].add(code)
    return {id: sorted(codes) for id, codes in found.items()}


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test"):
                    yield f"{node.name}.{inner.name}", inner


def _strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as JSON; ValueError if it is not of format 4."""
    book: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if book.get("nbformat") != 4:
        raise ValueError(f"{path.name}: notebook format {book.get('nbformat')!r}, allowed is 4")
    return book


def notebook_sections(path: Path, ids: Collection[str]) -> dict[str, list[Section]]:
    """Id -> sections of the notebook with a code cell that has the id as a string."""
    found: dict[str, set[Section]] = defaultdict(set)
    section, number = None, 0
    for cell in read_notebook(path)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for heading in _HEADING.findall(source):
                number += 1
                section = Section(path.stem, number, heading)
        elif cell["cell_type"] == "code" and section is not None:
            for id in _strings(ast.parse(source)) & set(ids):
                found[id].add(section)
    return {id: sorted(sections) for id, sections in found.items()}


def with_labels(path: Path) -> str:
    """The notebook's text with the label of each :class:`Section` in front of its heading.

    Links to the how-tos, which lie in docs/ in a checkout, lead to where the site has them.
    """
    book, count = read_notebook(path), 0

    def labelled(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"({Section(path.stem, count, '').label})=\n{match[0]}"

    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"]).replace("](../docs/", "](../")
            cell["source"] = _HEADING.sub(labelled, text)
    return json.dumps(book, ensure_ascii=False)
