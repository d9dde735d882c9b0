"""Chapter IV, whole layers: the maps before and after the mean are in the last line, for the compiler.

One theorem is one head: it adds its output to that of the heads before it, so a layer of any number of heads
is as many turns, first from the constant of the layer.
"""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import attend, inner, total
from projsym.algebra.terms import LinearMap, Space, Vector, VectorSymbol
from projsym.proof.hypotheses import definition
from projsym.proof.laws import exponential_law, softmax_definition
from projsym.proof.text import text
from projsym.proof.theorem import REGISTRY as _REGISTRY
from projsym.proof.theorem import Theorem, build, by

from .computation import lse
from .notation import X, Y, scale, x

LAYER_PREFIX = "IV.6l/"

Z = Space("Z")
"""The space of the tokens that ask; X is that of the tokens that are seen."""
z = VectorSymbol("z", Z)
y = VectorSymbol("y", Y)
"""The output of the heads before this one, the layer's constant before the first."""
A, B = LinearMap("A", Z, X), LinearMap("B", X, Y)
a = VectorSymbol("a", X)
W_Q, W_K, W_O = LinearMap("W_Q", Z), LinearMap("W_K", X), LinearMap("W_O", target=Y)
b_Q, b_K = VectorSymbol("b_Q"), VectorSymbol("b_K")


class Affine:
    """The family ``x_j W + b``."""

    def __init__(self, weight: LinearMap, offset: Vector) -> None:
        self.weight, self.offset = weight, offset

    def __getitem__(self, index: Any) -> Vector:
        return x[index] @ self.weight + self.offset


def layer_theorem(
    name: str,
    title: str,
    scores: Callable[[Any], Any],
    values: Any,
    out: LinearMap,
    register: bool = True,
) -> Theorem:
    """[IV.6l] for one form of a head: its mean by recomputed weights, mapped by `out`, added to `y`.

    Its last line, ``y + (Σ_j exp(scores_j − lse) values_j) out``, specifies the layer of that name.
    """
    log_sum = sp.log(total(lambda l: sp.exp(scores(l))))
    saved = definition(lse, log_sum, f"lse = {text(log_sum)}")

    def chain() -> Iterator[Any]:
        yield y + attend(scores, values) @ out
        yield (
            by(softmax_definition, saved, exponential_law),
            y + total(lambda j: sp.exp(scores(j) - lse) * values[j]) @ out,
        )

    made = build(LAYER_PREFIX + name, title, (saved,), chain)
    return _REGISTRY.setdefault(made.id, made) if register else made


layer_folded = layer_theorem(
    "layer_folded",
    "One head of a folded layer, added to the heads before it",
    lambda j: scale * inner(z @ A + a, x[j]),
    x,
    B,
)

_tied_keys = Affine(W_K, b_K)
layer_tied = layer_theorem(
    "layer_tied",
    "One head of a tied layer, added to the heads before it",
    lambda j: scale * inner(z @ W_Q + b_Q, _tied_keys[j]),
    _tied_keys,
    W_O,
)
