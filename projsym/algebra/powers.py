"""Powers, exponentials and logarithms of polynomials.

Sound over the reals wherever both sides are defined: a fractional power or a logarithm of a product is split
only into factors that are visibly positive.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

from sympy import Rational, factorrat

from .generators import Exp, Function, Generator, Root, make_mono
from .poly import ONE, Mono, Poly, constant, letter, power_mono


def content(p: Poly) -> tuple[Fraction, Mono, Poly]:
    """``p = c * mono * q`` with `c > 0` rational and `q` without common rational or monomial factor."""
    coefficients = list(p.terms.values())
    c = Fraction(gcd(*[a.numerator for a in coefficients]), lcm(*[a.denominator for a in coefficients]))
    least: dict[Generator, Fraction] = {}
    for mono in p.terms:
        for g, _ in mono:
            least.setdefault(g, Fraction(0))
    for g in least:
        least[g] = min(dict(mono).get(g, Fraction(0)) for mono in p.terms)
    common = make_mono(least)
    return c, common, p.times_mono(power_mono(common, Fraction(-1))).scaled(1 / c)


def primes(c: Fraction) -> list[tuple[int, int]]:
    """A positive rational as primes and their exponents, so that equal numbers have equal letters."""
    return sorted((int(n), int(e)) for n, e in factorrat(Rational(c.numerator, c.denominator)).items())


def power(p: Poly, r: Fraction) -> Poly:
    """``p ** r`` for a rational exponent."""
    if r.denominator == 1 and r >= 0:
        out = ONE
        for _ in range(int(r)):
            out = out * p
        return out
    if not p:
        raise ZeroDivisionError("a term divides by an expression that is identically zero")
    c, common, q = content(p)
    if r.denominator == 1:
        return constant(c ** int(r)).times_mono(power_mono(common, r)) * _base(q, r)
    kept = tuple((g, e) for g, e in common if not g.positive)
    split = tuple((g, e) for g, e in common if g.positive)
    root = make_mono({Root(Fraction(n)): e * r for n, e in primes(c)})
    return ONE.times_mono(root).times_mono(power_mono(split, r)) * _base(q.times_mono(kept), r)


def _base(q: Poly, r: Fraction) -> Poly:
    if q == ONE:
        return ONE
    if r.denominator == 1 and len(q.terms) == 1:
        ((mono, c),) = q.terms.items()
        return constant(c ** int(r)).times_mono(power_mono(mono, r))
    return letter(Function("poly", (q,), q.positive), r)


def exponential(p: Poly) -> Poly:
    """``exp(p)`` as a product over the monomials of `p`; ``exp(r log x) = x ** r``."""
    out = ONE
    for mono, c in p.terms.items():
        if len(mono) == 1 and mono[0][1] == 1 and _is_log(mono[0][0]):
            out = out * power(mono[0][0].arguments[0], c)  # type: ignore[attr-defined]
        else:
            out = out * letter(Exp(mono), c)
    return out


def _is_log(g: Generator) -> bool:
    return isinstance(g, Function) and g.name == "log"


def logarithm(p: Poly) -> Poly:
    """``log(p)`` with positive factors split off and ``log exp = id``."""
    if not p:
        raise ZeroDivisionError("a term takes the logarithm of an expression that is identically zero")
    c, common, q = content(p)
    out = Poly({})
    for n, times in primes(c):
        out = out + letter(Function("log", (constant(n),))).scaled(Fraction(times))
    for g, e in common:
        if isinstance(g, Exp):
            out = out + Poly({g.mono: e})
        elif isinstance(g, Function) and g.name == "poly" and g.positive:
            out = out + letter(Function("log", g.arguments)).scaled(e)
        elif g.positive:
            out = out + letter(Function("log", (letter(g),))).scaled(e)
        else:
            q = q.times_mono(((g, e),))
    if q != ONE:
        out = out + letter(Function("log", (q,)))
    return out
