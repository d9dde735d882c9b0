"""The partial derivatives of a weight or its exponent, by SymPy on scalar leaves; a theorem proves them
after."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sympy as sp

from projsym.algebra.scalars import Inner, ScalarElement, inner, norm2, step
from projsym.algebra.terms import Vector, VectorAdd, VectorScale, VectorSymbol, ZeroVector
from projsym.derivations.backward import Scores, queries
from projsym.derivations.notation import i, j, k

from .form import Form

_X, _A, _B = sp.symbols("x a b", real=True, cls=sp.Dummy)
"""⟨q, k⟩, ‖q‖² and ‖k‖²."""


def scalarised(term: sp.Expr) -> sp.Expr:
    """A term as a function of ⟨q, k⟩, ‖q‖² and ‖k‖² alone."""

    def expanded(left: Vector, right: Vector) -> sp.Expr:
        (a, b), (c, d) = _coordinates(left), _coordinates(right)
        return sp.expand(a * c * _A + (a * d + b * c) * _X + b * d * _B)

    return term.replace(Inner, expanded)


def _coordinates(v: Vector) -> tuple[sp.Expr, sp.Expr]:
    """What a combination of q and k has of each."""
    match v:
        case VectorAdd():
            parts = [_coordinates(a) for a in v.args]
            return sp.Add(*[a for a, _ in parts]), sp.Add(*[b for _, b in parts])
        case VectorScale():
            a, b = _coordinates(v.args[1])
            return v.args[0] * a, v.args[0] * b
        case ZeroVector():
            return sp.S.Zero, sp.S.Zero
    return (sp.S.One, sp.S.Zero) if isinstance(v, VectorSymbol) else (sp.S.Zero, sp.S.One)


def slopes(form: Form, fixed: Collection[str]) -> Scores:
    """The form as `Scores`: the derivative of `form.term` by every argument but positions and those in
    `fixed`."""
    members = sorted(form.term.atoms(ScalarElement), key=str)
    letters = {m: sp.Dummy(m.family, real=True, positive=True if m.is_positive else None) for m in members}
    f = scalarised(form.term.xreplace(letters))

    def by(x: sp.Symbol) -> Callable[[Any, Any], Any] | None:
        slope = sp.diff(f, x).replace(sp.Heaviside, lambda y, *_: step(y))
        return None if slope == 0 else lambda at, key: back(slope, at, key)

    def back(e: sp.Expr, at: Any, key: Any) -> Any:
        e = e.xreplace({d: m for m, d in letters.items()})
        e = form.at(e, (queries[at], at), key)
        table = {_X: inner(queries[at], k[key]), _A: norm2(queries[at]), _B: norm2(k[key])}
        return e.xreplace(table)

    across, of_query, of_key = by(_X), by(_A), by(_B)

    def moved(
        first: Any, second: Any, own: Callable[[Any], Vector], other: Callable[[Any], Vector], swapped: bool
    ) -> Callable[[Any, Any], Vector]:
        def slope(at: Any, key: Any) -> Vector:
            here, there = (key, at) if swapped else (at, key)
            out: Vector = ZeroVector(k.space)
            if first is not None:
                out = first(at, key) * other(there)
            if second is not None:
                out = out + 2 * second(at, key) * own(here)
            return out

        return slope

    def kept(name: str) -> bool:
        return name not in fixed and name not in ("query_position", "key_position")

    scalars = {
        b.name: by(letters[b[s]])
        for s, bs in ((i, form.query_scalars), (j, form.key_scalars))
        for b in bs
        if kept(b.name)
    }
    return Scores(
        lambda at, key: form.at(form.term, (queries[at], at), key),
        moved(across, of_query, lambda n: queries[n], lambda n: k[n], False),
        moved(across, of_key, lambda n: k[n], lambda n: queries[n], True),
        {p: s for p in form.parameters if kept(p.name) and (s := by(p)) is not None},
        {b: s for b in form.key_scalars if (s := scalars.get(b.name)) is not None},
        {b: s for b in form.query_scalars if (s := scalars.get(b.name)) is not None},
    )
