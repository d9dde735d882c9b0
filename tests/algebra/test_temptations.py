"""Equations that look true and are false: none may be decided, and balls disprove each."""

from __future__ import annotations

from typing import Any

import pytest
import sympy as sp

from projsym.algebra.decide import equal
from projsym.algebra.scalars import FiniteSum, Softmax, inner, norm2, softmax, total
from projsym.algebra.sets import KEYS, DisjointUnion, Singleton
from projsym.proof.oracle import check, refute
from projsym.proof.verdict import Checked

from ._letters import A, I, J, a, b, c, d, i, j, k, q, u, x

FALSE: list[tuple[str, Any, Any]] = [
    ("sum of products", total(lambda n: a[n] * b[n]), total(lambda n: a[n]) * total(lambda n: b[n])),
    ("other set", total(lambda n: a[n], I), total(lambda n: a[n], J)),
    ("sum of squares", total(lambda n: a[n] ** 2), total(lambda n: a[n]) ** 2),
    ("mean of exp", sp.exp(total(lambda n: a[n])), total(lambda n: sp.exp(a[n]))),
    ("same set twice", total(lambda n: a[n], DisjointUnion(I, I)), total(lambda n: a[n], I)),
    ("size of the set", total(lambda n: c), c),
    ("index of a singleton", total(lambda n: a[n], Singleton(i)), a[j]),
    ("transposed map", inner(q @ A, u), inner(q, u @ A)),
    ("maps commute", q @ A @ A.T, q @ A.T @ A),
    ("inner of norms", inner(q, u) ** 2, norm2(q) * norm2(u)),
    ("exp of a product", sp.exp(c * d), sp.exp(c) * sp.exp(d)),
    ("log of a sum", sp.log(1 + c**2), sp.log(1) + sp.log(c**2 + 2)),
    ("root of a square", sp.sqrt(c**2 + d**2), c + d),
    ("scaled scores", softmax(lambda n: 2 * a[n])(i), softmax(lambda n: a[n])(i)),
    ("shift by key", softmax(lambda n: a[n] + b[n])(i), softmax(lambda n: a[n])(i)),
    ("softmax over less", softmax(lambda n: a[n], I)(i), softmax(lambda n: a[n], DisjointUnion(I, J))(i)),
    ("diagonal", total(lambda n: total(lambda m: inner(k[n], k[m]))), total(lambda n: norm2(k[n]))),
    ("other family", total(lambda n: inner(k[n], q)), total(lambda n: inner(x[n], q))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "left", "right"), FALSE, ids=[x[0] for x in FALSE])
def test_a_false_equation_is_not_decided_and_is_refuted(name: str, left: Any, right: Any) -> None:
    assert not equal(left, right)
    assert refute(left, right) is not None


def test_a_sum_does_not_capture_a_free_index_of_the_same_name() -> None:
    bound = FiniteSum(a[i] * b[j], i, KEYS)
    assert equal(bound, b[j] * total(lambda n: a[n]))
    nested = FiniteSum(bound, j, KEYS)
    assert equal(nested, total(lambda n: a[n]) * total(lambda n: b[n]))
    shadowed = FiniteSum(FiniteSum(a[i], i, KEYS) * b[i], i, KEYS)
    assert equal(shadowed, nested)


def test_softmax_opens_without_capture() -> None:
    """Scores that hold a sum over an index of the same name as the one they are evaluated at."""
    weight = Softmax(FiniteSum(a[i] * b[j], i, KEYS), j, KEYS, i)
    s = total(lambda n: a[n])
    true = sp.exp(s * b[i]) / total(lambda n: sp.exp(s * b[n]))
    captured = sp.exp(total(lambda n: a[n] * b[n])) / total(lambda n: sp.exp(s * b[n]))
    assert equal(weight, true) and isinstance(check(weight, true), Checked)
    assert not equal(weight, captured) and refute(weight, captured) is not None
