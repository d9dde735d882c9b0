"""Layers: what is lowered from the last line, what is refused, and that a wrong program is not validated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from projsym.algebra.scalars import inner
from projsym.algebra.terms import LinearMap, VectorSymbol
from projsym.codegen.layer_c import emit_layer_c
from projsym.codegen.layer_kernel import LayerKernel, layer_kernels
from projsym.codegen.layer_lower import lower_layer
from projsym.codegen.layer_numpy import emit_layer_numpy
from projsym.codegen.layer_program import LayerProgram, Weight
from projsym.codegen.layer_validate import validate_layer
from projsym.codegen.lower import LoweringError
from projsym.codegen.program import Dot, Loop, Output, Program
from projsym.derivations.layers import W_K, W_O, W_Q, A, Affine, B, X, a, b_K, b_Q, layer_theorem, scale, z
from projsym.proof.verdict import ProofError

KERNELS = {kernel.name: kernel for kernel in layer_kernels()}


@pytest.fixture(scope="module")
def folded() -> LayerProgram:
    return KERNELS["layer_folded"].build_layer("float32").layer


@pytest.fixture(scope="module")
def tied() -> LayerProgram:
    return KERNELS["layer_tied"].build_layer("float32").layer


def test_maps_are_read_off_the_last_line(folded: LayerProgram, tied: LayerProgram) -> None:
    assert [(i.name, i.source.name, i.weight.name, i.offset) for i in folded.images] == [("q", "z", "A", "a")]
    assert folded.weights == (Weight("A", "dz", "d"), Weight("B", "d", "dy"))
    assert [x.name for x in folded.core.inputs] == ["q", "x", "scale"]
    assert [(i.name, i.source.name, i.weight.name, i.offset) for i in tied.images] == [
        ("q", "z", "W_Q", "b_Q"),
        ("k", "x", "W_K", "b_K"),
    ]
    assert [x.name for x in tied.core.inputs] == ["q", "k", "scale"]


def test_both_layers_are_validated() -> None:
    for kernel in KERNELS.values():
        for target in ("c", "numpy"):
            names = [o.name for o in kernel.build_layer("float64", target).obligations]
            assert names[-2:] == ["heads: entry", "heads: step"]
            assert {"out: output", "lse: output"} < set(names) and len(names) == 8


def values_of_their_own() -> LayerKernel:
    """The standard layer: nothing but its theorem is new."""
    W_V = LinearMap("W_V", X)
    b_V = VectorSymbol("b_V")
    keys = Affine(W_K, b_K)
    theorem = layer_theorem(
        "standard",
        "A standard layer",
        lambda j: scale * inner(z @ W_Q + b_Q, keys[j]),
        Affine(W_V, b_V),
        W_O,
        register=False,
    )
    return LayerKernel("standard", theorem)


def test_another_form_needs_its_theorem_only() -> None:
    layer = values_of_their_own().build_layer("float32").layer
    assert [i.weight.name for i in layer.images] == ["W_Q", "W_K", "W_V"]
    assert "int standard(" in emit_layer_c(layer, "float32")
    assert "def standard(z, x, W_Q, W_K, W_V, W_O, b_Q, b_K, b_V, y, scale" in emit_layer_numpy(layer)


def outputs(name: str) -> dict[str, Any]:
    return KERNELS[name].outputs()


def change_core(layer: LayerProgram, change: Callable[[Any], Any]) -> LayerProgram:
    def walk(body: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(n, body=walk(n.body)) if isinstance(n, Loop) else change(n) for n in body)

    core: Program = layer.core
    return replace(layer, core=core.with_(body=walk(core.body)))


def test_a_wrong_layer_is_not_validated(tied: LayerProgram, folded: LayerProgram) -> None:
    def refuted(layer: LayerProgram, name: str, message: str) -> None:
        with pytest.raises(ProofError, match=message):
            validate_layer(layer, outputs(name))

    q, k = tied.images
    refuted(replace(tied, images=(replace(q, offset=None), k)), "layer_tied", "out: output")
    refuted(replace(tied, images=(q, replace(k, offset=None))), "layer_tied", "output")
    refuted(replace(tied, images=(replace(q, offset="b_K"), k)), "layer_tied", "out: output")
    refuted(replace(tied, added=replace(tied.added, start="u")), "layer_tied", "out: output")
    (image,) = folded.images
    refuted(
        replace(folded, images=(replace(image, weight=Weight("C", "dz", "d")),)), "layer_folded", "no map C"
    )
    refuted(replace(folded, images=()), "layer_folded", "q is neither an input nor an image")
    half = change_core(folded, lambda n: replace(n, scale=n.scale / 2) if isinstance(n, Dot) else n)
    refuted(half, "layer_folded", "out: output")
    twice = change_core(
        folded,
        lambda n: (
            replace(n, terms=tuple((2 * c, v) for c, v in n.terms))
            if isinstance(n, Output) and n.feature
            else n
        ),
    )
    refuted(twice, "layer_folded", "out: output")


def test_what_is_no_layer_is_refused() -> None:
    given = outputs("layer_folded")
    out, mean = given["out"], given["out"].args[1].args[0]

    def refuse(term: Any, message: str) -> None:
        with pytest.raises(LoweringError, match=message):
            lower_layer("t", {"out": term})

    refuse(mean @ B, r"the output of a layer is y \+ \(a mean\) W")
    refuse(out + out, r"the output of a layer is y \+ \(a mean\) W")
    swapped = LinearMap("S", X, X)
    refuse(out.xreplace({z @ A + a: z @ A @ swapped + a}), "a map of something else than an input")
    refuse(out.xreplace({z @ A + a: z @ (A @ swapped) + a}), "A S: give a product or transpose of maps")
    refuse(out.xreplace({z @ A + a: 2 * (z @ A) + a}), "not of the form x W")
    refuse(out.xreplace({z @ A + a: z @ LinearMap("Ä", z.space, X) + a}), "'Ä' cannot name an argument")


def test_printing_is_deterministic_and_refuses_a_dtype(folded: LayerProgram) -> None:
    assert emit_layer_c(folded, "float64") == emit_layer_c(folded, "float64")
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'float16'"):
        emit_layer_c(folded, "float16")
