"""Checking an equation on random instances, and searching a small one that refutes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sympy as sp
from flint import arb, ctx

from projsym.algebra.scalars import Softmax
from projsym.algebra.sets import KEYS, IndexSet

from .evaluate import Evaluator, Numbered
from .hypotheses import Defined, Hypothesis
from .instance import GENERIC, SMALL, Instance, Range, show_value
from .verdict import Checked, Refuted, Unknown, Witness

PRECISION = 256
"""Bits of the balls."""


def check(
    left: Any, right: Any, given: Sequence[Hypothesis] = (), instances: int = 5, seed: int = 0
) -> Checked | Refuted | Unknown:
    """Evaluate both sides at random rational instances that satisfy the hypotheses.

    Guarantees: ``Refuted`` is rigorous (disjoint balls). ``Checked`` says that the balls overlapped at every
    instance, with the largest radius seen; it says nothing about other inputs and cannot see a difference
    smaller than that radius. ``Unknown``: balls overlap but are too wide to mean anything.
    """
    left, right = unfold(left, given), unfold(right, given)
    worst = 0.0
    for n in range(instances):
        found, radius = compare(left, right, given, seed + n, GENERIC)
        if found is not None:
            return Refuted(found)
        if not radius < 1e-30:
            return Unknown(f"ball radius {radius:.1e} at instance {seed + n}")
        worst = max(worst, radius)
    return Checked(instances, worst)


def refute(left: Any, right: Any, given: Sequence[Hypothesis] = (), tries: int = 60) -> Witness | None:
    """A witness against ``left = right``, the first found from small integers upwards; None if none is."""
    for span in (*SMALL, GENERIC):
        for seed in range(tries):
            try:
                found, _ = compare(left, right, given, seed, span)
            except ZeroDivisionError:
                continue
            if found is not None:
                return found
    return None


def compare(
    left: Any, right: Any, given: Sequence[Hypothesis], seed: int, span: Range
) -> tuple[Witness | None, float]:
    """Both sides at one instance: a witness if their balls are disjoint, and the largest radius."""
    before = ctx.prec
    ctx.prec = PRECISION
    try:
        instance = Instance(seed, span)
        for h in given:
            h.impose(instance)
        return differ(left, right, given, instance)
    finally:
        ctx.prec = before


def differ(
    left: Any, right: Any, given: Sequence[Hypothesis], instance: Instance
) -> tuple[Witness | None, float]:
    """Both sides at a given instance."""
    a, b, free, numbered = _unfolded(left, right, tuple(given))
    evaluate = Evaluator(instance, free, numbered)
    u, v = evaluate(a), evaluate(b)
    pairs = list(zip(u, v, strict=True))
    if all(x.is_finite() and y.is_finite() for x, y in pairs):
        if any(not x.overlaps(y) for x, y in pairs):
            return Witness(instance.described(), _show(u), _show(v)), 0.0
        return None, max(float(max(x.rad(), y.rad())) for x, y in pairs)
    return None, float("nan")


@lru_cache(maxsize=64)
def _unfolded(
    left: Any, right: Any, given: tuple[Hypothesis, ...]
) -> tuple[Any, Any, dict[sp.Symbol, str], Numbered]:
    """Both sides unfolded, where their free indices belong, and numbers: the same at every instance."""
    a, b = unfold(left, given), unfold(right, given)
    return a, b, free_indices([a, b]), Numbered()


def unfold(term: Any, given: Iterable[Hypothesis]) -> Any:
    """A term with all definitions among the hypotheses replaced by what they stand for."""
    return _unfold(term, tuple(h for h in given if isinstance(h, Defined)))


@lru_cache(maxsize=64)
def _unfold(term: Any, given: tuple[Defined, ...]) -> Any:
    for _ in range(3):
        for h in given:
            term = h.rewrite(term)
    return term


def free_indices(terms: Sequence[Any]) -> dict[sp.Symbol, str]:
    """The set that each free index belongs to: that of the softmax it is used at, else the first set."""
    integers = {s for t in terms for s in t.free_symbols if s.is_integer and not isinstance(s, sp.Dummy)}
    sets = sorted({s.name for t in terms for s in _sets(t)})
    where = {}
    for t in terms:
        for node in sp.preorder_traversal(t):
            if isinstance(node, Softmax) and node.args[3] in integers:
                inside = [s.name for s in _sets(node.args[2])]
                if inside:
                    where[node.args[3]] = inside[0]
    default = sets[0] if sets else KEYS.name
    return {s: where.get(s, default) for s in integers}


def _sets(term: Any) -> list[IndexSet]:
    return [x for x in sp.preorder_traversal(term) if isinstance(x, IndexSet)]


def _show(values: list[arb]) -> str:
    return show_value(values if len(values) > 1 else values[0])
