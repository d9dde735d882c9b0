"""Indented C text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Text:
    """Lines of C with a depth; `block` opens and closes braces."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, *lines: str) -> None:
        """Add lines at the present depth; preprocessor lines are not indented."""
        self.lines += [line if line.startswith("#") else "  " * self.depth + line for line in lines]

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
