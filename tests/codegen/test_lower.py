"""Lowering: the programs of the kernels' theorems, new forms without any C written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from flint import arb

from projsym.algebra.scalars import ScalarFamily, attend, exp2, inner, norm2, softmax, total
from projsym.algebra.sets import IndexSet, index
from projsym.algebra.terms import LinearMap, Space, VectorFamily, VectorSymbol
from projsym.codegen import schedule
from projsym.codegen.exp2 import certificate
from projsym.codegen.generate import kernels
from projsym.codegen.lower import LoweringError, lower
from projsym.codegen.numpy_printer import emit_numpy
from projsym.codegen.program import Program
from projsym.codegen.validate import validate

from ._ckernel import ISAS, Kernel
from ._enclosure import Weight, enclosure

F = Space("F")
q, u, k, v = VectorSymbol("q"), VectorSymbol("u"), VectorFamily("k"), VectorFamily("v", F)
bias, W, j = ScalarFamily("key_bias"), LinearMap("W"), index("j")
x = VectorFamily("x")
scale, sigma = sp.Symbol("scale", real=True), sp.Symbol("sigma", positive=True)
KERNELS = {kernel.name: kernel for kernel in kernels()}
LOWERED = Path(__file__).with_name("lowered")
C, S = 0.4, 1.7


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled."""
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_program_of_a_kernel(name: str) -> None:
    program = lower(name, KERNELS[name].outputs())
    assert str(program) == (LOWERED / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def test_every_kernel_has_its_text() -> None:
    assert {p.stem for p in LOWERED.glob("*.txt")} == set(KERNELS)


def mean(weight: Any, values: VectorFamily) -> dict[str, Any]:
    """The weighted mean of some values and the logarithm of the weights' sum."""
    z = total(lambda n: weight(n))
    return {"out": total(lambda n: weight(n) * values[n]) / z, "lse": sp.log(z)}


FORMS: dict[str, tuple[Any, VectorFamily, Weight]] = {
    "dot": (lambda n: sp.exp(scale * inner(q, k[n])), k, lambda p, a, b, c: (C * p, arb(1))),
    "gaussian": (
        lambda n: sp.exp(-norm2(q - k[n]) / (2 * sigma**2)),
        k,
        lambda p, a, b, c: (-(a - 2 * p + b) / (2 * arb(S) ** 2), arb(1)),
    ),
    "gaussian_biased": (
        lambda n: sp.exp(-norm2(q - k[n]) / (2 * sigma**2) + bias[n]),
        v,
        lambda p, a, b, c: (-(a - 2 * p + b) / (2 * arb(S) ** 2) + c, arb(1)),
    ),
    "student": (
        lambda n: (1 + norm2(q - k[n]) / (3 * sigma**2)) ** -2,
        k,
        lambda p, a, b, c: (arb(0), (1 + (a - 2 * p + b) / (3 * arb(S) ** 2)) ** -2),
    ),
    "invented": (
        lambda n: sp.exp(scale * inner(q, k[n])) / (1 + inner(q, k[n]) ** 2 / sigma**2),
        v,
        lambda p, a, b, c: (C * p, 1 / (1 + p * p / arb(S) ** 2)),
    ),
}
"""The term of a weight, the values, and the same weight on balls. Nothing else is written for a form."""


def made(form: str, dtype: str, target: str) -> Program:
    """From the term to a validated program."""
    weight, values, _ = FORMS[form]
    outputs = mean(weight, values)
    plain = lower(form, outputs)
    program = schedule.apply(plain, schedule.default(plain, dtype, target))
    assert {"out: output", "lse: output", "s0: step", "s1: step"} <= {
        o.name for o in validate(program, outputs)
    }
    return program


def data(dtype: str, m: int) -> dict[str, Any]:
    """One head of 3 queries and m keys in 7 dimensions, values in 5."""
    rng = np.random.default_rng(m)
    shapes = {"q": (3, 7), "k": (m, 7), "v": (m, 5), "key_bias": (m,)}
    arrays = {name: rng.standard_normal((1, *shape)).astype(dtype) for name, shape in shapes.items()}
    return arrays | {"scale": C, "sigma": S}


def within(form: str, given: dict[str, Any], ε: float, blocks: int, out: Any, lse: Any) -> bool:
    values = given[FORMS[form][1].name][0]
    args = (given["q"][0], given["k"][0], values, given["key_bias"][0])
    return enclosure(FORMS[form][2], *args, ε, blocks).contains(out[0], lse[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_new_weight_function_gives_c(form: str, dtype: str, folder: Path) -> None:
    program = made(form, dtype, "c")
    kernel = Kernel(program, dtype, ISAS[0], {"d": 7, "dv": 5}, folder)
    proof = certificate(dtype)
    for m in (1, 130):
        given = data(dtype, m)
        status, got = kernel(**{x.name: given[x.name] for x in program.inputs})
        assert status == 0
        assert within(form, given, proof.worst, 3, got["out"], got["lse"])
        # The enclosure is narrow enough to see an error of a few units in the fourth or twelfth digit.
        off = 1 + (1e-3 if dtype == "float32" else 1e-11)
        assert not within(form, given, proof.worst, 3, got["out"] * off, got["lse"])


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_new_weight_function_gives_numpy(form: str) -> None:
    program = made(form, "float64", "numpy")
    space: dict[str, Any] = {}
    exec(compile(emit_numpy(program), form, "exec"), space)
    given = data("float64", 130)
    out, lse, bad = space[form](*[given[x.name] for x in program.inputs])
    assert bad == 0
    assert within(form, given, 2.0**-50, 3, out, lse)
    assert not within(form, given, 2.0**-50, 3, out * (1 + 1e-11), lse)


def weights(n: Any) -> sp.Expr:
    return sp.exp(inner(q, k[n]))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("map in a score", {"out": attend(lambda n: inner(q @ W, k[n]), k)}, "fold linear maps"),
    ("two sums", {"s": total(lambda n: total(lambda m: inner(k[n], k[m])))}, "2 indices at once"),
    ("other set", {"s": total(weights, IndexSet("I"))}, "a sum over 'I'"),
    ("two spaces", {"out": q + total(lambda n: x[n])}, "different spaces"),
    ("map of a vector", {"out": q + u @ W}, "fold linear maps"),
    ("map after the sum", {"out": attend(lambda n: inner(q, k[n]), k) @ W}, "fold linear maps"),
    ("free index", {"s": inner(q, k[j])}, "has an index that no sum binds"),
    ("free number", {"s": bias[j]}, "has an index that no sum binds"),
    ("free softmax", {"s": softmax(lambda n: inner(q, k[n]))(j)}, "no sum binds"),
    ("name", {"s": total(lambda n: sp.exp(sp.Symbol("τ", real=True) * inner(q, k[n])))}, "ASCII identifier"),
    ("query and key", {"s": total(lambda n: inner(VectorSymbol("k"), k[n]))}, "both a query vector"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "outputs", "message"), REFUSED, ids=[x[0] for x in REFUSED])
def test_what_no_kernel_computes_is_refused(name: str, outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        lower("t", outputs)


def test_names_that_meet_are_not_confused() -> None:
    """A parameter called like an inner product: refused when lowering or when validating, never computed."""
    clash = sp.Symbol("q_k", real=True)
    outputs = {"s": total(lambda n: sp.exp(clash * inner(q, k[n])))}
    with pytest.raises((LoweringError, AssertionError), match="s: output"):
        validate(lower("t", outputs), outputs)


def test_powers_of_two_lower_like_exponentials() -> None:
    program = lower("t", {"s": total(lambda n: exp2(inner(q, k[n])))})
    assert "exp(q_k*log(2))" in str(program)
