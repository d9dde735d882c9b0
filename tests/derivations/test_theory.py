"""The theory as a whole: every numbered statement has its theorem, every false claim its refusal."""

from __future__ import annotations

import re

import numpy as np
import pytest

from projsym.display import sources
from projsym.proof import ledger
from projsym.proof.ledger import proof_json
from projsym.proof.prove import lemmas, require
from projsym.proof.refusal import Refusal
from projsym.proof.show import explain
from projsym.proof.text import latex, text
from projsym.proof.theorem import Theorem

THEOREMS, REFUSALS = ledger.select()
IDS = {t.id for t in THEOREMS}
STATEMENTS = {"I": 13, "II": 10, "III": 6, "IV": 6, "V": 5}
"""How many numbered statements each chapter has."""
FALSE_CLAIMS = 13
"""Rows of chapter VI under a number of their own; series (VI.v1) are variants."""


NUMBERS = [f"{c}.{n}" for c, count in STATEMENTS.items() for n in range(1, count + 1)]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_numbered_statement_has_a_theorem(number: str) -> None:
    assert number in IDS


def test_no_theorem_is_outside_the_numbering() -> None:
    assert {re.match(r"[IV]+\.\d+", id)[0] for id in IDS} == set(NUMBERS)  # type: ignore[index]


def test_every_number_of_false_claims_is_there() -> None:
    ids = {r.id for r in REFUSALS}
    assert {f"VI.{n}" for n in range(1, FALSE_CLAIMS + 1)} <= ids
    series: dict[str, set[int]] = {}
    for id in ids:
        name, number = re.fullmatch(r"VI\.([a-z]*)(\d+)", id).groups()  # type: ignore[union-attr]
        series.setdefault(name, set()).add(int(number))
    assert all(numbers == set(range(1, len(numbers) + 1)) for numbers in series.values()), "no gaps"
    assert len(REFUSALS) >= 40


VARIANTS = {
    "a dropped ½": "VI.v1",
    "σ for σ²": "VI.v2",
    "a flipped sign": "VI.v3",
    "the missing key bias": "VI.1",
    "the Jacobian without the mean": "VI.g4",
    "1/σ² without the third moment": "VI.g11",
    "merging without rescaling": "VI.v9",
    "averaged block outputs": "VI.v10",
    "a transposed fold": "VI.v7",
    "the key gradient without the weights' path": "VI.v12",
    "idempotence": "VI.7",
}


@pytest.mark.parametrize("id", VARIANTS.values(), ids=VARIANTS)
def test_the_usual_mistakes_are_refused(id: str) -> None:
    refusal = next(r for r in REFUSALS if r.id == id)
    assert refusal.repaired_by


def test_every_refusal_is_repaired_by_a_theorem() -> None:
    assert [r.id for r in REFUSALS if not r.repaired_by] == []


SMALL = re.compile(r"-?\d{1,3}(\.\d+)?(e-\d+)?")


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.id)
def test_a_witness_is_small(refusal: Refusal) -> None:
    """At most three keys, two dimensions (four entries), numbers that a person can compute with."""
    inputs = refusal.require().witness.inputs
    for _, value in inputs:
        numbers = re.findall(r"-?[\d.]+", value)
        assert len(numbers) <= 4 and all(abs(float(x)) <= 10 for x in numbers)


def _balanced(source: str) -> bool:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", source):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and source.count(r"\left") == source.count(r"\right") and source.isascii()


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.id)
def test_every_refusal_prints(refusal: Refusal) -> None:
    for side in (refusal.left, refusal.right):
        assert text(side) and _balanced(latex(side))


@pytest.mark.parametrize("theorem", [t for t in THEOREMS if t.certificate], ids=lambda t: t.id)
def test_both_sides_of_every_inequality_print(theorem: Theorem) -> None:
    assert theorem.certificate is not None
    for line in (theorem.certificate.larger, theorem.certificate.smaller):
        assert text(line.term) and _balanced(latex(line.term))


CITED = {
    "I.13n": ("Nadaraya", "Watson"),
    "I.13m": ("Fukunaga", "Cheng"),
    "I.13h": ("Ramsauer",),
    "I.13l": ("DeepSeek",),
    "I.12p": ("Su",),
    "II.1": ("Robbins", "Efron"),
    "II.1d": ("Comaniciu",),
    "II.4p": ("Moreau",),
    "II.6": ("Wiener",),
    "III.4": ("Dao",),
    "IV.3f": ("Shazeer",),
    "IV.1": ("Milakov",),
    "IV.6": ("Dao",),
    "V.4": ("Cleveland",),
    "V.4p": ("Levin",),
}


@pytest.mark.parametrize("id", CITED)
def test_known_results_cite_their_sources(id: str) -> None:
    theorem = next(t for t in THEOREMS if t.id == id)
    assert all(any(name in r for r in theorem.references) for name in CITED[id])


def test_sources_are_shown_where_they_are_used() -> None:
    proof = require(next(t for t in THEOREMS if t.id == "IV.5s"))
    (reference,) = proof.theorem.references
    lemma = lemmas(proof.theorem)[0].reference
    assert f"source       {reference}" in explain(proof) and lemma in explain(proof)
    assert proof_json(proof)["references"] == [reference]
    listed = sources([proof]).markdown
    assert reference in listed and lemma in listed and "Wiener" not in listed


def test_every_lemma_names_its_source() -> None:
    assert all(x.reference and x.statement for t in THEOREMS for x in lemmas(t))


def test_layer_norm_in_numbers() -> None:
    """I.7e and I.7b with NumPy's own mean and variance."""
    rng = np.random.default_rng(0)
    for size, ε in ((1.0, 1e-5), (1e-3, 1e-5), (1.0, 0.5)):
        x = size * rng.standard_normal(12)
        normed = (x - x.mean()) / np.sqrt(x.var() + ε)
        want, v = 12 * x.var() / (x.var() + ε), x.var()
        assert abs(normed @ normed - want) <= 64 * np.finfo(float).eps * 12
        assert 0 < 12 - want < 12 * ε / v


def test_the_least_squares_defect_in_numbers() -> None:
    """I.8d: no M does better than W⁺ B, which leaves the part of B outside the columns of W_K."""
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((6, 2)), rng.standard_normal((6, 4))
    best = np.linalg.pinv(w) @ b
    least = np.linalg.norm(b - w @ best)
    basis = np.linalg.svd(w)[0][:, 2:]
    assert abs(least - np.linalg.norm(basis.T @ b)) <= 1e3 * np.finfo(float).eps * np.linalg.norm(b)
    for _ in range(20):
        assert np.linalg.norm(b - w @ (best + 0.1 * rng.standard_normal((2, 4)))) > least


def test_moving_least_squares_in_numbers() -> None:
    """V.4p on a tilted plane: the residual is normal to it; the kernel mean's is not."""
    rng = np.random.default_rng(2)
    frame = np.linalg.qr(rng.standard_normal((3, 2)))[0].T
    keys = 1 + rng.standard_normal((9, 2)) @ frame
    q = np.array([2.0, -1.0, 0.5])
    w = np.exp(-((q - keys) ** 2).sum(1) / 2)
    mean = w / w.sum() @ keys
    covariance = (keys - mean).T @ ((w / w.sum())[:, None] * (keys - mean))
    tangent = np.linalg.eigh(covariance)[1][:, 1:].T
    projected = mean + (q - mean) @ tangent.T @ tangent
    tolerance = 1e4 * np.finfo(float).eps * np.linalg.norm(q - mean)
    assert np.abs(frame @ (q - projected)).max() <= tolerance < np.abs(frame @ (q - mean)).max()


def test_the_wiener_gain_of_an_eigenvector_in_numbers() -> None:
    """II.6e against a large sample of Gaussian keys: within five standard errors of the weighted mean."""
    rng = np.random.default_rng(3)
    σ, λ, e = 0.7, 2.0, 0.9
    keys = np.sqrt(λ) * rng.standard_normal(400_000)
    w = np.exp(-((e - keys) ** 2) / (2 * σ**2))
    p = w @ keys / w.sum()
    error = np.sqrt((w**2 * (keys - p) ** 2).sum()) / w.sum()
    assert abs(p - λ / (λ + σ**2) * e) <= 5 * error


def test_an_error_of_the_exponential_reaches_the_output_as_stated() -> None:
    """II.9r and II.9t: relative errors within η move a mean by at most diam(V) tanh(½ artanh η), and can."""
    η, rng = 0.3, np.random.default_rng(4)
    bound = np.tanh(np.arctanh(η) / 2)
    for _ in range(200):
        w, v = rng.exponential(size=5), rng.uniform(size=5)
        wrong = w * rng.choice([1 - η, 1 + η], size=5)
        moved = abs(wrong @ v / wrong.sum() - w @ v / w.sum())
        assert moved <= bound * (v.max() - v.min()) + 1e2 * np.finfo(float).eps
    w = np.array([np.sqrt(1 - η), np.sqrt(1 + η)])  # the worst split of the mass between two keys
    wrong = w * np.array([1 + η, 1 - η])
    moved = abs(wrong[0] / wrong.sum() - w[0] / w.sum())
    assert abs(moved - bound) <= 1e2 * np.finfo(float).eps


def test_the_recursion_gives_the_first_order_output() -> None:
    """V.3s and V.3r: four states kept along irregular times against the sums over the whole past."""
    rng = np.random.default_rng(5)
    t = np.cumsum(rng.uniform(0.1, 1, 15))
    k, v, q = rng.standard_normal((15, 3)), rng.standard_normal((15, 2)), rng.standard_normal(3)
    γ, τ, last = 0.4, 20.0, t[0]
    matrix, values, mass, keys = np.zeros((3, 2)), np.zeros(2), 0.0, np.zeros(3)
    for at, key, value in zip(t, k, v, strict=True):
        f, last = np.exp(-γ * (at - last)), at
        matrix, values = f * matrix + np.outer(key, value), f * values + value
        mass, keys = f * mass + 1, f * keys + key
    recursive = (values + q @ matrix / τ) / (mass + q @ keys / τ)
    w = np.exp(-γ * (t[-1] - t)) * (1 + k @ q / τ)
    assert np.abs(recursive - w @ v / w.sum()).max() <= 1e3 * np.finfo(float).eps * np.abs(v).max()


UNREDUCED = re.compile(r"(?<![\w.)²³⁴])[01] [\w(⟨‖]| 0 \+|\+ 0\b")
"""What a derivative leaves behind before anything is collected: ``1 h``, ``0 + …``."""


def test_no_line_shows_a_derivative_as_it_is_taken() -> None:
    for t in THEOREMS:
        for line in (t.steps[0].before, *[s.after for s in t.steps]):
            assert not UNREDUCED.search(line.text or text(line.term)), t.id
    for r in REFUSALS:
        for side, told in zip((r.left, r.right), r.shown, strict=True):
            assert not UNREDUCED.search(told or text(side)), r.id
