"""Scalar expressions of parameters, rows or keys as NumPy text that reads well.

Constants are Python floats: they take the dtype of the array they meet, so nothing is converted to float64.
What depends on parameters alone is computed in double and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp

from projsym.codegen.program import exp2, step

UNARY: dict[type, str] = {
    exp2: "exp2",
    sp.exp: "exp",
    sp.log: "log",
    sp.Abs: "absolute",
    sp.tanh: "tanh",
    sp.sin: "sin",
    sp.cos: "cos",
}
FOLDED: dict[type, str] = {sp.Max: "maximum", sp.Min: "minimum"}


@dataclass(frozen=True)
class Names:
    """How symbols are written. symbol: the text of one symbol. parameters: the text of a composite
    expression of parameters, or None where parameters need no treatment of their own; `is_parameter` tells
    which symbols are parameters."""

    symbol: Callable[[sp.Symbol], str]
    parameters: Callable[[sp.Expr], str] | None = None
    is_parameter: Callable[[sp.Symbol], bool] = lambda _: False

    def groups(self, e: sp.Expr) -> bool:
        """Whether `e` is a composite expression of parameters that is to be written as one constant."""
        return bool(self.parameters and not e.is_Symbol and e.free_symbols) and self.constant(e)

    def constant(self, e: sp.Expr) -> bool:
        return all(self.is_parameter(x) for x in e.free_symbols)


def literal(e: sp.Expr) -> str:
    """A real constant, rounded once to double. Raises ValueError if it is not real."""
    if e.is_Rational:
        return repr(float(Fraction(int(e.p), int(e.q))))
    if e in (sp.oo, -sp.oo):
        return "np.inf" if e is sp.oo else "-np.inf"
    if e.is_real is not True:
        raise ValueError(f"constant {e}: not a real number")
    return repr(float(e.evalf(30)))


def ordered(args: Iterable[sp.Expr]) -> list[sp.Expr]:
    """The same order whatever PYTHONHASHSEED is."""
    return sorted(args, key=sp.default_sort_key)


def reciprocal(e: sp.Expr) -> sp.Expr | None:
    """`1/e` if `e` is a power with a negative exponent, else None."""
    return e.base ** (-e.exp) if e.is_Pow and e.exp.is_number and e.exp.is_negative else None


def plain(e: sp.Expr, names: Names) -> str:
    """`infix` for a place that needs no parentheses."""
    return _bare(infix(e, names))


def infix(e: sp.Expr, names: Names) -> str:
    """An expression as Python text, safe inside a product. Raises ValueError for an unknown function."""
    if e.is_Symbol:
        return names.symbol(e)
    if e.is_number:
        text = literal(e)
        return f"({text})" if text.startswith("-") else text
    if names.parameters and names.groups(e):
        return names.parameters(e)
    if e.is_Add:
        return _sum(e, names)
    if e.is_Mul:
        return _product(e, names)
    if e.is_Pow:
        r = reciprocal(e)
        return f"(1.0 / {infix(r, names)})" if r is not None else _power(e, names)
    if type(e) in UNARY:
        return f"np.{UNARY[type(e)]}({plain(e.args[0], names)})"
    if isinstance(e, step):
        return f"np.heaviside({plain(e.args[0], names)}, 0.0)"
    if type(e) in FOLDED:
        first, *rest = (plain(a, names) for a in ordered(e.args))
        for r in rest:
            first = f"np.{FOLDED[type(e)]}({first}, {r})"
        return first
    raise ValueError(f"no NumPy form for {type(e).__name__} in {e}")


def _grouped(e: sp.Expr, names: Names) -> tuple[sp.Expr | None, list[sp.Expr]]:
    """The operands of a sum or product: those of parameters as one expression, and the others."""
    constant = [a for a in e.args if names.constant(a)]
    if names.parameters is None or all(a.is_number for a in constant):
        return None, ordered(e.args)
    return e.func(*constant), ordered(a for a in e.args if a not in constant)


def _sum(e: sp.Expr, names: Names) -> str:
    group, args = _grouped(e, names)
    text = ""
    for t in ([group] if group is not None else []) + args:
        minus = t.could_extract_minus_sign()
        body = infix(-t if minus else t, names)
        text += ((" - " if minus else " + ") if text else ("-" if minus else "")) + body
    return f"({text})"


def _product(e: sp.Expr, names: Names) -> str:
    if e.could_extract_minus_sign():
        return f"(-{infix(-e, names)})"
    group, args = _grouped(e, names)
    above = [infix(group, names)] if group is not None else []
    above += [infix(a, names) for a in args if reciprocal(a) is None]
    below = [infix(r, names) for a in args if (r := reciprocal(a)) is not None]
    return f"({' / '.join([' * '.join(above) or '1.0', *below])})"


def _power(e: sp.Expr, names: Names) -> str:
    base = plain(e.base, names)
    if e.exp == sp.S.Half:
        return f"np.sqrt({base})"
    if e.exp == 2:
        return f"np.square({base})"
    if e.exp == 4:
        return f"np.square(np.square({base}))"
    return f"np.power({base}, {plain(e.exp, names)})"


def _bare(text: str) -> str:
    """Without the outer parentheses, where they enclose the whole."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return text[1:-1] if i == len(text) - 1 and text.startswith("(") else text
    return text
