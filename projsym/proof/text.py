"""Terms as plain text and as LaTeX, from one table of forms, deterministic and independent of SymPy's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

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

ADD, MUL, POW, ATOM = range(4)
LATEX = {
    "W⁺": "W^{+}", "τ": r"\tau", "σ": r"\sigma", "ρ": r"\rho", "ξ": r"\xi", "γ": r"\gamma", "β": r"\beta",
    "ε": r"\varepsilon", "Γ": r"\Gamma", "x̂": r"\hat{x}", "α": r"\alpha", "κ": r"\kappa", "δ": r"\delta",
    "η": r"\eta", "μ": r"\mu", "λ": r"\lambda", "φ": r"\varphi", "π": r"\pi",
}  # fmt: skip
SPELLED = {
    "sigma": "σ", "tau": "τ", "alpha": "α", "kappa": "κ", "delta": "δ", "eta": "η", "mu": "μ", "rho": "ρ",
}  # fmt: skip
"""Greek letters that are spelled out where a name has to be ASCII."""
BOUND = "jlirstuvabc"


@dataclass(frozen=True)
class Style:
    """How the same tree is written in one notation."""

    latex: bool

    def name(self, s: str) -> str:
        stem, _, rest = s.partition("_")
        stem = SPELLED.get(stem, stem)
        if not self.latex:
            return f"{stem}_{rest}" if rest else stem
        if stem in LATEX:
            stem = LATEX[stem]
        elif len(stem) > 2 and stem.isascii() and stem.isalpha():
            stem = rf"\operatorname{{{stem}}}"  # a word, not a product of letters
        return f"{stem}_{{{rest}}}" if rest else stem

    def index(self, s: str, i: str) -> str:
        return f"{{{self.name(s)}}}_{{{i}}}" if self.latex else f"{s}_{i}"

    def inner(self, a: str, b: str) -> str:
        return rf"\langle {a}, {b} \rangle" if self.latex else f"⟨{a}, {b}⟩"

    def norm2(self, a: str) -> str:
        return rf"\lVert {a} \rVert^2" if self.latex else f"‖{a}‖²"

    def sum(self, i: str, over: str, body: str) -> str:
        at = "" if over == "keys" else (rf" \in {over}" if self.latex else f"∈{over}")
        return rf"\sum_{{{i}{at}}} {body}" if self.latex else f"Σ_{i}{at} {body}"

    def softmax(self, i: str, over: str, at: str, body: str) -> str:
        inside = "" if over == "keys" else (rf" \in {over}" if self.latex else f"∈{over}")
        if self.latex:
            where = "" if at == i else rf"\big|_{{{i}={at}}}"
            return rf"\operatorname{{softmax}}_{{{i}{inside}}}\left({body}\right){where}"
        return f"softmax_{i}{inside}({body})" + ("" if at == i else f"[{i}={at}]")

    def call(self, name: str, *args: str) -> str:
        body = ", ".join(args)
        return rf"\{name}\left({body}\right)" if self.latex else f"{name}({body})"

    def over(self, a: str, b: str) -> str:
        return rf"\frac{{{a}}}{{{b}}}" if self.latex else f"{a}/{b}"

    def power(self, a: str, b: str) -> str:
        if self.latex:
            return f"{a}^{{{b}}}"
        return a + {"2": "²", "3": "³", "4": "⁴"}.get(b, f"^{b}" if b.isalnum() else f"^({b})")

    def paren(self, a: str) -> str:
        return rf"\left({a}\right)" if self.latex else f"({a})"


class Printer:
    """Prints terms in one style; bound indices are named afresh, avoiding the free ones."""

    def __init__(self, style: Style, term: Any) -> None:
        self.style = style
        self.taken = {s.name for s in getattr(term, "free_symbols", ()) if not isinstance(s, sp.Dummy)}

    def show(self, x: Any, names: dict[sp.Symbol, str], level: int = ADD) -> str:
        text, own = self.vector(x, names) if isinstance(x, Vector) else self.scalar(x, names)
        return self.style.paren(text) if own < level else text

    def index(self, i: sp.Symbol, names: dict[sp.Symbol, str]) -> str:
        return names.get(i, i.name)

    def bind(
        self, i: sp.Symbol, names: dict[sp.Symbol, str], prefer: str | None = None
    ) -> dict[sp.Symbol, str]:
        used = self.taken | set(names.values())
        name = prefer or next((b for b in BOUND if b not in used), f"j{len(names)}")
        return {**names, i: name}

    def scalar(self, e: sp.Expr, n: dict[sp.Symbol, str]) -> tuple[str, int]:
        s = self.style
        match e:
            case Inner():
                a, b = e.args
                if a == b:
                    return s.norm2(self.show(a, n)), POW
                return s.inner(self.show(a, n), self.show(b, n)), ATOM
            case FiniteSum():
                inside = self.bind(e.args[1], n)
                body = self.show(e.args[0], inside, MUL)
                return s.sum(inside[e.args[1]], self.set(e.args[2], n), body), ADD
            case Softmax():
                body, bound, over, at = e.args
                where = self.index(at, n)
                inside = self.bind(bound, n, prefer=where)
                return s.softmax(where, self.set(over, n), where, self.show(body, inside)), ATOM
            case ScalarElement():
                return s.index(e.family, self.index(e.index, n)), ATOM
            case sp.Symbol():
                return s.name(e.name), ATOM
            case sp.Integer():
                return str(e), ATOM if e >= 0 else ADD
            case sp.Rational():
                return s.over(str(e.p), str(e.q)), MUL
            case sp.Add():
                return self.add(sorted(e.as_ordered_terms(), key=_negative), n), ADD
            case sp.Mul():
                return self.mul(e, n), MUL
            case sp.exp() | sp.log() | sp.tanh() | sp.Max() | sp.Min():
                return s.call(e.func.__name__.lower(), *[self.show(a, n) for a in e.args]), ATOM
            case sp.Pow():
                if e.exp.is_negative:
                    return s.over("1", self.show(1 / e, n, ADD if s.latex else POW)), MUL
                return s.power(self.show(e.base, n, ATOM), self.show(e.exp, n)), POW
            case tanh2():
                return self.show(sp.tanh(e.args[0] * sp.log(2) / 2), n), ATOM
            case step():
                return s.call("step", self.show(e.args[0], n)), ATOM
        if e is sp.S.Exp1:
            return "e", ATOM
        if type(e).__name__ == "exp2":
            return s.power("2", self.show(e.args[0], n)), POW
        raise TypeError(f"cannot print {e.func.__name__}")

    def add(self, terms: list[Any], n: dict[sp.Symbol, str]) -> str:
        out = ""
        minus = "-" if self.style.latex else "−"
        for t in terms:
            negative = _negative(t)
            text = self.show(_negate(t) if negative else t, n, MUL if negative else ADD)
            sign = f" {minus} " if negative else " + "
            out += sign + text if out else minus * negative + text
        return out

    def mul(self, e: sp.Mul, n: dict[sp.Symbol, str]) -> str:
        if _negative(e):
            return ("-" if self.style.latex else "−") + self.show(-e, n, MUL)
        above, below = _fraction(e)
        if below != 1:
            over, under = (ADD, ADD) if self.style.latex else (MUL, POW)
            return self.style.over(self.show(above, n, over), self.show(below, n, under))
        return " ".join(self.show(a, n, POW) for a in above.as_ordered_factors())

    def vector(self, v: Vector, n: dict[sp.Symbol, str]) -> tuple[str, int]:
        s = self.style
        match v:
            case ZeroVector():
                return "0", ATOM
            case VectorSymbol():
                return s.name(v.name), ATOM
            case VectorElement():
                return s.index(v.family, self.index(v.index, n)), ATOM
            case VectorAdd():
                return self.add(list(v.args), n), ADD
            case VectorScale():
                c, u = v.args
                if c == 1:
                    return self.vector(u, n)
                if c == -1:
                    return ("-" if s.latex else "−") + self.show(u, n, MUL), ADD
                return f"{self.show(c, n, POW)} {self.show(u, n, MUL)}", MUL
            case VectorSum():
                inside = self.bind(v.args[1], n)
                body = self.show(v.args[0], inside, MUL)
                return s.sum(inside[v.args[1]], self.set(v.args[2], n), body), ADD
            case VectorApply():
                return f"{self.show(v.args[0], n, POW)} {self.map(v.args[1])}", MUL
        raise TypeError(f"cannot print {type(v).__name__}")

    def map(self, m: LinearMap) -> str:
        adjoint = r"^{\top}" if self.style.latex else "ᵀ"
        return " ".join(self.style.name(name) + adjoint * t for name, t in m.word)

    def set(self, over: sp.Basic, n: dict[sp.Symbol, str]) -> str:
        match over:
            case IndexSet():
                # The set of all keys goes without saying, and is known by this name.
                return over.name if over.name == "keys" else self.style.name(over.name)
            case DisjointUnion():
                union = r" \sqcup " if self.style.latex else "⊔"
                return union.join(self.set(a, n) for a in over.args)
            case Singleton():
                braces = (r"\{", r"\}") if self.style.latex else ("{", "}")
                return self.index(over.index, n).join(braces)
            case EmptySet():
                return r"\emptyset" if self.style.latex else "∅"
        raise TypeError(f"not an index set: {over!r}")


def _fraction(e: sp.Mul) -> tuple[sp.Expr, sp.Expr]:
    """Numerator and denominator as written: exponentials stay above, whatever the sign of their exponent."""
    below = [a for a in e.args if a.is_Pow and not isinstance(a, sp.exp) and a.exp.is_negative]
    c, _ = e.as_coeff_Mul()
    q = sp.Integer(c.q) if c.is_Rational else sp.S.One
    return e * q * sp.Mul(*[1 / a for a in below]), q * sp.Mul(*[1 / a for a in below])


def _negative(t: Any) -> bool:
    if isinstance(t, VectorScale):
        return bool(t.args[0].could_extract_minus_sign())
    return not isinstance(t, Vector) and bool(sp.Mul.make_args(t)[0].is_number and sp.Mul.make_args(t)[0] < 0)


def _negate(t: Any) -> Any:
    if isinstance(t, VectorScale):
        c, v = t.args
        return v if c == -1 else VectorScale(-c, v)
    return -t


def text(term: Any) -> str:
    """A term as one line of Unicode."""
    return Printer(Style(latex=False), term).show(term, {})


def latex(term: Any) -> str:
    """A term as LaTeX, without dollar signs."""
    return Printer(Style(latex=True), term).show(term, {})
