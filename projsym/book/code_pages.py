"""Pages that show code: generated kernels with their manifest, tests that name theorems."""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from projsym.book.links import OF_EVERY_THEOREM, TestCode
from projsym.book.pages import name

__all__ = ["kernels_page", "pages_of_tests", "tests_index"]

_EVERY = """# Tests

(tests-of-every-theorem)=
## Tests of every theorem

`tests/derivations/test_chapters.py` proves each theorem, checks its lines in ball arithmetic, and sees that
every hypothesis is needed and cited and that no step is decided without what it cites.
`tests/proof/test_mutants.py` changes nodes of each theorem and sees that the change is not proved.
"""

_BY_NAME = """## Tests by name

Functions whose code has a theorem's or a refusal's id in it, file by file:

"""


def kernels_page(folder: Path, known: Iterable[str]) -> str:
    """The generated kernels, forward, backward and of layers: theorems, hypotheses, certified error of the
    exponential, sources.

    folder: with `manifest.json` and the files it names. known: ids that have a page.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    kernels = manifest["kernels"] | {x: _layer(entry) for x, entry in manifest["layers"].items()}
    parts = [
        "# Generated kernels",
        "Each is lowered from the normal form of its theorem's last line; the scheduled program is executed "
        "symbolically and proved equal to that line. [How to regenerate them](regenerate_kernels.md).",
    ]
    for kernel, entry in sorted(kernels.items()):
        parts += [f"(kernel-{kernel.replace('_', '-')})=", f"## `{kernel}`", *_facts(entry, set(known))]
        for target, file in sorted(entry["files"].items()):
            language = "c" if file.endswith(".c") else "python"
            source = (folder / file).read_text(encoding="utf-8")
            parts.append(_folded(f"{file} ({target})", language, source))
    return "\n\n".join(parts) + "\n"


def _layer(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's entry in the terms of the others: all its arrays and numbers are inputs."""
    arrays = [x for kind in ("sources", "weights", "offsets") for x in entry[kind]]
    numbers = [{"name": x} for x in entry["parameters"]]
    outputs = [{"name": x} for x in entry["outputs"]]
    inputs = [*arrays, entry["start"], *numbers]
    return {**entry, "inputs": inputs, "outputs": outputs, "hypotheses": entry.get("hypotheses", [])}


def _facts(entry: Mapping[str, Any], known: set[str]) -> list[str]:
    cited = [f"[{t}](theorems/{name(t)}.md)" if t in known else t for t in entry["theorems"]]
    errors = ", ".join(f"{error:.2e} ({dtype})" for dtype, error in sorted(entry["exp_error"].items()))
    inputs = ", ".join(f"`{x['name']}`" for x in entry["inputs"])
    outputs = ", ".join(f"`{x['name']}`" for x in entry["outputs"])
    return [
        f"- Theorems: {', '.join(cited)}\n"
        f"- Hypotheses: {'; '.join(entry['hypotheses']) or 'none'}\n"
        f"- Inputs {inputs}; outputs {outputs}\n"
        f"- Certified relative error of the exponential in C: at most {errors}\n"
        f"- {len(entry['validated'])} obligations proved in its validation"
    ]


def _folded(summary: str, language: str, source: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{_fence(language, source)}\n\n</details>"


def _fence(language: str, source: str, first: int = 1) -> str:
    return f"~~~~{{code-block}} {language}\n:lineno-start: {first}\n\n{source.rstrip()}\n~~~~"


def pages_of_tests(root: Path, tests: Mapping[str, Sequence[TestCode]]) -> dict[str, str]:
    """File under `root` -> page, for each test file with tests that name a theorem."""
    files: dict[str, dict[TestCode, list[str]]] = defaultdict(lambda: defaultdict(list))
    for id, codes in tests.items():
        for code in codes:
            files[code.file][code].append(id)
    return {file: _test_page(root, file, codes) for file, codes in sorted(files.items())}


def _test_page(root: Path, file: str, codes: Mapping[TestCode, list[str]]) -> str:
    lines = (root / file).read_text(encoding="utf-8").splitlines()
    parts = [
        "---\norphan: true\n---",
        f"# `{file}`",
        "The functions that name a theorem or a refusal, not the whole file.",
    ]
    for code, ids in sorted(codes.items(), key=lambda item: item[0].first):
        source = "\n".join(lines[code.first - 1 : code.last])
        parts += [f"({code.label})=", f"## `{code.name}`", f"Names {', '.join(sorted(ids))}."]
        parts.append(_fence("python", source, code.first))
    return "\n\n".join(parts) + "\n"


def tests_index(root: Path, files: Iterable[str]) -> str:
    """The page over all test pages, with the code of the tests of every theorem."""
    shown = [
        _folded(f"{file}: {test}", "python", source(root, file, test)) for file, test in OF_EVERY_THEOREM
    ]
    listed = "\n".join(f"- [`{file}`]({name(file)}.md)" for file in files)
    return "\n\n".join([_EVERY, *shown, _BY_NAME, listed]) + "\n"


def source(root: Path, file: str, function: str) -> str:
    """The code of a function of a file; ValueError if the file has no such function."""
    text = (root / file).read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise ValueError(f"{file}: no function {function!r}, which the site names for every theorem")
