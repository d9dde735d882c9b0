"""Printed C, compiled and compared with a wide reference within the bound of `_reference`.

The tolerance of every comparison is that bound: derived there, elementwise, from the unit roundoff, the
certified error of exp2 and the inputs. Nothing is chosen to pass; `test_a_wrong_scale_is_seen` shows that
the bound is tight enough to fail.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from projsym.codegen import schedule
from projsym.codegen.c_printer import emit_c
from projsym.codegen.program import Dot, Input, Loop, Program, symbol

from . import _forms
from ._ckernel import ISAS, Kernel
from ._reference import Expected, expected, parameters

SIZES = [(0, 5), (5, 0), (1, 0), (1, 1), (5, 7), (15, 127), (16, 128), (17, 129), (49, 131)]
FORMS = ["gaussian", "dot", "biased", "student", "epanechnikov", "mixture", "laplace"]
# Every form, size and type on the widest instruction set; each other set on what it prints differently.
CASES = [(f, "float32", d, ISAS[0]) for f in FORMS for d in (7, 64)]
CASES += [("gaussian", "float32", 1, ISAS[0]), ("dot", "float32", 77, ISAS[0])]
CASES += [
    (f, "float64", d, ISAS[0]) for f, d in (("gaussian", 77), ("student", 64), ("mixture", 7), ("biased", 1))
]
CASES += [
    (f, t, d, isa)
    for isa in ISAS[1:]
    for f, t, d in (("biased", "float32", 7), ("gaussian", "float64", 64), ("student", "float32", 77))
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled."""
    return tmp_path_factory.mktemp("kernels")


def scheduled(form: str, dtype: str) -> Program:
    """A form with the default schedule."""
    plain = getattr(_forms, form)()
    return schedule.apply(plain, schedule.default(plain, dtype))


def sizes(form: str, d: int) -> dict[str, int]:
    """Feature sizes: values of `dot` have one feature less than keys, but at least one."""
    return {"d": d, "dv": max(1, d - 1)} if form == "dot" else {"d": d}


def block(program: Program, features: int) -> int:
    """Keys per block."""
    if wide := [keys for least, keys in program.blocks if features > least]:
        return wide[-1]
    found = [
        x.block
        for h in program.body
        if isinstance(h, Loop)
        for i in h.body
        if isinstance(i, Loop)
        for x in i.body
        if isinstance(x, Loop) and x.block
    ]
    return found[0]


def inputs(form: str, n: int, m: int, d: int, dtype: str, heads: int = 2) -> dict[str, np.ndarray]:
    """Standard normal vectors; a third of the key biases is minus infinity."""
    rng = np.random.default_rng([n, m, d])
    q, k = (rng.standard_normal((heads, x, d)).astype(dtype) for x in (n, m))
    k[:, : min(n, m)] = q[:, : min(n, m)]  # distance 0, where an expanded square may come out negative
    given = {"q": q, "k": k}
    if form == "dot":
        given["v"] = rng.standard_normal((heads, m, max(1, d - 1))).astype(dtype)
    if form == "biased":
        bias = rng.standard_normal((heads, m)).astype(dtype)
        bias[:, 1::3] = -np.inf
        given["key_bias"] = bias
    return given


def compare(form: str, kernel: Kernel, given: dict[str, np.ndarray], threads: int = 1) -> Expected:
    """Run, and assert that outputs are within their bounds."""
    p = parameters(form, given["q"].shape[-1])
    status, got = kernel(threads=threads, **given, **p)
    bias = given.get("key_bias", np.zeros(given["k"].shape[:2], kernel.dtype))
    want = expected(
        form,
        given["q"],
        given["k"],
        given.get("v", given["k"]),
        bias,
        p,
        kernel.dtype.name,
        block(kernel.program, given["k"].shape[-1]),
    )
    assert status == np.count_nonzero(~np.isfinite(want.lse))
    assert (np.abs(got["out"] - want.out) <= want.out_bound).all()
    finite = np.isfinite(want.lse)
    assert (got["lse"][~finite] == -np.inf).all()
    assert (np.abs(got["lse"][finite] - want.lse[finite]) <= want.lse_bound[finite]).all()
    return want


@pytest.mark.parametrize(("form", "dtype", "d", "isa"), CASES)
def test_within_the_bound_at_every_size(form: str, dtype: str, d: int, isa: str, folder: Path) -> None:
    kernel = Kernel(scheduled(form, dtype), dtype, isa, sizes(form, d), folder)
    for n, m in SIZES:
        compare(form, kernel, inputs(form, n, m, d, dtype))


def test_a_wrong_scale_is_seen(folder: Path) -> None:
    """A relative error of 1e-3 in the scale is outside the bound of float32."""
    kernel = Kernel(scheduled("dot", "float32"), "float32", ISAS[0], sizes("dot", 64), folder)
    given, p = inputs("dot", 16, 128, 64, "float32"), parameters("dot", 64)
    _, got = kernel(**given, scale=p["scale"] * 1.001)
    want = expected("dot", *(given[x] for x in "qkv"), np.zeros((2, 128)), p, "float32", 128)
    assert (np.abs(got["out"] - want.out) > want.out_bound).any()


def test_threads_openmp_and_strides_change_no_bit(folder: Path) -> None:
    plain = scheduled("gaussian", "float32")
    kernel = Kernel(plain, "float32", ISAS[0], {"d": 64}, folder)
    serial = Kernel(plain, "float32", ISAS[0], {"d": 64}, folder, openmp=False)
    given = inputs("gaussian", 131, 257, 64, "float32", heads=3)
    p = parameters("gaussian", 64)
    _, one = kernel(threads=1, **given, **p)
    # (n, heads, d) in memory, one element off alignment
    moved = {}
    for name, a in given.items():
        flat = np.empty(a.size + 1, a.dtype)[1:]
        view = flat.reshape(a.shape[1], a.shape[0], a.shape[2]).swapaxes(0, 1)
        view[...] = a
        moved[name] = view
    for _, other in (kernel(threads=3, **given, **p), serial(threads=2, **given, **p), kernel(**moved, **p)):
        for name, a in one.items():
            np.testing.assert_array_equal(a, other[name])


def test_an_output_of_a_sum_and_a_row_vector(folder: Path) -> None:
    """(p - q)/sigma^2 is the mean's own output moved and scaled: 4 more roundings of its terms."""
    p = _forms.displacement()
    moved = Kernel(schedule.apply(p, schedule.default(p, "float32")), "float32", ISAS[0], {"d": 7}, folder)
    mean = Kernel(scheduled("gaussian", "float32"), "float32", ISAS[0], {"d": 7}, folder)
    given = inputs("gaussian", 49, 131, 7, "float32")
    _, a = moved(**given, sigma=2.0)
    _, b = mean(**given, sigma=2.0)
    slack = 4 * 2.0**-24 * (np.abs(b["out"]) + np.abs(given["q"])) / 4
    assert (np.abs(a["out"] - (b["out"].astype(float) - given["q"]) / 4) <= slack).all()


def test_an_absent_output_is_not_needed(folder: Path) -> None:
    kernel = Kernel(scheduled("gaussian", "float32"), "float32", ISAS[0], {"d": 64}, folder)
    given, p = inputs("gaussian", 17, 129, 64, "float32"), parameters("gaussian", 64)
    _, full = kernel(**given, **p)
    _, part = kernel(skip=("lse",), **given, **p)
    np.testing.assert_array_equal(full["out"], part["out"])
    assert np.isnan(part["lse"]).all()


@pytest.mark.parametrize("isa", ISAS)
def test_rows_without_keys_and_bad_rows(isa: str, folder: Path) -> None:
    """Without a weighted key out is 0 and lse minus infinity; rows without a finite lse are counted."""
    kernel = Kernel(scheduled("biased", "float32"), "float32", isa, {"d": 7}, folder)
    given = inputs("biased", 17, 129, 7, "float32")
    given["key_bias"][0] = -np.inf
    status, got = kernel(**given, scale=1.0)
    assert status == 17
    assert (got["out"][0] == 0).all() and (got["lse"][0] == -np.inf).all()
    assert np.isfinite(got["out"][1]).all() and np.isfinite(got["lse"][1]).all()
    given["q"][1, 3, 2] = np.nan
    assert kernel(**given, scale=1.0)[0] == 18
    given["key_bias"][0, 128] = np.inf
    assert kernel(**given, scale=1.0)[0] == 18


@pytest.mark.parametrize("isa", ISAS)
def test_scores_far_apart_neither_overflow_nor_vanish(isa: str, folder: Path) -> None:
    """With scores of ±5000 in base e the nearest key has all the weight, in any key block."""
    kernel = Kernel(scheduled("biased", "float32"), "float32", isa, {"d": 7}, folder)
    given = inputs("biased", 5, 300, 7, "float32")
    given["key_bias"] = np.linspace(-5000, 5000, 300, dtype="float32")[None].repeat(2, 0)
    given["key_bias"][1] = given["key_bias"][1, ::-1]
    status, got = kernel(**given, scale=0.0)
    assert status == 0
    for h, j in ((0, 299), (1, 0)):
        np.testing.assert_array_equal(got["out"][h], np.broadcast_to(given["k"][h, j], (5, 7)))
    np.testing.assert_allclose(got["lse"], 5000, rtol=4 * 2.0**-24)


def test_overflow_of_unshifted_exponentials_is_counted(folder: Path) -> None:
    """Without a running maximum, weights above the range give infinite normalisers, not garbage."""
    for isa in ISAS:
        bare = _forms.biased()
        steps = [s for s in schedule.default(bare, "float32") if s.text != schedule.online().text]
        unsafe = Program("unsafe", bare.inputs, bare.body)
        kernel = Kernel(schedule.apply(unsafe, steps), "float32", isa, {"d": 7}, folder)
        given = inputs("biased", 5, 9, 7, "float32")
        given["key_bias"][0] = 100
        assert kernel(**given, scale=0.0)[0] == 5


def test_the_text_is_always_the_same() -> None:
    p = scheduled("mixture", "float64")
    assert emit_c(p, "float64", "// header") == emit_c(
        scheduled("mixture", "float64"), "float64", "// header"
    )


def test_refusals_name_the_cause() -> None:
    plain = _forms.gaussian()
    with pytest.raises(ValueError, match="block"):
        emit_c(plain, "float32")
    steps = schedule.default(plain, "float32")
    with pytest.raises(ValueError, match="k_k cannot stand in the loop over keys"):
        emit_c(schedule.apply(plain, [s for s in steps if s.text != schedule.hoist().text]), "float32")
    with pytest.raises(ValueError, match="block of 20 queries is no multiple of the 16 lanes of avx512"):
        odd_block = [schedule.block("i", 20) if "queries in blocks" in s.text else s for s in steps]
        emit_c(schedule.apply(plain, odd_block), "float32")
    with pytest.raises(ValueError, match="dtype must be"):
        emit_c(scheduled("gaussian", "float32"), "float16")
    with pytest.raises(ValueError, match=r"no C for .*sinh"):
        odd = _forms.program("odd", [_forms.QK], sp.sinh(symbol("q_k")), sp.log(symbol("s0")))
        emit_c(schedule.apply(odd, schedule.default(odd, "float32")), "float32")
    with pytest.raises(ValueError, match="not a C identifier"):
        p = scheduled("dot", "float32")
        emit_c(p.with_(inputs=(*p.inputs, Input("β", ""))), "float32")


def test_names_of_inputs_may_be_those_of_the_prelude(folder: Path) -> None:
    """Inputs named like macros, types, keywords and locals of the C text."""
    weight = sp.exp(symbol("register") * symbol("q_k") + symbol("acc"))
    plain = _forms.program(
        "collide",
        [Dot(symbol("q_k"), "ij", "T", "W")],
        weight,
        _forms.LOG,
        Input("register", ""),
        Input("acc", "j"),
        names=("T", "W"),
    )
    odd = Kernel(
        schedule.apply(plain, schedule.default(plain, "float32")), "float32", ISAS[0], {"d": 7}, folder
    )
    given = inputs("biased", 17, 129, 7, "float32")
    _, got = odd(T=given["q"], W=given["k"], acc=given["key_bias"], register=0.5)
    usual = Kernel(scheduled("biased", "float32"), "float32", ISAS[0], {"d": 7}, folder)
    np.testing.assert_array_equal(got["out"], usual(**given, scale=0.5)[1]["out"])
