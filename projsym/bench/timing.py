"""Interleaved timing of several functions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PAUSE = 0.002  # seconds, long enough for the idle threads of the last pool to stop spinning
SAMPLE = 0.002  # seconds, a sample repeats a short call until it takes this long
SHORT = 0.01  # seconds, a call to which what is in the caches matters
ROUNDS = (5, 200)


@dataclass(frozen=True)
class Times:
    """Seconds a call, one number a round, in the order of the rounds."""

    samples: tuple[float, ...]

    @property
    def least(self) -> float:
        return min(self.samples)

    def median_ratio(self, ours: Times) -> float:
        """Median over rounds of this time over `ours` in the same round."""
        return statistics.median(b / a for a, b in zip(ours.samples, self.samples, strict=True))


def interleave(functions: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Times]:
    """Time every function once a round, A B C A B C …, for about `seconds` in all, at least five rounds.

    Before each sample all threads get a pause, and a function whose calls are short gets one that is not
    timed, so that neither a spinning pool nor the data that another left in the caches weigh on it. The
    functions should have been called once before.
    """
    once = {name: _seconds(f) for name, f in functions.items()}
    repeats = {name: max(1, round(SAMPLE / t)) for name, t in once.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and time.perf_counter() > end:
            break
        for name, f in functions.items():
            time.sleep(PAUSE)
            if once[name] < SHORT:
                f()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                f()
            samples[name].append((time.perf_counter() - start) / repeats[name])
    return {name: Times(tuple(x)) for name, x in samples.items()}


def _seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return max(time.perf_counter() - start, 1e-7)
