"""Expressions as C: doubles for what is computed once per call, query or key, vectors for pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import sympy as sp

from projsym.codegen.program import exp2, narrowed, step, tanh2

Name = Callable[[sp.Symbol], str]
NONE: Mapping[sp.Expr, str] = MappingProxyType({})


class Unprintable(ValueError):
    """An expression that the printer has no C for; the message names it and what is allowed."""

    def __init__(self, e: sp.Expr, allowed: str) -> None:
        super().__init__(f"no C for {e} ({type(e).__name__}): allowed are {allowed}")


def number(e: sp.Expr) -> str:
    """A rational or float constant as a C double, correctly rounded."""
    value = float(e)
    return repr(value) if value >= 0 else f"({value!r})"


def _ordered(e: sp.Expr) -> list[sp.Expr]:
    return list(e.as_ordered_terms() if e.is_Add else e.as_ordered_factors())


def _power(base: str, n: int, multiply: Callable[[str, str], str]) -> str:
    """`base` to the n >= 1 by squaring; `base` must be an atom."""
    if n == 1:
        return base
    half = _power(base, n // 2, multiply)
    square = multiply(half, half)
    return multiply(square, base) if n % 2 else square


def _fraction(e: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Numerator and denominator of a product, by the signs of exponents; numbers stay above."""
    top, bottom = [], []
    for f in _ordered(e) if e.is_Mul else [e]:
        if f.is_Pow and f.exp.is_Rational and f.exp < 0:
            bottom.append(f.base**-f.exp)
        else:
            top.append(f)
    return sp.Mul(*top), sp.Mul(*bottom)


def scalar(e: sp.Expr, name: Name, sums: frozenset[sp.Symbol] = frozenset()) -> str:
    """An expression in double.

    name: the C text of a symbol. sums: row states; what is divided by an expression in them is 0 where that
    expression is 0. Raises `Unprintable` for functions other than those in the table.
    """

    def go(x: sp.Expr) -> str:
        return scalar(x, name, sums)

    if e.is_Symbol:
        return name(e)
    if e.is_Rational or e.is_Float:
        return number(e)
    if e.is_Add:
        return "(" + " + ".join(go(a) for a in _ordered(e)) + ")"
    if e.is_Mul or e.is_Pow:
        top, bottom = _fraction(e)
        if bottom != 1:
            if bottom.free_symbols & sums:
                return f"GUARDED({go(top)}, {go(bottom)})"
            return f"({go(top)}/{go(bottom)})"
    if e.is_Mul:
        return "(" + "*".join(go(a) for a in _ordered(e)) + ")"
    if e.is_Pow and e.exp == sp.Rational(1, 2):
        return f"sqrt({go(e.base)})"
    if e.is_Pow and e.exp.is_Integer and e.base.is_Symbol:
        return _power(go(e.base), int(e.exp), lambda a, b: f"({a}*{b})")
    if e.is_Pow:
        return f"pow({go(e.base)}, {go(e.exp)})"
    for kind, text in ((sp.log, "log"), (sp.exp, "exp"), (exp2, "exp2"), (sp.tanh, "tanh"), (sp.Abs, "fabs")):
        if isinstance(e, kind):
            return f"{text}({go(e.args[0])})"
    for kind, text in ((sp.Max, "SMAX"), (sp.Min, "SMIN")):
        if isinstance(e, kind):
            return _chain(text, [go(a) for a in _numbers_first(e)])
    raise Unprintable(e, "sums, products, powers, log, exp, exp2, tanh, Abs, Max, Min")


def _numbers_first(e: sp.Expr) -> list[sp.Expr]:
    """Arguments, constants first: MAX(constant, NaN) is NaN on every instruction set."""
    return sorted(e.args, key=lambda a: (not a.is_number, sp.default_sort_key(a)))


def _chain(function: str, args: list[str]) -> str:
    text = args[0]
    for a in args[1:]:
        text = f"{function}({text}, {a})"
    return text


def vector(e: sp.Expr, name: Name, small: Mapping[sp.Expr, str] = NONE) -> str:
    """An expression over lanes, as C text of type V; fused multiply-add wherever a product meets a sum.

    name: the C text, an atom of type V, of a symbol. small: the form of EXP2 that serves an exponent that is
    known to be small. Powers must be integers or halves. Raises `Unprintable`.
    """

    def go(x: sp.Expr) -> str:
        return vector(x, name, small)

    if e.is_Symbol:
        return name(e)
    if e.is_Rational or e.is_Float:
        return f"SET1((T){number(e)})"
    if e.is_Add:
        return _vector_sum(e, name, small)
    if e.is_Mul or e.is_Pow:
        top, bottom = _fraction(e)
        if bottom != 1:
            return f"({go(top)}/{go(bottom)})"
    if e.is_Mul:
        factors = _ordered(e)
        if factors[0] == -1:
            return f"(-{go(sp.Mul(*factors[1:]))})"
        return "(" + "*".join(go(a) for a in factors) + ")"
    if e.is_Pow and (2 * e.exp).is_Integer:
        n, half = divmod(int(2 * e.exp), 2)
        parts = [f"POWER_{n}({go(e.base)})" if n > 1 else go(e.base)] if n else []
        if half:
            # An expanded square may come out below zero by rounding; its value is not.
            x = f"MAX(SET1((T)0), {go(e.base)})" if e.base.is_Add else go(e.base)
            parts.append(f"SQRT({x})")
        return parts[0] if len(parts) == 1 else f"({'*'.join(parts)})"
    if isinstance(e, exp2):
        return f"{small.get(e.args[0], 'EXP2')}({go(e.args[0])})"
    if isinstance(e, step):
        return f"STEP({go(e.args[0])})"
    if isinstance(e, tanh2):
        return f"TANH2({go(e.args[0])})"
    if isinstance(e, narrowed):
        return f"NARROWED({go(e.args[0])})"
    if isinstance(e, sp.Abs):
        x = go(e.args[0])
        return f"MAX(-({x}), {x})"
    for kind, text in ((sp.Max, "MAX"), (sp.Min, "MIN")):
        if isinstance(e, kind):
            return _chain(text, [go(a) for a in _numbers_first(e)])
    raise Unprintable(e, "sums, products, integer and half powers, exp2, tanh2, step, Abs, Max, Min")


def _vector_sum(e: sp.Expr, name: Name, small: Mapping[sp.Expr, str]) -> str:
    plain = [a for a in _ordered(e) if not (a.is_Mul and _fraction(a)[1] == 1)]
    products = [a for a in _ordered(e) if a not in plain]
    if plain:
        text = vector(plain[0], name, small)
        for a in plain[1:]:
            text = f"({text} + {vector(a, name, small)})"
    else:
        text = vector(products.pop(0), name, small)
    for p in products:
        factors = _ordered(p)
        if factors[0] == -1 and len(factors) == 2:
            text = f"({text} - {vector(factors[1], name, small)})"
        else:
            rest = vector(sp.Mul(*factors[1:]), name, small)
            text = f"FMA({vector(factors[0], name, small)}, {rest}, {text})"
    return text


def powers(e: sp.Expr) -> set[int]:
    """The integer powers above one that `vector` prints as POWER_n functions for this expression."""
    return {int(abs(p.exp)) for p in e.atoms(sp.Pow) if p.exp.is_Rational and abs(p.exp) >= 2}


def power_function(n: int) -> str:
    """The C of POWER_n."""
    return f"INLINE V POWER_{n}(V x) {{ return {_power('x', n, lambda a, b: f'({a}*{b})')}; }}"
