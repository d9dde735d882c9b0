"""Timing the kernels against peers, on one machine, in one process, after an equality gate."""

from projsym.bench.environment import environment, notes
from projsym.bench.measure import run
from projsym.bench.peak import fma_peak, read_bandwidth
from projsym.bench.product import markdown, result, write
from projsym.bench.rows import FULL, MAIN, MORE, SHAPES, Row, Shape

__all__ = [
    "FULL",
    "MAIN",
    "MORE",
    "SHAPES",
    "Row",
    "Shape",
    "environment",
    "fma_peak",
    "markdown",
    "notes",
    "read_bandwidth",
    "result",
    "run",
    "write",
]
