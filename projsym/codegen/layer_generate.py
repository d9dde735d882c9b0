"""The generated files of whole layers, and what the manifest says of them."""

from __future__ import annotations

from typing import Any

from .exp2 import certificate
from .kernel import operations
from .layer_c import emit_layer_c
from .layer_kernel import BuiltLayer, LayerKernel
from .layer_numpy import emit_layer_numpy
from .program import Output
from .provenance import provenance


def layer_files(
    kernel: LayerKernel, dtypes: tuple[str, ...], targets: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, Any], list[BuiltLayer]]:
    """The texts of a layer's files, by name, its manifest entry, and the programs behind them.

    Raises ProofError unless the theorem, every citation and every program are proved.
    """
    built = {dtype: kernel.build_layer(dtype) for dtype in dtypes}
    array = kernel.build_layer(dtypes[0], "numpy")
    names = {f"c/{dtype}": f"{kernel.name}_{dtype}.c" for dtype in dtypes} | {"numpy": f"{kernel.name}.py"}
    files: dict[str, str] = {}
    if "c" in targets:
        for dtype, b in built.items():
            text = "\n".join(f" * {line}".rstrip() for line in _header(b).splitlines())
            files[names[f"c/{dtype}"]] = f"/*\n{text}\n */\n" + emit_layer_c(b.layer, dtype)
    if "numpy" in targets:
        files[names["numpy"]] = emit_layer_numpy(array.layer, _header(array, c=False))
    return files, _entry(built, array, names), [*built.values(), array]


def _header(b: BuiltLayer, c: bool = True) -> str:
    """The provenance of a layer."""
    layer = b.layer
    products = [f"2 {x.weight.source} {x.weight.target} a row of {x.source.name}" for x in layer.images]
    products.append(f"2 {layer.added.weight.source} {layer.added.weight.target} a query")
    work = f"{operations(layer.core)}; {', '.join(products)}; all for each head"
    return provenance(b.kernel, b.cited, b.obligations, work, layer.core, b.dtype if c else None)


def _entry(built: dict[str, BuiltLayer], array: BuiltLayer, names: dict[str, str]) -> dict[str, Any]:
    from .generate import _blocks

    b = next(iter(built.values()))
    layer = b.layer
    return {
        "sources": [{"name": x.name, "axes": x.axes, "feature": x.feature} for x in layer.sources],
        "weights": [{"name": w.name, "source": w.source, "target": w.target} for w in layer.weights],
        "offsets": [{"name": name, "feature": feature} for name, feature in layer.offsets],
        "start": {"name": layer.added.start, "feature": layer.added.weight.target},
        "parameters": list(layer.parameters),
        "images": [{"name": x.name, "axes": x.source.axes, "feature": x.weight.target} for x in layer.images],
        "mean": {"name": layer.added.mean, "feature": layer.added.weight.source},
        "outputs": [
            layer.added.name,
            *(s.name for s in layer.core.statements() if isinstance(s, Output) and not s.feature),
        ],
        "theorems": [t.id for t in b.theorems],
        "validated": [o.name for o in b.obligations],
        "blocks": {f"c/{dtype}": _blocks(x.layer.core) for dtype, x in built.items()}
        | {"numpy": _blocks(array.layer.core)},
        "files": names,
        "exp_error": {dtype: certificate(dtype).total for dtype in built},
    }
