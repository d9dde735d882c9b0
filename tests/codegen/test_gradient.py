"""Backward kernels: their programs, their validation, and what neither lowers nor validates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from projsym.algebra.scalars import attend, inner, total
from projsym.algebra.terms import LinearMap
from projsym.codegen import passes, schedule, schedule_gradient
from projsym.codegen.gradient_kernel import gradient_kernels, gradients
from projsym.codegen.lower import LoweringError
from projsym.codegen.lower_gradient import INDEX, Gradient, lower_gradients
from projsym.codegen.pass_tree import map_nodes
from projsym.codegen.program import Dot, Let, Loop, Node, Output, Program, Sum, exp2, symbol
from projsym.codegen.validate_gradient import validate_gradients
from projsym.derivations.backward import QUERIES, lse, queries
from projsym.derivations.notation import k, scale, v
from projsym.proof.verdict import ProofError

KERNELS = {kernel.name: kernel for kernel in gradient_kernels()}
BIASED = "project_gaussian_biased_backward"
LOWERED = Path(__file__).with_name("lowered_gradients")
i, j = INDEX["i"], INDEX["j"]


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_the_program_of_a_kernel(name: str) -> None:
    assert str(KERNELS[name].lower()) == (LOWERED / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def test_every_kernel_has_its_text() -> None:
    assert {p.stem for p in LOWERED.glob("*.txt")} == set(KERNELS)


def test_every_exponential_holds_the_saved_log_sum_exp() -> None:
    """``exp(-lse)`` never stands outside a sum, where it could overflow; no weight needs a maximum."""
    for kernel in KERNELS.values():
        program = kernel.lower()
        found = [e for s in program.statements() if isinstance(s, Let) for e in s.value.atoms(sp.exp)]
        functions = {s.name: s.value for s in program.statements() if isinstance(s, Let)}
        assert len(found) == 1
        assert {symbol("lse"), symbol("q_k")} <= found[0].xreplace(functions).free_symbols
        outside = {
            x for s in program.statements() if isinstance(s, Output) for c, _ in s.terms for x in c.args
        }
        assert not any(x.has(sp.exp, symbol("lse")) for x in outside)


def scheduled(name: str, target: str = "c") -> Program:
    plain = KERNELS[name].lower()
    return schedule.apply(plain, schedule_gradient.default(plain, "float32", target))


@pytest.mark.parametrize("name", ["attention_backward", BIASED])
def test_a_scheduled_program_is_proved(name: str) -> None:
    found = {o.name for o in validate_gradients(scheduled(name, "numpy"), gradients(KERNELS[name].of))}
    assert {"s0: entry", "s0: step", "dq: output", "dk: output"} <= found


Change = Callable[[Program], Program]


def on(kind: type, rule: Callable[[Any], Any]) -> Change:
    """Every node of a kind changed."""

    def change(node: Node) -> Node:
        return rule(node) if isinstance(node, kind) else node

    return lambda p: p.with_(body=map_nodes(p.body, change))


def let(name: str, rule: Callable[[sp.Expr], Any]) -> Change:
    def change(node: Let) -> Let:
        return replace(node, value=sp.sympify(rule(node.value))) if node.name == symbol(name) else node

    return on(Let, change)


def sums(over: str, rule: Callable[[Sum], Sum]) -> Change:
    return on(Sum, lambda s: rule(s) if s.over == over else s)


def output(name: str, rule: Callable[[sp.Expr], sp.Expr]) -> Change:
    def change(node: Output) -> Output:
        terms = tuple((rule(c), vector) for c, vector in node.terms)
        return replace(node, terms=terms) if node.name == name else node

    return on(Output, change)


def in_rows(p: Program) -> Program:
    """The outputs of keys inside the loop over queries."""
    (heads,) = (x for x in p.body if isinstance(x, Loop))
    *before, rows, keys = heads.body
    assert isinstance(rows, Loop)
    moved = Loop("h", (*before, replace(rows, body=(*rows.body, keys))))
    return p.with_(body=tuple(moved if x is heads else x for x in p.body))


CORRUPTED: list[tuple[str, Change, str]] = [
    ("base two: log2(e) doubled", let("log2e", lambda x: 2 * x), "output"),
    ("weight: no log-sum-exp", let("r0", lambda x: 0 * x), "output"),
    ("weight: residual's sign", let("r1", lambda x: -x), "output"),
    ("weight: squared", let("w1", lambda x: x * symbol("w0")), "output"),
    ("hoist: a key's term dropped", let("t0", lambda x: x.args[0]), "output"),
    ("dot: a factor", on(Dot, lambda x: replace(x, scale=2 * x.scale) if x.axes == "ij" else x), "output"),
    ("sum over queries: another weight", sums("i", lambda s: replace(s, weight=symbol("w0"))), "dk: output"),
    ("sum over queries: a key's vector", sums("i", lambda s: replace(s, vector=s.vector and "k")), "output"),
    ("sum over keys: another weight", sums("j", lambda s: replace(s, weight=symbol("w1"))), "output"),
    ("sum over queries made one over keys", sums("i", lambda s: replace(s, over="j")), "s2 used before"),
    ("output: a sign", output("dk", lambda c: -c), "dk: output"),
    ("output: a factor", output("dsigma", lambda c: 2 * c), "dsigma: output"),
    ("output: a bias forgotten", output("dkey_bias", lambda c: sp.S.Zero), "dkey_bias: output"),
    ("output: of keys for queries", on(Output, lambda o: replace(o, axes="i")), "inside loops over"),
    ("outputs of keys before the queries are through", in_rows, "inside one over|inside loops|used before"),
    ("ranged: queries", on(Loop, lambda x: replace(x, ranged=x.axis == "i")), "a ranged loop over i"),
    ("ranged: the outputs of keys", on(Loop, lambda x: replace(x, ranged=x.axis == "j")), "loop over j without"),
    ("no outputs", lambda p: p.with_(body=p.body[:-1]), "no output"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "message"), CORRUPTED, ids=[x[0] for x in CORRUPTED])
def test_a_corrupted_program_is_refused(name: str, rule: Change, message: str) -> None:
    program = scheduled(BIASED)
    wrong = rule(program)
    assert wrong.body != program.body
    with pytest.raises(ProofError, match=message):
        validate_gradients(wrong, gradients(KERNELS[BIASED].of))


@pytest.mark.parametrize("name", ["base_two", "fold_scale", "hoist"])
def test_a_corrupted_pass_stops_the_build(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(passes, name)
    rules: dict[str, Change] = {
        "base_two": on(Let, lambda x: replace(x, value=x.value.replace(exp2, lambda e: exp2(2 * e)))),
        "fold_scale": on(Dot, lambda x: replace(x, scale=2 * x.scale) if x.axes == "ij" else x),
        "hoist": let("r1", lambda x: 0 * x),
    }
    monkeypatch.setattr(passes, name, lambda *a, **o: rules[name](real(*a, **o)))
    with pytest.raises(ProofError, match="output"):
        KERNELS["attention_backward"].build("float32")


def test_the_loop_over_queries_is_not_parallel() -> None:
    program = passes.hoist(passes.base_two(KERNELS["attention_backward"].lower()))
    with pytest.raises(ValueError, match="'i' carries sums"):
        passes.parallel(program, "h", "i")
    with pytest.raises(ValueError, match="sum over queries"):
        passes.online(program)


def weight(a: Any, b: Any) -> sp.Expr:
    return sp.exp(scale * inner(queries[a], k[b]) - lse[a])


W = LinearMap("W")
REFUSED: list[tuple[str, Gradient, str]] = [
    ("no sum", Gradient("i", queries[i]), "one sum over the other axis"),
    ("a map", Gradient("i", total(lambda b: weight(i, b) * (k[b] @ W))), "fold linear maps"),
    ("its own set", Gradient("j", total(lambda b: inner(k[j], k[b]) * k[b])), "sum over 'keys'"),
    ("two sums", Gradient("i", attend(lambda b: inner(queries[i], k[b]), v)), "one sum over the other axis"),
    ("both", Gradient("j", total(lambda a: total(lambda b: weight(a, b) * k[b]), QUERIES)), "2 indices"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "gradient", "message"), REFUSED, ids=[x[0] for x in REFUSED])
def test_what_no_kernel_computes_is_refused(name: str, gradient: Gradient, message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        lower_gradients("t", {"x": gradient})


def test_a_last_line_that_pairs_nothing_is_refused() -> None:
    theorem = KERNELS["attention_backward"].of
    last = theorem.steps[-1]
    wrong = replace(
        theorem, steps=(*theorem.steps[:-1], replace(last, after=replace(last.after, term=lse[i])))
    )
    with pytest.raises(ValueError, match="not a gradient paired with its direction"):
        gradients(wrong)
