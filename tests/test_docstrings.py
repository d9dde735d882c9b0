"""Every example in a docstring runs, and every public function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import projsym
import projsym.torch
from projsym import bounds, bounds_backward, folding

ROOT = Path(__file__).resolve().parent.parent
PARSER = doctest.DocTestParser()


def modules() -> list[str]:
    """Those with an example, without importing the others; kernels are generated."""
    found = (p for p in (ROOT / "projsym").rglob("*.py") if "kernels" not in p.parts)
    return [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in sorted(found)
        if PARSER.get_examples(p.read_text(encoding="utf-8")) and p.parent.name != "book"
    ]


@pytest.mark.parametrize("name", modules())
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    done = doctest.testmod(module, report=True)
    assert done.attempted and not done.failed


PUBLIC: dict[str, Any] = {
    **{f"projsym.{n}": getattr(projsym, n) for n in projsym.__all__},
    **{f"projsym.torch.{n}": getattr(projsym.torch, n) for n in projsym.torch.__all__},
    "forward_bound": bounds.forward_bound,
    "lse_bound": bounds.lse_bound,
    "backward_bound": bounds_backward.backward_bound,
    "normalise": folding.normalise,
}
CALLABLE = {
    n: x
    for n, x in PUBLIC.items()
    if callable(x) and not (inspect.isclass(x) and issubclass(x, Exception | Warning))
}


@pytest.mark.parametrize("name", CALLABLE)
def test_a_public_function_has_an_example(name: str) -> None:
    function: Callable[..., Any] = CALLABLE[name]
    assert PARSER.get_examples(inspect.getdoc(function) or "")
