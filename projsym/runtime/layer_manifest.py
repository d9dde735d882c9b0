"""The committed layers: inputs, outputs, files. Plain data, read once."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from projsym.runtime.manifest import KERNELS, Argument


@dataclass(frozen=True)
class LayerEntry:
    """One layer.

    sources: the vectors it is given, queries ("i") first. weights: name and features of the matrices of a
    head. offsets: name and feature of the vectors of a head. start: name and feature of the vector that the
    heads are added to. outputs: the vector, then the scalars. blocks: as in
    :class:`projsym.runtime.manifest.Entry`. images: the vectors of the attention that are computed. mean:
    name and feature of what it gives.
    """

    name: str
    sources: tuple[Argument, ...]
    weights: tuple[tuple[str, str, str], ...]
    offsets: tuple[tuple[str, str], ...]
    start: tuple[str, str]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]
    blocks: dict[str, list[tuple[int, int]]]
    images: tuple[Argument, ...]
    mean: tuple[str, str]
    files: dict[str, str]
    folder: Path

    @property
    def features(self) -> tuple[str, ...]:
        """The names of all feature dimensions."""
        named = [x.feature for x in self.sources] + [f for _, *pair in self.weights for f in pair]
        return tuple(dict.fromkeys(named))

    def source(self, target: str) -> str:
        """The text of the file for ``"c/float32"``, ``"c/float64"`` or ``"numpy"``."""
        return (self.folder / self.files[target]).read_text(encoding="utf-8")


@functools.cache
def load_layers(folder: Path = KERNELS) -> dict[str, LayerEntry]:
    """All layers of a folder by name. Raises FileNotFoundError if it holds no ``manifest.json``."""
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        name: LayerEntry(
            name,
            tuple(Argument(x["name"], x["axes"], x["feature"]) for x in e["sources"]),
            tuple((w["name"], w["source"], w["target"]) for w in e["weights"]),
            tuple((x["name"], x["feature"]) for x in e["offsets"]),
            (e["start"]["name"], e["start"]["feature"]),
            tuple(e["parameters"]),
            tuple(e["outputs"]),
            {target: [(a, b) for a, b in pairs] for target, pairs in e["blocks"].items()},
            tuple(Argument(x["name"], x["axes"], x["feature"]) for x in e["images"]),
            (e["mean"]["name"], e["mean"]["feature"]),
            dict(e["files"]),
            folder,
        )
        for name, e in data["layers"].items()
    }
