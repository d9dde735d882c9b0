"""Compiling beside other work: every kernel once, failures told, and the lists name what is called."""

from __future__ import annotations

import threading

import pytest

from projsym.bench.rows import MAIN
from projsym.check import WIDTH
from projsym.compilation import Compilation, Wanted, for_bench, for_check
from projsym.runtime.manifest import load

SOME = [Wanted("project_dot", dtype, (("d", d),)) for dtype in ("float32", "float64") for d in range(1, 9)]


def test_every_kernel_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Wanted] = []
    monkeypatch.setattr(Wanted, "compile", lambda w: (made.append(w), 0.5)[1])
    compilation, told = Compilation([*SOME, *SOME]), []
    compilation.start(2)
    compilation.finish(2, lambda: told.append(1))
    assert sorted(made, key=str) == sorted(SOME, key=str)
    assert compilation.seconds == dict.fromkeys(SOME, 0.5)
    assert len(told) == compilation.count == len(SOME)


def test_two_compile_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    monkeypatch.setattr(Wanted, "compile", lambda w: float(both.wait() >= 0))
    compilation = Compilation(SOME[:4])
    compilation.start(1)
    compilation.finish(1)
    assert len(compilation.seconds) == 4


def test_a_failure_reaches_the_one_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(w: Wanted) -> float:
        if w.sizes == SOME[2].sizes:
            raise OSError("no room")
        return 0.0

    monkeypatch.setattr(Wanted, "compile", fail)
    compilation = Compilation(SOME)
    compilation.start(1)
    with pytest.raises(OSError, match="no room"):
        compilation.finish(1)


def test_the_lists_are_those_of_the_stages_that_follow() -> None:
    assert {(w.kernel, w.dtype, w.sizes) for w in for_check(["project_dot", "attention"])} == {
        (name, dtype, sizes)
        for dtype in ("float32", "float64")
        for name, sizes in (
            ("project_dot", (("d", WIDTH),)),
            ("attention", (("d", WIDTH), ("dv", WIDTH + 1))),
        )
    }
    for w in for_bench():
        assert {x for x, _ in w.sizes} == {v.feature for v in load()[w.kernel].vectors}
    assert {(w.dtype, dict(w.sizes)["d"]) for w in for_bench()} == {(s.dtype, s.features) for s in MAIN}
