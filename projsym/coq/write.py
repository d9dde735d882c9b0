"""A folder of Coq: the base file, a file for each theorem that can be exported, the files written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from projsym.proof.theorem import Coefficient, Theorem

from .export import coq_name, section
from .names import NotExported

BASE = "base.v"
HAND_WRITTEN = {"II.1": "geometry.v", "II.2": "geometry.v"}
"""Theorems of which something is stated and proved by hand (the derivative itself), and where."""
LIBRARY = "Projsym"
"""The logical name of the folder."""
PROJECT = "_CoqProject"

HEADER = """\
(* {id}: {title}.
   Statement and proof generated from the theorem's terms by projsym {version} (projsym.coq), for every finite
   index list and every real inner-product space. Do not edit: projsym derive --coq DIR {id}
   Stated is: first line = last line.{rest} *)

From {library} Require Import base.
Require Import Reals Lra List.
Import ListNotations.
Open Scope R_scope.

"""


@dataclass(frozen=True)
class Written:
    """What became of one theorem.

    generated: its file, or None, and then `reason` says why there is none; hand_written: the file with a
    statement made by hand, if there is one.
    """

    theorem: Theorem
    generated: str | None
    hand_written: str | None
    reason: str = ""


def files_of(written: Iterable[Written]) -> list[str]:
    """The files that hold theorems, each once, in the order in which they are written."""
    names = (name for w in written for name in (w.hand_written, w.generated))
    return list(dict.fromkeys(name for name in names if name is not None))


def source(theorem: Theorem) -> str:
    """The text of a theorem's file. NotExported if a term, a hypothesis or a closing has no Coq here."""
    rest = " Derivatives in it were taken by projsym." if _differentiates(theorem) else ""
    if theorem.certificate is not None:
        rest += "\n   Not stated: the inequality that it certifies."
    header = HEADER.format(
        id=theorem.id, title=_comment(theorem.title), version=version("projsym"), library=LIBRARY, rest=rest
    )
    return f"{header}{section(theorem)}Print Assumptions {coq_name(theorem.id)}.\n"


def texts(theorems: Iterable[Theorem]) -> tuple[dict[str, str], list[Written]]:
    """The text of every file by name, in the order in which Coq compiles them, and each theorem's fate.

    The same for the same theorems, whatever the hash seed.
    """
    out = {BASE: _by_hand(BASE)}
    written = []
    for t in theorems:
        by_hand = HAND_WRITTEN.get(t.id)
        if by_hand is not None:
            out[by_hand] = _by_hand(by_hand)
        name = coq_name(t.id) + ".v"
        try:
            text = source(t)
        except NotExported as e:
            written.append(Written(t, None, by_hand, str(e)))
            continue
        if name in out:
            raise ValueError(f"two theorems have the file {name}")
        out[name] = text
        written.append(Written(t, name, by_hand))
    arguments = "".join(f"{name}\n" for name in out)
    return {PROJECT: f"-R . {LIBRARY}\n{arguments}", **out}, written


def write(folder: Path, theorems: Iterable[Theorem]) -> list[Written]:
    """Write the files to a folder, which is made if there is none. Other files in it are left alone."""
    contents, written = texts(theorems)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return written


def _by_hand(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _differentiates(theorem: Theorem) -> bool:
    taken = isinstance(theorem.steps[0].before, Coefficient)
    return taken or any(law.name == "differentiation" for s in theorem.steps for law in s.reason.laws)


def _comment(text: str) -> str:
    return text.replace("(*", "( *").replace("*)", "* )").rstrip(".")
