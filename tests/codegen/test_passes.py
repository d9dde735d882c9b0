"""Passes: the text of a program after each, and what each refuses."""

from __future__ import annotations

from textwrap import dedent

import pytest
import sympy as sp

from projsym.codegen import passes, schedule
from projsym.codegen.pass_online import degree, log_shift
from projsym.codegen.program import Dot, Input, Let, Loop, Output, Program, Sum, exp2, symbol

from . import _forms

GAUSSIAN = [
    (
        schedule.base_two,
        """\
        program gaussian(q[i]: d, k[j]: d, sigma)
          log2e[] = 1/log(2)
          for h:
            for i:
              for j:
                k_k[j] = <k, k>
                q_k[ij] = <q, k>
                w0[ij] = exp2(-k_k*log2e/(2*sigma**2) + log2e*q_k/sigma**2)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              q_q[i] = <q, q>
              out[i] = (1/s0) * s1
              lse[i] = (-q_q/(2*sigma**2) + log(s0))""",
    ),
    (
        schedule.online,
        """\
        program gaussian(q[i]: d, k[j]: d, sigma)
          log2e[] = 1/log(2)
          for h:
            for i:
              for j:
                k_k[j] = <k, k>
                q_k[ij] = <q, k>
                s[ij] = -k_k*log2e/(2*sigma**2) + log2e*q_k/sigma**2
                m_old, m = m, max(m, max_j s)
                s0, s1 *= exp2(-m + m_old)
                w0[ij] = exp2(-m + s)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              q_q[i] = <q, q>
              out[i] = (1/s0) * s1
              lse[i] = (-q_q/(2*sigma**2) + log(s0) + m/log2e)""",
    ),
    (
        schedule.fold_scale,
        """\
        program gaussian(q[i]: d, k[j]: d, sigma)
          log2e[] = 1/log(2)
          for h:
            for i:
              for j:
                k_k[j] = <k, k>
                q_k[ij] = log2e/sigma**2 * <q, k>
                s[ij] = -k_k*log2e/(2*sigma**2) + q_k
                m_old, m = m, max(m, max_j s)
                s0, s1 *= exp2(-m + m_old)
                w0[ij] = exp2(-m + s)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              q_q[i] = <q, q>
              out[i] = (1/s0) * s1
              lse[i] = (-q_q/(2*sigma**2) + log(s0) + m/log2e)""",
    ),
    (
        schedule.hoist,
        """\
        program gaussian(q[i]: d, k[j]: d, sigma)
          log2e[] = 1/log(2)
          c0[] = log2e/sigma**2
          for h:
            for j:
              k_k[j] = <k, k>
              t0[j] = -k_k*log2e/(2*sigma**2)
            for i:
              for j:
                q_k[ij] = c0 * <q, k>
                s[ij] = q_k + t0
                m_old, m = m, max(m, max_j s)
                s0, s1 *= exp2(-m + m_old)
                w0[ij] = exp2(-m + s)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              q_q[i] = <q, q>
              out[i] = (1/s0) * s1
              lse[i] = (-q_q/(2*sigma**2) + log(s0) + m/log2e)""",
    ),
]
STUDENT = [
    (
        schedule.fold_scale,
        """\
        program student(q[i]: d, k[j]: d, sigma)
          for h:
            for i:
              for j:
                q_q[i] = <q, q>
                k_k[j] = <k, k>
                q_k[ij] = -2/(3*sigma**2) * <q, k>
                w0[ij] = (k_k/(3*sigma**2) + q_k + q_q/(3*sigma**2) + 1)**(-2)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              out[i] = (1/s0) * s1
              lse[i] = (log(s0))""",
    ),
    (
        schedule.hoist,
        """\
        program student(q[i]: d, k[j]: d, sigma)
          c0[] = -2/(3*sigma**2)
          for h:
            for j:
              k_k[j] = <k, k>
              t0[j] = k_k/(3*sigma**2)
            for i:
              q_q[i] = <q, q>
              r0[i] = q_q/(3*sigma**2) + 1
              for j:
                q_k[ij] = c0 * <q, k>
                w0[ij] = (q_k + r0 + t0)**(-2)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              out[i] = (1/s0) * s1
              lse[i] = (log(s0))""",
    ),
    (
        lambda: schedule.block("j", 64),
        """\
        program student(q[i]: d, k[j]: d, sigma)
          c0[] = -2/(3*sigma**2)
          for h:
            for j:
              k_k[j] = <k, k>
              t0[j] = k_k/(3*sigma**2)
            for i:
              q_q[i] = <q, q>
              r0[i] = q_q/(3*sigma**2) + 1
              for j in blocks of 64:
                q_k[ij] = c0 * <q, k>
                w0[ij] = (q_k + r0 + t0)**(-2)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              out[i] = (1/s0) * s1
              lse[i] = (log(s0))""",
    ),
    (
        lambda: schedule.parallel("h", "i"),
        """\
        program student(q[i]: d, k[j]: d, sigma)
          c0[] = -2/(3*sigma**2)
          for h, parallel:
            for j:
              k_k[j] = <k, k>
              t0[j] = k_k/(3*sigma**2)
            for i, parallel:
              q_q[i] = <q, q>
              r0[i] = q_q/(3*sigma**2) + 1
              for j in blocks of 64:
                q_k[ij] = c0 * <q, k>
                w0[ij] = (q_k + r0 + t0)**(-2)
                s0 += sum_j w0
                s1 += sum_j w0 * k
              out[i] = (1/s0) * s1
              lse[i] = (log(s0))""",
    ),
]


@pytest.mark.parametrize(("form", "stages"), [("gaussian", GAUSSIAN), ("student", STUDENT)])
def test_text_after_each_pass(form: str, stages: list[tuple[object, str]]) -> None:
    p = getattr(_forms, form)()
    for make, text in stages:
        p = schedule.apply(p, [make()])  # type: ignore[operator]
        assert str(p) == dedent(text)
    assert len(p.log) == len(stages)


def test_log_cites_the_laws() -> None:
    p = schedule.apply(_forms.gaussian(), [schedule.base_two(), schedule.online()])
    steps = [schedule.base_two(), schedule.online()]
    assert p.log == tuple(f"{s.text:<44} [{', '.join(s.cites)}]" for s in steps)
    assert p.log[1] == "running maximum of the scores                [I.2, IV.1]"


def test_default_uses_the_running_maximum_where_it_is_legal() -> None:
    def online(p: Program) -> bool:
        return schedule.online().text in [s.text for s in schedule.default(p, "float32")]

    assert online(_forms.gaussian()) and online(_forms.biased())
    assert not online(_forms.mixture()) and not online(_forms.student())
    with pytest.raises(ValueError, match="dtype must be"):
        schedule.default(_forms.dot(), "float16")


def with_outputs(*outputs: Output) -> Program:
    """The dot-product form in base two with other outputs."""
    p = passes.base_two(_forms.dot())
    (heads,) = (x for x in p.body if isinstance(x, Loop))
    (rows,) = heads.body
    assert isinstance(rows, Loop)
    return p.with_(body=(p.body[0], Loop("h", (Loop("i", (rows.body[0], *outputs)),))))


def test_online_refuses_what_a_shift_changes() -> None:
    s0, s1 = symbol("s0"), symbol("s1")
    refused = {
        "an unnormalised sum": Output("out", ((sp.S.One, s1),), "dv"),
        "a mean divided twice": Output("out", ((1 / s0**2, s1),), "dv"),
        "a sum inside another function": Output("lse", ((sp.sin(s0), None),)),
        "a sum plus one": Output("out", ((1 / (1 + s0), s1),), "dv"),
        "a log times a mean": Output("out", ((sp.log(s0) / s0, s1),), "dv"),
    }
    for output in refused.values():
        with pytest.raises(ValueError, match=f"of {output.name} changes when all scores shift"):
            passes.online(with_outputs(output))
    assert passes.online(with_outputs(Output("z", ((s0**2 / s0**2 + 2 * sp.log(s0**3), None),))))


def test_online_refuses_other_weights() -> None:
    with pytest.raises(ValueError, match="one common exponential expected"):
        passes.online(passes.base_two(_forms.mixture()))
    with pytest.raises(ValueError, match="found none"):
        passes.online(_forms.student())
    with pytest.raises(ValueError, match="base two first"):
        passes.online(_forms.program("x", [_forms.QK], exp2(_forms.q_k), _forms.LOG))
    with pytest.raises(ValueError, match="row and key factors"):
        mixed = _forms.program("x", [_forms.QK], _forms.q_k * sp.exp(_forms.q_k), _forms.LOG)
        passes.online(passes.base_two(mixed))
    with pytest.raises(ValueError, match="already has"):
        passes.online(passes.online(passes.base_two(_forms.dot())))


def test_degree_and_log_shift() -> None:
    a, b, c, m = sp.symbols("a b c m", real=True)
    sums = frozenset({a, b})
    assert degree(a * b**-3 * c, sums) == -2
    assert degree(a + 2 * b, sums) == 1
    assert degree(a + 1, sums) is None
    assert degree(sp.log(a), sums) is None
    assert log_shift(c * sp.log(a**2 / b) + a / b, sums, 0, m) == c * m
    assert log_shift(sp.log(a), sums, 1, m) is None


def test_fold_scale_divides_by_no_parameter() -> None:
    """Two uses of a product with unrelated factors: neither is folded, as either could be zero."""
    w = sp.exp(symbol("x") * _forms.q_k) + sp.exp(symbol("y") * _forms.q_k)
    p = _forms.program("two", [_forms.QK], w, _forms.LOG, Input("x", ""), Input("y", ""))
    assert str(passes.fold_scale(p)) == str(p)


def test_names_of_inputs_are_not_taken() -> None:
    bias = Input("s", "j")
    p = _forms.program("p", [_forms.QK], sp.exp(_forms.q_k + symbol("s")), _forms.LOG, bias, Input("m", ""))
    p = passes.hoist(passes.online(passes.base_two(p)))
    defined = [s.name for s in p.statements() if isinstance(s, Let | Dot | Sum)]
    assert symbol("s_1") in defined and symbol("s") not in defined
    assert len(set(defined)) == len(defined)


def test_refusals_of_loops_and_tiles() -> None:
    p = _forms.dot()
    for size in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="positive integer"):
            passes.block(p, "j", size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="axis must be"):
        passes.block(p, "h", 2)
    with pytest.raises(ValueError, match="already in blocks of 8"):
        passes.block(passes.block(p, "j", 8), "j", 8)
    with pytest.raises(ValueError, match="carries sums"):
        passes.parallel(p, "j")
    with pytest.raises(ValueError, match="no loop over 'x'"):
        passes.parallel(p, "x")
    with pytest.raises(ValueError, match="unknown tile 'kays'"):
        passes.tile(p, kays=8)
    with pytest.raises(ValueError, match="registers, avx2 has 16"):
        passes.tile(p, keys=8, query_vectors=3)
    with pytest.raises(ValueError, match="rows must be a positive integer"):
        passes.tile(p, rows=0)
