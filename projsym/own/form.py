"""Reading a weight: its letters, and whether it is one exponential or a plain non-negative function."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import Any

import sympy as sp

from projsym.algebra.scalars import FiniteSum, Inner, ScalarElement, ScalarFamily, Softmax, exp2
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import Vector, VectorAdd, VectorElement, VectorFamily, VectorScale, VectorSymbol
from projsym.codegen.lower import LoweringError
from projsym.derivations.notation import i, j, k, q
from projsym.errors import refused
from projsym.proof.certificate import Sign, sign

POSITION = {i: "query_position", j: "key_position"}
RESERVED = re.compile(
    r"[qkvg]|out|lse|mass|g_lse|g_mass|(q|k|v|g|out)_(q|k|v|out)|key|query|value|saved|g_saved|return_saved|past"
    r"|backend|np|[fws]\d+|D.*|_.*"
)
"""Names that kernels or the functions have for something else."""
_ALLOWED = (
    sp.Rational, sp.Float, sp.Add, sp.Mul, sp.Pow, sp.exp, sp.log, exp2, sp.tanh, sp.Max, sp.Min, sp.Symbol,
    Inner, ScalarElement,
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """What was read.

    term: of q, ``k[j]``, parameters, and families at `i` and `j`: the exponent if `exponential`, else the
    weight itself. weight: the weight with its maxima as they were written, for its sign. positions: which of
    the families are positions.
    """

    term: sp.Expr
    weight: sp.Expr
    exponential: bool
    parameters: tuple[sp.Symbol, ...]
    query_scalars: tuple[ScalarFamily, ...]
    key_scalars: tuple[ScalarFamily, ...]
    values: VectorFamily

    def at(self, term: sp.Expr, query: Any, key: Any, rows: bool = False) -> Any:
        """`term` for a query (a vector and its index) and the index of a key.

        rows: numbers of the query as symbols, as where there is one query only.
        """
        vector, index = query
        changes: dict[Any, Any] = {q: vector, k: lambda _: k[key]}
        for b in self.key_scalars:
            changes[b] = lambda _, b=b: b[key]
        for b in self.query_scalars:
            changes[b] = (lambda _, b=b: row_symbol(b)) if rows else (lambda _, b=b: b[index])
        return substitute(term, changes)

    def row(self, term: sp.Expr, key: Any) -> Any:
        """`term` for the one query of a forward theorem."""
        return self.at(term, (q, None), key, rows=True)


def row_symbol(family: ScalarFamily) -> sp.Symbol:
    """The number of the one query of a forward theorem."""
    return sp.Symbol(family.name, real=True, positive=True if family.positive else None)


def read(what: str, given: Any, values: VectorFamily) -> Form:
    """The form of a weight (`what` is "weight") or of an exponent ("score").

    Raises TypeError for what is no SymPy expression, LoweringError naming the term for what no kernel
    computes.
    """
    if isinstance(given, Vector) or not isinstance(given, sp.Expr | int | float):
        raise TypeError(refused(what, f"{given!r}", "a SymPy expression in q, k[j], i, j and parameters"))
    term = sp.sympify(given)
    for node in _nodes(term):
        _check(what, node)
    if not any(_crossed(x) for x in term.atoms(Inner)):
        raise LoweringError(f"{what}: {term}: no inner product of q and k[j] in it")
    term = term.replace(lambda e: e.is_Float, lambda e: sp.Rational(str(e)))
    names = _Names(what, term)
    term = names.rename(term)
    exponent = term if what == "score" else logarithm(term)
    if exponent is None and term.has(sp.exp, exp2):
        found = next(iter(sorted(term.atoms(sp.exp, exp2), key=sp.default_sort_key)))
        raise LoweringError(
            f"{what}: {found}: allowed is one exponential times positive factors of a query or a key, or a "
            "weight without exponentials (a logistic function is (1 + tanh(x/2))/2)"
        )
    return Form(
        positive_parts(term if exponent is None else exponent),
        sp.exp(term) if what == "score" else term,
        exponent is not None,
        *names.found(),
        values,
    )


def logarithm(weight: sp.Expr) -> sp.Expr | None:
    """The exponent of one exponential times positive factors, None for any other weight."""
    exponent, seen = sp.S.Zero, False
    for f in sp.Mul.make_args(weight):
        base, power = f.as_base_exp()
        if isinstance(f, sp.exp | exp2):
            exponent += f.args[0] * (sp.log(2) if isinstance(f, exp2) else 1)
            seen = seen or f.has(Inner)
        elif f.has(Inner) and not (f.is_Pow and not power.is_Rational and sign(base) is Sign.POSITIVE):
            return None
        elif sign(base) is Sign.POSITIVE:
            exponent += power * sp.log(base)
            seen = seen or f.has(Inner)
        else:
            return None
    return exponent if seen else None


def positive_parts(e: sp.Expr) -> sp.Expr:
    """Maxima and minima of two by positive parts, ``Max(a, b) = b + Max(0, a - b)``, which have
    derivatives."""

    def least(*args: sp.Expr) -> sp.Expr:
        first, *rest = args
        for a in rest:
            first = first - sp.Max(0, first - a)
        return first

    def most(*args: sp.Expr) -> sp.Expr:
        if len(args) == 2 and 0 in args:
            return sp.Max(*args)
        first, *rest = args
        for a in rest:
            first = first + sp.Max(0, a - first)
        return first

    return e.replace(sp.Min, least).replace(sp.Max, most)


def _nodes(e: Any) -> Any:
    """All scalar nodes, those inside inner products too."""
    yield e
    if isinstance(e, ScalarElement | sp.Symbol) or e.is_number:
        return
    for a in e.args:
        yield from _inside(a) if isinstance(e, Inner) else _nodes(a)


def _inside(v: Vector) -> Any:
    match v:
        case VectorAdd():
            for a in v.args:
                yield from _inside(a)
        case VectorScale():
            yield from _nodes(v.args[0])
            yield from _inside(v.args[1])
        case _:
            yield v


def _check(what: str, e: Any) -> None:
    """LoweringError for a node that no weight may have."""
    if isinstance(e, VectorSymbol | VectorElement):
        if e == q or e == k[j]:
            return
        raise LoweringError(f"{what}: the vector {_text(e)}: allowed are q and k[j]")
    if isinstance(e, Vector | FiniteSum | Softmax):
        raise LoweringError(f"{what}: {e}: a weight is a function of one pair, without sums and linear maps")
    if isinstance(e, sp.Symbol) and e.is_integer and e not in (i, j):
        raise LoweringError(f"{what}: the index {e}: allowed are i, the query's, and j, the key's")
    if isinstance(e, ScalarElement) and e.index not in (i, j):
        raise LoweringError(f"{what}: {e.family}[{e.index}]: allowed are the indices i and j")
    if isinstance(e, ScalarElement | sp.Symbol):
        name = e.family if isinstance(e, ScalarElement) else e.name
        if (
            not (name.isidentifier() and name.isascii())
            or keyword.iskeyword(name)
            or RESERVED.fullmatch(name)
        ):
            raise LoweringError(
                f"{what}: the name {name!r}: allowed is an ASCII identifier that is not taken"
            )
    elif not isinstance(e, _ALLOWED) and not e.is_Rational:
        raise LoweringError(
            f"{what}: {e} ({type(e).__name__}): allowed are sums, products, powers, exp, log, tanh, Max, Min"
        )


def _text(v: VectorSymbol | VectorElement) -> str:
    return v.name if isinstance(v, VectorSymbol) else f"{v.family}[{v.index}]"


def _crossed(e: Inner) -> bool:
    """Whether an inner product has both q and ``k[j]`` in it."""
    return bool(e.has(q) and e.has(k[j]))


class _Names:
    """What each letter is called: a family at both indices has two names, positions are families."""

    def __init__(self, what: str, term: sp.Expr) -> None:
        self.what = what
        members = {m for x in _nodes(term) for m in [x] if isinstance(x, ScalarElement)}
        symbols = {x for x in _nodes(term) if isinstance(x, sp.Symbol)}
        at = {s: {m.family for m in members if m.index == s} for s in (i, j)}
        self.table: dict[sp.Expr, sp.Expr] = {}
        self.families: dict[sp.Symbol, dict[str, ScalarFamily]] = {i: {}, j: {}}
        for m in sorted(members, key=str):
            both = m.family in at[i] & at[j]
            name = f"{'query' if m.index == i else 'key'}_{m.family}" if both else m.family
            self.table[m] = self.member(name, m.is_positive, m.index)
        for s in (i, j):
            if s in symbols:
                self.table[s] = self.member(POSITION[s], False, s)
        self.parameters = {}
        for x in sorted(symbols - {i, j}, key=str):
            self.table[x] = self.parameters[x.name] = sp.Symbol(
                x.name, real=True, positive=True if x.is_positive else None
            )
        names = [*self.families[i], *self.families[j], *self.parameters]
        for name in names:
            if names.count(name) > 1:
                raise LoweringError(f"{what}: the name {name!r} stands for two things")
            if name.startswith("d") and name[1:] in {*names, "q", "k", "v"}:
                raise LoweringError(f"{what}: the name {name!r} is that of the gradient of {name[1:]!r}")

    def member(self, name: str, positive: Any, at: sp.Symbol) -> sp.Expr:
        family = self.families[at].setdefault(name, ScalarFamily(name, bool(positive)))
        return family[at]

    def rename(self, term: sp.Expr) -> sp.Expr:
        # Not xreplace alone: the index inside a member is the same symbol as a position.
        marks = {
            m: sp.Dummy(str(n), positive=True if m.is_positive else None, real=True)
            for n, m in enumerate(self.table)
            if isinstance(m, ScalarElement)
        }
        vectors = {k[j]: VectorElement(k[j].args[0], k[j].space, sp.Dummy("at", integer=True))}
        plain = term.xreplace(marks | vectors)
        plain = plain.xreplace({s: t for s, t in self.table.items() if s not in marks})
        return plain.xreplace(
            {d: self.table[m] for m, d in marks.items()} | {v: x for x, v in vectors.items()}
        )

    def found(self) -> tuple[Any, Any, Any]:
        return (
            tuple(self.parameters.values()),
            tuple(self.families[i].values()),
            tuple(self.families[j].values()),
        )
