"""The chapters of the theory: hypotheses, chains and refusals, in reading order."""

from . import (
    computation,
    costs,
    dictionary,
    extensions,
    folding,
    forms,
    identity,
    learning,
    refusals,
)

CHAPTERS = (identity, folding, forms, dictionary, learning, computation, costs, extensions, refusals)
