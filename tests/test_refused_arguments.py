"""The page of refused arguments: every call raises what its row says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import projsym
import projsym.torch

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "refused_arguments.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(.+?)` \| (\w+) \| (.+) \|$", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sections() -> list[tuple[str, str, str, str]]:
    """(names of a section, call, error, text) of every row."""
    found = []
    for part in PAGE.split("\n## ")[1:]:
        (names,) = BLOCK.findall(part)
        found += [(names, *row) for row in ROW.findall(part)]
    return found


@pytest.mark.parametrize("names, call, error, text", sections(), ids=[c for _, c, _, _ in sections()])
def test_row(names: str, call: str, error: str, text: str) -> None:
    namespace: dict[str, Any] = {}
    exec(names, namespace)
    torch.manual_seed(0)
    with pytest.raises(Exception) as caught:
        eval(call, namespace)
    told = caught.value.args[0]
    assert (type(caught.value).__name__, told) == (error, text)


def test_every_argument_has_a_row() -> None:
    """All arguments of the functions on the page are refused somewhere on it, but for what is saved."""
    functions = (projsym.attention, projsym.project, projsym.attention_backward, projsym.merge)
    names = {n for f in functions for n in inspect.signature(f).parameters}
    for f in (projsym.torch.attention, projsym.torch.layer):
        names |= set(inspect.signature(f).parameters)
    texts = " ".join(text.split(":")[0] for *_, text in sections())
    missing = {n for n in names if not re.search(rf"\b{n}\b", texts)}
    # Of one kind with an argument that has a row, and checked by the same code.
    assert missing <= {"return_lse", "q", "k", "v", "out", "g_lse"}, missing
