"""The list of committed kernels: names, inputs, outputs, files. Plain data, read once."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projsym.runtime import isa
from projsym.runtime.storage import BFLOAT16

KERNELS = Path(__file__).resolve().parent.parent / "kernels"


@dataclass(frozen=True)
class Argument:
    """An input. axes: "" parameter, "i" one per query, "j" one per key, "ij" one per pair.

    feature: "" for a scalar.
    """

    name: str
    axes: str
    feature: str


@dataclass(frozen=True)
class Parts:
    """What a C kernel does with few queries.

    below: with fewer queries than this, keys are in parts of `size`. few: up to so many queries each has sums
    of its own and takes `block` keys at once (0: a block as with more); then a product of a score of d
    features goes through ``d/stride + rest`` additions at most.
    """

    below: int
    size: int
    few: int
    block: int
    stride: int
    rest: int


@dataclass(frozen=True)
class Entry:
    """One kernel.

    outputs: name and feature ("" if scalar), in the order of the C arguments; output_axes: "i" for one per
    query, "j" for one per key. ranged: whether rows may see ranges of keys. blocks: keys a block, by target:
    pairs (features, keys), ascending; the last one holds that has fewer features than the widest vector.
    parts: by target, of a kernel whose keys may be in parts; none for others.
    """

    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[tuple[str, str], ...]
    output_axes: tuple[str, ...]
    ranged: bool
    blocks: dict[str, list[tuple[int, int]]]
    files: dict[str, str]
    folder: Path
    parts: dict[str, Parts] = field(default_factory=dict)

    @functools.cached_property
    def vectors(self) -> tuple[Argument, ...]:
        return tuple(x for x in self.inputs if x.feature)

    @functools.cached_property
    def scalars(self) -> tuple[Argument, ...]:
        return tuple(x for x in self.inputs if len(x.axes) == 1 and not x.feature)

    @functools.cached_property
    def pairs(self) -> tuple[Argument, ...]:
        return tuple(x for x in self.inputs if x.axes == "ij")

    @functools.cached_property
    def arrays(self) -> tuple[Argument, ...]:
        """All but parameters, in the order of the C arguments."""
        return (*self.vectors, *self.scalars, *self.pairs)

    @functools.cached_property
    def parameters(self) -> tuple[Argument, ...]:
        return tuple(x for x in self.inputs if not x.axes)

    def order(self, target: str, queries: int, keys: int, features: int) -> dict[str, Any]:
        """How the kernel of a target sums over the keys, as `projsym.bounds` takes it.

        queries: of a call, for one head. features: the length of the widest vector.

        Every block is summed on its own, from zero, in some order, and added to the sums so far once: an
        addend goes through at most the additions of its block and one for each block. The C kernels add the
        products of a score in the order of the features and the keys of a block in their order; with few
        queries products and weights are added in several sums at once. Parts of the keys have their own sums.
        In bfloat16, with more than few queries, a CPU may add pairs of products, of rounded weights.
        """
        parts, narrow = self.parts.get(target), target.endswith(f"/{BFLOAT16}")
        few = parts is not None and queries <= parts.few
        paired = narrow and not few and isa.multiplies_pairs()
        block = next(size for least, size in reversed(self.blocks[target]) if features > least or not least)
        if parts and few:
            block = min(block, parts.block or block)
        order: dict[str, Any] = {
            "block": block,
            "depth": min(block, keys) + -(-keys // block),
            "sequential": target != "numpy" and not paired,
        }
        if narrow:
            order["weight_error"] = 2.0**-8 if paired else 0.0
        if parts and few:
            in_part, merged = -(-min(keys, parts.size) // block), -(-keys // parts.size)
            order |= {"sequential": False, "score_depth": -(-features // parts.stride) + parts.rest}
            order |= {"part": parts.size, "depth": min(block, keys) + in_part + merged}
        elif parts and queries < parts.below:
            order |= {"part": parts.size}
        return order

    def source(self, target: str) -> str:
        """The text of the file for ``"c/float32"``, ``"c/float64"`` or ``"numpy"``."""
        return (self.folder / self.files[target]).read_text(encoding="utf-8")


@functools.cache
def load(folder: Path = KERNELS) -> dict[str, Entry]:
    """All kernels of a folder by name. Raises FileNotFoundError if it holds no ``manifest.json``."""
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        name: Entry(
            name,
            tuple(Argument(x["name"], x["axes"], x["feature"]) for x in e["inputs"]),
            tuple((x["name"], x["feature"]) for x in e["outputs"]),
            tuple(x["axes"] for x in e["outputs"]),
            e["ranged"],
            {target: [(a, b) for a, b in pairs] for target, pairs in e["blocks"].items()},
            dict(e["files"]),
            folder,
            {target: Parts(**x) for target, x in e.get("parts", {}).items()},
        )
        for name, e in data["kernels"].items()
    }
