"""Names for Coq: ASCII identifiers that are not words of the language or of the base file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import name as unicode_name

WORDS = """
as at cofix else end exists exists2 fix for forall fun if in let match mod return then using where with
Set Prop Type SProp R O S I nil list exp sum vsum zero add scale inner apply softmax Index InnerSpace
LinearMap Rn N
"""
RESERVED = frozenset(re.findall(r"\w+", WORDS))
"""Words of Coq, of the statements, and what the scripts call their own."""
TEST = "test"
"""The vector that both sides of an equation of vectors are paired with; no theorem's letter has this name."""
OURS = re.compile(r"l\d+|(b|H|set|some|positive)_.*")
"""Bound indices and hypotheses as the exporter names them: a letter must not be captured."""


class NotExported(ValueError):
    """The exporter has no Coq for a term or a hypothesis; the message says which."""


def identifier(text: str) -> str:
    """An identifier for a name: Greek letters spelled out, canonical signs replaced.

    Different names may collide; :func:`require_distinct` refuses that.
    """
    out = "".join(_letter(c) for c in text)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", out):
        out = "x" + out
    return out + "_" if out in RESERVED or OURS.fullmatch(out) else out


def _letter(c: str) -> str:
    if re.match(r"[A-Za-z0-9_]", c):
        return c
    words = unicode_name(c, "").split()
    if words[:1] == ["GREEK"] and words[2:3] == ["LETTER"]:
        return words[3].lower() if words[1] == "SMALL" else words[3].capitalize()
    return f"_u{ord(c):x}_"


def require_distinct(names: Iterable[str]) -> None:
    """NotExported if two letters share an identifier; every letter is to be given once."""
    known: dict[str, str] = {}
    for n in names:
        if identifier(n) in known:
            raise NotExported(f"two letters, {known[identifier(n)]!r} and {n!r}, are {identifier(n)} in Coq")
        known[identifier(n)] = n
