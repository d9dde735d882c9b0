"""Layers in C for other instruction sets than this machine's best, and the sizes that tiles must have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _layers import FORMS, exact

from projsym import Folded, Tied
from projsym.bounds_layer import layer_bound
from projsym.codegen import c_printer, isa, layer_c
from projsym.codegen.layer_c import emit_layer_c
from projsym.codegen.layer_kernel import layer_kernels
from projsym.codegen.layer_products import TILES
from projsym.runtime.layer_kernel import CLayer
from projsym.runtime.layer_manifest import LayerEntry, load_layers

KERNELS = {kernel.name: kernel for kernel in layer_kernels()}
TOKENS, WIDTH = (1, 5, 20, 97), 130
"""The width is more than the rows of a panel on AVX-512, and no multiple of its vectors."""


def compare(entry: LayerEntry, form: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    weights = FORMS[form](rng, WIDTH, 5, 35, 2, dtype)
    sizes, arrays = given(weights)
    layer = CLayer(entry, dtype, sizes)
    for n in TOKENS:
        x = rng.standard_normal((3, n, WIDTH)).astype(dtype)
        out, lse, _, status = layer((3,), arrays | {"z": x, "x": x}, (weights.scale,), True, False)
        want, logs = exact(x, weights)
        bound, allowed = layer_bound(x, weights), 1 + 2.0**-9
        assert status == 0 and lse is not None
        assert (np.abs(out - want) <= bound.out * allowed).all()
        assert (np.abs(lse - logs) <= bound.lse * allowed).all()


def given(weights: Folded | Tied) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Sizes by feature, and arrays by name, but for the tokens."""
    if isinstance(weights, Folded):
        arrays = {"A": weights.A, "B": weights.B, "a": weights.a, "y": weights.b}
        return {"dz": weights.A.shape[1], "d": weights.A.shape[2], "dy": len(weights.b)}, arrays
    names = ("W_Q", "W_K", "W_O", "b_Q", "b_K")
    sizes = {"dz": weights.W_Q.shape[1], "dx": weights.W_K.shape[1], "d": weights.W_Q.shape[2]}
    return sizes | {"dy": len(weights.b)}, {n: getattr(weights, n) for n in names} | {"y": weights.b}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_portable_c(form: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the vector instructions of this machine."""
    if not Path("/proc/cpuinfo").exists() or "avx" not in Path("/proc/cpuinfo").read_text():
        # What it forbids, other processors' compilers never use.
        pytest.skip("the flag is one of x86 compilers")
    monkeypatch.setenv("PROJSYM_CFLAGS", "-mno-avx -Wno-psabi")
    compare(load_layers()[f"layer_{form}"], form, dtype)


@pytest.mark.parametrize(("form", "dtype"), [("folded", "float32"), ("tied", "float64")])
def test_tiles_of_avx512_without_its_instructions(
    form: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = replace(isa.ISAS[0], condition="2 > 1", include="", operations={})
    assert wide.name == "avx512"
    monkeypatch.setattr(isa, "ISAS", (wide, isa.ISAS[-1]))
    monkeypatch.setattr(layer_c, "ISAS", (wide, isa.ISAS[-1]))
    monkeypatch.setattr(c_printer, "ISAS", (wide,))
    monkeypatch.setenv("PROJSYM_CFLAGS", "-Wno-psabi")
    name = f"layer_{form}"
    entry = replace(load_layers()[name], folder=tmp_path)
    text = emit_layer_c(KERNELS[name].build_layer(dtype).layer, dtype)
    (tmp_path / entry.files[f"c/{dtype}"]).write_text(text)
    compare(entry, form, dtype)


def test_product_tiles_fit_the_registers() -> None:
    """Accumulators, one row of a panel and one broadcast."""
    for machine in isa.ISAS:
        rows, features = TILES[machine.name]
        assert rows * features + features + 1 <= machine.registers
