"""The rows without a running maximum: when they are taken, and that they are right where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from projsym.codegen import passes, schedule
from projsym.codegen.c_bounded import REACH, VALUES
from projsym.codegen.pass_tree import map_nodes
from projsym.codegen.program import Node, Output, Program

from . import _forms
from ._ckernel import ISAS, Kernel
from .test_c_printer import compare, folder, inputs, scheduled, sizes

__all__ = ["folder"]


def free(form: str, dtype: str) -> Program:
    """A form scheduled without a running maximum."""
    plain = getattr(_forms, form)()
    steps = schedule.without_maximum(plain, schedule.default(plain, dtype))
    assert steps is not None
    return schedule.apply(plain, steps)


def marked(program: Program) -> Program:
    """One more in the log of the sum, so that it shows which rows were taken."""

    def change(node: Node) -> Node:
        if isinstance(node, Output) and node.name == "lse":
            return replace(node, terms=tuple((c + 1000, v) for c, v in node.terms))
        return node

    return program.with_(body=map_nodes(program.body, change))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("form", "dtype"), [("dot", "float32"), ("gaussian", "float64"), ("biased", "float32")]
)
def test_bounded_rows_are_within_the_bound(form: str, dtype: str, isa: str, folder: Path) -> None:
    bounded = free(form, dtype)
    kernel = Kernel(scheduled(form, dtype), dtype, isa, sizes(form, 7), folder, bounded=bounded)
    for n, m in ((96, 1), (97, 64), (145, 131)):
        given = inputs(form, n, m, 7, dtype)
        if form == "biased":
            given["key_bias"] = np.where(np.isfinite(given["key_bias"]), given["key_bias"], 0)
        compare(form, kernel, given, threads=2)
    seen = Kernel(scheduled(form, dtype), dtype, isa, sizes(form, 7), folder / "..", bounded=marked(bounded))
    _, got = seen(**given, **({"sigma": 7**0.25} if form == "gaussian" else {"scale": 7**-0.5}))
    assert (got["lse"] > 900).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_choice_is_made_block_by_block(dtype: str, folder: Path) -> None:
    """Only where norms, biases and values allow it; n below two blocks is not worth the norms."""
    program, d = scheduled("biased", dtype), 7
    kernel = Kernel(program, dtype, ISAS[0], {"d": d}, folder / "..", bounded=marked(free("biased", dtype)))
    q, k, bias = np.zeros((1, 144, d), dtype), np.zeros((1, 5, d), dtype), np.zeros((1, 5), dtype)
    q[0, :, 0], k[0, :, 1], k[0, 0, 0] = 1, 0.5, 1
    log2e, reach = np.log2(np.e), REACH[dtype]

    def taken(scale: float, **changed: np.ndarray) -> list[bool]:
        status, got = kernel(**{"q": q, "k": k, "key_bias": bias, **changed}, scale=scale)
        assert status == 0 and np.isfinite(got["out"]).all()
        return [bool((got["lse"][0, i : i + 48] > 900).all()) for i in (0, 48, 96)]

    below = 0.999 * reach / (log2e * np.sqrt(1.25))
    assert taken(below) == taken(-below) == [True] * 3
    assert taken(1.002 * below) == [False] * 3
    large = q.copy()
    large[0, 50] *= 1.01
    assert taken(below, q=large) == [True, False, True]
    assert taken(below, key_bias=bias + reach) == [False] * 3
    assert taken(0.0, key_bias=np.where(np.arange(5) == 3, -np.inf, bias).astype(dtype)) == [False] * 3
    status, got = kernel(q=q[:, :95], k=k, key_bias=bias, scale=below)
    assert status == 0 and (got["lse"] < 900).all()


def test_values_that_could_overflow_a_sum_need_the_maximum(folder: Path) -> None:
    kernel = Kernel(
        scheduled("dot", "float32"), "float32", ISAS[0], {"d": 7, "dv": 6}, folder / "..",
        bounded=marked(free("dot", "float32")),
    )  # fmt: skip
    given = inputs("dot", 96, 8, 7, "float32")
    given["v"][...] = 2.0 ** (VALUES["float32"] - 3)
    status, got = kernel(**given, scale=0.1)
    assert status == 0 and (got["lse"] > 900).all()
    np.testing.assert_allclose(got["out"], given["v"][:, :1].repeat(96, 1), rtol=2 * (8 + 8) * 2.0**-24)
    given["v"][1, 7, 5] = -(2.0**127)
    status, got = kernel(**given, scale=0.1)
    assert status == 0 and (got["lse"][0] > 900).all() and (got["lse"][1] < 900).all()
    assert np.isfinite(got["out"]).all()


PAYLOADS = np.array([0x7FC00001, 0xFFC12345, 0x7FFFFFFF], np.uint32).view(np.float32)
"""NaN whose low bits are not zero: integer arithmetic on an exponent could make numbers of them."""


@pytest.mark.parametrize("bad", [np.nan, np.inf, *PAYLOADS])
def test_bad_inputs_are_counted_in_bounded_rows_too(bad: float, folder: Path) -> None:
    kernel = Kernel(
        scheduled("biased", "float32"),
        "float32",
        ISAS[0],
        {"d": 7},
        folder,
        bounded=free("biased", "float32"),
    )
    given = inputs("biased", 96, 129, 7, "float32")
    given["key_bias"][...] = 0
    assert kernel(**given, scale=0.1)[0] == 0
    given["q"][1, 3, 2] = bad
    assert kernel(**given, scale=0.1)[0] == 1
    given["k"][0, 128, 1] = np.nan
    assert kernel(**given, scale=0.1)[0] == 97
    given = inputs("biased", 96, 129, 7, "float32")
    given["key_bias"][...] = 0
    given["key_bias"][0, 77] = abs(bad)
    assert kernel(**given, scale=0.1)[0] == 96


def test_blocks_of_both_kinds_and_threads_change_no_bit(folder: Path) -> None:
    kernel = Kernel(
        scheduled("biased", "float32"),
        "float32",
        ISAS[0],
        {"d": 7},
        folder,
        bounded=free("biased", "float32"),
    )
    given = inputs("biased", 300, 257, 7, "float32", heads=3)
    given["key_bias"][...] = 0
    given["q"][:, 60:70] *= 100
    _, one = kernel(threads=1, **given, scale=0.5)
    for threads in (2, 3, 7):
        _, other = kernel(threads=threads, **given, scale=0.5)
        for name, a in one.items():
            np.testing.assert_array_equal(a, other[name])


def test_what_norms_do_not_bound_is_refused() -> None:
    for form, text in (("student", "no power of two"), ("laplace", "no bound for")):
        plain = getattr(_forms, form)()
        with pytest.raises(ValueError, match=text):
            schedule.apply(plain, [schedule.base_two(), schedule.hoist(), schedule.bounded()])
    mixture = _forms.mixture()
    with pytest.raises(ValueError, match="row scalars"):
        schedule.apply(mixture, [schedule.base_two(), schedule.hoist(), schedule.bounded()])
    gaussian = _forms.gaussian()
    steps = [schedule.base_two(), schedule.online(), schedule.hoist(), schedule.bounded()]
    with pytest.raises(ValueError, match="already has a running maximum"):
        schedule.apply(gaussian, steps)
    assert schedule.without_maximum(gaussian, [schedule.base_two(), schedule.hoist()]) is None
    assert schedule.without_maximum(mixture, schedule.default(gaussian, "float32")) is None
    assert passes.bounded(free("gaussian", "float32")) == free("gaussian", "float32")
