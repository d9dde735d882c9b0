"""A scheduled layer as a NumPy module: the function of its attention, and one that calls it for every head.

The products with maps are NumPy's, all rows of all sequences at once, which is where its BLAS is fastest.
"""

from __future__ import annotations

from projsym.codegen.layer_program import Image, LayerProgram
from projsym.codegen.numpy_printer import emit_numpy
from projsym.codegen.program import Output


def emit_layer_numpy(layer: LayerProgram, header: str = "") -> str:
    """The layer as the text of a Python module that imports NumPy only and defines `layer.name`.

    header: text put before the code as comment lines. The bytes depend on the arguments alone. The function
    takes sources ``(L, n, D)``, maps ``(H, D, D')``, offsets ``(H, D')``, the start ``(D,)`` and parameters,
    and returns the outputs (a scalar output is ``(H, L, n)``) and the number of rows that are not finite.
    """
    core = f"{layer.name}_attention"
    attention = emit_numpy(layer.core.with_(name=core), header)
    return attention + "\n\n" + "\n".join(_function(layer, core)) + "\n"


def _function(layer: LayerProgram, core: str) -> list[str]:
    added = layer.added
    scalars = [s.name for s in layer.core.statements() if isinstance(s, Output) and not s.feature]
    shapes = [f"{x.name} (L, {'n' if x.axes == 'i' else 'm'}, {x.feature})" for x in layer.sources]
    shapes += [f"{w.name} (H, {w.source}, {w.target})" for w in layer.weights]
    shapes += [f"{name} (H, {feature})" for name, feature in layer.offsets]
    shapes += [f"{added.start} ({added.weight.target},)"]
    names = [s.split()[0] for s in shapes] + list(layer.parameters)
    flags = "".join(f", {s}=True" for s in scalars)
    first, weight = layer.sources[0].name, added.weight.name
    rows = f"*{first}.shape[:2]"
    outputs = ", ".join([f"{added.name} (L, n, {added.weight.target})", *(f"{s} (H, L, n)" for s in scalars)])
    lines = [
        "@np.errstate(all='ignore')",
        f"def {layer.name}({', '.join(names)}, *{flags}, saved=None):",
        f'    """Arrays of one dtype -> ({outputs}, count).',
        "",
        *(f"    {shape}" for shape in shapes),
        "",
        "    The last item counts the rows whose normaliser is NaN or infinite, for each head, and the",
        "    rows whose output is. saved: arrays (H, L, rows, features) by name, which are filled.",
        '    """',
        f"    _total = np.empty(({rows}, {weight}.shape[2]), {first}.dtype)",
        f"    _total[...] = {added.start}",
        *(
            f"    _all_{s} = np.empty(({weight}.shape[0], {rows}), {first}.dtype) if {s} else None"
            for s in scalars
        ),
        "    _bad = 0",
        f"    for _head in range({weight}.shape[0]):",
    ]
    for x in layer.images:
        lines += [f"        {line}" for line in (*_image(x), *_save(x.name, x.name))]
    arguments = [x.name for x in layer.core.inputs] + [f"{s}={s}" for s in scalars]
    results = ", ".join(["_mean", *(f"_{s}" for s in scalars), "_count"])
    lines += [
        f"        {results} = {core}({', '.join(arguments)})",
        "        _bad += _count",
        *(f"        {line}" for line in _save(added.mean, "_mean")),
        *(line for s in scalars for line in (f"        if {s}:", f"            _all_{s}[_head] = _{s}")),
        f"        _total += (_mean.reshape(-1, _mean.shape[2]) @ {weight}[_head]).reshape(_total.shape)",
        "    _bad += np.count_nonzero(~np.isfinite(_total).all(axis=2))",
        f"    return {', '.join(['_total', *(f'_all_{s}' for s in scalars), '_bad'])}",
    ]
    return lines


def _image(x: Image) -> list[str]:
    s = x.source.name
    shape = f"*{s}.shape[:2], {x.weight.name}.shape[2]"
    lines = [f"{x.name} = ({s}.reshape(-1, {s}.shape[2]) @ {x.weight.name}[_head]).reshape({shape})"]
    if x.offset:
        lines.append(f"{x.name} += {x.offset}[_head]")
    return lines


def _save(name: str, value: str) -> list[str]:
    return ["if saved is not None:", f"    saved[{name!r}][_head] = {value}"]


__all__ = ["emit_layer_numpy"]
