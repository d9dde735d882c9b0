"""Every Python block of the how-to pages runs, in order, in one namespace a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from projsym.cli import cli
from projsym.proof.ledger import load
from projsym.proof.theorem import REGISTRY

FOLDER = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCS = sorted(p for p in FOLDER.glob("*.md") if BLOCK.search(p.read_text(encoding="utf-8")))
SHELL = re.compile(r"^```(?:sh|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROJSYM = re.compile(r"^\s*(?:\$ |- run: )?projsym ([a-z]+)(.*)$", re.MULTILINE)


@pytest.fixture
def own_theorems() -> Iterator[None]:
    """Theorems that a page registers are gone afterwards; the chapters, which load only once, are not."""
    load()
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.stem)
def test_python_blocks_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_theorems: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "page"}
    blocks = list(BLOCK.finditer(text))
    assert blocks
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block.group(1), str(page), "exec"), namespace)
    if page.stem == "prove_a_theorem":
        printed = capsys.readouterr().out
        assert "proved for all sizes" in printed
        assert "NOT PROVED by this law; left with" in printed


def test_pages_with_code_are_found() -> None:
    assert {
        "write_your_own_attention",
        "prove_a_theorem",
        "audit_a_model",
        "check_in_ci",
        "drag_the_query",
    } <= {p.stem for p in DOCS}


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda p: p.stem)
def test_commands_and_options_exist(page: Path) -> None:
    shell = "\n".join(SHELL.findall(page.read_text(encoding="utf-8")))
    for name, rest in PROJSYM.findall(shell):
        command, words = cli.commands[name], rest.split("#")[0].split()
        if isinstance(command, click.Group):
            command = command.commands[words[0]]
        known = {o for p in command.params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= known, (page.name, name, rest)


def test_the_workflow_is_one() -> None:
    """The how-to's GitHub Actions workflow: YAML with a job whose steps run what the page says."""
    text = (FOLDER / "check_in_ci.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    steps = workflow["jobs"]["check"]["steps"]
    assert all(set(s) <= {"uses", "with", "run"} for s in steps)
    commands = [s["run"] for s in steps if "run" in s]
    assert commands[1:3] == ["projsym derive", "projsym generate --check"]
    assert "-p projsym.pytest_plugin" in commands[3]
