"""The exporter's text: statements, names, what is refused. No coqc is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sympy as sp
from _coq import CORE, named

from projsym.algebra.scalars import ScalarFamily, norm2, softmax, total
from projsym.algebra.sets import EMPTY, index
from projsym.algebra.terms import VectorFamily, VectorSymbol
from projsym.coq.domain import positive
from projsym.coq.names import NotExported, identifier
from projsym.coq.write import BASE, HAND_WRITTEN, PROJECT, source, texts, write
from projsym.proof import ledger
from projsym.proof.laws import bilinearity, distributivity, shift_invariance
from projsym.proof.theorem import Theorem, build, by

q, k, j = VectorSymbol("q"), VectorFamily("k"), index("j")
a, t = ScalarFamily("a"), ScalarFamily("t")
T = total(lambda l: t[l])
STATEMENT = re.compile(r"^(?:Hypothesis H_.*|Theorem .*\n.*\n.*)$", re.MULTILINE)
I_4 = """\
Hypothesis H_equal_norms : forall l0, inner (k l0) (k l0) = (rho ^ 2).
Theorem I_4 (j : Index) :
  (softmax set_keys (fun l0 => ((/ tau) * (inner q (k l0)))) j)
  = (softmax set_keys (fun l0 => ((-1 / 2) * (/ tau) * (inner (add q (scale (-1) (k l0))) \
(add q (scale (-1) (k l0)))))) j)."""


def equation(left: Any, right: Any) -> Theorem:
    def chain() -> Iterator[Any]:
        yield left
        yield by(bilinearity, distributivity, shift_invariance), right

    return build("t", "a title", (), chain)


def test_the_statement_is_the_first_and_last_line() -> None:
    assert "\n".join(STATEMENT.findall(source(*named("I.4")))) == I_4


@pytest.mark.parametrize("id", CORE)
def test_the_core_is_exported(id: str) -> None:
    (theorem,) = named(id)
    text = source(theorem)
    name = id.replace(".", "_")
    assert text.startswith(f"(* {id}: {theorem.title}.")
    assert "by projsym" in text
    assert text.endswith(f"Print Assumptions {name}.\n")
    assert text.count("\nLemma ") == len(theorem.steps)
    assert text.count("\nHypothesis H_") == len(theorem.given)
    assert not re.search(r"Admitted|Axiom|Parameter|admit", text)


def test_every_theorem_is_exported_or_says_why_not() -> None:
    theorems, _ = ledger.select()
    files, written = texts(theorems)
    assert [w.theorem for w in written] == theorems
    exported = {w.theorem.id for w in written if w.generated}
    assert exported.issuperset(CORE)
    assert all(bool(w.generated) != bool(w.reason) for w in written)
    assert {w.theorem.id for w in written if w.hand_written} == set(HAND_WRITTEN)
    assert files[PROJECT].splitlines() == ["-R . Projsym", *(n for n in files if n != PROJECT)]
    assert list(files)[1] == BASE


def test_the_same_text_for_every_hash_seed() -> None:
    script = (
        "import hashlib; from projsym.coq.write import texts; from projsym.proof import ledger\n"
        "files, _ = texts(ledger.select(['I.4', 'I.6', 'II.2', 'IV.1'])[0])\n"
        "print(hashlib.sha256(repr(files).encode()).hexdigest())"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert out[0] == out[1]


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (sp.log(total(lambda l: sp.exp(a[l]))), sp.log(total(lambda l: sp.exp(a[l]))), "a logarithm"),
        (norm2(k[j]) / norm2(q), norm2(k[j]) / norm2(q), "division by what is not visibly positive"),
        (total(lambda l: sp.sqrt(norm2(k[l]))), total(lambda l: sp.sqrt(norm2(k[l]))), "the power 1/2"),
        (norm2(VectorSymbol("test")), norm2(VectorSymbol("test")), "'test'"),
        (sp.Symbol("t") * T, T, "two letters, 't' and 't'"),
        (sp.Symbol("x", positive=True) + sp.Symbol("x"), sp.Symbol("x"), "'x' has two declarations"),
        (sp.Dummy("x") + sp.Dummy("x"), sp.Symbol("x"), "the free dummy symbol _x"),
        (sp.Symbol("α") + sp.Symbol("alpha"), sp.Symbol("α"), "are alpha in Coq"),
    ],
)
def test_what_has_no_coq_is_refused_by_name(left: Any, right: Any, reason: str) -> None:
    with pytest.raises(NotExported, match=re.escape(reason)):
        source(equation(left, right))


@pytest.mark.parametrize("id", ["I.6c", "II.4p", "II.7c", "I.8c", "I.7", "I.12"])
def test_arguments_that_are_no_chain_of_equations_are_refused(id: str) -> None:
    with pytest.raises(NotExported):
        source(*named(id))


def test_an_inequality_is_said_to_be_left_out() -> None:
    assert "Not stated: the inequality that it certifies." in source(*named("II.2p"))
    assert "certifies" not in source(*named("II.2"))
    assert "Derivatives" not in source(*named("I.4"))
    assert "Derivatives in it were taken by projsym." in source(*named("II.2"))


def test_letters_are_not_captured() -> None:
    """A letter that is called like a bound index of the exporter gets another name."""
    l0 = sp.Symbol("l0", real=True)
    text = source(equation(softmax(lambda l: a[l] + l0)(j), softmax(lambda l: a[l])(j)))
    assert "(softmax set_keys (fun l0 => (l0_ + (a l0))) j)" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("τ", "tau"), ("Σ", "Sigma"), ("m_1", "m_1"), ("exp", "exp_"), ("set_x", "set_x_"), ("1a", "x1a")],
)
def test_identifiers(name: str, expected: str) -> None:
    assert identifier(name) == expected


def test_only_the_visibly_positive_is_divided_by() -> None:
    p, r = sp.Symbol("p", positive=True), sp.Symbol("r", real=True)
    none = total(lambda l: sp.exp(a[l]), EMPTY)
    for e in (p**2, sp.exp(r), total(lambda l: sp.exp(a[l])), sp.exp(r) + none, 1 + 2 * p, 1 / p):
        assert positive(e)
    for e in (r, r**2, p - 1, none, total(lambda l: a[l]), norm2(q), 1 + norm2(q), -p):
        assert not positive(e)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.v").write_text("mine")
    (written,) = write(tmp_path / "deep" / "er", named("I.2"))
    assert written.generated == "I_2.v"
    write(tmp_path, named("I.2"))
    assert (tmp_path / "mine.v").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"mine.v", "deep", PROJECT, BASE, "I_2.v"}
