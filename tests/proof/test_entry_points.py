"""Theorems of other packages: the entry-point group, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
from projsym.algebra import VectorSymbol, inner
from projsym.proof import bilinearity, by, theorem

u, v = VectorSymbol("u"), VectorSymbol("v")


@theorem("other.1", "Symmetry")
def symmetry():
    yield inner(u, v)
    yield by(bilinearity), inner(v, u)
"""


def test_another_package_adds_its_theorems(tmp_path: Path) -> None:
    (tmp_path / "other_theorems.py").write_text(MODULE)
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[projsym.derivations]\nmine = other_theorems\n")
    command = [sys.executable, "-m", "projsym.cli", "derive", "other.1", "--list"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["other.1", "proved", "Symmetry"]
    missing = subprocess.run(command, capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "other.1" in missing.stderr
