"""That no weight is negative, and where it is positive: read off, refuted with a witness, or refused."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp
from flint import arb

from projsym.algebra.substitute import substitute
from projsym.algebra.terms import VectorSymbol
from projsym.derivations.notation import k, q
from projsym.proof.certificate import Sign, negative, sign
from projsym.proof.hypotheses import Domain
from projsym.proof.instance import Instance
from projsym.proof.text import text
from projsym.proof.verdict import ProofError

from .form import Form, row_symbol

_POSITIONS = ("query_position", "key_position")
_ONE_KEY = VectorSymbol("k")


@dataclass(frozen=True)
class Positivity:
    """What is known of a weight's sign: positive everywhere (`strict`), or only not negative."""

    weight: str
    strict: bool
    support: str


def positivity(form: Form) -> Positivity:
    """The sign of a form's weight.

    Guarantees: no weight is negative, and none zero if `strict`, for all real arguments and positive ones
    where so declared, as far as `projsym.proof.certificate.sign` reads it off the weight as it is written.
    Raises ProofError with a witness for a weight that is negative somewhere, and for one of which neither is
    found.
    """
    one = _pair(form)
    found = sign(one)
    if found is Sign.POSITIVE:
        return Positivity(text(one), True, "every key has a positive weight")
    if found is Sign.NONNEGATIVE:
        return Positivity(text(one), False, f"the keys with {_support(one)}")
    witness = negative(one, (Domain("positions", "non-negative integers", _positions),), instances=200)
    if witness is not None:
        raise ProofError(f"weight: {text(one)} can be negative: {witness}")
    raise ProofError(
        f"weight: {text(one)} is not visibly non-negative, and no negative value was found; write it as "
        "squares, exponentials, positive parts Max(0, x), or products and sums of such"
    )


def _pair(form: Form) -> sp.Expr:
    """The weight of one query and one key."""
    keys = {b.name: sp.Symbol(b.name, real=True, positive=b.positive or None) for b in form.key_scalars}

    changes: dict[object, object] = {q: q, k: lambda _: _ONE_KEY}
    for b in form.key_scalars:
        changes[b] = lambda _, b=b: keys[b.name]
    for b in form.query_scalars:
        changes[b] = lambda _, b=b: row_symbol(b)
    return substitute(form.weight, changes)


def _support(e: sp.Expr) -> str:
    """Where the factors of a non-negative weight are positive, in words."""
    parts = [f for f in sp.Mul.make_args(e) if sign(f) is not Sign.POSITIVE]
    return " and ".join(f"{text(f)} > 0" for f in parts)


def _positions(instance: Instance) -> None:
    for name in _POSITIONS:
        instance.scalars[name] = lambda: arb(instance.random.randint(0, 9))
