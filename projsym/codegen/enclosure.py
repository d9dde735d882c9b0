"""What a kernel of any program may return at given inputs: its program run in balls that are widened by
rounding.

For weights that `projsym.bounds` has no formula for. Every operation of a scheduled program is carried out on
balls, by the standard model of rounding (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002,
chapters 2 and 3): with unit roundoff ``u`` an operation is off by at most ``u`` of its result and the least
normal number; sums are in any order, ``γ_r = r u/(1 - r u)`` of the sum of the absolute values of their terms
for `r` roundings a term; ``exp2`` and ``tanh2`` have their certified errors. What is computed in double
before it is rounded to the type of the kernel is less off than that.

It guarantees that a kernel which does the operations of the program, in any order of sums and with or without
fused multiply-adds, returns numbers in these balls; the exact values are in them too. It takes Python time
for each pair: it is for small instances. It cannot see a printer that prints something else or a compiler
that reassociates beyond sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp
from flint import arb, ctx, fmpq

from projsym.codegen.exp2 import certificate
from projsym.codegen.program import (
    Dot,
    Let,
    Loop,
    Node,
    Output,
    Program,
    Rescale,
    RunningMax,
    Sum,
    exp2,
    step,
    tanh2,
)
from projsym.codegen.tanh2 import certificate as tangent

_BITS = 128
_LOG = 4
"""Units of roundoff allowed to a logarithm, and to a root or power that is no product."""


def enclose(
    program: Program,
    inputs: Mapping[str, Any],
    dtype: str,
    exp_error: float | None = None,
    tanh_error: float | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Centres and radii, in float64 and rounded outward, of every output of a program for one head.

    inputs: by name, arrays (n, d), (m, d), (n,), (m,), (n, m) of `dtype`, or nested lists of balls that hold
    the inputs; parameters as floats. Queries see all keys. exp_error, tanh_error: relative and absolute
    error of the functions, by default those certified for the C kernels.
    A radius is infinite where an operation may divide by zero or take the root or logarithm of what is not
    positive. ValueError for a statement that it does not know.
    """
    with ctx.workprec(_BITS):
        run = _Run(program, inputs, dtype, exp_error, tanh_error)
        run.execute(program.body, None)
        return {name: _outward(values) for name, values in run.outputs.items()}


@dataclass
class _Total:
    """A sum so far and the sum of the absolute values of its terms."""

    value: list[arb]
    size: list[arb]

    def add(self, terms: list[arb]) -> None:
        self.value = [a + b for a, b in zip(self.value, terms, strict=True)]
        self.size = [a + abs(b) for a, b in zip(self.size, terms, strict=True)]


@dataclass
class _Run:
    program: Program
    inputs: Mapping[str, Any]
    dtype: str
    exp_error: float | None
    tanh_error: float | None
    values: dict[tuple[sp.Symbol, int | None, int | None], arb] = field(default_factory=dict)
    rows: dict[sp.Symbol, _Total] = field(default_factory=dict)
    keys: dict[tuple[sp.Symbol, int], _Total] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        proof = certificate(self.dtype)
        self.u, self.least = arb(proof.unit_roundoff), arb(float(np.finfo(self.dtype).tiny))
        self.exp = arb(proof.worst if self.exp_error is None else self.exp_error)
        self.tanh = arb(tangent(self.dtype).error if self.tanh_error is None else self.tanh_error)
        self.lowest, self.floor = proof.lowest, arb(proof.floor)
        self.axes = self.program.axes()
        self.vectors = {x.name: x.axes for x in self.program.inputs if x.feature}
        sized = {x.axes: len(self.inputs[x.name]) for x in self.program.inputs if x.axes}
        self.n, self.m = sized["i"], sized["j"]
        self.arrays = {
            x.name: [[_exact(y) for y in row] for row in self.inputs[x.name]]
            for x in self.program.inputs
            if x.feature
        }
        for x in self.program.inputs:
            if x.feature:
                continue
            s = sp.Symbol(x.name, real=True)
            if not x.axes:
                self.values[s, None, None] = _exact(self.inputs[x.name])
            for at, y in enumerate(self.inputs[x.name] if x.axes else ()):
                if x.axes == "ij":
                    self.values |= {(s, at, j): _exact(z) for j, z in enumerate(y)}
                else:
                    self.values[(s, at, None) if x.axes == "i" else (s, None, at)] = _exact(y)
        # Enough for a term's way through every block, tile and lane, and for the terms of an expression.
        self.many = self.gamma(self.n + self.m + 64)

    def gamma(self, roundings: int) -> arb:
        return roundings * self.u / (1 - roundings * self.u)

    def off(self, x: arb, roundings: int = 1) -> arb:
        """A number after so many roundings of factors."""
        return x * (1 + _ball(self.gamma(roundings))) + _ball(roundings * self.least)

    # statements

    def execute(self, body: tuple[Node, ...], i: int | None) -> None:
        for node in body:
            match node:
                case Let(axes=""):
                    self.values[node.name, None, None] = self.scalar(node.value, None, None)
                case Loop("h", inside):
                    self.execute(inside, None)
                case Loop("i", inside):
                    for row in range(self.n):
                        self.rows = {}
                        self.execute(inside, row)
                case Loop("j", inside, block) if i is not None:
                    self.open(inside)
                    width = block or max(self.m, 1)
                    for start in range(0, self.m, width):
                        self.block(inside, i, range(start, min(start + width, self.m)))
                case Loop("j", inside):
                    for key in range(self.m):
                        for s in inside:
                            self.statement(s, None, key)
                case _:
                    self.statement(node, i, None)

    def open(self, inside: tuple[Node, ...]) -> None:
        for s in inside:
            if isinstance(s, RunningMax):
                self.rows[s.name] = _Total([arb(-float(np.finfo(self.dtype).max))], [arb(0)])
            elif isinstance(s, Sum) and s.over == "j":
                width = len(self.arrays[s.vector][0]) if s.vector and self.m else 1
                self.rows[s.name] = _Total([arb(0)] * width, [arb(0)] * width)

    def block(self, inside: tuple[Node, ...], i: int, keys: range) -> None:
        for s in inside:
            match s:
                case Let() | Dot():
                    for j in keys:
                        self.statement(s, i, j)
                case RunningMax(name, old, of):
                    before = self.rows[name].value[0]
                    top = before
                    for j in keys:
                        top = arb.max(top, self.values[of, i, j])
                    self.rows[old] = _Total([before], [arb(0)])
                    self.rows[name] = _Total([top], [arb(0)])
                case Rescale(sums, factor):
                    f = self.scalar(factor, i, None)
                    for x in sums:
                        total = self.rows[x]
                        total.value = [self.off(y * f) for y in total.value]
                        total.size = [y * abs(f) for y in total.size]
                case Sum():
                    for j in keys:
                        self.add(s, i, j)
                case _:
                    raise ValueError(f"enclosure: {s} in a loop over keys")

    def add(self, s: Sum, i: int, j: int) -> None:
        w = self.read(s.weight, i, j)
        at = j if s.over == "j" else i
        terms = [w * x for x in self.arrays[s.vector][at]] if s.vector else [w]
        if s.over == "j":
            self.rows[s.name].add(terms)
        else:
            zero = _Total([arb(0)] * len(terms), [arb(0)] * len(terms))
            self.keys.setdefault((s.name, j), zero).add(terms)

    def statement(self, s: Node, i: int | None, j: int | None) -> None:
        match s:
            case Let(name, axes, value):
                self.values[self.place(name, axes, i, j)] = self.scalar(value, i, j)
            case Dot(name, axes, left, right, scale):
                self.values[self.place(name, axes, i, j)] = self.inner(left, right, scale, i, j)
            case Output():
                self.output(s, i, j)
            case _:
                raise ValueError(f"enclosure: {s} outside the loop over pairs")

    def place(
        self, name: sp.Symbol, axes: str, i: int | None, j: int | None
    ) -> tuple[sp.Symbol, int | None, int | None]:
        return name, i if "i" in axes else None, j if "j" in axes else None

    def inner(self, left: str, right: str, scale: sp.Expr, i: int | None, j: int | None) -> arb:
        rows = (self.member(x, i, j) for x in (left, right))
        c = self.scalar(sp.sympify(scale), i, j)
        terms = [c * x * y for x, y in zip(*rows, strict=True)]
        roundings = len(terms) + 4
        lost = self.gamma(roundings) * _sizes(terms) + roundings * self.least * (1 + abs(c))
        return sum(terms, arb(0)) + _ball(lost)

    def member(self, vector: str, i: int | None, j: int | None) -> list[arb]:
        at = i if self.vectors[vector] == "i" else j
        assert at is not None
        return self.arrays[vector][at]

    def output(self, o: Output, i: int | None, j: int | None) -> None:
        parts: list[list[arb]] = []
        for coefficient, target in o.terms:
            c = self.scalar(sp.sympify(coefficient), i, j)
            if target is None:
                parts.append([c])
            elif isinstance(target, str):
                parts.append([c * x for x in self.member(target, i, j)])
            else:
                parts.append([c * x for x in self.state(target, j)])
        lost = self.gamma(len(parts) + 2)
        whole = [sum(xs, arb(0)) + _ball(lost * _sizes(xs) + self.least) for xs in zip(*parts, strict=True)]
        self.outputs.setdefault(o.name, []).append(whole if o.feature else whole[0])

    # expressions

    def state(self, s: sp.Symbol, j: int | None) -> list[arb]:
        """A sum with what its additions have lost."""
        if s in self.rows:
            total = self.rows[s]
        elif j is not None and (s, j) in self.keys:
            total = self.keys[s, j]
        else:
            vector = next(x.vector for x in self.program.statements() if isinstance(x, Sum) and x.name == s)
            return [arb(0)] * (len(self.inputs[vector][0]) if vector and len(self.inputs[vector]) else 1)
        lost = [_ball(self.many * y + (self.n + self.m) * self.least * (y > 0)) for y in total.size]
        return [x + e for x, e in zip(total.value, lost, strict=True)]

    def read(self, s: sp.Symbol, i: int | None, j: int | None) -> arb:
        place = self.place(s, self.axes[s], i, j)
        return self.values[place] if place in self.values else self.state(s, j)[0]

    def scalar(self, e: sp.Expr, i: int | None, j: int | None) -> arb:
        def go(x: sp.Expr) -> arb:
            return self.scalar(x, i, j)

        match e:
            case sp.Symbol():
                return self.read(e, i, j)
            case sp.Rational():
                return self.off(arb(fmpq(int(e.p), int(e.q))))
            case sp.Add():
                terms = [go(a) for a in e.args]
                lost = self.gamma(len(terms)) * _sizes(terms) + len(terms) * self.least
                return sum(terms, arb(0)) + _ball(lost)
            case sp.Mul():
                out = arb(1)
                for a in e.args:
                    out = out * go(a)
                return self.off(out, len(e.args))
            case sp.Pow():
                return self.power(go(e.base), e.exp)
            case sp.log():
                return self.off(go(e.args[0]).log(), _LOG)
            case exp2():
                x = go(e.args[0])
                low = x.lower() < self.lowest
                value = (x * arb(2).log()).exp() * (1 + _ball(self.exp))
                return value + _ball(self.floor) if low else value
            case tanh2():
                return (go(e.args[0]) * arb(2).log() / 2).tanh() + _ball(self.tanh)
            case sp.tanh():
                return go(e.args[0]).tanh() + _ball(self.tanh)
            case step():
                x = go(e.args[0])
                return arb(1) if x > 0 else arb(0) if x <= 0 else arb(0.5, 0.5)
            case sp.Max() | sp.Min():
                first, *rest = (go(a) for a in e.args)
                for x in rest:
                    first = arb.max(first, x) if isinstance(e, sp.Max) else arb.min(first, x)
                return first
        raise ValueError(f"enclosure: no ball for {e}")

    def power(self, x: arb, exponent: sp.Expr) -> arb:
        twice = 2 * exponent
        if not twice.is_Integer:
            raise ValueError(f"enclosure: no ball for a power {exponent}")
        if exponent.is_negative and x == 0:
            return arb(0)  # an empty sum: a mean over nothing is 0
        base = x if exponent.is_Integer else arb.max(x, arb(0)).sqrt()
        count = abs(int(exponent if exponent.is_Integer else twice))
        out = arb(1)
        for _ in range(count):
            out = out * base
        return self.off(1 / out if exponent.is_negative else out, count + _LOG)


def _exact(x: Any) -> arb:
    return x if isinstance(x, arb) else arb(fmpq(*float(x).as_integer_ratio()))


def _sizes(terms: Any) -> arb:
    """The sum of absolute values."""
    return sum((abs(t) for t in terms), arb(0))


def _ball(radius: arb) -> arb:
    """Zero, give or take `radius`."""
    upper = radius.abs_upper()
    return arb(0, upper) if upper.is_finite() else arb("nan")


def _outward(values: Any) -> tuple[np.ndarray, np.ndarray]:
    def number(x: arb) -> tuple[float, float]:
        if not x.is_finite():
            return 0.0, math.inf
        centre = float(x.mid())
        return centre, math.nextafter(float((x - arb(centre)).abs_upper()), math.inf)

    nested = [v if isinstance(v, list) else [v] for v in values]
    pairs = np.array([[number(x) for x in row] for row in nested], dtype=float).reshape(len(nested), -1, 2)
    flat = not values or not isinstance(values[0], list)
    return (pairs[:, 0, 0], pairs[:, 0, 1]) if flat and len(nested) else (pairs[..., 0], pairs[..., 1])


__all__ = ["enclose"]
