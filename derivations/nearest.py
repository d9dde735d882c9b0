"""Chapter II, the hard limit: without entropy the variational problem is the metric projection."""

from collections.abc import Iterator
from typing import Any

import sympy as sp
from flint import arb

from projsym.algebra.scalars import ScalarFamily, norm2, total
from projsym.proof.certificate import inequality
from projsym.proof.instance import Instance
from projsym.proof.laws import bilinearity, distributivity, exponential_law, softmax_definition
from projsym.proof.theorem import at_least, by, theorem

from .geometry import u
from .geometry_bounds import beyond
from .notation import k, q

near = sp.Symbol("near", real=True)
gap = ScalarFamily("gap")


def _below_all_distances(instance: Instance) -> None:
    """Draw `near` below every squared distance."""

    def draw() -> arb:
        x = instance.vector("q", "E", None)
        keys = [instance.vector("k", "E", ("keys", n)) for n in range(instance.size("keys"))]
        return beyond(
            instance, [sum(((a - b) ** 2 for a, b in zip(x, y, strict=True)), arb(0)) for y in keys], -1
        )

    instance.scalars["near"] = draw


no_key_nearer = inequality(
    "no key is nearer",
    "‖q − k_j‖² ≥ near for all j; gap_j = √(‖q − k_j‖² − near)",
    gap,
    lambda j: norm2(q - k[j]) - near,
    _below_all_distances,
)


@theorem("II.4m", "At σ = 0 the nearest key is best: metric projection onto the keys", given=[no_key_nearer])
def hard_limit() -> Iterator[Any]:
    """½ Σ u_j ‖q − k_j‖² is at least half the least squared distance, reached only on nearest keys: F of II.4
    without its entropy is the indicator's problem, whose proximal map is the metric projection."""
    mean = total(lambda j: u(j) * norm2(q - k[j])) / 2
    yield mean - near / 2
    yield (
        by(no_key_nearer, softmax_definition, exponential_law, distributivity, bilinearity),
        total(lambda j: u(j) * gap[j] ** 2) / 2,
    )
    yield at_least(mean, near / 2)
