"""From the gradients of a theorem [IV.6b/…] to a loop program with sums over keys and over queries.

A gradient by a query's argument is a sum over the keys, one by a key's argument a sum over the queries, and
both come from the same weights. As in `projsym.codegen.lower` the normal form is read off; what is
particular to gradients is that factors of one query or key go back into the weights. Outside the sum,
``exp(-lse)`` would overflow where ``exp(score - lse)`` cannot, and ``⟨g, v⟩`` and ``⟨g, out⟩`` would be
summed apart and subtracted after.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from projsym.algebra.generators import Generator, Total
from projsym.algebra.poly import Mono, Poly, multiply_monos
from projsym.algebra.scalars import step
from projsym.algebra.sets import KEYS
from projsym.algebra.terms import Vector
from projsym.derivations.backward import QUERIES

from .lower import LoweringError, _Lowering, _mentions_test
from .program import Let, Loop, Output, Program, Statement, symbol

INDEX = {"i": sp.Symbol("i", integer=True), "j": sp.Symbol("j", integer=True)}
"""The free index of a gradient of that axis."""
COSTLY = (sp.exp, sp.tanh, sp.Max, step)
"""Functions that are named where several weights have them."""
_SETS = {"i": QUERIES.name, "j": KEYS.name}


@dataclass(frozen=True)
class Gradient:
    """A term with one free index: ``INDEX["i"]`` for a gradient of a query, ``INDEX["j"]`` of a key."""

    axes: str
    term: Any


def lower_gradients(name: str, outputs: Mapping[str, Gradient]) -> Program:
    """The unscheduled program that computes the gradients of all queries and keys.

    Raises LoweringError for what is outside sums over the other axis of weights times vectors.
    """
    return _Gradients(name).gradients(outputs)


class _Gradients(_Lowering):
    functions: dict[sp.Expr, sp.Symbol]
    """Functions that several weights have, named: what they cost is paid once."""

    def gradients(self, outputs: Mapping[str, Gradient]) -> Program:
        made: list[tuple[str, str, list[tuple[sp.Expr, Any]]]] = []
        for key, gradient in outputs.items():
            self.outer = {f"={gradient.axes}": gradient.axes}
            other = "j" if gradient.axes == "i" else "i"
            self.summed = (_SETS[other], other)
            vector = isinstance(gradient.term, Vector)
            made.append((key, gradient.axes, self.grouped(self.nf(gradient.term), vector)))
        made = self.share(made)
        features = self.features()
        rows = tuple(d for d in self.dots.values() if d.axes == "i")
        tails: dict[str, list[Output]] = {"i": [], "j": []}
        for key, axes, terms in made:
            tails[axes].append(Output(key, tuple(terms), self.feature_of(terms, features), axes))
        row_loop = Loop("i", (*rows, Loop("j", self.pair_body()), *tails["i"]))
        return Program(
            self.name, self.inputs(features), (Loop("h", (row_loop, Loop("j", tuple(tails["j"])))),)
        )

    def features(self) -> dict[str, str]:
        """Vectors that meet in an inner product share a feature: ``d`` with `k`, else named by the key."""
        found = super().features()
        named: dict[str, str] = {}
        for feature in set(found.values()):
            keys = sorted(v for v in self.vectors if found[v] == feature and self.vectors[v] == "j")
            named[feature] = "d" if "k" in keys else f"d{keys[0]}" if keys else feature
        return {v: named[feature] for v, feature in found.items()}

    def grouped(self, p: Poly, vector: bool) -> list[tuple[sp.Expr, Any]]:
        """Coefficients and sums; monomials that differ in a weight only become one sum."""
        weights: dict[tuple[sp.Expr, str | None, str], sp.Expr] = {}
        for mono, c in p.terms.items():
            carriers = [(g, e) for g, e in mono if _mentions_test(g)]
            if len(carriers) != int(vector) or any(e != 1 for _, e in carriers):
                raise LoweringError(f"{self.name}: not linear in a vector: {mono}")
            parameters = tuple((g, e) for g, e in mono if _parameter(g))
            sums = [(g, e) for g, e in mono if isinstance(g, Total)]
            if len(sums) != 1 or sums[0][1] != 1:
                raise LoweringError(f"{self.name}: a gradient is one sum over the other axis, not {mono}")
            total = sums[0][0]
            assert isinstance(total, Total)
            bound = self.bound(total)
            skipped = {g for g, _ in (*parameters, *carriers)} | {total}
            rest: Mono = tuple((g, e) for g, e in mono if g not in skipped)
            inside = [g for g, _ in total.mono if _mentions_test(g)]
            target, where = None, "own"
            if inside:
                target, where = self.atom(self.partner(inside[0]), bound), "summed"  # type: ignore[arg-type]
            elif carriers:
                target = self.atom(self.partner(carriers[0][0]), None)  # type: ignore[arg-type]
            weight = tuple((g, e) for g, e in total.mono if g not in inside)
            value = sp.Rational(c.numerator, c.denominator) * self.mono(multiply_monos(rest, weight), bound)
            key = (self.mono(parameters), target, where)
            weights[key] = weights.get(key, sp.S.Zero) + value
        out: list[tuple[sp.Expr, Any]] = []
        for (coefficient, target, where), e in weights.items():
            number, weight_ = factored(e)
            w = self.weights.setdefault(weight_, sp.Symbol(f"weight{len(self.weights)}"))
            if where == "summed":
                out.append((number * coefficient, self.sum_of(w, target)))
            else:
                out.append((number * coefficient * self.sum_of(w, None), target))
        return out

    def share(self, made: list[Any]) -> list[Any]:
        """Name the weights, simple ones first; one whose factors are among another's is a factor of it.

        A function that several of them have gets a name of its own.
        """
        order = sorted(self.weights, key=lambda e: (len(sp.Mul.make_args(e)), sp.default_sort_key(e)))
        new: dict[sp.Expr, sp.Symbol] = {}
        names: dict[sp.Symbol, sp.Symbol] = {}
        for e in order:
            value, s, factors = e, symbol(f"w{len(new)}"), set(sp.Mul.make_args(e))
            for known in reversed(order[: len(new)]):
                part = set(sp.Mul.make_args(known))
                if part < factors:
                    value = names[self.weights[known]] * sp.Mul(*(factors - part))
                    break
            names[self.weights[e]] = s
            new[value] = s
        costly = Counter(f for e in new for f in {*map(reciprocal, e.atoms(sp.Pow)), *e.atoms(*COSTLY)})
        shared = sorted((f for f, n in costly.items() if f is not None and n > 1), key=sp.default_sort_key)
        self.functions = {f: symbol(f"f{n}") for n, f in enumerate(shared)}
        self.weights = {self.put(e): s for e, s in new.items()}
        # Row sums of one weight come first, then scalar sums of keys, so that phases of a block are few.
        sums = [replace(s, weight=names[s.weight]) for s in self.sums.values()]
        self.sums = {(s.weight, s.vector, s.over): s for s in sums}
        return made

    def put(self, e: sp.Expr) -> sp.Expr:
        """An expression with the names of shared functions in it."""
        powers = {
            p: self.functions[f] ** (p.exp / f.exp)
            for p in e.atoms(sp.Pow)
            if (f := reciprocal(p)) is not None and f in self.functions
        }
        return e.xreplace(powers | self.functions)

    def pair_body(self) -> tuple[Statement, ...]:
        """Each weight as soon as its inner products are there: a weight takes less memory than they do."""
        waiting = {s: e for e, s in (*self.functions.items(), *self.weights.items())}
        done = {symbol(n) for n in self.scalars} | {s for s, d in self.dots.items() if d.axes == "i"}
        out: list[Statement] = []
        for dot in sorted((d for d in self.dots.values() if "j" in d.axes), key=lambda d: len(d.axes)):
            out.append(dot)
            done.add(dot.name)
            for s, e in list(waiting.items()):
                if e.free_symbols <= done:
                    out.append(Let(s, self.axes(e), waiting.pop(s)))
                    done.add(s)
        return (*out, *self.sums.values())

    def axes(self, e: sp.Expr) -> str:
        table = {s: "ij" for s in (*self.functions.values(), *self.weights.values())}
        return (
            super().axes(e.xreplace({s: sp.S.One for s in table}))
            if not e.free_symbols & table.keys()
            else "ij"
        )


def reciprocal(p: sp.Pow) -> sp.Expr | None:
    """What negative powers of a sum share: ``1/x``, or where they are odd halves, ``1/sqrt(x)``."""
    if not (p.base.is_Add and (2 * p.exp).is_Integer and p.exp < 0):
        return None
    return 1 / p.base if p.exp.is_Integer else p.base ** sp.Rational(-1, 2)


def _parameter(g: Generator) -> bool:
    return not g.indices and not isinstance(g, Total)


def factored(e: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """A number and a product of factors, signs canonical; functions count as letters meanwhile."""
    letters = {
        x: sp.Symbol(f"E{n}", positive=isinstance(x, sp.exp))
        for n, x in enumerate(sorted(e.atoms(*COSTLY), key=sp.default_sort_key))
    }
    e = e.xreplace(letters)
    back = {s: x for x, s in letters.items()}
    powers = [p for p in e.atoms(sp.Pow) if p.exp.is_Rational and p.exp < 0]
    for n, base in enumerate(sorted({p.base for p in powers}, key=sp.default_sort_key)):
        own = [p for p in powers if p.base == base]
        unit = sp.Rational(1, math.lcm(*[int(p.exp.q) for p in own]))
        inverse = sp.Symbol(f"I{n}", positive=base.is_positive)
        e = e.xreplace({p: inverse ** (-p.exp / unit) for p in own})
        back[inverse] = base.xreplace(back) ** -unit
    number, factors = sp.factor_list(e)
    out: list[sp.Expr] = []
    for f, power in factors:
        sign = f.could_extract_minus_sign()
        number *= (-1) ** (power if sign else 0)
        out.append((-f if sign else f).xreplace(back) ** power)
    return sp.sympify(number), sp.Mul(*out)


__all__ = ["INDEX", "Gradient", "lower_gradients"]
