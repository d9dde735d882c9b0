"""What counts as a certificate, and what becomes of one that is wrong."""

from __future__ import annotations

import random
import sys

import pytest
import sympy as sp

from projsym.algebra.scalars import ScalarFamily, inner, norm2, softmax, total
from projsym.algebra.sets import KEYS, IndexSet, index
from projsym.algebra.terms import VectorFamily, VectorSymbol
from projsym.derivations import geometry_lemmas
from projsym.proof.certificate import Sign, divergence, is_divergence, negative, relies_on_gibbs, sign
from projsym.proof.gibbs import GIBBS
from projsym.proof.hypotheses import equal_norms
from projsym.proof.laws import bilinearity, exponential_law
from projsym.proof.ledger import kinds, proof_json
from projsym.proof.prove import lemmas, prove
from projsym.proof.random_terms import FREE, Terms
from projsym.proof.refusal import At
from projsym.proof.show import explain
from projsym.proof.theorem import Kind, Theorem, at_least, build, by, coefficient, contradicted, therefore
from projsym.proof.verdict import ProofError, Proved, Refuted, Unknown

q, u, k = VectorSymbol("q"), VectorSymbol("u"), VectorFamily("k")
a, b, p, j = ScalarFamily("a"), ScalarFamily("b"), ScalarFamily("p", positive=True), index("j")
c, s = sp.Symbol("c", real=True), sp.Symbol("s", positive=True)
w, v = softmax(lambda l: a[l]), softmax(lambda l: b[l])

POSITIVE = (s, p[j], sp.exp(c), w(j), s + c**2, s / (1 + c**4), sp.Rational(1, 3), sp.sqrt(s) * w(j), s**c)
NONNEGATIVE = (
    norm2(q - u), c**2, inner(q, u) ** 2 * s, total(lambda l: p[l] * a[l] ** 2), norm2(q) / norm2(u),
    sp.S.Zero, sp.sqrt(norm2(q)), divergence(w, v) * s + norm2(q), c**-2,
)  # fmt: skip
UNREAD = (
    c, a[j], inner(q, u), s - p[j], -norm2(q), c**3, sp.log(s), total(lambda l: a[l]), c * s, -s,
    norm2(q) - 2 * inner(q, u) + norm2(u), norm2(q) ** c,
)  # fmt: skip


@pytest.mark.parametrize("term", POSITIVE, ids=str)
def test_positive(term: sp.Expr) -> None:
    assert sign(term) is Sign.POSITIVE and negative(term) is None


@pytest.mark.parametrize("term", NONNEGATIVE, ids=str)
def test_non_negative_and_not_more(term: sp.Expr) -> None:
    assert sign(term) is Sign.NONNEGATIVE and negative(term) is None


@pytest.mark.parametrize("term", UNREAD, ids=str)
def test_what_needs_computation_is_not_read(term: sp.Expr) -> None:
    """Also squares that are written out: the reading does not factor."""
    assert sign(term) is Sign.UNKNOWN


def test_only_the_divergence_of_two_distributions_rests_on_gibbs() -> None:
    other = softmax(lambda l: b[l], IndexSet("I"))
    i = index("i")
    tangled = total(lambda l: w(l) * sp.log(w(l) / softmax(lambda m: a[m] * b[l])(l)))
    wrong = (
        total(lambda l: w(l) * sp.log(v(l) / w(l))),
        total(lambda l: w(l) * sp.log(v(l) / v(l) ** 2)),
        total(lambda l: w(l) * sp.log(w(l) / p[l])),
        total(lambda l: p[l] * sp.log(p[l] / w(l))),
        total(lambda l: w(l) * sp.log(w(l) / other(l))),
        total(lambda l: w(i) * sp.log(w(i) / v(i))),
        total(lambda l: w(l) * sp.log(w(l) / v(l)), IndexSet("I")),
        tangled,
    )
    assert is_divergence(divergence(w, v)) and relies_on_gibbs(1 + s * divergence(w, v))
    for term in wrong:
        assert not is_divergence(term) and not relies_on_gibbs(term) and sign(term) is Sign.UNKNOWN
    assert divergence(w, v).args[2] == KEYS


def chain(*lines: object, given: tuple[object, ...] = ()) -> Theorem:
    return build("t", "a title", given, lambda: iter(lines))  # type: ignore[arg-type]


TRUE = (norm2(q) + norm2(u) - 2 * inner(q, u), (by(bilinearity), norm2(q - u)))


def test_a_certificate_is_proved() -> None:
    t = chain(*TRUE, at_least(norm2(q) + norm2(u), 2 * inner(q, u)))
    proof = prove(t)
    assert (
        t.kind is Kind.CERTIFICATE and isinstance(proof.closing, Proved) and isinstance(proof.verdict, Proved)
    )
    assert "argument     certificate" in explain(proof) and " ≥ 2 ⟨q, u⟩" in explain(proof)
    entry = proof_json(proof)
    assert entry["argument"] == "certificate" and entry["certificate"]["smaller"] == "2 ⟨q, u⟩"


def test_a_certificate_for_another_inequality_is_not_accepted() -> None:
    proof = prove(chain(*TRUE, at_least(norm2(q), 2 * inner(q, u))))
    assert isinstance(proof.verdict, Unknown) and "not the difference" in proof.verdict.residual


def test_a_last_line_without_visible_sign_is_not_accepted() -> None:
    """The inequality holds; the chain ends before anyone can see it."""
    doubled = (2 * norm2(q - u), (by(bilinearity), 2 * norm2(q) + 2 * norm2(u) - 4 * inner(q, u)))
    proof = prove(chain(*doubled, at_least(2 * norm2(q - u))))
    assert isinstance(proof.verdict, Unknown) and "visibly" in proof.verdict.residual


def test_a_false_step_to_a_square_is_refuted() -> None:
    proof = prove(chain(norm2(q) + norm2(u) - 3 * inner(q, u), (by(bilinearity), norm2(q - u))))
    assert isinstance(proof.verdict, Refuted)
    assert negative(norm2(q) - norm2(u)) is not None


def test_contraposition_needs_a_witness() -> None:
    norms = equal_norms(k)
    lines = (norm2(k[index("i")]) - norm2(k[j]), (by(norms), sp.S.Zero))
    differs = At(families={"k": [(1,), (2,)]}, dimensions={"E": 1})
    proof = prove(chain(*lines, contradicted("not equal", differs), given=(norms,)))
    assert proof.theorem.kind is Kind.CONTRAPOSITION
    assert isinstance(proof.verdict, Proved) and isinstance(proof.closing, Refuted)
    agrees = At(families={"k": [(1,), (-1,)]}, dimensions={"E": 1})
    proof = prove(chain(*lines, contradicted("not equal", agrees), given=(norms,)))
    assert isinstance(proof.verdict, Unknown) and isinstance(proof.closing, Unknown)
    with pytest.raises(ValueError, match="two theorems"):
        chain(*lines, contradicted("x", agrees), at_least(lines[0]), given=(norms,))
    with pytest.raises(ValueError, match="needs a hypothesis"):
        chain(*TRUE, contradicted("x", agrees))


def test_kinds_are_read_off_the_chain() -> None:
    slope = coefficient("slope", sp.exp(c * inner(q, u)), c)
    by_slope = chain(slope, (by(exponential_law), inner(q, u)))
    lemma = therefore(GIBBS, "nothing")
    assert by_slope.kind is Kind.COEFFICIENT and chain(*TRUE).kind is Kind.IDENTITY
    assert chain(*TRUE, lemma).kind is Kind.LEMMA and lemmas(chain(*TRUE, lemma)) == (GIBBS,)
    assert kinds([by_slope, chain(*TRUE)])[Kind.COEFFICIENT] == 1 and sum(kinds([by_slope]).values()) == 1
    with pytest.raises(ValueError, match="does not depend on"):
        coefficient("slope", inner(q, u), c)
    with pytest.raises(ValueError, match="nothing may follow"):
        chain(*TRUE, lemma, (by(bilinearity), norm2(q)))
    with pytest.raises(ValueError, match="two closings"):
        chain(*TRUE, lemma, lemma)


@pytest.mark.parametrize(
    "lemma",
    [x for x in vars(geometry_lemmas).values() if isinstance(x, type(GIBBS))] + [GIBBS],
    ids=lambda x: x.name,
)
def test_lemmas_hold_where_tried(lemma: object) -> None:
    lemma.test()  # type: ignore[attr-defined]
    assert lemma.reference and lemma.statement  # type: ignore[attr-defined]


def test_a_false_lemma_fails_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry_lemmas, "bessel_ratio", lambda κ: κ.bessel_i(2) / κ.bessel_i(0))
    with pytest.raises(ProofError, match="circle"):
        geometry_lemmas.circle.test()
    import projsym.proof.gibbs as gibbs

    true = gibbs._divergence
    monkeypatch.setattr(gibbs, "_divergence", lambda u, w: -true(u, w))
    with pytest.raises(ProofError, match="may not be positive"):
        GIBBS.test()


def test_no_reading_of_a_sign_is_contradicted_by_balls() -> None:
    """Random terms and their squares, quotients and sums: what is read is never rigorously false."""
    read = 0
    for seed in range(400):
        terms = Terms(random.Random(seed))
        x, y = terms.scalar(2, FREE), terms.scalar(1, FREE)
        for term in (x, y, x**2 + y, x**2 * terms.positive(1, FREE), x * y):
            found = sign(term)
            if found and not term.has(sp.zoo, sp.nan):
                read += 1
                assert negative(term, instances=2, seed=seed) is None
    assert read > 400


def test_a_certificate_that_is_read_wrongly_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second opinion does not rest on the reading of signs."""
    lines = (inner(q, u), (by(bilinearity), inner(q, 2 * u) / 2), at_least(inner(q, u)))
    assert isinstance(prove(chain(*lines)).verdict, Unknown)
    monkeypatch.setattr(sys.modules["projsym.proof.prove"], "sign", lambda e: Sign.NONNEGATIVE)
    assert isinstance(prove(chain(*lines)).verdict, Refuted)
