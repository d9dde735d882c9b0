"""Keys in parts, and as lanes for few queries: the pass, its proof, and the printed C within the bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from projsym.codegen import passes, schedule
from projsym.codegen.c_printer import emit_c
from projsym.codegen.generate import kernels
from projsym.codegen.pass_tree import map_nodes
from projsym.codegen.program import Add, Let, Loop, Node, Program, Rescale, RunningMax, symbol
from projsym.codegen.validate import validate
from projsym.proof.verdict import ProofError

from . import _forms
from ._ckernel import ISAS, Kernel
from .test_c_printer import compare, folder, inputs, scheduled, sizes

__all__ = ["folder"]

KERNELS = {k.name: k for k in kernels()}
SIZE = 192


def shared(form: str, dtype: str, few: int = 3) -> Program:
    """A form with its keys in parts of three blocks at least."""
    return passes.parts(scheduled(form, dtype), SIZE, few)


TEXT = """\
    for i in blocks of 48, parallel:
      for j in blocks of 192, parallel:
        for j in the row's range in blocks of 64:
          q_k[ij] = c0 * <q, k>
          s[ij] = q_k
          m_old, m = m, max(m, max_j s)
          s0, s1 *= exp2(-m + m_old)
          w0[ij] = exp2(-m + s)
          s0 += sum_j w0
          s1 += sum_j w0 * v
        m_all_old, m_all = m_all, max(m_all, max_j m)
        s0_all, s1_all *= exp2(-m_all + m_all_old)
        part[i] = exp2(m - m_all)
        s0_all += part * s0
        s1_all += part * s1
      out[i] = (1/s0_all) * s1_all
      lse[i] = (log(s0_all) + m_all/log2e)"""


def test_the_text_of_a_program_in_parts() -> None:
    text = str(passes.parts(scheduled("dot", "float64"), SIZE))
    assert text[text.index("    for i in") :] == TEXT


def test_what_cannot_be_in_parts() -> None:
    program = scheduled("dot", "float32")
    for size in (0, -192, 100, True, 64):
        with pytest.raises(ValueError, match="parts: size must be a multiple of the blocks of keys"):
            passes.parts(program, size)
    with pytest.raises(ValueError, match="already in parts"):
        passes.parts(passes.parts(program, SIZE), SIZE)
    with pytest.raises(ValueError, match="size must be a multiple"):
        passes.parts(_forms.dot(), SIZE)


def test_the_printer_takes_only_the_same_program() -> None:
    with pytest.raises(ValueError, match="is not the first one cut into parts"):
        emit_c(scheduled("dot", "float32"), "float32", parts=shared("biased", "float32"))
    with pytest.raises(ValueError, match="is not the first one cut into parts"):
        emit_c(scheduled("dot", "float32"), "float32", parts=scheduled("dot", "float32"))


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_every_kernel_in_parts_is_proved(name: str) -> None:
    built = KERNELS[name].build("float32")
    assert built.parts is not None
    names = [o.name for o in built.obligations if o.name.startswith("parts ")]
    assert any(x.endswith("_all: merge") for x in names) and "parts out: output" in names


def edited(kind: type, edit: Callable[[Node], Node | None], merge: bool = True) -> Callable[[Node], Node]:
    """Edit, or drop, the statements of a kind that merge."""

    def rule(node: Node) -> Node:
        if isinstance(node, Loop) and any(isinstance(x, Loop) for x in node.body) and node.axis == "j":
            made = (edit(x) if isinstance(x, kind) else x for x in node.body)
            return replace(node, body=tuple(x for x in made if x is not None))
        return node

    return rule


CORRUPTED = [
    ("no rescaling", edited(Rescale, lambda x: None), "s0_all: merge"),
    ("one sum not rescaled", edited(Rescale, lambda x: replace(x, sums=x.sums[:1])), "s1_all: merge"),
    ("rescaled the wrong way", edited(Rescale, lambda x: replace(x, factor=1 / x.factor)), "s0_all: merge"),
    ("parts added as they are", edited(Add, lambda x: replace(x, factor=sp.S.One)), "s0_all: merge"),
    ("the other factor", edited(Let, lambda x: replace(x, value=1 / x.value)), "s0_all: merge"),
    ("another sum", edited(Add, lambda x: replace(x, state=symbol("s0"))), "a scalar where a vector"),
    ("never added", edited(Add, lambda x: None), "rescaled and never added to"),
    ("no maximum", edited(RunningMax, lambda x: None), "used before it is computed"),
    ("rescaled late", edited(RunningMax, lambda x: replace(x, of=symbol("s"))), "in a loop over parts"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "message"), CORRUPTED, ids=[x[0] for x in CORRUPTED])
def test_a_corrupted_merge_is_refused(name: str, rule: Callable[[Node], Node], message: str) -> None:
    kernel = KERNELS["attention"]
    program = schedule.apply(kernel.lower(), schedule.default(kernel.lower(), "float32"))
    whole = passes.parts(program, SIZE)
    wrong = whole.with_(body=map_nodes(whole.body, rule))
    assert wrong.body != whole.body
    with pytest.raises(ProofError, match=message):
        validate(wrong, kernel.outputs())


def test_states_of_a_part_are_gone_after_the_last() -> None:
    kernel = KERNELS["attention"]
    program = schedule.apply(kernel.lower(), schedule.default(kernel.lower(), "float32"))
    whole = passes.parts(program, SIZE)

    def stale(node: Node) -> Node:
        if isinstance(node, Loop) and node.axis == "i":
            return replace(node, body=(node.body[0], *program_after(program)))
        return node

    wrong = whole.with_(body=map_nodes(whole.body, stale))
    with pytest.raises((ProofError, KeyError), match=r"used before it is computed|s1"):
        validate(wrong, kernel.outputs())


def program_after(program: Program) -> tuple[Node, ...]:
    """What stands after the loop over keys of a program without parts."""
    (rows,) = passes.loops(program.body, "i")
    return tuple(x for x in rows.body if not isinstance(x, Loop))


CASES = [
    ("dot", "float32", 64),
    ("dot", "float32", 7),
    ("biased", "float32", 21),
    ("gaussian", "float64", 9),
    ("student", "float32", 16),
    ("epanechnikov", "float64", 7),
]
COUNTS = [(1, 0), (0, 5), (1, 1), (1, 7), (2, 8), (3, 65), (1, 192), (1, 193), (4, 193), (3, 500), (49, 385)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("form", "dtype", "d"), CASES)
def test_few_queries_are_within_the_bound(form: str, dtype: str, d: int, isa: str, folder: Path) -> None:
    kernel = Kernel(scheduled(form, dtype), dtype, isa, sizes(form, d), folder, parts=shared(form, dtype))
    for n, m in COUNTS:
        compare(form, kernel, inputs(form, n, m, d, dtype), threads=2)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_parts_do_not_depend_on_threads_or_other_heads(n: int, folder: Path) -> None:
    rng = np.random.default_rng(n)
    q, k, v = (rng.standard_normal((5, x, 32)).astype(np.float32) for x in (n, 1000, 1000))
    k *= np.linspace(0.1, 3, 1000, dtype=np.float32)[:, None]  # the maximum rises from part to part
    kernel = Kernel(
        scheduled("dot", "float32"), "float32", ISAS[0], {"d": 32, "dv": 32}, folder,
        parts=shared("dot", "float32"),
    )  # fmt: skip
    _, one = kernel(threads=1, q=q, k=k, v=v, scale=0.5)
    for threads in (2, 3, 7):
        _, more = kernel(threads=threads, q=q, k=k, v=v, scale=0.5)
        assert all(np.array_equal(one[x], more[x]) for x in one)
    _, alone = kernel(threads=2, q=q[3:4], k=k[3:4], v=v[3:4], scale=0.5)
    assert all(np.array_equal(one[x][3:4], alone[x]) for x in one)
