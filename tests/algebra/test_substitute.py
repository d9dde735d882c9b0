"""Substitution renames binders, so nothing free is captured."""

from __future__ import annotations

from projsym.algebra.decide import equal
from projsym.algebra.scalars import FiniteSum, Softmax, inner, softmax, total
from projsym.algebra.sets import KEYS, DisjointUnion
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import VectorSum
from projsym.proof.oracle import check, refute
from projsym.proof.verdict import Checked

from ._letters import I, J, a, b, c, i, j, k, q, u, x


def test_a_free_index_stays_free_under_a_binder_of_its_name() -> None:
    term = FiniteSum(c * a[i], i, KEYS)
    got = substitute(term, {c: b[i]})
    assert equal(got, b[i] * total(lambda n: a[n]))
    assert not equal(got, total(lambda n: b[n] * a[n]))
    assert refute(got, total(lambda n: b[n] * a[n])) is not None


def test_a_free_vector_stays_free() -> None:
    got = substitute(VectorSum(inner(q, k[i]) * k[i], i, KEYS), {q: x[i]})
    want = total(lambda n: inner(x[i], k[n]) * k[n])
    assert equal(got, want) and isinstance(check(got, want), Checked)


def test_softmax_binds_its_scores_and_not_its_index() -> None:
    got = substitute(Softmax(c * a[i], i, KEYS, i), {c: b[i]})
    assert equal(got, softmax(lambda n: b[i] * a[n])(i))
    assert equal(substitute(softmax(lambda n: a[n])(i), {i: j}), softmax(lambda n: a[n])(j))


def test_a_bound_index_is_not_replaced() -> None:
    term = FiniteSum(a[i], i, KEYS)
    assert equal(substitute(term, {i: j}), term)
    assert equal(substitute(term * b[i], {i: j}), term * b[j])


def test_families_are_replaced_at_every_index() -> None:
    got = substitute(total(lambda n: inner(k[n], k[i])), {k: lambda n: x[n] + u})
    assert equal(got, total(lambda n: inner(x[n] + u, x[i] + u)))


def test_sets_are_replaced() -> None:
    got = substitute(total(lambda n: a[n]), {KEYS: DisjointUnion(I, J)})
    assert equal(got, total(lambda n: a[n], I) + total(lambda n: a[n], J))


def test_simultaneous() -> None:
    assert equal(substitute(inner(q, x[i]), {q: u, u: q}), inner(u, x[i]))
    assert equal(substitute(a[i] - b[j], {i: j, j: i}), a[j] - b[i])
