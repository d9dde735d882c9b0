"""HTML text: everything that comes in is escaped here, and nowhere else is text put between tags."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is already HTML."""


def text(x: object) -> Html:
    """`x` as HTML text: `Html` as it is, None as a dash, anything else escaped."""
    if isinstance(x, Html):
        return x
    return Html("–" if x is None else escape(str(x)))


def tag(name: str, *content: object, **attributes: str) -> Html:
    """An element with its content; `cls` is the attribute class."""
    rest = "".join(f' {k.replace("cls", "class")}="{escape(v)}"' for k, v in attributes.items())
    return Html(f"<{name}{rest}>{''.join(text(x) for x in content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """The parts after one another, a line each."""
    return Html("\n".join(text(x) for x in parts))


def details(summary: object, *content: object, is_open: bool = False) -> Html:
    """A part that a reader may unfold, without any script."""
    opened = Html(" open" if is_open else "")
    return Html(f"<details{opened}>{tag('summary', summary)}{''.join(text(x) for x in content)}</details>")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Iterable[int] = ()) -> Html:
    """A table that scrolls by itself on a narrow screen. numeric: columns that are set flush right."""
    right = set(numeric)

    def cells(kind: str, row: Sequence[object]) -> list[Html]:
        return [tag(kind, x, cls="n") if i in right else tag(kind, x) for i, x in enumerate(row)]

    body = [tag("tr", *cells("td", row)) for row in rows]
    header = tag("thead", tag("tr", *cells("th", head)))
    return tag("div", tag("table", header, tag("tbody", *body)), cls="scroll", tabindex="0")


GOOD = {
    "proved",
    "checked",
    "equal",
    "current",
    "within bound",
    "true",
    "true under hypotheses",
    "passed",
    "ok",
}
NEUTRAL = {"measured", "open", "skipped", "false as stated", "not run"}


def verdict(word: object, *, expected: bool = False) -> Html:
    """A verdict as a sign, a word and a colour, in this order of importance.

    A word that is not known to be good or neutral is shown as bad. expected: a refutation that was asked for.
    """
    label = str(word)
    if expected and label == "refuted":
        return tag("span", "✗ refuted, as it must be", cls="v good")
    known = label.casefold()
    sign, kind = ("✓", "good") if known in GOOD else ("•", "plain") if known in NEUTRAL else ("!", "bad")
    return tag("span", f"{sign} {label}", cls=f"v {kind}")


def number(x: object, digits: int = 2) -> str:
    """A number with so many digits: in scientific notation when it is small or large; a dash for None."""
    if not isinstance(x, int | float):
        return "–" if x is None else str(x)
    if x == 0:
        return "0"
    if isinstance(x, int):
        return str(x)
    if not math.isfinite(x):
        return str(x)
    if 1e-2 <= abs(x) < 1e5:
        return f"{x:.{max(digits + 1, len(str(int(abs(x)))))}g}"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def seconds(x: object) -> str:
    """A time with its unit."""
    if not isinstance(x, int | float):
        return "–"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if x * factor >= 1:
            return f"{x * factor:.3g} {unit}"
    return f"{x * 1e6:.3g} µs"


def spread(values: Iterable[float | None]) -> str:
    """Least and largest of some numbers, with a dash between."""
    items = [x for x in values if x is not None]
    if not items:
        return "–"
    low, high = number(min(items)), number(max(items))
    return low if low == high else f"{low} – {high}"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
