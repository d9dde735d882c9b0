"""Every Python block of the README runs, in order, in one namespace, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^<!-- ci:(\w+) -->\s*\n```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that fails is reported with its line in the README."""
    text = README.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    blocks = list(BLOCK.finditer(text))
    assert blocks
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block.group(1), str(README), "exec"), namespace)


def test_both_commands_are_marked_once() -> None:
    """The marked blocks are what CI runs; each is one command line or a few."""
    found = COMMAND.findall(README.read_text(encoding="utf-8"))
    assert [name for name, _ in found] == ["reproduce", "test"]
    assert all(command.strip() for _, command in found)
