"""The chapters of the theory: hypotheses, chains and refusals, in reading order."""

from . import (
    computation,
    costs,
    dictionary,
    extensions,
    folding,
    forms,
    geometry,
    geometry_bounds,
    geometry_gaussian,
    geometry_limits,
    geometry_perturbation,
    geometry_symmetry,
    identity,
    learning,
    radial,
    refusals,
    refusals_extensions,
    refusals_forms,
    refusals_geometry,
)

GEOMETRY = (
    geometry,
    geometry_limits,
    geometry_gaussian,
    geometry_bounds,
    geometry_perturbation,
    geometry_symmetry,
)
CHAPTERS = (
    identity,
    folding,
    forms,
    dictionary,
    *GEOMETRY,
    learning,
    computation,
    costs,
    radial,
    extensions,
    refusals,
    refusals_forms,
    refusals_extensions,
    refusals_geometry,
)
