"""Proofs as a person reads them: the whole text of two, with timings left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from projsym.proof import ledger
from projsym.proof.prove import require
from projsym.proof.show import explain

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("id", sorted(p.stem for p in GOLDEN.glob("*.txt")))
def test_the_text_of_a_proof(id: str) -> None:
    (theorem,) = (t for t in ledger.select()[0] if t.id == id)
    shown = re.sub(r" +\d+ ms$", "", explain(require(theorem)), flags=re.MULTILINE)
    assert shown == (GOLDEN / f"{id}.txt").read_text(encoding="utf-8").rstrip("\n")
