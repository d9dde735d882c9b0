"""The normal form: from terms to canonical polynomials, within a theory."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import sympy as sp

from .generators import Atom, Function, Member, Product, Sym, Word, transpose
from .poly import ONE, ZERO, Poly, constant, letter
from .powers import exponential, logarithm, power
from .scalars import FiniteSum, Inner, ScalarElement, Softmax, step, tanh2
from .sets import DisjointUnion, EmptySet, IndexSet, Singleton, checked_name
from .sums import fresh, opaque_sum, sum_over
from .terms import (
    Space,
    Vector,
    VectorAdd,
    VectorApply,
    VectorElement,
    VectorScale,
    VectorSum,
    VectorSymbol,
    ZeroVector,
)
from .theory import ALGEBRA, Ability, Theory, TheoryError

TEST = Atom("?test")
"""What a vector is paired with to become a scalar; no vector of a user can have this name."""

Env = dict[sp.Symbol, str]
Binders = tuple[tuple[str, sp.Basic], ...]


@dataclass(frozen=True)
class Part:
    """``sum over binders of coefficient * atom @ word``: one summand of a vector."""

    coefficient: Poly
    atom: Atom
    word: Word = ()
    binders: Binders = ()


@dataclass
class Normaliser:
    """Normal forms in one theory. Equal normal forms prove equality; different ones prove nothing."""

    theory: Theory = ALGEBRA
    _cache: dict[tuple[Any, tuple[tuple[Any, str], ...]], Poly] = field(default_factory=dict)
    _spaces: dict[tuple[type, str], Space] = field(default_factory=dict)

    def __call__(self, term: Any) -> Poly:
        """The normal form of a scalar, or of a vector paired with an unnamed test vector."""
        return self._paired(term, {}) if isinstance(term, Vector) else self.scalar(sp.sympify(term), {})

    # scalars

    def scalar(self, e: sp.Expr, env: Env) -> Poly:
        free = e.free_symbols
        key = (e, tuple(sorted(((s, n) for s, n in env.items() if s in free), key=str)))
        if key not in self._cache:
            self._cache[key] = self._scalar(e, env)
        return self._cache[key]

    def _scalar(self, e: sp.Expr, env: Env) -> Poly:
        match e:
            case sp.Rational():
                return constant(Fraction(int(e.p), int(e.q)))
            case sp.Add():
                out = ZERO
                for a in e.args:
                    out = out + self.scalar(a, env)
                return out
            case sp.Mul():
                out = ONE
                for a in e.args:
                    out = out * self.scalar(a, env)
                return out
            case sp.exp():
                return self._exp(self.scalar(e.args[0], env))
            case sp.log():
                p = self.scalar(e.args[0], env)
                return logarithm(p) if self.theory.can(Ability.EXPONENTIAL) else _opaque("log", p)
            case sp.Pow():
                return self._pow(e, env)
            case sp.Symbol():
                return letter(Sym(_symbol_name(e), bool(e.is_positive)))
            case ScalarElement():
                return letter(Member(e.family, self._index(e.index, env), bool(e.is_positive)))
            case Inner():
                return self._inner(e, env)
            case FiniteSum():
                j = fresh()
                body = self.scalar(e.args[0], {**env, e.args[1]: j})
                return self._sum(body, j, e.args[2], env)
            case Softmax():
                return self._softmax(e, env)
            case sp.tanh():
                return self._tanh(self.scalar(e.args[0], env).scaled(Fraction(2)))
            case tanh2():
                return self._tanh(self.scalar(e.args[0], env) * logarithm(constant(2)))
            case step():
                return _opaque("step", self.scalar(e.args[0], env))
            case sp.Max() | sp.Min():
                args = sorted((self.scalar(a, env) for a in e.args), key=lambda p: p.key)
                return letter(Function(e.func.__name__, tuple(args), all(p.positive for p in args)))
        if e is sp.S.Exp1:
            return self._exp(ONE)
        if type(e).__name__ == "exp2":
            return self._exp(self.scalar(e.args[0], env) * logarithm(constant(2)))
        raise TypeError(f"the normal form does not know {e.func.__name__}: {e}")

    def _exp(self, p: Poly) -> Poly:
        if self.theory.can(Ability.EXPONENTIAL):
            return exponential(p)
        return letter(Function("exp", (p,), positive=True)) if p else ONE

    def _tanh(self, twice: Poly) -> Poly:
        """The hyperbolic tangent of half of `twice`."""
        if not self.theory.can(Ability.HYPERBOLIC):
            return _opaque("tanh", twice.scaled(Fraction(1, 2)))
        return ONE + power(ONE + self._exp(twice), Fraction(-1)).scaled(Fraction(-2))

    def _pow(self, e: sp.Pow, env: Env) -> Poly:
        base, exponent = e.args
        if exponent.is_Rational:
            return power(self.scalar(base, env), Fraction(int(exponent.p), int(exponent.q)))
        p = self.scalar(base, env)
        r = self.scalar(exponent, env)
        if self.theory.can(Ability.EXPONENTIAL):
            return exponential(logarithm(p) * r)
        return letter(Function("pow", (p, r), p.positive))

    def _softmax(self, e: Softmax, env: Env) -> Poly:
        body, bound, over, at = e.args
        j = fresh()
        p = self.scalar(body, {**env, bound: j})
        if self.theory.can(Ability.SOFTMAX):
            # Not from the definition as a term: putting `at` for `bound` there could be captured in the body.
            above = self._exp(self.scalar(body, {**env, bound: self._index(at, env)}))
            return above * power(self._sum(self._exp(p), j, over, env), Fraction(-1))
        name = f"softmax[{_set_name(over)}@{self._index(at, env)}]"
        slot = f"_{p.height}_0"
        return letter(_SoftmaxLetter(name, p.renamed({j: slot}), slot, self._index(at, env)))

    def _index(self, i: sp.Symbol, env: Env) -> str:
        return env.get(i) or "=" + _symbol_name(i)

    # sums

    def _sum(self, p: Poly, j: str, over: sp.Basic, env: Env) -> Poly:
        if self.theory.can(Ability.UNIONS):
            match over:
                case DisjointUnion():
                    out = ZERO
                    for part in over.args:
                        i = fresh()
                        out = out + self._sum(p.renamed({j: i}), i, part, env)
                    return out
                case Singleton():
                    return p.renamed({j: self._index(over.index, env)})
                case EmptySet():
                    return ZERO
        name = _set_name(over)
        return (sum_over if self.theory.can(Ability.SUMS) else opaque_sum)(p, j, name)

    # vectors

    def parts(self, v: Vector, env: Env) -> list[Part]:
        """A vector as a list of summands."""
        match v:
            case ZeroVector():
                return []
            case VectorSymbol():
                return [Part(ONE, Atom(self._one_space(v, v.name)))]
            case VectorElement():
                return [Part(ONE, Atom(self._one_space(v, v.family), self._index(v.index, env)))]
            case VectorAdd():
                return [p for a in v.args for p in self.parts(a, env)]
            case VectorScale():
                c = self.scalar(v.args[0], env)
                return [
                    Part(c * p.coefficient, p.atom, p.word, p.binders) for p in self.parts(v.args[1], env)
                ]
            case VectorSum():
                body, bound, over = v.args
                j = fresh()
                return [
                    Part(p.coefficient, p.atom, p.word, (*p.binders, (j, over)))
                    for p in self.parts(body, {**env, bound: j})
                ]
            case VectorApply():
                u, linear_map = v.args
                return [
                    Part(p.coefficient, p.atom, self.reduce(p.word + linear_map.word), p.binders)
                    for p in self.parts(u, env)
                ]
        raise TypeError(f"the normal form does not know the vector {type(v).__name__}")

    def _one_space(self, v: Vector, name: str) -> str:
        """The name of a vector letter; ValueError if it already names one of another space."""
        known = self._spaces.setdefault((type(v), name), v.space)
        if known != v.space:
            raise ValueError(f"vector {name!r} is in {known.name} and in {v.space.name}: names must differ")
        return name

    def _join(self, parts: list[Part], env: Env) -> Poly:
        """A vector as a polynomial: its summands paired with the test vector."""
        out = ZERO
        for p in parts:
            t = p.coefficient * letter(Product(p.atom, p.word, TEST))
            for j, over in p.binders:
                t = self._sum(t, j, over, env)
            out = out + t
        return out

    def _paired(self, v: Vector, env: Env) -> Poly:
        return self._join(self.parts(v, env), env)

    def _inner(self, e: Inner, env: Env) -> Poly:
        left, right = self.parts(e.args[0], env), self.parts(e.args[1], env)
        mapped = any(p.word for p in left + right)
        known = self.theory.can(Ability.BILINEARITY) and (not mapped or self.theory.can(Ability.ADJOINT))
        if not known and not _atomic(left, right):
            two = sorted((self._join(left, env), self._join(right, env)), key=lambda p: p.key)
            return letter(Function("inner", tuple(two))) if all(two) else ZERO
        out = ZERO
        for p in left:
            for q in right:
                word = self.reduce(p.word + transpose(q.word))
                t = self._product(Product(p.atom, word, q.atom)) * p.coefficient * q.coefficient
                for j, over in p.binders + q.binders:
                    t = self._sum(t, j, over, env)
                out = out + t
        return out

    def _product(self, g: Product) -> Poly:
        for rule in self.theory.product_rules:
            p = rule(g)
            if p is not None:
                return p
        return letter(g)

    def reduce(self, word: Word) -> Word:
        """A word of maps after the oriented equations of the theory; each rule also holds transposed."""
        rules = [r for a, b in self.theory.word_rules for r in ((a, b), (transpose(a), transpose(b)))]
        for _ in range(100):
            for a, b in rules:
                at = next((n for n in range(len(word)) if word[n : n + len(a)] == a), None)
                if at is not None:
                    word = word[:at] + b + word[at + len(a) :]
                    break
            else:
                return word
        raise ValueError("the equations between linear maps do not terminate on this term")


class _SoftmaxLetter(Function):
    """A softmax that the theory does not open: scores with a bound slot, evaluated at an index."""

    def __init__(self, name: str, body: Poly, slot: str, at: str) -> None:
        self.slot, self.at = slot, at
        super().__init__(name, (body,), positive=True)
        self.indices = (body.indices - {slot}) | {at}
        self.height = body.height + 1

    def renamed(self, names: Any) -> _SoftmaxLetter:
        free = {a: b for a, b in names.items() if a != self.slot}
        at = names.get(self.at, self.at)
        name = self.name.rsplit("@", 1)[0] + f"@{at}]"
        return _SoftmaxLetter(name, self.arguments[0].renamed(free), self.slot, at)


def _opaque(name: str, p: Poly) -> Poly:
    return letter(Function(name, (p,)))


def _atomic(left: list[Part], right: list[Part]) -> bool:
    """Whether both vectors are plain letters, whose product is a letter in every theory."""
    return all(len(x) == 1 and x[0] == Part(ONE, x[0].atom) for x in (left, right))


def _symbol_name(s: sp.Symbol) -> str:
    checked_name(s.name)
    return f"{s.name}#{s.dummy_index}" if isinstance(s, sp.Dummy) else s.name


def _set_name(over: sp.Basic) -> str:
    match over:
        case IndexSet():
            return over.name
        case DisjointUnion():
            return "(" + "+".join(sorted(_set_name(s) for s in over.args)) + ")"
        case EmptySet():
            return "{}"
        case Singleton():
            raise TheoryError(f"a sum over {{{over.index}}} needs: {Ability.UNIONS}")
    raise TypeError(f"not an index set: {over!r}")
