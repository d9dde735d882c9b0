"""What `projsym.compile` refuses and why, what it tells, and what a call checks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

import projsym
from projsym.algebra.scalars import exp2, tanh2, total
from projsym.algebra.terms import VectorFamily, VectorSymbol
from projsym.codegen import passes
from projsym.codegen.lower import LoweringError
from projsym.codegen.pass_tree import map_nodes
from projsym.codegen.program import Dot, Let, Node, Program
from projsym.own import ScalarFamily, i, inner, j, k, norm2, q
from projsym.proof.verdict import ProofError, Proved

from ._weights import EXAMPLES, arguments, compiled

a, b = sp.symbols("a b", real=True)
s = sp.Symbol("s", positive=True)
x = inner(q, k[j])
other = ScalarFamily("other")

ROUNDING = 1e-12
"""Allowed in float64 to numbers of about 1 made of some dozens: thousands of roundings, where there are far
fewer, while a wrong term is of the size of the numbers."""

REFUSED: list[tuple[str, Any, type[Exception], str]] = [
    ("no expression", "exp(x)", TypeError, "weight: given 'exp"),
    ("a vector", q, TypeError, "weight: given"),
    ("no product of both", sp.exp(norm2(q)), LoweringError, "no inner product of q and k"),
    ("a constant", sp.Integer(1), LoweringError, "no inner product of q and k"),
    ("an unknown function", sp.exp(sp.sin(x)), LoweringError, r"sin\(.* \(sin\): allowed are sums"),
    ("another vector", sp.exp(inner(VectorSymbol("u"), k[j]) + x), LoweringError, "the vector u: allowed"),
    ("another family", sp.exp(inner(q, VectorFamily("w")[j]) + x), LoweringError, r"the vector w\[j\]"),
    ("another key", sp.exp(x + inner(q, k[i])), LoweringError, r"the vector k\[i\]"),
    ("a sum over keys", sp.exp(x) / total(lambda l: sp.exp(inner(q, k[l]))), LoweringError, "one pair"),
    ("another index", sp.exp(x - sp.Symbol("l", integer=True)), LoweringError, "the index l"),
    ("a family elsewhere", sp.exp(x + other[sp.Symbol("l", integer=True)]), LoweringError, r"other\[l\]"),
    ("a name that is taken", sp.exp(sp.Symbol("lse", real=True) * x), LoweringError, "the name 'lse'"),
    ("a name of a gradient", sp.exp(a * x + ScalarFamily("da")[j]), LoweringError, "the gradient of 'a'"),
    ("a name of a product", sp.exp(sp.Symbol("k_k", real=True) * x), LoweringError, "the name 'k_k'"),
    ("a name that is no identifier", sp.exp(sp.Symbol("τ") * x), LoweringError, "the name 'τ'"),
    ("a keyword", sp.exp(sp.Symbol("lambda") * x), LoweringError, "the name 'lambda'"),
    ("two things of a name", sp.exp(sp.Symbol("other") * x + other[j]), LoweringError, "two things"),
    ("two exponentials", sp.exp(x) + sp.exp(-x), LoweringError, "exp.*: allowed is one exponential"),
    ("an exponential among others", 1 / (1 + sp.exp(-x)), LoweringError, "logistic function"),
    ("a logarithm of a pair", (1 + norm2(q - k[j])) ** -s, LoweringError, r"no C for log\("),
    ("an unbounded power", (1 + norm2(q - k[j])) ** sp.Rational(-1, 3), LoweringError, "no C for"),
    ("a negative weight", x, ProofError, r"can be negative: .*: left -"),
    ("a negative parabola", 1 - norm2(q - k[j]), ProofError, "can be negative"),
    ("a negative position", 1 + x**2 - j, ProofError, "can be negative"),
    ("a sign that is not seen", x**2 + x + 1, ProofError, "not visibly non-negative, and no negative value"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "weight", "kind", "message"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_refused(name: str, weight: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        projsym.compile(weight)


def test_the_witness_of_a_negative_weight_is_one() -> None:
    """The numbers in the message do make the weight negative: q = k_1 and nothing else would not."""
    with pytest.raises(ProofError) as caught:
        projsym.compile(x)
    text = str(caught.value)
    assert "q = (" in text and "k = (" in text and "left -" in text


def test_options_are_checked() -> None:
    weight = sp.exp(a * x)
    with pytest.raises(TypeError, match="weight, score: given neither"):
        projsym.compile()
    with pytest.raises(TypeError, match="weight, score: given both"):
        projsym.compile(weight, score=weight)
    with pytest.raises(ValueError, match="value: given"):
        projsym.compile(weight, value=VectorFamily("w"))
    with pytest.raises(ValueError, match="name: given 'no name'"):
        projsym.compile(weight, name="no name")
    with pytest.raises(ValueError, match=r"fixed: given \['b'\]; allowed: names in the weight: a"):
        projsym.compile(weight, fixed=["b"])


def test_maxima_of_any_two_numbers_have_gradients() -> None:
    """``Max(x, 1)`` is ``1 + Max(0, x - 1)``; the sign is read off as it was written."""
    f = projsym.compile(sp.Max(sp.Min(a * x, 2), 1), name="clipped")
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 20, 4))
    out, mass = f(query, key, value, return_saved=True, a=1.0)
    w = np.clip(query @ key.T, 1, 2)
    np.testing.assert_allclose(mass, w.sum(1), rtol=ROUNDING)
    np.testing.assert_allclose(out, w @ value / w.sum(1)[:, None], atol=ROUNDING)
    moved = f(query, key, value, a=1.0 + 1e-7)
    slope = f.backward(out, query, key, value, out, mass, a=1.0)["a"]
    # No product is within 1e-6 of a kink; the difference quotient is off by second order, 1e-7.
    assert (abs(query @ key.T - 1) > 1e-5).all() and (abs(query @ key.T - 2) > 1e-5).all()
    np.testing.assert_allclose(slope, (out * (moved - out)).sum() / 1e-7, rtol=1e-5)


Change = Callable[[Program], Program]


def on(kind: type, rule: Callable[[Any], Any]) -> Change:
    def change(node: Node) -> Node:
        return rule(node) if isinstance(node, kind) else node

    return lambda p: p.with_(body=map_nodes(p.body, change))


def lets(old: Any, new: Callable[[Any], Any]) -> Change:
    return on(Let, lambda n: replace(n, value=n.value.replace(old, new)))


CORRUPTED: list[tuple[str, str, str, Change]] = [
    ("soft_cap", "hyperbolic", "base of the tangent", lets(tanh2, lambda e: tanh2(e / 2))),
    ("soft_cap", "base_two", "base", lets(exp2, lambda e: exp2(2 * e))),
    ("alibi", "online", "no maximum", lets(exp2, lambda e: exp2(e.subs(sp.Symbol("m", real=True), 0)))),
    ("student", "fold_scale", "scale", on(Dot, lambda n: replace(n, scale=(1 + len(n.axes)) * n.scale))),
    ("epanechnikov", "hoist", "support", lets(sp.Max, lambda *e: sum(e))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "where", "what", "wrong"), CORRUPTED, ids=[f"{c[0]}: {c[2]}" for c in CORRUPTED]
)
def test_a_corrupted_pass_stops_the_compilation(
    name: str, where: str, what: str, wrong: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(passes, where)
    monkeypatch.setattr(passes, where, lambda *p, **o: wrong(real(*p, **o)))
    with pytest.raises((ProofError, ValueError)):
        projsym.compile(**EXAMPLES[name].given, name=name)


def test_what_is_known_is_told() -> None:
    f = compiled("epanechnikov")
    assert all(isinstance(p.verdict, Proved) for p in f.proof)
    assert not f.positivity.strict and "> 0" in f.positivity.support
    text = f.explain()
    for part in (
        "sign      not negative",
        "support   the keys with",
        "plain sum",
        "step",
        "obligations proved",
    ):
        assert part in text, part
    assert "running maximum, merged by [IV.1]" in compiled("alibi").explain()
    assert compiled("alibi").positivity.strict and compiled("alibi").saves == "lse" and f.saves == "mass"
    assert repr(f).startswith("<attention with the weight max(0, 1")


def test_sources_of_every_target_are_there_and_always_the_same() -> None:
    f = compiled("student")
    targets = {f"{w}/{t}" for w in ("forward", "backward") for t in ("c/float32", "c/float64", "numpy")}
    assert set(f.source) == targets
    assert "student: generated by projsym" in f.source["forward/c/float32"]
    again = projsym.compile(**EXAMPLES["student"].given, name="student")
    assert again.source == f.source


def test_import_brings_no_sympy() -> None:
    code = "import sys, projsym; assert 'sympy' not in sys.modules; projsym.compile; import sympy"
    subprocess.run([sys.executable, "-c", code], check=True)


# calls


def call(name: str, **changes: Any) -> Any:
    given = arguments(name, 3, 5, 4, "float32") | changes
    return compiled(name)(**given)


CALLS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("alibi", {"slope": None}, TypeError, "slope: given None"),
    ("alibi", {"slope": np.nan}, ValueError, "slope: given nan"),
    ("alibi", {"slop": 1.0}, TypeError, "slop: given 1.0; allowed: arguments of this weight: scale, slope"),
    ("soft_cap", {"cap": -1.0}, ValueError, "cap: given -1.0; allowed: a finite real number greater than 0"),
    ("alibi", {"value": None}, ValueError, "value: given None"),
    ("biweight_of_the_keys", {"value": np.ones((5, 4), "f4")}, ValueError, "the keys are the values"),
    ("alibi", {"key": np.ones((5, 3), "f4")}, ValueError, "key: given shape"),
    ("alibi", {"value": np.ones((4, 3), "f4")}, ValueError, "value: given shape"),
    ("alibi", {"value": np.ones((5, 3))}, TypeError, "value: given float64"),
    ("alibi", {"query": np.full((3, 4), np.nan, "f4")}, ValueError, "query: given NaN"),
    ("alibi", {"query_position": np.ones(4, "f4")}, ValueError, "query_position: given shape"),
    ("bandwidth", {"width": np.ones(3, "f4")}, ValueError, "width: given shape"),
    ("bandwidth", {"width": np.zeros(5, "f4")}, ValueError, "width: .*finite positive numbers"),
    ("bandwidth", {"width": np.ones(5)}, TypeError, "width: given float64"),
    ("soft_cap", {"scale": 1e38, "query": np.full((3, 4), 1e30, "f4")}, OverflowError, "outside the range"),
    ("student", {"query": np.full((3, 4), 1e15, "f4")}, OverflowError, "outside the range"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "kind", "message"), CALLS, ids=[f"{c[0]} {c[3][:24]}" for c in CALLS]
)
def test_calls_are_checked(name: str, changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(name, **changes)


def test_a_missing_argument_is_named() -> None:
    given = arguments("alibi", 3, 5, 4, "float32")
    del given["slope"]
    with pytest.raises(TypeError, match="slope: given nothing"):
        compiled("alibi")(**given)


def test_a_query_that_no_key_is_near_gets_and_gives_nothing() -> None:
    f, given = compiled("epanechnikov"), arguments("epanechnikov", 3, 5, 4, "float64")
    given["query"][1] = 100.0
    for backend in ("c", "numpy"):
        out, mass = f(return_saved=True, backend=backend, **given)
        assert mass[1] == 0 and not out[1].any() and (mass[[0, 2]] > 0).all()
        query, key, value, h = (given[x] for x in ("query", "key", "value", "h"))
        made = f.backward(np.ones_like(out), query, key, value, out, mass, h=h, backend=backend)
        assert not made["query"][1].any() and made["query"][0].any()
        rest = f.backward(
            np.ones((2, out.shape[1])),
            query[[0, 2]],
            key,
            value,
            out[[0, 2]],
            mass[[0, 2]],
            h=h,
            backend=backend,
        )
        for x in ("key", "value"):
            np.testing.assert_allclose(made[x], rest[x], atol=ROUNDING)


def test_leading_axes_positions_and_numbers_of_a_head() -> None:
    f = compiled("alibi_of_a_head")
    rng = np.random.default_rng(0)
    query, value = rng.standard_normal((2, 3, 6, 4)), rng.standard_normal((2, 3, 7, 5))
    key, lean = rng.standard_normal((3, 7, 4)), rng.uniform(0, 1, (3, 1))
    out, lse = f(query, key, value, return_saved=True, scale=0.5, lean=lean)
    one = f(query[1, 2], key[2], value[1, 2], scale=0.5, lean=lean[2])
    np.testing.assert_array_equal(out[1, 2], one)
    decoded = f(query[:, :, 4:], key, value, scale=0.5, lean=lean, query_position=np.arange(4.0, 6.0))
    np.testing.assert_allclose(decoded, out[:, :, 4:], rtol=ROUNDING)
    whole = np.broadcast_to(key, (2, 3, 7, 4))
    made = f.backward(out, query, whole, value, out, lse, scale=0.5, lean=lean)
    assert made["lean"].shape == (3, 1) and made["scale"].shape == (2, 3)
    parts = sum(
        f.backward(out[h], query[h], key, value[h], out[h], lse[h], scale=0.5, lean=lean)["lean"]
        for h in (0, 1)
    )
    np.testing.assert_allclose(made["lean"], parts, rtol=ROUNDING)


def test_backward_arguments_are_checked() -> None:
    f, given = compiled("alibi"), arguments("alibi", 3, 5, 4, "float32")
    out, lse = f(return_saved=True, **given)
    query, key, value = (given.pop(x) for x in ("query", "key", "value"))
    with pytest.raises(ValueError, match=r"g: given shape \(3, 4\)"):
        f.backward(out[:, :4], query, key, value, out, lse, **given)
    with pytest.raises(ValueError, match=r"saved: given NaN or \+inf"):
        f.backward(out, query, key, value, out, np.full_like(lse, np.inf), **given)
    with pytest.raises(ValueError, match=r"key: given shape .* do not broadcast"):
        f.backward(out, query, key[None], value, out, lse, **given)


def test_fixed_arguments_get_no_gradient() -> None:
    f = projsym.compile(**EXAMPLES["alibi"].given, fixed=["slope"], name="alibi")
    given = arguments("alibi", 3, 5, 4, "float32")
    out, lse = f(return_saved=True, **given)
    query, key, value = (given.pop(x) for x in ("query", "key", "value"))
    assert set(f.backward(out, query, key, value, out, lse, **given)) == {"query", "key", "value", "scale"}


@pytest.mark.parametrize("mask", ["causal", (3, 0), (None, 2)], ids=str)
def test_a_mask_restricts_the_keys(mask: Any) -> None:
    """Float64 against the definition over the seen keys; both are within `ROUNDING` of sizes of about 1."""
    f = projsym.compile(**EXAMPLES["epanechnikov"].given, mask=mask, name="masked")
    given = arguments("epanechnikov", 8, 8, 3, "float64")
    query, key, value, h = (given[x] for x in ("query", "key", "value", "h"))
    left, right = (None, 0) if mask == "causal" else mask
    back = np.arange(8)[:, None] - np.arange(8)
    seen = (back >= -right) & (True if left is None else back <= left)
    w = np.maximum(0, 1 - ((query[:, None] - key) ** 2).sum(-1) / h**2) * seen
    z = w.sum(1)
    want = w @ value / np.where(z > 0, z, 1)[:, None]
    for backend in ("c", "numpy"):
        out, mass = f(return_saved=True, backend=backend, **given)
        np.testing.assert_allclose(out, want, atol=ROUNDING)
        np.testing.assert_allclose(mass, z, atol=ROUNDING)
        later = f(query[5:], key, value, h=h, past=5, backend=backend)
        np.testing.assert_allclose(later, out[5:], atol=ROUNDING)
        made = f.backward(out, query, key, value, out, mass, h=h, backend=backend)
        np.testing.assert_allclose(made["value"], (w / np.where(z > 0, z, 1)[:, None]).T @ out, atol=ROUNDING)
    with pytest.raises(ValueError, match="past: given -1"):
        f(query, key, value, h=h, past=-1)


def test_a_mask_is_checked() -> None:
    with pytest.raises(TypeError, match="window: given 'future'"):
        projsym.compile(sp.exp(x), mask="future")
