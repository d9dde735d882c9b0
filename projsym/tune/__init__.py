"""Measuring register tiles on this machine, and writing the table of the fastest."""

from projsym.tune.measure import Measured, measure
from projsym.tune.tables import commit, keep, rows

__all__ = ["Measured", "commit", "keep", "measure", "rows"]
