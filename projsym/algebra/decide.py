"""The decision procedure: is an equation an identity of the theory, for every size and dimension?"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

from .generators import Function, Generator, Root, make_mono
from .normal import Normaliser
from .poly import ONE, ZERO, Poly, multiply_monos
from .powers import power
from .terms import Vector, same_space
from .theory import ALGEBRA, Theory

Memory = dict[Theory, Normaliser]
"""Normal forms that are kept from one decision to the next, by theory."""


def residual(left: Any, right: Any, theory: Theory = ALGEBRA, memory: Memory | None = None) -> Poly:
    """A polynomial that vanishes identically when ``left = right`` is decided, denominators cleared.

    Zero means: the equation holds for all sizes, dimensions and values at which both sides are defined (no
    denominator zero, logarithms and fractional powers of positive numbers). Not zero means *not decided*:
    the procedure is sound and not complete. memory: for many decisions about the same subterms.
    """
    if isinstance(left, Vector) != isinstance(right, Vector):
        raise TypeError("an equation needs two scalars or two vectors")
    if isinstance(left, Vector):
        same_space("equation", left, right)
    nf = Normaliser(theory) if memory is None else memory.setdefault(theory, Normaliser(theory))
    return rational_roots(clear(nf(left) - nf(right)))


def equal(left: Any, right: Any, theory: Theory = ALGEBRA) -> bool:
    """Whether the theory decides ``left = right``. See :func:`residual` for what that means."""
    return not residual(left, right, theory)


def clear(p: Poly) -> Poly:
    """`p` times the polynomials it divides by, until none is left."""
    while True:
        bases: dict[Generator, Fraction] = {}
        for mono in p.terms:
            powers = dict(mono)
            for g in powers:
                if isinstance(g, Function) and g.name == "poly":
                    bases.setdefault(g, Fraction(0))
        for g in bases:
            bases[g] = min(Fraction(floor(dict(m).get(g, Fraction(0)))) for m in p.terms)
        if not any(_expandable(e - bases[g]) for m in p.terms for g, e in m if g in bases) and not any(
            bases.values()
        ):
            return p
        lift = make_mono({g: -e for g, e in bases.items()})
        out = ZERO
        for mono, c in p.terms.items():
            kept, factor = [], ONE
            for g, e in multiply_monos(mono, lift):
                if g in bases and isinstance(g, Function):
                    whole = Fraction(floor(e))
                    factor = factor * power(g.arguments[0], whole)
                    e = e - whole
                if e:
                    kept.append((g, e))
            out = out + factor.times_mono(make_mono(dict(kept))).scaled(c)
        p = out


def rational_roots(p: Poly) -> Poly:
    """`p` with the whole powers of roots of rationals multiplied out: √2 to the power −3 is √2/4."""
    out = ZERO
    for mono, c in p.terms.items():
        kept, factor = [], c
        for g, e in mono:
            if isinstance(g, Root):
                factor *= g.value ** floor(e)
                e -= floor(e)
            kept.append((g, e))
        out = out + ONE.times_mono(make_mono(dict(kept))).scaled(factor)
    return out


def _expandable(e: Fraction) -> bool:
    return floor(e) != 0
