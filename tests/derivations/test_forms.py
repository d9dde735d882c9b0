"""The rest of chapter I: statements tested as numbers, in case a term does not say what its title says."""

from __future__ import annotations

import numpy as np
import pytest

from projsym.algebra import inner, norm2
from projsym.algebra.theory import Theory
from projsym.derivations import forms
from projsym.proof import check, ledger, prove
from projsym.proof.verdict import Checked, Proved, Refuted

THEOREMS = {t.id: t for t in ledger.select()[0]}
REFUSALS = {r.id: r for r in ledger.select()[1]}
IDS = [
    *("I.9", "I.9n", "I.10", "I.10r", "I.10s", "I.10t", "I.10e", "I.11", "I.11a", "I.12", "I.12g", "I.12o"),
    *("I.12p", "I.13n", "I.13m", "I.13h", "I.13p", "I.13l", "I.13k"),
]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize("id", IDS)
def test_the_statement_is_there_and_proved(id: str) -> None:
    assert isinstance(prove(THEOREMS[id]).verdict, Proved)


@pytest.mark.parametrize("id", ["I.10", "I.11", "I.12", "I.12g", "I.12o", "I.13n", "I.13p", "I.13k"])
def test_without_a_hypothesis_it_is_false(id: str) -> None:
    """Each hypothesis separately: not only unproved without it but refuted by a witness."""
    needs = prove(THEOREMS[id]).needs
    assert needs and all(isinstance(n.verdict, Refuted) for n in needs)


def test_the_lift_in_numbers() -> None:
    """Weights of the lifted vectors, built as vectors, against dot-product weights of the plain ones."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal(3), rng.standard_normal((5, 3))
    radius = np.linalg.norm(k, axis=1).max()
    lifted = np.c_[k, np.sqrt(np.maximum(radius**2 - (k**2).sum(1), 0))]
    distances = ((np.r_[q, 0] - lifted) ** 2).sum(1)
    bound = 64 * np.finfo(float).eps * np.max(distances + 1)
    assert np.max(np.abs(softmax(k @ q) - softmax(-distances / 2))) <= bound


def test_a_rotary_layer_is_what_the_theorem_says() -> None:
    """Rotated keys with the rotation of their position, values unrotated: Gaussian in the turned query."""
    rng = np.random.default_rng(1)
    q, u = rng.standard_normal(2), rng.standard_normal((4, 2))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    turns = [np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) for t in range(4)]
    k = np.array([x @ r for x, r in zip(u, turns, strict=True)])
    y = np.array([q @ r.T for r in turns])
    left, right = softmax(k @ q), softmax(-((y - u) ** 2).sum(1) / 2)
    assert np.max(np.abs(left - right)) <= 64 * np.finfo(float).eps * (1 + q @ q)
    assert np.max(np.abs(left - softmax(-((q - u) ** 2).sum(1) / 2))) > 0.01


def test_references_are_given_for_known_results() -> None:
    assert all(THEOREMS[id].references for id in IDS if id.startswith("I.13"))


def test_a_domain_helps_no_proof() -> None:
    """It grants nothing and restricts nothing that a proof is told about."""
    assert forms.inside.theory == Theory() and not forms.inside.assumed
    assert forms.inside.rewrite(forms.R) == forms.R


def test_what_known_products_replace_is_equal() -> None:
    """The rules of the rotary hypothesis hold in its instances, and are not identities without them."""
    q, k, u, y, j = forms.q, forms.k, forms.unrotated, forms.turned, forms.j
    for left, right in (
        (inner(q, k[j]), inner(y[j], u[j])),
        (norm2(k[j]), norm2(u[j])),
        (norm2(y[j]), norm2(q)),
    ):
        assert isinstance(check(left, right, (forms.rotary,)), Checked)
        assert isinstance(check(left, right), Refuted)


BY_HAND = {
    "VI.f1": ("4", "1"),
    "VI.10": ("0", "-2.2500000"),
    "VI.11": ("54", "36"),
    "VI.12": ("(2, 0)", "(0, 0)"),
    "VI.f6": ("168", "288"),
    "VI.f7": ("320", "144"),
    "VI.f8": ("10", "8"),
    "VI.f25": ("1", "2"),
}
"""Both sides of refusals whose witness is exact, worked out on paper (their docstrings say how)."""


@pytest.mark.parametrize("id", BY_HAND)
def test_exact_witnesses(id: str) -> None:
    witness = REFUSALS[id].require().witness
    assert (witness.left, witness.right) == BY_HAND[id]


def test_the_rows_of_refusals_are_there() -> None:
    """Each false claim of this part is refuted and names a theorem that repairs it."""
    ids = {f"VI.{n}" for n in range(8, 14)} | {f"VI.f{n}" for n in range(1, 27)}
    assert ids <= REFUSALS.keys()
    assert all(REFUSALS[id].repaired_by for id in ids)
    assert all(isinstance(REFUSALS[id].refute(), Refuted) for id in ids)
