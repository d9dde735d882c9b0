"""Translation validation: every kernel is proved, and a corruption of any pass is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sympy as sp

from projsym.codegen import passes, schedule
from projsym.codegen.generate import kernels
from projsym.codegen.kernel import Kernel
from projsym.codegen.lower import lower
from projsym.codegen.pass_tree import map_nodes
from projsym.codegen.program import (
    Add,
    Dot,
    Let,
    Loop,
    Node,
    Output,
    Program,
    Rescale,
    RunningMax,
    Sum,
    exp2,
    symbol,
    tanh2,
)
from projsym.codegen.validate import validate
from projsym.proof.verdict import ProofError, Proved

KERNELS = {kernel.name: kernel for kernel in kernels()}
BIASED = "project_gaussian_biased"


def scheduled(kernel: Kernel, target: str = "c") -> Program:
    """The program that is printed."""
    plain = lower(kernel.name, kernel.outputs())
    return schedule.apply(plain, schedule.default(plain, "float32", target))


@pytest.mark.parametrize("target", ["c", "numpy"])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_kernel_is_proved(name: str, target: str) -> None:
    kernel = KERNELS[name]
    found = validate(scheduled(kernel, target), kernel.outputs())
    assert all(isinstance(o.verdict, Proved) for o in found)
    sums = ("s0: entry", "s0: step", "s1: entry", "s1: step")
    assert [o.name for o in found] == [*sums, "out: output", "lse: output"]


def test_the_unscheduled_program_is_proved_too() -> None:
    for kernel in KERNELS.values():
        assert validate(lower(kernel.name, kernel.outputs()), kernel.outputs())


Change = Callable[[Node], Node]


def change(program: Program, rule: Change) -> Program:
    """Every node changed by `rule`; ValueError if nothing was, so that no case passes by doing nothing."""
    body = map_nodes(program.body, rule)
    if body == program.body:
        raise ValueError("the corruption found nothing to change")
    return program.with_(body=body)


def lets(**values: Callable[[sp.Expr], sp.Expr]) -> Change:
    """Other values for the named definitions."""

    def rule(node: Node) -> Node:
        if isinstance(node, Let) and str(node.name) in values:
            return replace(node, value=values[str(node.name)](node.value))
        return node

    return rule


def on(kind: type, edit: Callable[[Any], Node]) -> Change:
    """Edit the nodes of one kind."""
    return lambda node: edit(node) if isinstance(node, kind) else node


def outputs(name: str, edit: Callable[[sp.Expr], sp.Expr]) -> Change:
    """Other coefficients of the named output."""

    def rule(node: Node) -> Node:
        if isinstance(node, Output) and node.name == name:
            return replace(node, terms=tuple((edit(c), v) for c, v in node.terms))
        return node

    return rule


def without(kind: type) -> Change:
    """Drop the statements of one kind."""

    def rule(node: Node) -> Node:
        if isinstance(node, Loop):
            return replace(node, body=tuple(n for n in node.body if not isinstance(n, kind)))
        return node

    return rule


def twice(axis: str) -> Change:
    """A loop inside one over the same axis."""
    return on(Loop, lambda x: Loop(axis, (x,)) if x.axis == axis else x)


def drop_shift(c: sp.Expr) -> sp.Expr:
    """Without the running maximum."""
    return c.xreplace({s: sp.S.Zero for s in c.free_symbols if str(s) == "m"})


def old_maximum(x: sp.Expr) -> sp.Expr:
    """At the maximum before this block."""
    return x.xreplace({symbol("m"): symbol("m_old")})


def swap_sums(node: Node) -> Node:
    """The score instead of its exponential."""
    return replace(node, weight=symbol("s")) if isinstance(node, Sum) else node


CORRUPTED: list[tuple[str, Change, str]] = [
    ("base two: log2(e) doubled", lets(log2e=lambda x: 2 * x), "out: output|lse: output"),
    ("online: rescaled the wrong way", on(Rescale, lambda x: replace(x, factor=1 / x.factor)), "s0: step"),
    ("online: no rescaling", without(Rescale), "s0: step"),
    ("online: one sum not rescaled", on(Rescale, lambda x: replace(x, sums=x.sums[:1])), "s1: step"),
    ("online: the other not rescaled", on(Rescale, lambda x: replace(x, sums=x.sums[1:])), "s0: step"),
    ("online: rescaled twice", on(Rescale, lambda x: replace(x, factor=x.factor**2)), "s0: step"),
    ("online: shift not added back", outputs("lse", drop_shift), "lse: output"),
    ("online: weight of the old maximum", lets(w0=old_maximum), "s0: step"),
    ("fold: scale applied twice", on(Dot, lambda x: replace(x, scale=x.scale**2)), "output"),
    ("fold: scale lost", on(Dot, lambda x: replace(x, scale=sp.S.One)), "output"),
    ("hoist: a term dropped", lets(t0=lambda x: x.args[0]), "output"),
    ("hoist: a sign", lets(t0=lambda x: -x), "output"),
    ("hoist: parameter", lets(c0=lambda x: x * symbol("sigma")), "output"),
    ("block: keys inside keys", twice("j"), "a loop over j inside one over j|outside a loop"),
    ("parallel: heads twice", twice("h"), "a loop over h inside one over h"),
    ("rows twice", twice("i"), "a loop over i inside one over i"),
    ("sum: another weight", swap_sums, "step|output"),
    ("sum: no vector", on(Sum, lambda x: replace(x, vector=None)), "output|s1"),
    ("dot: a vector with itself", on(Dot, lambda x: replace(x, left=x.right)), "output"),
    ("output: a factor", outputs("out", lambda c: 2 * c), "out: output"),
    ("output: a sign", outputs("lse", lambda c: -c), "lse: output"),
    ("output: not normalised", outputs("out", lambda c: sp.S.One), "out: output"),
    ("ranged: queries", on(Loop, lambda x: replace(x, ranged=x.axis == "i")), "a ranged loop over i"),
    ("no maximum", without(RunningMax), "used before it is computed"),
    ("no output", without(Output), "no output"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "message"), CORRUPTED, ids=[x[0] for x in CORRUPTED])
def test_a_corrupted_program_is_refused(name: str, rule: Change, message: str) -> None:
    kernel = KERNELS[BIASED]
    wrong = change(scheduled(kernel), rule)
    with pytest.raises(ProofError, match=message):
        validate(wrong, kernel.outputs())


PASSES: dict[str, tuple[Change, str]] = {
    "base_two": (on(Let, lambda x: replace(x, value=x.value.replace(exp2, lambda e: exp2(2 * e)))), "output"),
    "online": (on(Rescale, lambda x: replace(x, factor=sp.S.One)), "s0: step"),
    "fold_scale": (on(Dot, lambda x: replace(x, scale=2 * x.scale)), "output"),
    "hoist": (lets(t0=lambda x: 0 * x), "output"),
    "hyperbolic": (
        on(Let, lambda x: replace(x, value=x.value.replace(tanh2, lambda e: tanh2(e / 2)))),
        "output",
    ),
    "block": (on(Rescale, lambda x: replace(x, factor=x.factor**2)), "s0: step"),
    "parallel": (twice("h"), "a loop over h"),
    "ranged": (on(Loop, lambda x: replace(x, ranged=True)), "a ranged loop over"),
    "tile": (outputs("out", lambda c: c / 2), "out: output"),
    "parts": (on(Add, lambda x: replace(x, factor=x.factor**2)), "parts s0_all: merge"),
    "bounded": (lets(w0=lambda x: exp2(x.args[0] - 1) / 2), "bounded lse: output"),
}
"""For each real pass, what is done to its result."""


@pytest.mark.parametrize("name", sorted(PASSES))
def test_a_corrupted_pass_stops_the_build(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass itself is replaced by a wrong one; the kernel's own build must fail."""
    real, (rule, message) = getattr(passes, name), PASSES[name]

    def wrong(*args: Any, **options: Any) -> Program:
        return change(real(*args, **options), rule)

    kernel = KERNELS["attention_softcap" if name == "hyperbolic" else BIASED]
    assert kernel.build("float32")
    monkeypatch.setattr(passes, name, wrong)
    with pytest.raises(ProofError, match=message):
        kernel.build("float32")


def test_every_pass_is_corrupted() -> None:
    assert set(PASSES) == set(passes.__all__)


def test_a_program_of_another_kernel_is_refused() -> None:
    program = scheduled(KERNELS["project_gaussian"])
    with pytest.raises(ProofError, match="output"):
        validate(program, KERNELS[BIASED].outputs())


def test_an_output_that_nothing_specifies_is_refused() -> None:
    kernel = KERNELS[BIASED]
    with pytest.raises(ProofError, match="'lse' is not specified"):
        validate(scheduled(kernel), {"out": kernel.outputs()["out"]})


def test_a_schedule_step_must_cite_what_is_proved() -> None:
    step = schedule.Step("magic", ("IV.99",), lambda p: p)
    kernel = replace(KERNELS[BIASED], schedule=lambda *a: [step])
    with pytest.raises(ProofError, match="neither a theorem nor a law"):
        kernel.build("float32")
