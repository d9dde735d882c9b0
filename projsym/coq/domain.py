"""Where a term means in Coq what it means here.

Coq's functions are total: ``/ 0`` and ``ln 0`` are numbers there. A statement about them would say more than
ours, or something else, so they are exported only where they are defined for all values.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from projsym.algebra.scalars import FiniteSum, ScalarElement, Softmax
from projsym.algebra.sets import EmptySet

from .names import NotExported


def require_defined(e: Any) -> None:
    """NotExported if a node divides by what is not visibly positive, or takes a logarithm."""
    match e:
        case sp.log():
            raise NotExported("a logarithm")
        case sp.Pow() if not e.exp.is_Integer:
            raise NotExported(f"the power {e.exp}")
        case sp.Pow() if e.exp < 0 and not positive(e.base):
            raise NotExported("division by what is not visibly positive")


def positive(e: Any) -> bool:
    """Whether the tactic ``positive`` of base.v sees that a scalar is > 0. Index sets have members."""
    match e:
        case sp.exp() | Softmax():
            return True
        case sp.Rational() | sp.Symbol() | ScalarElement():
            return bool(e.is_positive)
        case sp.Add():
            return all(positive(a) for a in e.args if not _empty(a)) and not all(map(_empty, e.args))
        case sp.Mul():
            return all(map(positive, e.args))
        case sp.Pow():
            return bool(e.exp.is_Integer) and positive(e.base)
        case FiniteSum():
            return positive(e.args[0]) and not _empty(e)
    return False


def _empty(e: Any) -> bool:
    return isinstance(e, FiniteSum) and isinstance(e.args[2], EmptySet)
