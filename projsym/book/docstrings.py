"""A Sphinx extension: docstrings as this project writes them, turned into reStructuredText.

They are plain text that is read in an editor: arguments begin their line with ``name:`` or ``a, b:``, what
continues a line may be indented, and ``|x|`` is an absolute value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import inspect

__all__ = ["restructured", "setup"]

_ARGUMENT = re.compile(r"^(\w+(?:, \w+)*): (?=\S)")
_LIST = re.compile(r"^\s*(?:[-*•]|\d+\.|>>>|\.\.\.|\.\. )")
_LITERAL = re.compile(r"(``.+?``|`[^`]+`)")


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring, ready for docutils.

    Literal blocks (after ``::``), ``>>>`` and lists stay as they are; another paragraph that is indented as a
    whole is a formula or code, and keeps its lines.
    """
    out: list[str] = []
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        after_literal = bool(out) and len(out) > 1 and out[-2].rstrip().endswith("::")
        inside = _indent(first) > 0 and bool(out) and out[-1] == "" and _in_literal(out)
        if after_literal or inside or first.lstrip().startswith(">>>"):
            out += paragraph
        elif any(_LIST.match(x) for x in paragraph):
            out += map(_escaped, paragraph)
        elif _indent(first):
            out += ["::", "", *paragraph]
        else:
            out += _text(paragraph)
        out.append("")
    return out


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _in_literal(out: list[str]) -> bool:
    """Whether all since the last line that is not indented belongs to a literal block or to a list item."""
    last = next((x for x in reversed(out) if x and not _indent(x)), "")
    return last.rstrip().endswith("::") or bool(_LIST.match(last))


def _text(paragraph: list[str]) -> list[str]:
    out: list[str] = []
    for line in map(str.strip, paragraph):
        if found := _ARGUMENT.match(line):
            out += ["", f"**{found[1]}**: {_escaped(line[found.end() :])}"]
        else:
            out.append(_escaped(line))
    return out


def _escaped(line: str) -> str:
    pieces = _LITERAL.split(line)
    return "".join(p if n % 2 else p.replace("|", r"\|") for n, p in enumerate(pieces))


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Process every docstring that autodoc reads; an alias inside a union shows by its name."""
    # In a union autodoc writes the repr of what stands for an alias: its own class around the name.
    inspect.TypeAliasForwardRef.__repr__ = lambda self: self.name  # type: ignore[method-assign]
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
