"""From the last line of a layer's theorem [IV.6l/…] to a layer program.

The linear maps are read off the term: an affine image ``x_j W + b`` of an input becomes an
:class:`~projsym.codegen.layer_program.Image` and a letter of its own, the map after the sum becomes the
:class:`~projsym.codegen.layer_program.Added`, and what is left has no maps and is lowered like any other
kernel (`projsym.codegen.lower`). There is no case for any particular form of layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from projsym.algebra.terms import (
    LinearMap,
    Space,
    Vector,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorFamily,
    VectorScale,
    VectorSum,
    VectorSymbol,
)

from .layer_program import Added, Image, LayerProgram, Source, Weight
from .lower import LoweringError, lower
from .program import Program

MEAN = "mean"
"""The name of the attention's own output, before the last map."""
_LETTERS = {"i": "q", "j": "k"}


@dataclass(frozen=True)
class _Affine:
    """``source @ weight + offset``; index: of the source, None for the vector of a query."""

    source: str
    index: sp.Symbol | None
    weight: LinearMap
    offset: str | None


def lower_layer(name: str, outputs: Mapping[str, Any]) -> LayerProgram:
    """The unscheduled layer that computes the named terms: one vector, and scalars.

    Raises LoweringError for a vector that is not ``y + (a mean) W``, for maps in other places than around
    inputs, and for composed or transposed maps (give their product a letter of its own).
    """
    vectors = [key for key, term in outputs.items() if isinstance(term, Vector)]
    if len(vectors) != 1:
        raise LoweringError(f"{name}: a layer has one vector output, not {vectors or 'none'}")
    (out,) = vectors
    start, mean, after = _peel(name, outputs[out])
    found: dict[tuple[str, str, str, str | None], tuple[str, _Affine]] = {}
    core = {
        MEAN if key == out else key: _without_maps(name, mean if key == out else term, found)
        for key, term in outputs.items()
    }
    program = lower(name, core)
    features = _features(program, core, found, outputs)
    weights = {affine.weight: _weight(name, affine.weight, features) for _, affine in found.values()}
    images = tuple(
        Image(
            letter,
            Source(affine.source, "i" if affine.index is None else "j", features[affine.weight.source]),
            weights[affine.weight],
            affine.offset,
        )
        for letter, affine in found.values()
    )
    features.setdefault(after.target, f"d{start}")
    return LayerProgram(name, images, program, Added(out, start, MEAN, _weight(name, after, features)))


def _peel(name: str, term: Vector) -> tuple[str, Vector, LinearMap]:
    """The start, the mean and the map of ``start + mean @ map``."""
    starts = [t for t in _summands(term) if isinstance(t, VectorSymbol)]
    maps = [t for t in _summands(term) if isinstance(t, VectorApply)]
    if len(starts) != 1 or len(maps) != 1 or len(_summands(term)) != 2:
        raise LoweringError(f"{name}: the output of a layer is y + (a mean) W, not {term}")
    mean, weight = maps[0].args
    return starts[0].name, mean, weight


def _summands(v: Vector) -> list[Vector]:
    if isinstance(v, VectorAdd):
        return [t for a in v.args for t in _summands(a)]
    return [v]


def _without_maps(
    name: str, term: Any, found: dict[Any, tuple[str, _Affine]], bound: frozenset[Any] = frozenset()
) -> Any:
    """The term with a letter in place of every affine image; the images are added to `found`."""
    if isinstance(term, VectorApply | VectorAdd) and term.has(VectorApply) and not term.has(VectorSum):
        affine = _affine(name, term)
        if affine.index is not None and affine.index not in bound:
            raise LoweringError(f"{name}: {affine.source} has an index that no sum binds")
        axes = "i" if affine.index is None else "j"
        key = (axes, affine.source, str(affine.weight.word), affine.offset)
        if key not in found:
            number = sum(1 for k in found if k[0] == axes)
            found[key] = (f"{_LETTERS[axes]}{number or ''}", affine)
        letter, space = found[key][0], affine.weight.target
        return VectorSymbol(letter, space) if axes == "i" else VectorFamily(letter, space)[affine.index]
    if not term.args or isinstance(term, VectorSymbol | VectorElement | Space | LinearMap):
        return term
    if isinstance(term, VectorApply):
        raise LoweringError(f"{name}: a linear map after a sum, inside another: {term}")
    inside = bound | {s for s in term.args if isinstance(s, sp.Symbol) and s.is_integer}
    return term.func(*[_without_maps(name, a, found, inside) for a in term.args])


def _affine(name: str, term: Vector) -> _Affine:
    """The parts of ``x W + b``."""
    maps = [t for t in _summands(term) if isinstance(t, VectorApply)]
    offsets = [t for t in _summands(term) if isinstance(t, VectorSymbol)]
    if len(maps) != 1 or len(offsets) > 1 or len(maps) + len(offsets) != len(_summands(term)):
        raise LoweringError(f"{name}: not of the form x W + b: {term}")
    source, weight = maps[0].args
    if isinstance(source, VectorScale) or not isinstance(source, VectorSymbol | VectorElement):
        raise LoweringError(f"{name}: a map of something else than an input: {maps[0]}")
    offset = offsets[0].name if offsets else None
    if isinstance(source, VectorElement):
        return _Affine(source.family, source.index, weight, offset)
    return _Affine(source.name, None, weight, offset)


def _features(
    program: Program,
    core: Mapping[str, Any],
    found: Mapping[Any, tuple[str, _Affine]],
    outputs: Mapping[str, Any],
) -> dict[Space, str]:
    """The feature dimension of each space: that of the attention's vectors, else named by an input."""
    inputs = {x.name: x.feature for x in program.inputs if x.feature}
    features: dict[Space, str] = {}
    for letter, space in _leaves(core):
        if letter in inputs:
            features[space] = inputs[letter]
    for _, affine in found.values():
        features.setdefault(affine.weight.source, f"d{affine.source}")
    return features


def _leaves(terms: Mapping[str, Any]) -> Iterator[tuple[str, Space]]:
    for term in terms.values():
        for x in sp.preorder_traversal(term):
            if isinstance(x, VectorElement):
                yield x.family, x.space
            elif isinstance(x, VectorSymbol):
                yield x.name, x.space


def _weight(name: str, weight: LinearMap, features: Mapping[Space, str]) -> Weight:
    ((letter, transposed),) = weight.word if len(weight.word) == 1 else ((None, False),)
    if letter is None or transposed:
        word = " ".join(n + "ᵀ" * t for n, t in weight.word) or "the identity"
        raise LoweringError(f"{name}: {word}: give a product or transpose of maps a letter of its own")
    if not (letter.isidentifier() and letter.isascii()):
        raise LoweringError(f"{name}: {letter!r} cannot name an argument; use an ASCII identifier")
    return Weight(letter, features[weight.source], features[weight.target])


__all__ = ["MEAN", "lower_layer"]
