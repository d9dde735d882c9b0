"""The checker of Coq's answers, with a coqc that says what a test wants; and the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from _coq import named
from click.testing import CliRunner, Result

from projsym.cli import cli
from projsym.coq import compile as checker
from projsym.coq.compile import ALLOWED, NoCoq, compile_files, parse_assumptions
from projsym.coq.write import write

REALS = """\
Axioms:
ClassicalDedekindReals.sig_not_dec : forall P : Prop, {~ ~ P} + {~ P}
ClassicalDedekindReals.sig_forall_dec
  : forall P : nat -> Prop,
    (forall n : nat, {P n} + {~ P n}) ->
    {n : nat | ~ P n} + {forall n : nat, P n}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with I.2, beside a coqc that prints the file `answer` for every file but base.v."""
    program = tmp_path / "bin" / "coqc"
    program.parent.mkdir()
    answer = tmp_path / "answer"
    answer.write_text(REALS)
    program.write_text(f'#!/bin/sh\nfor f; do :; done\n[ "$f" = base.v ] || . {tmp_path}/say\n')
    (tmp_path / "say").write_text(f"cat {answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    write(tmp_path, named("I.2"))
    return tmp_path


def test_answers_are_parsed() -> None:
    assert parse_assumptions("Closed under the global context\n" + REALS) == [
        (),
        ("ClassicalDedekindReals.sig_not_dec", "ClassicalDedekindReals.sig_forall_dec"),
    ]


def test_what_is_not_understood_is_refused() -> None:
    odd = "Axioms:\nfoo relies on an unsafe hierarchy.\nbar\n  : False\n"
    assert parse_assumptions(odd) == [("foo", "bar")]
    assert parse_assumptions("Something else\n") == [("Something",)]


def test_a_good_answer(fake: Path) -> None:
    base, result = compile_files(fake, ["I_2.v"])
    assert (base.file, base.assumptions, base.good) == ("base.v", {}, True)
    assert result.good
    assert set(result.assumptions["I_2"]) < ALLOWED


@pytest.mark.parametrize(
    ("say", "error", "refused"),
    [
        (REALS + "I_2 : forall x, x = x\n", "", ("I_2",)),
        (REALS + "I_2\n  : forall x, x = x\n", "", ("I_2",)),
        (REALS + REALS, "1 times Print Assumptions, 2 answers", ()),
        ("", "1 times Print Assumptions, 0 answers", ()),
    ],
)
def test_bad_answers(fake: Path, say: str, error: str, refused: tuple[str, ...]) -> None:
    (fake / "answer").write_text(say)
    _, result = compile_files(fake, ["I_2.v"])
    assert (result.error, result.refused, result.good) == (error, refused, False)
    assert run("derive", "--coq", str(fake), "I.2", "--compile").exit_code == 1


def test_a_file_that_does_not_compile(fake: Path) -> None:
    (fake / "say").write_text("echo 'Error: No applicable tactic.' >&2; exit 1\n")
    _, result = compile_files(fake, ["I_2.v"])
    assert (result.error, result.good) == ("Error: No applicable tactic.", False)
    shown = run("derive", "--coq", str(fake), "I.2", "--compile")
    assert shown.exit_code == 1
    assert "I_2.v                    Error: No applicable tactic." in shown.output
    assert shown.output.endswith("REFUSED by Coq\n")


def test_a_file_that_takes_too_long(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake / "say").write_text("exec sleep 20\n")
    monkeypatch.setattr(checker, "TIMEOUT", 0.2)
    _, result = compile_files(fake, ["I_2.v"])
    assert result.error == "no answer from coqc within 0.2 s"


def test_nothing_is_compiled_beside_a_bad_base(fake: Path) -> None:
    (fake / "bin" / "coqc").write_text("#!/bin/sh\nexit 3\n")
    (base,) = compile_files(fake, ["I_2.v"])
    assert (base.file, base.error) == ("base.v", "coqc ended with status 3")


def test_no_coqc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCoq, match="Coq has checked nothing"):
        list(compile_files(tmp_path, []))
    result = run("derive", "--coq", str(tmp_path / "out"), "I.2", "--compile")
    assert result.exit_code == 1
    assert "no coqc on the PATH" in result.output
    assert "compiles" not in result.output


def test_the_command_says_what_becomes_of_each_theorem(fake: Path) -> None:
    result = run("derive", "--coq", str(fake), "I.5", "II.2", "--compile")
    assert "I.5          not exported: a logarithm\n" in result.output
    assert "II.2         II_2.v, geometry.v (by hand)\n" in result.output
    unchecked = run("derive", "--coq", str(fake), "I.2")
    assert unchecked.exit_code == 0
    assert "1 of 1 theorems exported" in unchecked.output
    assert "not checked by Coq" in unchecked.output


def test_nothing_exported_is_a_failure(tmp_path: Path) -> None:
    result = run("derive", "--coq", str(tmp_path), "I.5")
    assert result.exit_code == 1
    assert "0 of 1 theorems exported" in result.output


@pytest.mark.parametrize("options", [["--compile"], ["--coq", "x", "--json"], ["--coq", "x", "--list"]])
def test_options_that_do_not_go_together(options: list[str]) -> None:
    result = run("derive", "I.2", *options)
    assert result.exit_code == 2
    assert "--coq" in result.output
