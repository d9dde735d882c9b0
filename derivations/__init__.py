"""The chapters of the theory: hypotheses, chains and refusals, in reading order."""

from . import computation, folding, identity, learning, refusals

CHAPTERS = (identity, folding, learning, computation, refusals)
