"""Indented C text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 110


class Text:
    """Lines of C with a depth; `block` opens and closes braces."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, *lines: str) -> None:
        """Add lines at the present depth, long ones wrapped at blanks; directives stay as they are."""
        for line in lines:
            pad = "  " * self.depth
            if line.startswith("#") or len(pad + line) <= WIDTH:
                self.lines.append(line if line.startswith("#") or not line else pad + line)
            else:
                self.lines += textwrap.wrap(
                    line,
                    WIDTH,
                    initial_indent=pad,
                    subsequent_indent=pad + "    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                    drop_whitespace=True,
                )

    def raw(self, text: str) -> None:
        """Add finished text as it is."""
        self.lines += text.splitlines()

    @contextmanager
    def block(self, head: str, end: str = "}") -> Iterator[None]:
        """A braced block."""
        self(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self(end)

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"
