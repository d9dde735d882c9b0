"""Kernels that a run needs, compiled by the CPUs that other work leaves idle."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wanted:
    """A kernel, a dtype, and the size of each feature."""

    kernel: str
    dtype: str
    sizes: tuple[tuple[str, int], ...]

    def compile(self) -> float:
        """Seconds to compile and load (to load, if it was compiled before)."""
        from projsym.runtime.c_kernel import CKernel
        from projsym.runtime.manifest import load

        start = time.perf_counter()
        CKernel(load()[self.kernel], self.dtype, dict(self.sizes))
        return round(time.perf_counter() - start, 3)


@dataclass
class Compilation:
    """Compiles in threads that wait for the compiler, a compiler a thread, from :meth:`start` on.

    seconds: of those that are done.
    """

    wanted: Iterable[Wanted]
    seconds: dict[Wanted, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._left = list(dict.fromkeys(self.wanted))[::-1]
        self.count = len(self._left)
        self._threads: list[threading.Thread] = []
        self._failed: list[BaseException] = []

    def start(self, threads: int) -> None:
        """Work in that many threads more."""
        for _ in range(threads):
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self, threads: int, done: Callable[[], None] = lambda: None) -> None:
        """Wait, with that many threads more. Calls `done` for every kernel; raises what a compiler raised."""
        self.start(threads)
        told = 0
        while told < self.count and not self._failed:
            alive = any(t.is_alive() for t in self._threads)
            for _ in range(len(self.seconds) - told):
                told += 1
                done()
            if not alive:
                break
            time.sleep(0.02)
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _work(self) -> None:
        while self._left and not self._failed:
            try:
                wanted = self._left.pop()
            except IndexError:  # another thread took the last one
                return
            try:
                self.seconds[wanted] = wanted.compile()
            except BaseException as e:  # told by `finish`, in the thread that waits
                self._failed.append(e)


def for_check(kernels: Iterable[str]) -> list[Wanted]:
    """What `projsym.check` calls."""
    from projsym.check import SIZES
    from projsym.runtime.manifest import load

    entries = [load()[kernel] for kernel in kernels]
    features = {e.name: sorted({v.feature for v in e.vectors}) for e in entries}
    return [
        Wanted(e.name, dtype, tuple((x, d if x == "d" else d + 1) for x in features[e.name]))
        for e in entries
        for dtype in ("float32", "float64")
        for d in dict.fromkeys(d for _, _, d in SIZES)
    ]


def for_audit() -> list[Wanted]:
    """What the audit of the default model calls; nothing where that is not installed."""
    from projsym.audit.package import default_model_folder

    try:
        folder = default_model_folder()
    except ModuleNotFoundError:
        return []
    # Every head projects onto the layer's whole input.
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    return [
        Wanted(kernel, dtype, (("d", width),))
        for kernel in ("project_gaussian", "project_dot")
        for dtype in ("float64", "float32")
    ]


def for_bench() -> list[Wanted]:
    """What the measurements of `projsym reproduce` call."""
    from projsym.bench.rows import MAIN

    both, one = ("d", "dv"), ("d",)
    called = (("attention", both), ("project_dot", one), ("attention_backward", both))
    return [
        Wanted(kernel, shape.dtype, tuple((x, shape.features) for x in features))
        for shape in MAIN
        for kernel, features in called
    ]
