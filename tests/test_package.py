"""The distribution: its package list, what the wheel holds, and that it works outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import sympy

import projsym

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without touching it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


def packages() -> set[str]:
    """Every folder of the tree that ships: our packages, and derivations under its installed name."""
    found = {
        ".".join(p.parent.relative_to(ROOT).parts)
        for p in (ROOT / "projsym").rglob("*.py")
        if "__pycache__" not in p.parts
    }
    return found | {"projsym.kernels", "projsym.derivations"}


def test_package_list_is_complete() -> None:
    assert set(CONFIG["tool"]["setuptools"]["packages"]) == packages()


def test_versions_agree() -> None:
    version = CONFIG["project"]["version"]
    assert projsym.__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_installed_sympy_is_the_pinned_series() -> None:
    assert "sympy==1.14.*" in CONFIG["project"]["dependencies"] and sympy.__version__.startswith("1.14.")


def test_wheel_holds_the_tree(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "projsym").rglob("*.py")}
    modules |= {f"projsym/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "derivations").rglob("*.py")}
    data = {"projsym/py.typed"} | {
        p.relative_to(ROOT).as_posix()
        for pattern in (
            "projsym/kernels/*",
            "projsym/audit/*.txt",
            "projsym/codegen/*.toml",
            "projsym/coq/*.v",
            "projsym/learning/data/*",
        )
        for p in ROOT.glob(pattern)
        if p.is_file()
    }
    assert shipped == {name for name in modules | data if "__pycache__" not in name}
    assert "projsym/kernels/manifest.json" in data


OUTSIDE = """
import importlib, pathlib, numpy as np
import projsym
from projsym.proof.ledger import load, select
folder = pathlib.Path({folder!r})
parts = ("derivations", "report", "bench", "audit", "coq")
for name in ("projsym", *("projsym." + part for part in parts)):
    assert folder in pathlib.Path(importlib.import_module(name).__file__).parents, name
q = np.eye(3)
for backend in ("c", "numpy"):
    p = projsym.project(q, q, scale=1.0, backend=backend)
    w = np.exp(q @ q.T)
    assert np.allclose(p, w / w.sum(1, keepdims=True), atol=1e-12), backend
theorems, refusals = select()
assert len(theorems) > 10 and refusals
"""


def test_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Unpacked into an empty folder that comes first on the path, the tree out of reach."""
    folder = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n" + OUTSIDE.format(folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_import_needs_no_symbolic_packages() -> None:
    """``import projsym`` and a kernel call load neither SymPy nor python-flint."""
    code = (
        "import sys, numpy as np, projsym; projsym.project(np.eye(2), np.eye(2), backend='numpy'); "
        "assert not {'sympy', 'flint', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
