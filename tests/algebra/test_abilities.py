"""Each ability gates its own facts: with it they are decided, without it they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from projsym.algebra.decide import equal
from projsym.algebra.scalars import exp2, inner, norm2, softmax, total
from projsym.algebra.sets import EMPTY, DisjointUnion, Singleton
from projsym.algebra.terms import ZeroVector
from projsym.algebra.theory import Ability, Theory, TheoryError
from projsym.proof.oracle import check
from projsym.proof.verdict import Checked

from ._letters import A, I, J, W, a, b, c, d, f, i, j, k, l, q, r, s, u, w, without

weights = softmax(lambda n: a[n])


def both(body: Callable[[Any], Any]) -> Any:
    """The sum over I plus the sum over J."""
    return total(body, I) + total(body, J)


IJ, JI = DisjointUnion(I, J), DisjointUnion(J, I)
GATED: list[tuple[str, Ability, Any, Any]] = [
    ("symmetric", Ability.BILINEARITY, inner(q + u, w), inner(w, u) + inner(q, w)),
    ("polarization", Ability.BILINEARITY, 2 * inner(q, u), norm2(q) + norm2(u) - norm2(q - u)),
    ("scaled", Ability.BILINEARITY, inner(c * q, u), c * inner(q, u)),
    ("adjoint", Ability.ADJOINT, inner(q @ W, f), inner(q, f @ W.T)),
    ("twice adjoint", Ability.ADJOINT, inner(q @ A @ W, f), inner(q @ A, f @ W.T)),
    ("exponential of a sum", Ability.EXPONENTIAL, sp.exp(c * (d + 1)), sp.exp(c * d) * sp.exp(c)),
    ("log of exp", Ability.EXPONENTIAL, sp.log(sp.exp(c * d) * s), c * d + sp.log(s)),
    ("exp of log", Ability.EXPONENTIAL, sp.exp(c * sp.log(s) / 2) ** 2, s**c),
    ("tanh", Ability.HYPERBOLIC, sp.tanh(c), (sp.exp(2 * c) - 1) / (sp.exp(2 * c) + 1)),
    ("constant out", Ability.SUMS, total(lambda n: c * a[n]), c * total(lambda n: a[n])),
    ("split body", Ability.SUMS, total(lambda n: a[n] + b[n]), total(lambda n: a[n]) + total(lambda n: b[n])),
    (
        "Fubini",
        Ability.SUMS,
        total(lambda n: total(lambda m: inner(k[n], k[m]) * a[n], I), J),
        total(lambda m: total(lambda n: inner(k[m], k[n]) * a[n], J), I),
    ),
    (
        "product of sums",
        Ability.SUMS,
        total(lambda n: total(lambda m: a[n] * a[m])),
        total(lambda n: a[n]) ** 2,
    ),
    ("union", Ability.UNIONS, total(lambda n: a[n], IJ), both(lambda n: a[n])),
    ("empty", Ability.UNIONS, total(lambda n: a[n], EMPTY), sp.S.Zero),
    ("vector over a union", Ability.UNIONS, total(lambda n: k[n], JI), both(lambda n: k[n])),
    ("no vectors", Ability.UNIONS, total(lambda n: k[n], EMPTY), ZeroVector()),
    ("softmax", Ability.SOFTMAX, weights(i), sp.exp(a[i]) / total(lambda n: sp.exp(a[n]))),
    ("shift", Ability.SOFTMAX, weights(i), softmax(lambda n: a[n] + c)(i)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ability", "left", "right"), GATED, ids=[g[0] for g in GATED])
def test_an_ability_gates_its_facts(name: str, ability: Ability, left: Any, right: Any) -> None:
    assert equal(left, right)
    assert not equal(left, right, without(ability))
    assert isinstance(check(left, right), Checked)


ALWAYS: list[tuple[str, Any, Any]] = [
    ("field", (c + d) ** 3 / s, (c**3 + 3 * c**2 * d + 3 * c * d**2 + d**3) / s),
    ("quotient", 1 / (1 + s) + 1 / (2 + s), (3 + 2 * s) / ((1 + s) * (2 + s))),
    ("vectors", 2 * (q + u) - q, q + 2 * u),
    ("maps are linear", (q + c * u) @ W, q @ W + c * (u @ W)),
    ("maps leave sums", total(lambda n: a[n] * k[n]) @ W, total(lambda n: a[n] * (k[n] @ W))),
    ("products of letters commute", inner(q, k[i]), inner(k[i], q)),
    ("renamed index", total(lambda n: a[n]), total(lambda m: a[m])),
    ("powers of two", exp2(c), sp.exp(c * sp.log(2))),
]


@pytest.mark.parametrize(("name", "left", "right"), ALWAYS, ids=[g[0] for g in ALWAYS])
def test_the_empty_theory_decides_field_and_vector_arithmetic(name: str, left: Any, right: Any) -> None:
    assert equal(left, right, Theory())
    assert isinstance(check(left, right), Checked)


def test_a_singleton_needs_unions() -> None:
    left = total(lambda n: a[n] * b[j], Singleton(i))
    assert equal(left, a[i] * b[j])
    with pytest.raises(TheoryError, match="disjoint union"):
        equal(left, a[i] * b[j], without(Ability.UNIONS))


def test_a_union_is_unordered_without_unions() -> None:
    left, right = (total(lambda n: a[n], DisjointUnion(*sets)) for sets in ((I, J), (J, I)))
    assert equal(left, right, without(Ability.UNIONS))


def test_a_softmax_is_a_letter_that_depends_on_its_index() -> None:
    closed = without(Ability.SOFTMAX)
    assert equal(weights(i) + c - c, softmax(lambda l: a[l] + b[j] - b[j])(i), closed)
    assert not equal(weights(i), weights(j), closed)
    one, other = (softmax(lambda l, n=n: a[l] * b[n])(i) for n in (i, j))
    assert not equal(one, other, closed)


def test_theories_join() -> None:
    both = Theory(frozenset([Ability.BILINEARITY])) | Theory(frozenset([Ability.ADJOINT]))
    assert equal(inner(q @ W, f + f), 2 * inner(q, f @ W.T), both)
    assert both.can(Ability.ADJOINT) and not both.can(Ability.SUMS)


def test_positive_members_may_leave_roots_and_logs() -> None:
    assert equal(sp.log(r[i] * r[l]), sp.log(r[i]) + sp.log(r[l]))
