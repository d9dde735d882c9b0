"""Substitution that cannot capture: every binder on the way is renamed afresh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

from .scalars import FiniteSum, ScalarElement, ScalarFamily, Softmax
from .sets import EmptySet, IndexSet
from .terms import LinearMap, Space, VectorElement, VectorFamily, VectorSum, VectorSymbol

Substitution = Mapping[Any, Any]
"""Keys: a SymPy symbol, a VectorSymbol, a VectorFamily or ScalarFamily (value: a function of the index),
an IndexSet (value: another set)."""


def substitute(term: Any, changes: Substitution) -> Any:
    """`term` with every free occurrence of the keys replaced; binders are renamed, so nothing is captured."""
    symbols: dict[sp.Basic, Any] = {}
    families: dict[tuple[type, str], Callable[[sp.Symbol], Any]] = {}
    for key, value in changes.items():
        if isinstance(key, VectorFamily):
            families[VectorElement, key.name] = value
        elif isinstance(key, ScalarFamily):
            families[ScalarElement, key.name] = value
        else:
            symbols[key] = value
    return _walk(term, symbols, families)


_LEAVES = (Space, LinearMap, EmptySet)


def _walk(x: Any, symbols: dict[sp.Basic, Any], families: dict[tuple[type, str], Any]) -> Any:
    if x in symbols:
        return symbols[x]
    if isinstance(x, VectorElement | ScalarElement):
        at = symbols.get(x.index, x.index)
        rule = families.get((type(x), x.family))
        return rule(at) if rule is not None else x.xreplace({x.index: at})
    if not x.args or isinstance(x, (*_LEAVES, VectorSymbol, IndexSet)):
        return x
    if isinstance(x, FiniteSum | VectorSum | Softmax):
        body, old, *rest = x.args
        new = sp.Dummy(old.name, integer=True)
        inside = {k: v for k, v in symbols.items() if k != old} | {old: new}
        return x.func(_walk(body, inside, families), new, *[_walk(r, symbols, families) for r in rest])
    return x.func(*[_walk(a, symbols, families) for a in x.args])
