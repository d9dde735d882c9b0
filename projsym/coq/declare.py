"""What a theorem is about, declared: spaces, maps, sets, vectors, numbers, and its hypotheses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sympy as sp

from projsym.algebra.scalars import FiniteSum, ScalarElement, Softmax
from projsym.algebra.sets import IndexSet, Singleton
from projsym.algebra.terms import LinearMap, VectorElement, VectorSum, VectorSymbol, ZeroVector
from projsym.proof.hypotheses import Defined, EqualNorms, Hypothesis

from .domain import require_defined
from .names import TEST, NotExported, identifier, require_distinct
from .printer import TermPrinter, index_set


@dataclass
class Names:
    """The letters of terms by kind; each maps a name to what its declaration needs."""

    spaces: set[str] = field(default_factory=set)
    maps: dict[str, tuple[str, str]] = field(default_factory=dict)
    sets: dict[str, sp.Basic] = field(default_factory=dict)
    vectors: dict[str, str] = field(default_factory=dict)
    families: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, bool] = field(default_factory=dict)
    members: dict[str, bool] = field(default_factory=dict)
    indices: dict[sp.Symbol, str] = field(default_factory=dict)

    def visit(self, e: Any, bound: frozenset[sp.Symbol] = frozenset()) -> None:
        """Collect the letters of a term; NotExported where it may be undefined."""
        require_defined(e)
        match e:
            case VectorSymbol():
                _declare(self.vectors, e.name, e.space.name)
                self.spaces.add(e.space.name)
            case ZeroVector():
                self.spaces.add(e.space.name)
            case VectorElement():
                _declare(self.families, e.family, e.space.name)
                self.spaces.add(e.space.name)
                self._index(e.index, bound)
            case ScalarElement():
                _declare(self.members, e.family, bool(e.is_positive))
                self._index(e.index, bound)
            case LinearMap():
                for letter in e.letters:
                    _declare(self.maps, letter.name, (letter.source, letter.target))
                self.spaces |= {e.source.name, e.target.name}
            case IndexSet():
                self.sets[e.name] = e
            case Singleton():
                raise NotExported(f"the set {{{e.index}}}")
            case FiniteSum() | VectorSum():
                self.visit(e.args[0], bound | {e.args[1]})
                self.visit(e.args[2])
            case Softmax():
                self.visit(e.args[0], bound | {e.args[1]})
                self.visit(e.args[2])
                self._index(e.args[3], bound)
            case sp.Symbol():
                if e not in bound:
                    _named(e)
                    _declare(self.scalars, e.name, bool(e.is_positive))
            case _:
                for a in e.args:
                    self.visit(a, bound)

    def _index(self, i: sp.Symbol, bound: frozenset[sp.Symbol]) -> None:
        if i not in bound:
            _named(i)
            self.indices[i] = identifier(i.name)

    def declarations(self) -> Iterator[str]:
        """Variables and the hypotheses that are in their types: positive numbers, sets with members."""
        letters = [self.spaces, self.maps, self.vectors, self.families, self.scalars, self.members]
        require_distinct([TEST, *(n for kind in letters for n in kind), *(i.name for i in self.indices)])
        if self.spaces:
            yield f"Context {{{' '.join(sorted(map(identifier, self.spaces)))} : InnerSpace}}."
        yield "Context {Index : Type}."
        for name, s in sorted(self.sets.items()):
            yield f"Variable {index_set(s)} : list Index."
            yield f"Hypothesis some_{identifier(name)} : {index_set(s)} <> nil."
        for n, (a, b) in sorted(self.maps.items()):
            yield f"Variable {identifier(n)} : LinearMap {identifier(a)} {identifier(b)}."
        for n, space in sorted(self.vectors.items()):
            yield f"Variable {identifier(n)} : {identifier(space)}."
        for n, space in sorted(self.families.items()):
            yield f"Variable {identifier(n)} : Index -> {identifier(space)}."
        for n, positive in sorted(self.scalars.items()):
            yield f"Variable {identifier(n)} : R."
            if positive:
                yield f"Hypothesis positive_{identifier(n)} : 0 < {identifier(n)}."
        for n, positive in sorted(self.members.items()):
            yield f"Variable {identifier(n)} : Index -> R."
            if positive:
                yield f"Hypothesis positive_{identifier(n)} : forall l0, 0 < {identifier(n)} l0."


Value = TypeVar("Value")


def _declare(known: dict[str, Value], name: str, value: Value) -> None:
    """Letters are told apart by name here, so one name must not stand for two."""
    if known.setdefault(name, value) != value:
        raise NotExported(f"the name {name!r} has two declarations")


def _named(s: sp.Symbol) -> None:
    if isinstance(s, sp.Dummy):
        raise NotExported(f"the free dummy symbol {s}")


@dataclass(frozen=True)
class Assumed:
    """A hypothesis in Coq: its name there and its text; whether it equates norms or defines a letter."""

    name: str
    text: str
    norms: bool


def assume(h: Hypothesis, names: Names) -> Assumed:
    """A hypothesis of a theorem; NotExported if its kind has no Coq here."""
    at = sp.Dummy("l", integer=True)
    printer = TermPrinter({at: "l0"})
    name = "H_" + identifier(h.name.replace(" ", "_"))
    match h:
        case EqualNorms():
            names.visit(h.radius)
            key = printer.vector(h.family[at])
            return Assumed(name, f"forall l0, inner {key} {key} = {printer.scalar(h.radius**2)}", True)
        case Defined() if h.assumed and hasattr(h.letter, "__getitem__") and callable(h.term):
            left, right = h.letter[at], h.term(at)
            for side in (left, right):
                names.visit(side, frozenset([at]))
            if isinstance(left, ScalarElement) or right.has(VectorSum, Softmax, FiniteSum):
                raise NotExported(f"the hypothesis {h.name!r}")
            return Assumed(name, f"forall l0, {printer.vector(left)} = {printer.vector(right)}", False)
    raise NotExported(f"the hypothesis {h.name!r}")
