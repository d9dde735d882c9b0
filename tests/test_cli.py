"""The commands: output, JSON contracts and exit status."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from projsym.cli import cli
from projsym.codegen import generate as g
from projsym.proof.ledger import load
from projsym.proof.theorem import REGISTRY, build


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize(
    "command", ["reproduce", "derive", "generate", "audit", "claims", "soundness", "notebooks", "bench"]
)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: cli {command}")


def test_derive_prints_the_chain() -> None:
    result = run("derive", "I.4")
    assert result.exit_code == 0
    for part in ("= { polarization }", "given  ‖k_j‖ = ρ for all j", "proved for all sizes", "it is false"):
        assert part in result.output
    assert result.output.endswith("1 of 1 theorems proved, 0 of 0 false claims refuted\n")


def test_kinds_of_arguments_are_counted_apart_from_what_is_cited() -> None:
    result = CliRunner().invoke(cli, ["derive", "--list", "II.5", "II.7"])
    counted = next(x for x in result.output.splitlines() if x.startswith("by argument: "))
    assert "2 limit with exact remainder" in counted and "1 contraposition with a witness" in counted
    assert counted.endswith("; 3 use a cited lemma (tested on instances, not proved here)")


def test_derive_json_contract() -> None:
    result = run("derive", "I.4", "VI.1", "--json")
    assert result.exit_code == 0
    theorem, refusal = json.loads(result.output)
    assert {"id", "title", "verdict", "hypotheses", "steps", "oracle"} <= theorem.keys()
    assert (theorem["id"], theorem["verdict"]) == ("I.4", "proved")
    assert all({"law", "before", "after", "verdict", "ms"} <= s.keys() for s in theorem["steps"])
    assert theorem["oracle"]["instances"] >= 5
    assert 0 < theorem["oracle"]["worst_radius"] < 1e-60
    assert (refusal["kind"], refusal["verdict"]) == ("refusal", "refuted")
    assert refusal["witness"]["inputs"] == {"k_1": "(1)", "k_2": "(2)", "q": "(1)", "τ": "1"}


def test_an_id_selects_its_variants_and_no_other_number() -> None:
    ids = [e["id"] for e in json.loads(run("derive", "I.6", "VI.1", "--json").output)]
    assert ids == ["I.6", "I.6c", "VI.1"]


def test_unknown_ids_are_named() -> None:
    result = run("derive", "I.99")
    assert result.exit_code == 2
    assert "I.99" in result.output


OWN = """
from projsym.algebra import VectorSymbol, inner, norm2
from projsym.proof import bilinearity, by, theorem
u, v = VectorSymbol("u"), VectorSymbol("v")

@theorem("own.1", "Parallelogram")
def parallelogram():
    yield norm2(u + v) + norm2(u - v)
    yield by(bilinearity), {right}
"""


@pytest.mark.parametrize(
    ("right", "code", "word"),
    [
        ("2*norm2(u) + 2*norm2(v)", 0, "proved for all sizes"),
        ("2*norm2(u) + 3*norm2(v)", 1, "REFUTED"),
    ],
)
def test_theorems_of_a_users_file(tmp_path: Path, right: str, code: int, word: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN.format(right=right))
    try:
        result = run("derive", str(file))
    finally:
        REGISTRY.pop("own.1", None)
    assert result.exit_code == code
    assert "own.1" in result.output
    assert word in result.output


def test_a_missing_file_is_named() -> None:
    result = run("derive", "nowhere.py")
    assert result.exit_code == 2
    assert "nowhere.py" in result.output


def test_derive_fails_when_a_law_is_too_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    from projsym.proof import arithmetic, by

    load()
    good = REGISTRY["I.1"]

    def chain() -> Any:
        yield good.first
        yield by(arithmetic), good.last

    monkeypatch.setitem(REGISTRY, "I.1", build("I.1", good.title, (), chain))
    result = run("derive", "I.1")
    assert result.exit_code == 1
    assert "NOT PROVED by this law" in result.output


def test_generate_check_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel of each kind; tests/codegen/test_generate.py compares all of them."""
    names = set()
    for kind in ("kernels", "gradient_kernels", "layer_kernels"):
        first = getattr(g, kind)()[:1]
        names |= {f"{k.name}.py" for k in first}
        monkeypatch.setattr(g, kind, lambda first=first: first)
    monkeypatch.setattr(g, "generate", cache(g.generate))  # two of the commands generate the same
    assert run("generate", "--out", str(tmp_path), "--target", "numpy").exit_code == 0
    assert {p.name for p in tmp_path.iterdir()} == names
    assert all((tmp_path / n).read_bytes() == (g.COMMITTED / n).read_bytes() for n in names)
    result = run("generate", "--check", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "missing: manifest.json" in result.output
    assert "projsym generate" in result.output
    assert run("generate", "--out", str(tmp_path)).exit_code == 0
    result = run("generate", "--check", "--out", str(tmp_path))
    assert (result.exit_code, result.output) == (0, "every file is as generated\n")


def test_generate_refuses_a_part_of_the_committed_files() -> None:
    assert run("generate", "--target", "c").exit_code == 2


def test_claims_json_contract() -> None:
    result = run("claims", "--json")
    assert result.exit_code == 0
    entries = json.loads(result.output)
    assert all({"claim", "verdict", "theorems", "note"} <= e.keys() for e in entries)
    allowed = {"proved", "true under hypotheses", "false as stated", "measured", "open", "interpretation"}
    assert {e["verdict"] for e in entries} <= allowed


def test_claims_fail_when_their_support_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projsym.claims.support", lambda: {"I.4": False})
    result = run("claims")
    assert result.exit_code == 1
    assert "I.4 does not stand" in result.output


def test_audit_of_a_missing_model_is_a_usage_error(tmp_path: Path) -> None:
    result = run("audit", str(tmp_path / "none.safetensors"))
    assert result.exit_code == 2
    assert "none.safetensors" in result.output
