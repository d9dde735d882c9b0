"""Every way to change one node of a term into something well-typed that usually means something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import sympy as sp

from projsym.algebra.scalars import FiniteSum, Inner, ScalarElement, Softmax, tanh2
from projsym.algebra.sets import DisjointUnion, EmptySet, IndexSet, Singleton
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import (
    LinearMap,
    Space,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorScale,
    VectorSum,
    VectorSymbol,
)

Edit = tuple[str, Any]
"""What was done, and the changed term."""

Place = tuple[Any, list[sp.Symbol], tuple[int, ...]]
"""A node, the indices in scope there, and the way to it."""

SETS = IndexSet | DisjointUnion | Singleton | EmptySet
OUTSIDE = (sp.I, sp.nan, sp.zoo, sp.oo, -sp.oo, sp.Abs)
"""What SymPy may make of an edit and no term contains."""

LEAVES = (Space, LinearMap, VectorSymbol, VectorElement, ScalarElement, sp.Symbol, *SETS.__args__)


@dataclass
class Letters:
    """The letters that occur in some terms: what a letter can be swapped for."""

    vectors: set[VectorSymbol] = field(default_factory=set)
    members: set[VectorElement] = field(default_factory=set)
    numbers: set[ScalarElement] = field(default_factory=set)
    symbols: set[sp.Symbol] = field(default_factory=set)
    maps: set[LinearMap] = field(default_factory=set)
    sets: set[Any] = field(default_factory=set)

    @staticmethod
    def of(*terms: Any) -> Letters:
        """All letters of the terms."""
        out = Letters()
        for term in terms:
            for x in sp.preorder_traversal(term):
                out._add(x)
        return out

    def _add(self, x: Any) -> None:
        match x:
            case VectorSymbol():
                self.vectors.add(x)
            case VectorElement():
                self.members.add(x)
            case ScalarElement():
                self.numbers.add(x)
            case LinearMap():
                self.maps.add(x)
            case IndexSet() | DisjointUnion():
                self.sets.add(x)
            case sp.Symbol() if not x.is_integer:
                self.symbols.add(x)


def edits(term: Any, letters: Letters | None = None) -> Iterator[Edit]:
    """Every single-node edit of `term`, in a fixed order, outermost first.

    Each changed term is well-typed and structurally different; it may still be equal in value (a dropped
    zero, a flipped sign under a square), which only a decision can tell.
    """
    known = Letters.of(term) if letters is None else letters
    for place in _places(term, _free(term), ()):
        yield from _at(term, place, known)


def one_edit(term: Any, random: Random) -> Edit | None:
    """A random edit at a random node; None if none of a few nodes has one."""
    places, known = list(_places(term, _free(term), ())), Letters.of(term)
    for place in random.sample(places, min(len(places), 8)):
        found = list(_at(term, place, known))
        if found:
            return random.choice(found)
    return None


def _free(term: Any) -> list[sp.Symbol]:
    return sorted((s for s in term.free_symbols if s.is_integer), key=str)


def _places(x: Any, scope: list[sp.Symbol], path: tuple[int, ...]) -> Iterator[Place]:
    """Every node that can be edited, with the indices in scope there."""
    yield x, scope, path
    if not x.args or isinstance(x, LEAVES):
        return
    bound = isinstance(x, FiniteSum | VectorSum | Softmax)
    for n, arg in enumerate(x.args[:1] if bound else x.args):
        if not isinstance(arg, LinearMap):
            yield from _places(arg, [*scope, x.args[1]] if bound else scope, (*path, n))


def _at(term: Any, place: Place, known: Letters) -> Iterator[Edit]:
    node, scope, path = place
    for label, y in _here(node, known, scope):
        if y != node:
            try:
                changed = _put(term, path, y)
            except ValueError:  # SymPy: the maximum of what is not real
                continue
            if changed != term and not changed.has(*OUTSIDE):
                yield label, changed


def _put(x: Any, path: tuple[int, ...], y: Any) -> Any:
    if not path:
        return y
    n, *rest = path
    return x.func(*x.args[:n], _put(x.args[n], tuple(rest), y), *x.args[n + 1 :])


def _here(x: Any, known: Letters, scope: list[sp.Symbol]) -> Iterator[Edit]:
    match x:
        case sp.Rational():
            yield f"{x} to {x + 1}", x + 1
            yield f"{x} to {-x}", -x
        case sp.Symbol() if not x.is_integer:
            yield from ((f"{x} to {y}", y) for y in _sorted(known.symbols))
        case ScalarElement():
            yield from _letter(x, known, scope)
        case VectorElement():
            yield "flip a sign", -x
            yield from _letter(x, known, scope)
        case VectorSymbol():
            yield "flip a sign", -x
            same = [y for y in _sorted(known.vectors) if y.space == x.space]
            yield from ((f"{x.name} to {y.name}", y) for y in same)
        case sp.Add() | sp.Mul() | VectorAdd():
            yield from _operands(x)
        case VectorScale():
            yield "drop a scalar factor", x.args[1]
            yield "flip a sign", VectorScale(-x.args[0], x.args[1])
        case VectorApply():
            yield from _map(x, known)
        case Inner():
            yield "one side twice", Inner(x.args[0], x.args[0])
            yield "the other side twice", Inner(x.args[1], x.args[1])
            u, v = x.args
            if isinstance(u, VectorApply) and u.args[1].source == v.space:
                yield "sides exchanged under a map", Inner(VectorApply(v, u.args[1]), u.args[0])
        case sp.exp():
            yield "exp to identity", x.args[0]
            yield "exp to exp of minus", sp.exp(-x.args[0])
        case sp.log() | sp.tanh() | tanh2():
            yield f"{x.func.__name__} to identity", x.args[0]
        case Softmax():
            body, j, over, at = x.args
            yield "softmax without its sum", sp.exp(substitute(body, {j: at}))
            yield "softmax of minus", Softmax(-body, j, over, at)
            yield from ((f"at {at} to {i}", Softmax(body, j, over, i)) for i in scope)
            yield from _sets(x, known)
        case FiniteSum() | VectorSum():
            yield from _sets(x, known)


def _letter(x: Any, known: Letters, scope: list[sp.Symbol]) -> Iterator[Edit]:
    """Another family of the same kind, another index in scope."""
    for i in scope:
        yield f"index {x.index} to {i}", x.func(*x.args[:-1], i)
    pool: set[Any] = known.numbers if isinstance(x, ScalarElement) else known.members
    heads = sorted({y.args[:-1] for y in pool if y.args[1] == x.args[1]}, key=str)
    for head in heads:
        yield f"{x.family} to {head[0]}", x.func(*head, x.index)


def _operands(x: Any) -> Iterator[Edit]:
    """Of a sum: drop, repeat or negate a term. Of a product: drop or repeat a factor."""
    for n, a in enumerate(x.args):
        rest = x.args[:n] + x.args[n + 1 :]
        if rest:
            yield "drop an operand", x.func(*rest) if len(rest) > 1 else rest[0]
        yield "repeat an operand", x.func(*x.args, a)
        if not isinstance(x, sp.Mul):
            yield "flip a sign", x.func(*rest, -a)


def _map(x: VectorApply, known: Letters) -> Iterator[Edit]:
    """Another map between the same spaces: the transpose, a letter less, a map of another place."""
    u, w = x.args
    if w.source == w.target:
        yield "drop a map", u
        yield "transpose a map", VectorApply(u, w.T)
    letters = [LinearMap(sp.Tuple(a), *_ends(a)) for a in w.args[0]]
    for a, b in pairwise(range(len(letters))):
        swapped = [*letters[:a], letters[b], letters[a], *letters[b + 1 :]]
        if all(m.target == n.source for m, n in pairwise(swapped)) and _spans(swapped, w):
            yield "swap two maps", VectorApply(u, LinearMap(_join(swapped), w.source, w.target))
    for n, m in enumerate(letters):
        shorter = letters[:n] + letters[n + 1 :]
        if shorter and m.source == m.target:
            yield f"drop map {n}", VectorApply(u, LinearMap(_join(shorter), w.source, w.target))
    for m in _sorted(known.maps):
        for y in (m, m.T):
            if (y.source, y.target) == (w.source, w.target):
                yield "another map", VectorApply(u, y)


def _ends(letter: sp.Tuple) -> tuple[Space, Space]:
    _, transposed, source, target = letter
    return (target, source) if transposed else (source, target)


def _spans(maps: list[LinearMap], w: LinearMap) -> bool:
    return (maps[0].source, maps[-1].target) == (w.source, w.target)


def _join(maps: list[LinearMap]) -> sp.Tuple:
    return sum((m.args[0] for m in maps), sp.Tuple())


def _sets(x: Any, known: Letters) -> Iterator[Edit]:
    """The same sum over another set of the term, or over one that is new."""
    for s in (*_sorted(known.sets), IndexSet("other")):
        if s != x.args[2]:
            yield f"sum over {s}", x.func(*x.args[:2], s, *x.args[3:])


def _sorted(pool: set[Any]) -> list[Any]:
    return sorted(pool, key=sp.default_sort_key)
