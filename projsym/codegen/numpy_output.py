"""What the NumPy printer writes for outputs, and which sums are gathered in the array of their output."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from projsym.codegen.numpy_analysis import composite_divisors, divisors
from projsym.codegen.numpy_infix import ordered, plain
from projsym.codegen.numpy_writer import SLICES, Writer
from projsym.codegen.program import Output, Sum


class Outputs(Writer):
    """guarded: sums of the current loop over queries whose text without zeros is already printed."""

    guarded: set[sp.Symbol]
    axis: str

    def gathering(self, s: Sum) -> Output | None:
        """The output that is a multiple of a vector sum and the only one to read it, if any.

        Its part of the result holds the sum, which so needs no memory of its own.
        """
        readers = [o for o in self.p.statements() if isinstance(o, Output) for _, v in o.terms if v == s.name]
        if len(readers) != 1 or s.vector is None:
            return None
        (o,) = readers
        same = self.vectors[s.vector].feature == o.feature
        return o if same and len(o.terms) == 1 and o.axes == s.axes else None

    def output(self, o: Output) -> None:
        self.axis = o.axes
        at = SLICES[o.axes]
        if len(o.terms) == 1 and o.feature and o.terms[0][1] is not None:
            ((c, vector),) = o.terms
            whole = f"_out_{o.name}[{at}]"
            held = vector in self.sums and self.gathering(self.sums[vector]) is o
            if c != 1:
                factor = self._coefficient(c, o, alone=True)
                if held and self.p.axes_of(c) and o.axes == "i":
                    # An operation that broadcasts takes a buffer, a copy does not.
                    self.put(f"np.copyto(_part_{vector}, {factor})")
                    factor = f"_part_{vector}"
                self.put(f"np.multiply({factor}, {self._vector(vector)}, out={whole})")
            elif not held:
                self.put(f"{whole} = {self._vector(vector)}")
            return
        parts = []
        for c, vector in o.terms:
            if vector is not None and c == 1:
                parts.append(self._vector(vector))
            else:
                text = self._coefficient(c, o, vector is None and len(o.terms) == 1)
                parts.append(text + (f" * {self._vector(vector)}" if vector is not None else ""))
        if o.feature:
            self.put(f"_out_{o.name}[{at}] = {' + '.join(parts)}")
        else:
            self.put(f"if {o.name}:")
            self.put(f"    _out_{o.name}[{at}, None] = {' + '.join(parts)}")

    def _coefficient(self, c: sp.Expr, o: Output, alone: bool = False) -> str:
        """The text of a coefficient, 0 where it divides by a sum that is 0; in parentheses unless `alone`."""
        e = sp.sympify(c)
        sums = {n for n, s in self.sums.items() if s.vector is None}
        zero = divisors(e, sums)
        for x in ordered(zero - self.guarded if o.axes == "i" else zero):
            self.put(f"_safe_{x} = np.where({x} == 0, 1, {x})")
        if o.axes == "i":
            self.guarded |= zero

        def name(x: sp.Symbol) -> str:
            return f"_safe_{x}" if x in zero else self.name(x)

        names = replace(self.names, symbol=name)
        text = plain(e, names) if alone else f"({plain(e, names)})"
        checked = [f"({x} == 0)" for x in ordered(zero)]
        checked += [f"({plain(b, self.names)} == 0)" for b in composite_divisors(e, sums)]
        return f"np.where({' | '.join(checked)}, 0, {text})" if checked else text

    def _vector(self, v: sp.Symbol | str) -> str:
        if isinstance(v, str):
            if v not in self.vectors or self.vectors[v].axes != self.axis:
                raise ValueError(f"{v}: not a vector of axis {self.axis!r}")
            return f"_{v}"
        if v not in self.sums or self.sums[v].vector is None:
            raise ValueError(f"{v}: not a vector sum")
        return str(v)
