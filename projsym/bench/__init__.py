"""Timing the kernels against peers, on one machine, in one process, after an equality gate."""

from projsym.bench.environment import environment, notes
from projsym.bench.measure import run
from projsym.bench.peak import fma_peak, read_bandwidth
from projsym.bench.rows import SHAPES, Row, Shape

__all__ = ["SHAPES", "Row", "Shape", "environment", "fma_peak", "notes", "read_bandwidth", "run"]
