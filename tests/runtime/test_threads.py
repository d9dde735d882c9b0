"""Thread counts, and kernels in a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import projsym


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    projsym.set_num_threads(None)


def test_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, want in {"3": 3, "5,2": 5, " 4 ": 4}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert projsym.get_num_threads() == want
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for value in ("", "0", "-1", "many", "²"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert projsym.get_num_threads() == here


def test_set_and_restore() -> None:
    before = projsym.get_num_threads()
    projsym.set_num_threads(7)
    assert projsym.get_num_threads() == 7
    projsym.set_num_threads(None)
    assert projsym.get_num_threads() == before


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=f"n: given {value}; allowed: an integer from 1"):
        projsym.set_num_threads(value)


@pytest.mark.parametrize("value", [1.0, True, "2"])
def test_wrong_type(value: object) -> None:
    with pytest.raises(TypeError, match=r"n: given .* of type .*; allowed: an integer"):
        projsym.set_num_threads(value)  # type: ignore[arg-type]


def test_a_forked_child_computes() -> None:
    """GNU OpenMP waits for ever for the threads that a fork leaves behind: the child must use one."""
    code = (
        "import os, sys, numpy as np, projsym\n"
        "x = np.ones((4, 300, 8), np.float32)\n"
        "projsym.set_num_threads(2)\n"
        "want = projsym.project(x, x, backend='c')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    same = np.array_equal(projsym.project(x, x, backend='c'), want)\n"
        "    os._exit(0 if same and projsym.get_num_threads() == 1 else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
