"""Writing the committed kernels, byte for byte, and comparing them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projsym.derivations.computation import KERNEL_PREFIX
from projsym.proof.theorem import REGISTRY

from .c_parts import parts_of
from .c_printer import emit_c
from .exp2 import certificate
from .gradient_kernel import gradient_kernels
from .kernel import Built, Kernel, operations
from .layer_generate import layer_files
from .layer_kernel import BuiltLayer, layer_kernels
from .numpy_printer import emit_numpy
from .pass_stored import arithmetic
from .pass_tree import pair_loop
from .program import Loop, Node, Output, Program
from .provenance import GENERATOR, provenance

DTYPES = ("float32", "float64")
NARROW = {"bfloat16": ("attention", "project_dot", "project_gaussian")}
"""By storage type, the kernels that have a file for it; calls of others widen their arrays first."""
TARGETS = ("c", "numpy")
COMMITTED = Path(__file__).resolve().parent.parent / "kernels"
MANIFEST = "manifest.json"
_KEPT = {"__init__.py"}


@dataclass(frozen=True)
class Generated:
    """The text of every file, by name, and the validated programs they come from."""

    files: dict[str, str]
    built: tuple[Built, ...]
    layers: tuple[BuiltLayer, ...] = ()


def kernels() -> tuple[Kernel, ...]:
    """One kernel for each theorem [IV.6/…]: its name is the last part of the id."""
    return tuple(
        Kernel(t.id.removeprefix(KERNEL_PREFIX), t)
        for t in REGISTRY.values()
        if t.id.startswith(KERNEL_PREFIX)
    )


def generate(targets: tuple[str, ...] = TARGETS) -> Generated:
    """All files of the chosen targets, and the manifest that the runtime reads if all are chosen.

    Raises ProofError unless every theorem, citation and program is proved.
    """
    files: dict[str, str] = {}
    entries: dict[str, Any] = {}
    everything: list[Built] = []
    for kernel in (*kernels(), *gradient_kernels()):
        narrow = [dtype for dtype, names in NARROW.items() if kernel.name in names]
        built = {dtype: kernel.build(dtype) for dtype in (*DTYPES, *narrow)}
        array = kernel.build("float32", "numpy")
        everything += [*built.values(), array]
        names = {f"c/{dtype}": f"{kernel.name}_{dtype}.c" for dtype in built}
        names["numpy"] = f"{kernel.name}.py"
        if "c" in targets:
            for dtype, b in built.items():
                files[names[f"c/{dtype}"]] = _comment(header(b)) + emit_c(
                    b.program, arithmetic(dtype), bounded=b.bounded, parts=b.parts
                )
        if "numpy" in targets:
            files[names["numpy"]] = emit_numpy(array.program, header(array, c=False), array.bounded)
        entries[kernel.name] = _entry(built, array, names)
    layers: dict[str, Any] = {}
    validated: list[BuiltLayer] = []
    for layer in layer_kernels():
        texts, layers[layer.name], made = layer_files(layer, DTYPES, targets)
        files |= texts
        validated += made
    if set(targets) == set(TARGETS):
        manifest = {"generator": GENERATOR, "kernels": entries, "layers": layers}
        files[MANIFEST] = json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return Generated(dict(sorted(files.items())), tuple(everything), tuple(validated))


def header(b: Built, c: bool = True) -> str:
    """The provenance of a kernel: theorem, hypotheses, certified exponential, operations, proof, program."""
    return provenance(
        b.kernel, b.cited, b.obligations, operations(b.program), b.program, arithmetic(b.dtype) if c else None
    )


def _comment(text: str) -> str:
    return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in text.splitlines()) + " */\n"


def _entry(built: dict[str, Built], array: Built, names: dict[str, str]) -> dict[str, Any]:
    b = built["float32"]
    program = b.program
    outputs = [
        {"name": s.name, "axes": s.axes, "feature": s.feature}
        for s in program.statements()
        if isinstance(s, Output)
    ]
    return {
        "inputs": [{"name": x.name, "axes": x.axes, "feature": x.feature} for x in program.inputs],
        "outputs": outputs,
        "ranged": pair_loop(program).ranged,
        "theorems": [t.id for t in b.theorems],
        "hypotheses": [h.statement for h in b.kernel.of.assumptions],
        "validated": list(dict.fromkeys(o.name for x in (b, *built.values()) for o in x.obligations)),
        "blocks": {f"c/{dtype}": _blocks(x.program) for dtype, x in built.items()}
        | {"numpy": _blocks(array.program)},
        "parts": {
            f"c/{dtype}": parts_of(x.parts, arithmetic(dtype))
            for dtype, x in built.items()
            if x.parts is not None
        },
        "files": names,
        "exp_error": {dtype: certificate(dtype).total for dtype in DTYPES},
    }


def _blocks(program: Program) -> list[tuple[int, int]]:
    """Pairs: where the widest feature has more numbers than the first, a block has as many keys as the
    second."""
    return [(0, _block(program)), *program.blocks]


def _block(program: Program) -> int:
    """The number of keys in a block of the loop over pairs."""

    def find(body: tuple[Node, ...]) -> Iterator[int]:
        for node in body:
            if isinstance(node, Loop):
                if node.axis == "j" and node.block:
                    yield node.block
                yield from find(node.body)

    return next(find(program.body))


def write(folder: Path = COMMITTED, targets: tuple[str, ...] = TARGETS) -> Generated:
    """Write all generated files into `folder`; generated files there that are no longer made are removed."""
    made = generate(targets)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    if set(targets) == set(TARGETS) and folder == COMMITTED:
        for stale in _generated_names(folder) - made.files.keys():
            (folder / stale).unlink()
    return made


def differences(folder: Path = COMMITTED) -> list[str]:
    """What in `folder` is not what the theorems generate, as lines; empty if every byte agrees."""
    made = generate().files
    present = _generated_names(folder)
    out = [f"missing: {name}" for name in sorted(made.keys() - present)]
    out += [f"not generated by anything: {name}" for name in sorted(present - made.keys())]
    for name in sorted(made.keys() & present):
        text = (folder / name).read_bytes()
        if text != made[name].encode():
            old, new = text.decode().splitlines(), made[name].splitlines()
            pairs = enumerate(zip(old, new, strict=False))
            at = next((n for n, (a, b) in pairs if a != b), min(len(old), len(new)))
            out.append(f"differs: {name}, first in line {at + 1}")
    return out


def _generated_names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {p.name for p in folder.iterdir() if p.suffix in {".c", ".py", ".json"} and p.name not in _KEPT}
