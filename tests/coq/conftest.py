"""Coq for the tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest
from _coq import Compile

from projsym.coq.compile import Compiled, NoCoq, compile_file, coqc
from projsym.coq.write import BASE, write


@pytest.fixture(scope="session")
def compile_text(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """A function that compiles a file beside base.v: its name and its text. Skips where there is no coqc."""
    try:
        program = coqc()
    except NoCoq as e:
        # A second checker is optional; `.ci/run` says as well that it was not there.
        pytest.skip(str(e))
    folder: Path = tmp_path_factory.mktemp("coq")
    write(folder, [])
    assert compile_file(program, folder, BASE).good

    def compile_(name: str, text: str) -> Compiled:
        (folder / name).write_text(text, encoding="utf-8")
        return compile_file(program, folder, name)

    return compile_
