"""The second opinion: terms evaluated as written, in ball arithmetic, at concrete inputs.

Nothing here shares code with the normal form. A ball contains the exact value, so two disjoint balls refute
an equation rigorously; overlapping balls only fail to refute it.
"""

from __future__ import annotations

from functools import reduce
from operator import add, mul
from typing import Any

import sympy as sp
from flint import arb, fmpq

from projsym.algebra.scalars import FiniteSum, Inner, ScalarElement, Softmax, step, tanh2
from projsym.algebra.sets import DisjointUnion, EmptySet, IndexSet, Singleton
from projsym.algebra.terms import (
    LinearMap,
    Vector,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorScale,
    VectorSum,
    VectorSymbol,
    ZeroVector,
)

from .instance import Element, Instance, Vec

Bound = dict[sp.Symbol, Element]


class Numbered:
    """Numbers for subterms, the same for equal ones, so that equality is decided once, not at every use."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.found: dict[int, tuple[int, tuple[sp.Symbol, ...]]] = {}
        self.alive: list[Any] = []  # an address names a term as long as that term lives
        self.sums: dict[int, FiniteSum] = {}

    def __call__(self, e: Any) -> tuple[int, tuple[sp.Symbol, ...]]:
        """The number of a term, and the symbols in it: the indices that it binds itself included."""
        found = self.found.get(id(e))
        if found is None:
            below = [self(a) for a in e.args]
            number = self.numbers.setdefault(
                (type(e), *[n for n, _ in below]) if below else e, len(self.numbers)
            )
            own = (e,) if isinstance(e, sp.Symbol) else ()
            found = self.found[id(e)] = number, own or tuple(dict.fromkeys(i for _, s in below for i in s))
            self.alive.append(e)
        return found

    def normaliser(self, e: Softmax) -> FiniteSum:
        """The sum that a softmax divides by, one term for all uses."""
        number, _ = self(e)
        if number not in self.sums:
            body, j, over, _ = e.args
            self.sums[number] = FiniteSum(sp.exp(body), j, over)
        return self.sums[number]


class Evaluator:
    """Evaluates terms at one instance. `free` gives the set that each free index belongs to; `numbered` may
    be shared by evaluators of the same terms.

    A term that occurs again with the same members for its indices is looked up: a mean is in every residual,
    and an inner product in every sum that a pair takes part in.
    """

    def __init__(
        self, instance: Instance, free: dict[sp.Symbol, str], numbered: Numbered | None = None
    ) -> None:
        self.instance, self.free = instance, free
        self.numbered = Numbered() if numbered is None else numbered
        self.known: dict[Any, Any] = {}

    def once(self, e: Any, bound: Bound, evaluate: Any) -> Any:
        """``evaluate(e, bound)``, remembered for the members that the bound indices in `e` stand for."""
        number, indices = self.numbered(e)
        key = (number, *[bound.get(i) for i in indices])
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = evaluate(e, bound)
        return found

    def __call__(self, term: Any) -> list[arb]:
        """The value: one ball for a scalar, one for each component of a vector."""
        return self.vector(term, {}) if isinstance(term, Vector) else [self.scalar(sp.sympify(term), {})]

    def element(self, i: sp.Symbol, bound: Bound) -> Element:
        if i in bound:
            return bound[i]
        if i not in self.free:
            raise ValueError(f"index {i} is neither bound nor known to belong to a set")
        same = sorted((s for s, name in self.free.items() if name == self.free[i]), key=str)
        return (self.free[i], same.index(i) % self.instance.size(self.free[i]))

    def members(self, over: sp.Basic, bound: Bound) -> list[Element]:
        match over:
            case IndexSet():
                return [(over.name, n) for n in range(self.instance.size(over.name))]
            case DisjointUnion():
                return [m for part in over.args for m in self.members(part, bound)]
            case Singleton():
                return [self.element(over.index, bound)]
            case EmptySet():
                return []
        raise TypeError(f"not an index set: {over!r}")

    def scalar(self, e: sp.Expr, bound: Bound) -> arb:
        return self.once(e, bound, self._scalar)

    def _scalar(self, e: sp.Expr, bound: Bound) -> arb:
        match e:
            case sp.Rational():
                return arb(fmpq(int(e.p), int(e.q)))
            case sp.Add():
                return reduce(add, (self.scalar(a, bound) for a in e.args))
            case sp.Mul():
                return reduce(mul, (self.scalar(a, bound) for a in e.args))
            case sp.Symbol():
                return self.instance.scalar(e.name, bool(e.is_positive))
            case ScalarElement():
                at = self.element(e.index, bound)
                return self.instance.scalar(e.family, bool(e.is_positive), at)
            case Inner():
                pairs = zip(*[self.vector(v, bound) for v in e.args], strict=True)
                return sum((x * y for x, y in pairs), arb(0))
            case FiniteSum():
                return self._sum(e, bound)
            case Softmax():
                body, j, _, at = e.args
                below = self.scalar(self.numbered.normaliser(e), bound)
                return self.scalar(body, {**bound, j: self.element(at, bound)}).exp() / below
            case sp.exp():
                return self.scalar(e.args[0], bound).exp()
            case sp.log():
                return self.scalar(e.args[0], bound).log()
            case sp.Pow():
                return self._power(self.scalar(e.base, bound), e.exp, bound)
            case sp.Max() | sp.Min():
                values = [self.scalar(a, bound) for a in e.args]
                return reduce(arb.max if isinstance(e, sp.Max) else arb.min, values)
            case step():
                x = self.scalar(e.args[0], bound)
                return arb(1) if x > 0 else arb(0) if x <= 0 else arb(0.5, 0.5)
            case sp.tanh():
                return self.scalar(e.args[0], bound).tanh()
            case tanh2():
                return (self.scalar(e.args[0], bound) * arb(2).log() / 2).tanh()
        if e is sp.S.Exp1:
            return arb(1).exp()
        if type(e).__name__ == "exp2":
            return (self.scalar(e.args[0], bound) * arb(2).log()).exp()
        raise TypeError(f"cannot evaluate {e.func.__name__}")

    def _sum(self, e: FiniteSum, bound: Bound) -> arb:
        body, j, over = e.args
        return sum((self.scalar(body, {**bound, j: m}) for m in self.members(over, bound)), arb(0))

    def _vector_sum(self, e: VectorSum, bound: Bound) -> Vec:
        body, j, over = e.args
        out = [arb(0)] * self.instance.dimension(e.space.name)
        for m in self.members(over, bound):
            out = [a + b for a, b in zip(out, self.vector(body, {**bound, j: m}), strict=True)]
        return out

    def _power(self, x: arb, exponent: sp.Expr, bound: Bound) -> arb:
        if not exponent.is_Integer:
            return (x.log() * self.scalar(exponent, bound)).exp()
        # Multiplication, not arb's power: that gives NaN for a ball that contains zero.
        y = reduce(mul, [x] * abs(int(exponent)), arb(1))
        return y if exponent > 0 else 1 / y

    def vector(self, v: Vector, bound: Bound) -> Vec:
        return self.once(v, bound, self._vector)

    def _vector(self, v: Vector, bound: Bound) -> Vec:
        match v:
            case ZeroVector():
                return [arb(0)] * self.instance.dimension(v.space.name)
            case VectorSymbol():
                return self.instance.vector(v.name, v.space.name, None)
            case VectorElement():
                return self.instance.vector(v.family, v.space.name, self.element(v.index, bound))
            case VectorAdd():
                return [reduce(add, xs) for xs in zip(*[self.vector(a, bound) for a in v.args], strict=True)]
            case VectorScale():
                c = self.scalar(v.args[0], bound)
                return [c * x for x in self.vector(v.args[1], bound)]
            case VectorSum():
                return self._vector_sum(v, bound)
            case VectorApply():
                return self._apply(self.vector(v.args[0], bound), v.args[1], v.args[0].space.name)
        raise TypeError(f"cannot evaluate {type(v).__name__}")

    def _apply(self, x: Vec, linear_map: LinearMap, source: str) -> Vec:
        for letter in linear_map.letters:
            rows = self.instance.matrix(letter.name, letter.source, letter.target)
            if letter.transposed:
                x = [sum((r[b] * x[b] for b in range(len(x))), arb(0)) for r in rows]
            else:
                x = [sum((x[a] * rows[a][c] for a in range(len(x))), arb(0)) for c in range(len(rows[0]))]
        return x
