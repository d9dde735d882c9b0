"""Coq's opinion of exported theorems: every file compiles and rests on Coq's real numbers alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .write import BASE, LIBRARY

ALLOWED = frozenset(
    {
        # The standard library builds its real numbers from Dedekind cuts with these three.
        "ClassicalDedekindReals.sig_forall_dec",
        "ClassicalDedekindReals.sig_not_dec",
        "FunctionalExtensionality.functional_extensionality_dep",
        # Its analysis (continuity of the inverse function, hence ln) and Coquelicot use excluded middle.
        "Classical_Prop.classic",
    }
)
"""The axioms a theorem may rest on."""

TIMEOUT = 300
INSTALL = "On Debian: apt install coq libcoq-coquelicot"
CLOSED = "Closed under the global context"


class NoCoq(RuntimeError):
    """There is no coqc: nothing was checked."""


@dataclass(frozen=True)
class Compiled:
    """What coqc says of a file. Assumptions: by theorem, in the file's order. Error: empty if it compiles."""

    file: str
    assumptions: dict[str, tuple[str, ...]]
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether the file compiles and every theorem that it prints rests on allowed axioms only."""
        return not self.error and not self.refused

    @property
    def refused(self) -> tuple[str, ...]:
        """The assumptions that are not allowed."""
        return tuple(sorted({a for found in self.assumptions.values() for a in found} - ALLOWED))


def coqc() -> str:
    """The path of coqc. NoCoq if there is none on the PATH."""
    found = shutil.which("coqc")
    if found is None:
        raise NoCoq(f"no coqc on the PATH, so Coq has checked nothing. {INSTALL}")
    return found


def compile_files(folder: Path, names: Iterable[str], jobs: int | None = None) -> Iterator[Compiled]:
    """Compile ``base.v`` of a folder and then the named files, `jobs` at a time (default: one for each CPU).

    Guarantees for a file that is `good`: coqc accepted every proof in it, and each ``Print Assumptions`` of
    it names nothing beyond :data:`ALLOWED`; so no ``Admitted`` and no axiom of ours. It cannot see whether
    the statements say what their titles say, nor whether the exporter's terms mean what ours do. NoCoq if
    there is no coqc.
    """
    program = coqc()
    first = compile_file(program, folder, BASE)
    yield first
    if not first.good:
        return
    rest = [n for n in names if n != BASE]
    with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(lambda n: compile_file(program, folder, n), rest)


def compile_file(program: str, folder: Path, name: str) -> Compiled:
    """Compile one file, whose requirements are compiled already."""
    text = (folder / name).read_text(encoding="utf-8")
    asked = re.findall(r"^Print Assumptions (\S+)\.$", text, re.MULTILINE)
    command = [program, "-q", "-R", ".", LIBRARY, name]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return Compiled(name, {}, f"no answer from coqc within {TIMEOUT} s")
    if done.returncode != 0:
        return Compiled(name, {}, done.stderr.strip() or f"coqc ended with status {done.returncode}")
    found = parse_assumptions(done.stdout)
    if len(found) != len(asked):
        return Compiled(name, {}, f"{len(asked)} times Print Assumptions, {len(found)} answers")
    if not asked and name != BASE:
        return Compiled(name, {}, "the file prints no assumptions")
    return Compiled(name, dict(zip(asked, found, strict=True)))


def parse_assumptions(output: str) -> list[tuple[str, ...]]:
    """The names in every answer of ``Print Assumptions``.

    Whatever a line that is not indented starts with counts as a name, so an answer of a form that is not
    known here is refused rather than skipped.
    """
    out: list[list[str]] = []
    for line in output.splitlines():
        if line in (CLOSED, "Axioms:"):
            out.append([])
        elif line.strip() and not line[0].isspace():
            if not out:
                out.append([])
            out[-1].append(line.split()[0])
    return [tuple(names) for names in out]
