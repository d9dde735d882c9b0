"""Balls of a program: they hold the definition's values, and see a change of the program."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from projsym.codegen import schedule
from projsym.codegen.enclosure import enclose
from projsym.codegen.program import Let, Loop, Output, Program, symbol

from . import _forms

RNG = np.random.default_rng(0)
Q, K = RNG.standard_normal((4, 3)), RNG.standard_normal((9, 3))


def gaussian(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the log-sum-exp by the definition."""
    w = np.exp(-((Q[:, None] - K) ** 2).sum(-1) / (2 * sigma**2))
    return w @ K / w.sum(1)[:, None], np.log(w.sum(1))


def scheduled(block: int) -> Program:
    """The Gaussian form with a running maximum and blocks of keys."""
    plain = _forms.gaussian()
    steps = [schedule.base_two(), schedule.online(), schedule.fold_scale(), schedule.hoist()]
    return schedule.apply(plain, [*steps, schedule.block("j", block)])


@pytest.mark.parametrize("block", [1, 4, 9, 64])
def test_the_definition_is_in_the_balls(block: int) -> None:
    """In double the definition is off by less than a float32 ball's radius by a factor of about 2**-29."""
    found = enclose(scheduled(block), {"q": Q, "k": K, "sigma": 1.25}, "float32")
    for (centre, radius), want in zip((found["out"], found["lse"]), gaussian(1.25), strict=True):
        assert centre.shape == want.shape and (radius < 1e-4).all()
        assert (abs(centre - want) <= radius).all()


def test_another_program_is_outside() -> None:
    centre, radius = enclose(scheduled(4), {"q": Q, "k": K, "sigma": 1.26}, "float32")["out"]
    assert (abs(centre - gaussian(1.25)[0]) > radius).any()


def test_smaller_types_have_larger_balls() -> None:
    inputs = {"q": Q.astype(np.float32), "k": K.astype(np.float32), "sigma": 1.25}
    ratio = (
        enclose(scheduled(4), inputs, "float32")["out"][1]
        / enclose(scheduled(4), inputs, "float64")["out"][1]
    )
    assert (ratio > 2.0**28).all() and (ratio < 2.0**30).all()


def test_worse_functions_have_larger_balls() -> None:
    inputs = {"q": Q, "k": K, "sigma": 1.25}
    good, bad = (enclose(scheduled(4), inputs, "float32", e)["out"][1] for e in (None, 1e-3))
    assert (bad > good + 1e-4).all()


def test_no_keys_and_no_queries() -> None:
    found = enclose(scheduled(4), {"q": Q, "k": K[:0], "sigma": 1.25}, "float64")
    assert (found["out"][0] == 0).all() and (found["lse"][1] == np.inf).all()  # the logarithm of nothing
    assert enclose(scheduled(4), {"q": Q[:0], "k": K, "sigma": 1.25}, "float64") == {}


def test_a_division_that_may_be_by_zero_has_no_bound() -> None:
    plain = _forms.program("t", [_forms.QK], 1 / (_forms.q_k - _forms.q_k.func("zero", real=True)), sp.S.Zero)
    zero = Let(symbol("zero"), "ij", _forms.q_k)
    (heads,) = plain.body
    assert isinstance(heads, Loop) and isinstance(heads.body[0], Loop)
    rows = heads.body[0]
    pairs = rows.body[0]
    assert isinstance(pairs, Loop)
    changed = Loop("j", (pairs.body[0], zero, *pairs.body[1:]))
    program = plain.with_(body=(Loop("h", (Loop("i", (changed, *rows.body[1:])),)),))
    _, radius = enclose(program, {"q": Q, "k": K}, "float64")["out"]
    assert (radius == np.inf).all()


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no ball for sin"):
        enclose(_forms.program("t", [_forms.QK], sp.sin(_forms.q_k), sp.S.Zero), {"q": Q, "k": K}, "float64")
    output = Output("out", ((sp.S.One, None),))
    body = (Loop("h", (Loop("i", (Loop("j", (output,)),)),)),)
    with pytest.raises(ValueError, match="in a loop over keys"):
        enclose(_forms.dot().with_(body=body), {"q": Q, "k": K, "v": K, "scale": 1.0}, "float64")
