"""Loop programs of whole layers: affine images of the inputs, attention over them, and what is added up.

A layer is the program of its attention (`projsym.codegen.program`), whose vectors are images of the layer's
inputs, between two statements that only a layer has. For each head, in order::

    image = source @ map + offset           for each image, of every query or key
    the program of the mean, over the images
    total = total + mean @ map              for every query

and before the first head ``total`` is the layer's constant. What the attention calls a head is a sequence
here. `projsym.codegen.layer_validate` reads the layer back as a term. How products are tiled, and how many
sequences go together, is a printer's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .program import Program


@dataclass(frozen=True)
class Source:
    """Vectors that the layer is given: one per query ("i") or key ("j"), of a feature dimension."""

    name: str
    axes: str
    feature: str


@dataclass(frozen=True)
class Weight:
    """A matrix of each head: rows of the feature `source` to rows of the feature `target`."""

    name: str
    source: str
    target: str


@dataclass(frozen=True)
class Image:
    """``name = source @ weight + offset``, of every query or key; offset: one vector a head, or None."""

    name: str
    source: Source
    weight: Weight
    offset: str | None


@dataclass(frozen=True)
class Added:
    """``name = name + mean @ weight``, of every query; first it is the vector `start`, the same for all.

    mean: the output of the attention program that is mapped.
    """

    name: str
    start: str
    mean: str
    weight: Weight


@dataclass(frozen=True)
class LayerProgram:
    """A layer before printing; `core` is its attention, scheduled like any other program."""

    name: str
    images: tuple[Image, ...]
    core: Program
    added: Added

    @property
    def sources(self) -> tuple[Source, ...]:
        """The vectors that the layer is given, queries first."""
        plain = [
            Source(x.name, x.axes, x.feature) for x in self.core.inputs if x.feature and self.is_given(x.name)
        ]
        found = dict.fromkeys([*(x.source for x in self.images), *plain])
        return tuple(sorted(found, key=lambda x: (x.axes, x.name)))

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The matrices of a head, in the order of their use."""
        return tuple(dict.fromkeys([*(x.weight for x in self.images), self.added.weight]))

    @property
    def offsets(self) -> tuple[tuple[str, str], ...]:
        """The vectors of a head: pairs of a name and its feature."""
        return tuple(dict.fromkeys((x.offset, x.weight.target) for x in self.images if x.offset))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The numbers of a call."""
        return tuple(x.name for x in self.core.inputs if not x.axes)

    def is_given(self, name: str) -> bool:
        """Whether a vector of the core is an input of the layer rather than an image."""
        return all(x.name != name for x in self.images)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        given = [f"{x.name}[{x.axes}]: {x.feature}" for x in self.sources]
        given += [f"{w.name}[head]: {w.source} x {w.target}" for w in self.weights]
        given += [f"{name}[head]: {feature}" for name, feature in self.offsets]
        given += [f"{self.added.start}: {self.added.weight.target}", *self.parameters]
        yield f"layer {self.name}({', '.join(given)})"
        yield f"  {self.added.name}[i] = {self.added.start}"
        yield "  for each head in order:"
        for x in self.images:
            offset = f" + {x.offset}" if x.offset else ""
            yield f"    {x.name}[{x.source.axes}] = {x.source.name} @ {x.weight.name}{offset}"
        yield from (f"    {line}" for line in str(self.core).splitlines())
        yield f"    {self.added.name}[i] += {self.added.mean} @ {self.added.weight.name}"


__all__ = ["Added", "Image", "LayerProgram", "Source", "Weight"]
