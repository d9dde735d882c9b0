"""From the last line of a theorem to a loop program.

The normal form has done the algebra: factors that depend on the query alone have left the sums (and
cancelled, where they do), equal terms are merged, exponentials of sums are products. What is left is read
off: every letter that is a sum over the keys becomes a :class:`~projsym.codegen.program.Sum`, every inner
product a :class:`~projsym.codegen.program.Dot`, and there is no case for any particular form of attention.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sympy as sp

from projsym.algebra.generators import (
    Atom,
    Exp,
    Function,
    Generator,
    Member,
    Product,
    Root,
    Size,
    Sym,
    Total,
)
from projsym.algebra.normal import TEST, Normaliser
from projsym.algebra.poly import Mono, Poly
from projsym.algebra.scalars import step
from projsym.algebra.sets import KEYS
from projsym.algebra.terms import Vector
from projsym.algebra.theory import Ability, Theory
from projsym.derivations.notation import unit

from .program import Dot, Input, Let, Loop, Output, Program, Statement, Sum, symbol


class LoweringError(ValueError):
    """The term is not one that a kernel over queries and keys can compute; the message names the part."""


def lower(name: str, outputs: Mapping[str, Any], rows: Collection[str] = ()) -> Program:
    """The unscheduled program that computes, for one query, the named vector and scalar terms.

    rows: names of symbols that are numbers of the query; all others are parameters, one number a call.

    Raises LoweringError for what is outside ``contraction – map – contraction``: linear maps (fold them into
    the inputs first), sums over two indices at once, sets other than the keys.
    """
    return _Lowering(name, rows).program(outputs)


class _Lowering:
    def __init__(self, name: str, rows: Collection[str] = ()) -> None:
        self.name, self.rows = name, frozenset(rows)
        # A hyperbolic tangent stays one: as a quotient of exponentials it could overflow.
        self.nf = Normaliser(Theory(frozenset(Ability) - {Ability.HYPERBOLIC}))
        self.vectors: dict[str, str] = {}
        self.scalars: dict[str, str] = {}
        self.dots: dict[sp.Symbol, Dot] = {}
        self.weights: dict[sp.Expr, sp.Symbol] = {}
        self.sums: dict[tuple[sp.Symbol, str | None, str], Sum] = {}
        self.outer: dict[str | None, str] = {None: "i"}
        """The axis of an index that no sum binds: a vector without an index is a query's."""
        self.summed = (KEYS.name, "j")
        """The set that sums are over, and its axis."""

    def program(self, outputs: Mapping[str, Any]) -> Program:
        made = [
            (key, term, self.terms(self.nf(term)) if isinstance(term, Vector) else None)
            for key, term in outputs.items()
        ]
        results = []
        for key, term, terms in made:
            if terms is None:
                terms = ((self.poly(self.nf(term)), None),)
            results.append((key, terms))
        features = self.features()
        rows = tuple(d for d in self.dots.values() if d.axes == "i")
        tail = tuple(Output(key, terms, self.feature_of(terms, features)) for key, terms in results)
        return Program(
            self.name,
            self.inputs(features),
            (Loop("h", (Loop("i", (*rows, Loop("j", self.pair_body()), *tail)),)),),
        )

    def pair_body(self) -> tuple[Statement, ...]:
        dots = sorted((d for d in self.dots.values() if "j" in d.axes), key=lambda d: len(d.axes))
        lets = tuple(Let(s, self.axes(e), e) for e, s in self.weights.items())
        return (*dots, *lets, *self.sums.values())

    def axes(self, e: sp.Expr) -> str:
        table = {symbol(n): ax for n, ax in self.scalars.items()}
        table |= {s: d.axes for s, d in self.dots.items()}
        # A weight that is the same for every pair still counts once per pair.
        return "".join(sorted(set("".join(table[s] for s in e.free_symbols)))) or "ij"

    def features(self) -> dict[str, str]:
        """The feature dimension of each vector: vectors that meet in an inner product share one."""
        group = {v: v for v in self.vectors}

        def find(v: str) -> str:
            while group[v] != v:
                v = group[v]
            return v

        for d in self.dots.values():
            group[find(d.right)] = find(d.left)
        queries = [v for v, axes in sorted(self.vectors.items()) if axes == "i"]
        first = find(queries[0]) if queries else None
        return {v: "d" if find(v) == first else f"d{find(v)}" for v in self.vectors}

    def feature_of(self, terms: Sequence[tuple[sp.Expr, Any]], features: dict[str, str]) -> str:
        names = {
            features[next(s.vector for s in self.sums.values() if s.name == v) or ""]
            if isinstance(v, sp.Symbol)
            else features[v]
            for _, v in terms
            if v is not None
        }
        if len(names) > 1:
            raise LoweringError(f"{self.name}: an output adds vectors of different spaces {sorted(names)}")
        return names.pop() if names else ""

    def inputs(self, features: dict[str, str]) -> tuple[Input, ...]:
        """Queries, then keys (those in inner products first), then scalars per key, then parameters."""
        met = {v for d in self.dots.values() for v in (d.left, d.right)}
        order = sorted(self.vectors, key=lambda v: (self.vectors[v] != "i", v not in met, v))
        vectors = [Input(v, self.vectors[v], features[v]) for v in order]
        scalars = [Input(s, ax) for s, ax in sorted(self.scalars.items(), key=lambda t: (t[1] == "", t[0]))]
        return (*vectors, *scalars)

    # reading the normal form

    def terms(self, p: Poly) -> tuple[tuple[sp.Expr, Any], ...]:
        """A vector output: coefficients and what they multiply."""
        grouped: dict[Any, sp.Expr] = {}
        for mono, c in p.terms.items():
            carriers = [(g, e) for g, e in mono if _mentions_test(g)]
            if len(carriers) != 1 or carriers[0][1] != 1:
                raise LoweringError(f"{self.name}: not linear in a vector: {mono}")
            carrier = carriers[0][0]
            rest = tuple((g, e) for g, e in mono if g is not carrier)
            coefficient = sp.Rational(c.numerator, c.denominator) * self.mono(rest)
            target = self.vector(carrier)
            grouped[target] = grouped.get(target, sp.S.Zero) + coefficient
        return tuple((coefficient, target) for target, coefficient in grouped.items())

    def vector(self, carrier: Generator) -> sp.Symbol | str:
        if isinstance(carrier, Product):
            return self.atom(self.partner(carrier), None)
        assert isinstance(carrier, Total)
        inside = [g for g, e in carrier.mono if _mentions_test(g)]
        if len(inside) != 1 or not isinstance(inside[0], Product):
            raise LoweringError(f"{self.name}: not a weighted sum of vectors: {carrier}")
        weight = tuple((g, e) for g, e in carrier.mono if g is not inside[0])
        bound = self.bound(carrier)
        return self.sum(weight, bound, self.atom(self.partner(inside[0]), bound))

    def partner(self, g: Product) -> Atom:
        """The vector that a pairing with the test vector stands for."""
        if g.word:
            raise LoweringError(f"{self.name}: {g.key}: fold linear maps into the inputs first")
        return g.right if g.left == TEST else g.left

    def bound(self, total: Total) -> str:
        if len(total.binders) != 1:
            raise LoweringError(f"{self.name}: a sum over {len(total.binders)} indices at once: {total}")
        ((bound, over),) = total.binders
        if over != self.summed[0]:
            raise LoweringError(f"{self.name}: a sum over {over!r}; kernels sum over {self.summed[0]!r}")
        return bound

    def sum(self, weight: Mono, bound: str, vector: str | None) -> sp.Symbol:
        e = self.mono(weight, bound)
        w = self.weights.setdefault(e, symbol(f"w{len(self.weights)}"))
        return self.sum_of(w, vector)

    def sum_of(self, w: sp.Symbol, vector: str | None) -> sp.Symbol:
        """The sum of a weight times a vector over the set in force, made once."""
        key = (w, vector, self.summed[1])
        if key not in self.sums:
            self.sums[key] = Sum(symbol(f"s{len(self.sums)}"), *key)
        return self.sums[key].name

    def axis(self, at: str | None, bound: str | None, what: str) -> str:
        """The axis of an index."""
        if at is not None and at == bound:
            return self.summed[1]
        if at not in self.outer:
            raise LoweringError(f"{self.name}: {what} has an index that no sum binds")
        return self.outer[at]

    def atom(self, a: Atom, bound: str | None) -> str:
        axes = self.axis(a.at, bound, a.key)
        if self.vectors.setdefault(a.name, axes) != axes:
            raise LoweringError(f"{self.name}: {a.name} is both a query vector and a key vector")
        return a.name

    def scalar(self, name: str, axes: str) -> sp.Symbol:
        if not name.isidentifier() or not name.isascii():
            raise LoweringError(f"{self.name}: {name!r} cannot name an argument; use an ASCII identifier")
        self.scalars[name] = axes
        return symbol(name)

    def poly(self, p: Poly, bound: str | None = None) -> sp.Expr:
        return sp.Add(
            *[sp.Rational(c.numerator, c.denominator) * self.mono(m, bound) for m, c in p.terms.items()]
        )

    def mono(self, mono: Mono, bound: str | None = None) -> sp.Expr:
        """A monomial; its exponentials are gathered into one."""
        exponent, factors = sp.S.Zero, []
        for g, e in mono:
            r = sp.Rational(e.numerator, e.denominator)
            if isinstance(g, Exp):
                exponent += r * self.mono(g.mono, bound)
            else:
                factors.append(self.letter(g, bound) ** r)
        return sp.exp(exponent) * sp.Mul(*factors)

    def letter(self, g: Generator, bound: str | None) -> sp.Expr:
        match g:
            case Sym():
                return self.scalar(g.name, "i" if g.name in self.rows else "")
            case Member():
                return self.scalar(g.name, self.axis(g.at, bound, g.key))
            case Product():
                return self.dot(g, bound)
            case Total():
                return self.sum(g.mono, self.bound(g), None)
            case Size() if g.name == KEYS.name:
                return self.sum((), "", None)
            case Root():
                return sp.Rational(g.value.numerator, g.value.denominator)
            case Function("poly", (p,)):
                return self.poly(p, bound)
            case Function("log" | "tanh", (p,)):
                return getattr(sp, g.name)(self.poly(p, bound))
            case Function("step", (p,)):
                return step(self.poly(p, bound))
            case Function("Max" | "Min", arguments):
                return getattr(sp, g.name)(*[self.poly(p, bound) for p in arguments])
        raise LoweringError(f"{self.name}: no kernel computes {g.key}")

    def dot(self, g: Product, bound: str | None) -> sp.Symbol:
        if g.word:
            raise LoweringError(f"{self.name}: {g.key}: fold linear maps into the inputs first")
        for row, key in ((g.left, g.right), (g.right, g.left)):
            if key.name == unit.name:
                return self.entry(row, key, bound)
        pair = sorted((g.left, g.right), key=lambda a: (self.axis(a.at, bound, a.key), a.name))
        left, right = (self.atom(a, bound) for a in pair)
        axes = "".join(sorted({self.axis(a.at, bound, a.key) for a in pair}))
        s = symbol(f"{left}_{right}")
        self.dots.setdefault(s, Dot(s, axes, left, right))
        return s

    def entry(self, row: Atom, key: Atom, bound: str | None) -> sp.Symbol:
        """A number for each pair: the coordinate of a query's row at a key."""
        if (self.axis(row.at, bound, row.key), self.axis(key.at, bound, key.key)) != ("i", "j"):
            raise LoweringError(f"{self.name}: {row.key} is no row of a query, or not taken at a key")
        return self.scalar(row.name, "ij")


def _mentions_test(g: Generator) -> bool:
    match g:
        case Product():
            return TEST in (g.left, g.right)
        case Total():
            return any(_mentions_test(h) for h, _ in g.mono)
    return False
