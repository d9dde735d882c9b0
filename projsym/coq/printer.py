"""Terms and normal forms as Coq text, in the vocabulary of base.v."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import sympy as sp

from projsym.algebra.generators import (
    Atom,
    Exp,
    Function,
    Generator,
    Member,
    Product,
    Size,
    Sym,
    Total,
    transpose,
)
from projsym.algebra.poly import Mono, Poly
from projsym.algebra.scalars import FiniteSum, Inner, ScalarElement, Softmax
from projsym.algebra.sets import DisjointUnion, EmptySet, IndexSet
from projsym.algebra.terms import (
    Vector,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorScale,
    VectorSum,
    VectorSymbol,
    ZeroVector,
)

from .names import TEST, NotExported, identifier

Env = Mapping[sp.Symbol, str]
"""The Coq name of every index in scope."""


def rational(c: Fraction) -> str:
    """A rational; parenthesised unless it is a natural number."""
    if c.denominator == 1:
        return str(c.numerator) if c >= 0 else f"({c.numerator})"
    return f"({c.numerator} / {c.denominator})"


def index_set(s: sp.Basic) -> str:
    """A finite set as a list."""
    match s:
        case IndexSet():
            return "set_" + identifier(s.name)
        case EmptySet():
            return "nil"
        case DisjointUnion():
            return "(" + " ++ ".join(index_set(x) for x in s.args) + ")"
    raise NotExported(f"the set {s}")


@dataclass
class TermPrinter:
    """Terms as Coq text. Bound indices are named j, j1, … by depth, so equal terms print equally."""

    indices: Env = field(default_factory=dict)

    def inside(self, bound: sp.Symbol) -> tuple[str, TermPrinter]:
        """A name for a bound index, and the printer of what is in its scope."""
        taken = set(self.indices.values())
        n = next(n for n in range(len(taken) + 1) if f"l{n}" not in taken)
        return f"l{n}", TermPrinter({**self.indices, bound: f"l{n}"})

    def at(self, i: sp.Symbol) -> str:
        """An index in scope."""
        if i not in self.indices:
            raise NotExported(f"the index {i} has no scope")
        return self.indices[i]

    def scalar(self, e: Any) -> str:
        """A scalar, parenthesised where it is not an atom."""
        match e:
            case sp.Rational():
                return rational(Fraction(int(e.p), int(e.q)))
            case sp.Add():
                return "(" + " + ".join(self.scalar(a) for a in e.args) + ")"
            case sp.Mul():
                return "(" + " * ".join(self.scalar(a) for a in e.args) + ")"
            case sp.exp():
                return f"(exp {self.scalar(e.args[0])})"
            case sp.Pow() if e.exp.is_Integer:
                n, base = int(e.exp), self.scalar(e.base)
                power = base if abs(n) == 1 else f"({base} ^ {abs(n)})"
                return power if n > 0 else f"(/ {power})"
            case sp.Symbol():
                return self.indices[e] if e in self.indices else identifier(e.name)
            case ScalarElement():
                return f"({identifier(e.family)} {self.at(e.index)})"
            case Inner():
                return f"(inner {self.vector(e.args[0])} {self.vector(e.args[1])})"
            case FiniteSum():
                return self.total(e)
            case Softmax():
                return self.softmax(e)
        raise NotExported(f"the scalar {type(e).__name__}")

    def total(self, e: FiniteSum) -> str:
        """A sum of numbers."""
        body, bound, over = e.args
        name, inside = self.inside(bound)
        return f"(sum {index_set(over)} (fun {name} => {inside.scalar(body)}))"

    def softmax(self, e: Softmax) -> str:
        """A softmax at an index."""
        body, bound, over, at = e.args
        name, inside = self.inside(bound)
        return f"(softmax {index_set(over)} (fun {name} => {inside.scalar(body)}) {self.at(at)})"

    def vector(self, v: Vector) -> str:
        """A vector, parenthesised where it is not an atom."""
        match v:
            case ZeroVector():
                return "zero"
            case VectorSymbol():
                return identifier(v.name)
            case VectorElement():
                return f"({identifier(v.family)} {self.at(v.index)})"
            case VectorAdd():
                *front, last = (self.vector(a) for a in v.args)
                for u in reversed(front):
                    last = f"(add {u} {last})"
                return last
            case VectorScale():
                return f"(scale {self.scalar(v.args[0])} {self.vector(v.args[1])})"
            case VectorSum():
                body, bound, over = v.args
                name, inside = self.inside(bound)
                return f"(vsum {index_set(over)} (fun {name} => {inside.vector(body)}))"
            case VectorApply():
                u = self.vector(v.args[0])
                for letter in v.args[1].letters:
                    if letter.transposed:
                        raise NotExported("the adjoint of a linear map")
                    u = f"({identifier(letter.name)} {u})"
                return u
        raise NotExported(f"the vector {type(v).__name__}")


@dataclass
class OpenedPrinter(TermPrinter):
    """As TermPrinter, with softmax and sums over unions unfolded just as the tactic ``expose`` leaves them.

    under: the indices bound around the term at hand; Coq's ``rewrite`` leaves alone what depends on them.
    """

    under: frozenset[sp.Symbol] = frozenset()

    def inside(self, bound: sp.Symbol) -> tuple[str, OpenedPrinter]:
        name, printer = super().inside(bound)
        return name, OpenedPrinter(printer.indices, self.under | {bound})

    def within(self, bound: sp.Symbol) -> tuple[str, OpenedPrinter]:
        """A name for a bound index, and the printer for a goal in which it is a variable."""
        name, printer = self.inside(bound)
        return name, OpenedPrinter(printer.indices)

    def total(self, e: FiniteSum) -> str:
        body, bound, over = e.args
        name, inside = self.inside(bound)
        return self._over(over, f"(fun {name} => {inside.scalar(body)})", e.free_symbols)

    def softmax(self, e: Softmax) -> str:
        body, bound, over, at = e.args
        here = OpenedPrinter({**self.indices, bound: self.at(at)}, self.under).scalar(body)
        name, inside = self.inside(bound)
        free = (body.free_symbols - {bound}) | over.free_symbols
        function = f"(fun {name} => {_exp(inside.scalar(body))})"
        return f"({_exp(here)} / {self._over(over, function, free)})"

    def _over(self, over: sp.Basic, function: str, free: set[sp.Basic]) -> str:
        parts = over.args if isinstance(over, DisjointUnion) and not free & self.under else (over,)
        *front, last = (f"(sum {index_set(s)} {function})" for s in parts)
        for part in reversed(front):
            last = f"({part} + {last})"
        return last


def _exp(exponent: str) -> str:
    return "1" if exponent == "0" else f"(exp {exponent})"


def _kind(g: Generator) -> str:
    """An exponential's monomial without the names of its indices."""
    return g.renamed(dict.fromkeys(g.indices, "?")).key


@dataclass
class NormalPrinter:
    """Normal forms as Coq text.

    units: for every kind of exponential the rational of which all its exponents are multiples. Writing each
    as an integer power of one base lets ``field`` see that exp(x) exp(-x) = 1.
    """

    units: dict[str, Fraction] = field(default_factory=dict)
    met: dict[str, set[Fraction]] = field(default_factory=dict)

    def poly(self, p: Poly) -> str:
        """A polynomial, parenthesised."""
        terms = sorted(p.terms.items(), key=lambda t: str(t[0]))
        return "(" + (" + ".join(f"{rational(c)} * {self.mono(m)}" for m, c in terms) or "0") + ")"

    def mono(self, m: Mono) -> str:
        """A monomial, parenthesised."""
        return "(" + " * ".join(self.power(g, e) for g, e in m) + ")" if m else "1"

    def power(self, g: Generator, e: Fraction) -> str:
        """A letter to a rational power; only exponentials may have one that is not an integer."""
        if isinstance(g, Exp):
            unit = self.unit(g.mono, e)
            return _power(f"(exp ({rational(unit)} * {self.mono(g.mono)}))", e / unit)
        return _power(self.letter(g), e)

    def unit(self, mono: Mono, e: Fraction) -> Fraction:
        """The rational whose multiples are the exponents of ``exp(mono)``; notes that `e` is one."""
        kind = _kind(Exp(mono))
        self.met.setdefault(kind, set()).add(e)
        return self.units.get(kind, e)

    def letter(self, g: Generator) -> str:
        """A letter that is not an exponential."""
        match g:
            case Sym():
                return identifier(g.name)
            case Member():
                return f"({identifier(g.name)} {_index(g.at)})"
            case Product():
                return product(g)
            case Function(name="poly", arguments=(p,)):
                return self.poly(p)
            case Size():
                return f"(sum set_{identifier(g.name)} (fun _ => 1))"
            case Total(binders=((bound, over),)):
                return f"(sum set_{identifier(over)} (fun {_index(bound)} => {self.mono(g.mono)}))"
            case Total():
                raise NotExported("a double sum that does not split")
        raise NotExported(f"the letter {g.key} of a normal form")


def _power(base: str, e: Fraction) -> str:
    if e.denominator != 1:
        raise NotExported(f"the power {e} of {base}")
    n = abs(int(e))
    power = base if n == 1 else f"({base} ^ {n})"
    return power if e > 0 else f"(/ {power})"


def _index(name: str) -> str:
    return "b" + name if name.startswith("_") else name


def atom(a: Atom) -> str:
    """A vector letter."""
    name = TEST if a.name == "?test" else identifier(a.name)
    return name if a.at is None else f"({name} {_index(a.at)})"


def product(g: Product) -> str:
    """``<left @ word, right>`` with the transposed end of the word applied to the right vector.

    Maps come first where they can, whatever the indices are called: the names that Product orders by differ
    between the inside of a sum and the outside.
    """
    left, word, right = g.left, g.word, g.right
    if word and word[0][1]:
        left, word, right = right, transpose(word), left
    split = next((n for n, (_, transposed) in enumerate(word) if transposed), len(word))
    if not all(transposed for _, transposed in word[split:]):
        raise NotExported("the adjoint of a linear map")
    one, other = atom(left), atom(right)
    for name, _ in word[:split]:
        one = f"({identifier(name)} {one})"
    for name, _ in reversed(word[split:]):
        other = f"({identifier(name)} {other})"
    return f"(inner {one} {other})"
