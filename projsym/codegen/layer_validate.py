"""Translation validation of layers: the whole program, maps included, is read back and proved.

The attention is executed as in `projsym.codegen.validate`, with every image standing for the affine image
that its statement computes, and its mean for what the last statement adds of it. So the obligations on the
sums are about images of the inputs, and the one on the output is the theorem's last line. Two more are about
the heads, for any vectors that these contribute: *entry*, no head leaves the start, and *step*, one more head
adds its contribution to that of the heads before it.

Guarantees and blind spots are those of `projsym.codegen.validate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from projsym.algebra.scalars import total
from projsym.algebra.sets import EMPTY, DisjointUnion, IndexSet, Singleton, index
from projsym.algebra.terms import LinearMap, Space, Vector, VectorFamily, VectorSymbol
from projsym.proof.prove import decide
from projsym.proof.verdict import ProofError

from .layer_program import Image, LayerProgram, Weight
from .program import Input
from .validate import Obligation, Validator, require_proved

_SEEN, _HEAD = IndexSet("heads"), index("h")


class _ImageFamily(VectorFamily):
    """The family ``x_j W + b``."""

    def __init__(self, source: VectorFamily, weight: LinearMap, offset: Vector | None) -> None:
        super().__init__(source.name, weight.target)
        self.source, self.weight, self.offset = source, weight, offset

    def __getitem__(self, index: Any) -> Any:
        image = self.source[index] @ self.weight
        return image if self.offset is None else image + self.offset


class LayerValidator(Validator):
    """Executes the attention of a layer on its images, against the terms that the layer must equal."""

    def __init__(self, layer: LayerProgram, outputs: Mapping[str, Any]) -> None:
        self.layer, added = layer, layer.added
        self.images = {x.name: x for x in layer.images}
        self.maps = _maps(outputs)
        if added.name not in outputs:
            raise ProofError(f"{layer.name}: output {added.name!r} is not specified")
        super().__init__(
            layer.core, {added.mean if key == added.name else key: term for key, term in outputs.items()}
        )

    def declare(self, x: Input, spaces: dict[str, Space], declared: dict[str, sp.Symbol]) -> None:
        """As for any program; an image stands for what its statement computes."""
        if x.name in self.images:
            self.vectors[x.name] = self.image(self.images[x.name], x.axes)
        elif x.feature and x.name not in spaces:
            raise ProofError(f"{self.layer.name}: {x.name} is neither an input nor an image")
        else:
            super().declare(x, spaces, declared)

    def image(self, x: Image, axes: str) -> Any:
        """The affine image of a query's vector, or the family of those of the keys'."""
        if x.source.axes != axes:
            raise ProofError(f"{self.layer.name}: {x.name} is an image along {x.source.axes!r}, not {axes!r}")
        weight = self.weight(x.weight)
        offset = None if x.offset is None else VectorSymbol(x.offset, weight.target)
        if axes == "i":
            mapped = VectorSymbol(x.source.name, weight.source) @ weight
            return mapped if offset is None else mapped + offset
        return _ImageFamily(VectorFamily(x.source.name, weight.source), weight, offset)

    def weight(self, w: Weight) -> LinearMap:
        """The theorem's map of that name."""
        if w.name not in self.maps:
            raise ProofError(f"{self.layer.name}: the theorem has no map {w.name}")
        return self.maps[w.name]

    def oblige(self, name: str, left: Any, right: Any) -> None:
        """The mean is specified by what the layer adds of it."""
        added = self.layer.added
        if name == f"{added.mean}: output":
            weight = self.weight(added.weight)
            left = VectorSymbol(added.start, weight.target) + left @ weight
            name = f"{added.name}: output"
        super().oblige(name, left, right)

    def heads(self) -> list[Obligation]:
        """The heads in order add up all contributions to the start."""
        space = self.weight(self.layer.added.weight).target
        start, given = VectorSymbol(self.layer.added.start, space), VectorFamily("contribution", space)

        def after(heads: Any) -> Vector:
            return start + total(lambda h: given[h], heads)

        pairs = {
            "heads: entry": (start, after(EMPTY)),
            "heads: step": (after(_SEEN) + given[_HEAD], after(DisjointUnion(_SEEN, Singleton(_HEAD)))),
        }
        return [Obligation(name, *sides, decide(*sides)) for name, sides in pairs.items()]


def validate_layer(layer: LayerProgram, outputs: Mapping[str, Any], prefix: str = "") -> list[Obligation]:
    """The obligations of a layer against the terms it must compute, all proved; `prefix` of their names.

    Raises ProofError that names the first obligation that is refuted or undecided, or the statement that
    makes no sense.
    """
    validator = LayerValidator(layer, outputs)
    return require_proved(layer.core, [*validator.run(), *validator.heads()], prefix)


def _maps(outputs: Mapping[str, Any]) -> dict[str, LinearMap]:
    """The named maps of the terms."""
    found: dict[str, LinearMap] = {}
    for term in outputs.values():
        for x in sp.preorder_traversal(term):
            if isinstance(x, LinearMap):
                for letter in x.letters:
                    space = Space(letter.source), Space(letter.target)
                    found[letter.name] = LinearMap(letter.name, *space)
    return found
