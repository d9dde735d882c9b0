"""Sums of polynomials over abstract index sets.

Linearity, Fubini, distributivity and renaming of bound indices are built into the representation: a sum of a
monomial is split into connected components, factors that do not depend on its indices leave it, and what
remains is labelled canonically.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count, permutations, product

from .generators import (
    Generator,
    OpaqueTotal,
    Size,
    Total,
    make_mono,
    mono_height,
    rename_mono,
)
from .poly import ZERO, Mono, Poly, constant, letter

_names = count()


def fresh() -> str:
    """A bound index name that occurs nowhere else."""
    return f"%{next(_names)}"


def sum_over(p: Poly, j: str, over: str) -> Poly:
    """The sum of `p` over index `j` in the set named `over`."""
    out = ZERO
    for mono, c in p.terms.items():
        out = out + _sum_mono(mono, j, over).scaled(c)
    return out


def opaque_sum(p: Poly, j: str, over: str) -> Poly:
    """The same sum as one letter, up to the name of the bound index."""
    bound = f"_{p.height}_0"
    return letter(OpaqueTotal(bound, over, p.renamed({j: bound})))


def _sum_mono(mono: Mono, j: str, over: str) -> Poly:
    outside: dict[Generator, Fraction] = {}
    inside: dict[Generator, Fraction] = {}
    binders = [(j, over)]
    for g, e in mono:
        if j not in g.indices:
            outside[g] = e
        elif isinstance(g, Total) and e > 0 and e.denominator == 1:
            for _ in range(int(e)):
                names = {b: fresh() for b, _ in g.binders}
                binders += [(names[b], s) for b, s in g.binders]
                for h, f in rename_mono(g.mono, names):
                    inside[h] = inside.get(h, Fraction(0)) + f
        else:
            inside[g] = inside.get(g, Fraction(0)) + e
    out = constant(1)
    for bound, part in _components(binders, inside, outside):
        for factor in [_canonical(bound, part)] if part else [Size(s) for _, s in bound]:
            out = out * letter(factor)
    return out.times_mono(make_mono(outside))


def _components(
    binders: list[tuple[str, str]],
    inside: dict[Generator, Fraction],
    outside: dict[Generator, Fraction],
) -> Iterator[tuple[list[tuple[str, str]], Mono]]:
    """Groups of binders that share a letter, each with its letters; letters without binder go outside."""
    root = {b: b for b, _ in binders}

    def find(b: str) -> str:
        while root[b] != b:
            b = root[b]
        return b

    live = {g: e for g, e in inside.items() if e}
    for g in live:
        bound = sorted(g.indices & root.keys())
        for b in bound[1:]:
            root[find(b)] = find(bound[0])
    letters: dict[str, dict[Generator, Fraction]] = {}
    for g, e in live.items():
        bound = sorted(g.indices & root.keys())
        if bound:
            letters.setdefault(find(bound[0]), {})[g] = e
        else:
            outside[g] = outside.get(g, Fraction(0)) + e
    for r in dict.fromkeys(find(b) for b, _ in binders):
        yield [(b, s) for b, s in binders if find(b) == r], make_mono(letters.get(r, {}))


def _canonical(binders: list[tuple[str, str]], mono: Mono) -> Total:
    """The least of all labellings of the bound indices."""
    height = mono_height(mono)
    sets = sorted({s for _, s in binders})
    groups = [[b for b, s in binders if s == name] for name in sets]
    flat = [s for s, group in zip(sets, groups, strict=True) for _ in group]
    bound = tuple((f"_{height}_{n}", s) for n, s in enumerate(flat))
    best: Total | None = None
    for choice in product(*[permutations(group) for group in groups]):
        order = [b for part in choice for b in part]
        names = {b: bound[n][0] for n, b in enumerate(order)}
        candidate = Total(bound, rename_mono(mono, names))
        if best is None or candidate.key < best.key:
            best = candidate
    assert best is not None
    return best
