"""Translation validation: a scheduled program is read back as a term and proved equal to its specification.

The program is executed symbolically, for one query and abstract sets of keys. The set of all keys is that of
the keys that the query sees: where a loop is ranged it runs over these [I.10m]. A loop over key blocks is
handled by its invariant: after the keys of a set I, every sum is ``Σ_{j∈I} weight_j * vector_j`` with the
weight as the loop computes it at the running maximum of that moment. The engine decides obligations for every
loop and every output, whatever passes produced the program:

* *entry*: on the empty set the invariant is the initial state;
* *step*: one more block B takes the state of I to the state of I ⊔ B, for any old and new maximum;
* *merge*, in a loop over parts: the state of I and that of a part P, from the empty one on, give that of
  I ⊔ P, for any maxima of the two;
* *output*: from the state of all keys, for any maximum, each output is the specified term;
* *load*, where vectors are stored in another type than that of arithmetic (then all of them are): no number
  of that type has more digits or a wider range, so that what a load gives is the number that was stored. A
  store rounds, and what the output's equation says holds before that.

What it guarantees: the algebra of the tree that the printers print, for every size. What it cannot see: a
printer that prints something else than the tree, rounding (also that of `narrowed`), and the compiler; for
those the kernels are run against ball arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, inner, total
from projsym.algebra.sets import EMPTY, KEYS, DisjointUnion, IndexSet
from projsym.algebra.terms import Space, Vector, VectorFamily, VectorSymbol, ZeroVector
from projsym.derivations.notation import unit
from projsym.proof.prove import decide
from projsym.proof.verdict import ProofError, Proved, Verdict

from .pass_stored import FORMATS
from .program import Add, Dot, Input, Let, Loop, Node, Output, Program, Rescale, RunningMax, Sum, whole

Value = Callable[[Any], Any]
"""The value of a symbol as a function of the key index (constant in it for rows and parameters)."""

SEEN, BLOCK, PART = IndexSet("seen"), IndexSet("block"), IndexSet("part")


@dataclass(frozen=True)
class Obligation:
    """One equation that the engine has to decide, and its verdict."""

    name: str
    left: Any
    right: Any
    verdict: Verdict


@dataclass
class _State:
    """What the symbols stand for at a point of the execution."""

    values: dict[sp.Symbol, Value] = field(default_factory=dict)
    sums: dict[sp.Symbol, Any] = field(default_factory=dict)


class Validator:
    """Executes one program symbolically against the terms that its outputs must equal."""

    def __init__(self, program: Program, outputs: Mapping[str, Any]) -> None:
        self.program, self.outputs = program, outputs
        self.vectors: dict[str, VectorSymbol | VectorFamily] = {}
        self.state = _State()
        self.summands: dict[sp.Symbol, Callable[[Any], Any]] = {}
        self.obligations: list[Obligation] = []
        spaces = _spaces(outputs)
        declared = _scalars(outputs)
        for x in program.inputs:
            self.declare(x, spaces, declared)

    def stores(self) -> None:
        """All vectors, given or made, are stored in one type, and loads of it are exact."""
        made = [s for s in self.program.statements() if isinstance(s, Output)]
        arrays: tuple[Input | Output, ...] = (*self.program.inputs, *made)
        found = {x.storage for x in arrays if x.feature}
        scalars = {x.storage for x in arrays if not x.feature}
        if len(found) > 1 or scalars - {""}:
            raise ProofError(f"{self.program.name}: arrays stored as {sorted(found)}, {sorted(scalars)}")
        for storage in found - {""}:
            self.load(storage)

    def load(self, storage: str) -> None:
        """What is stored is a number of the type of arithmetic: as digits, at the top and at the bottom."""
        of, to = (FORMATS.get(x) for x in (storage, self.program.arithmetic))
        if of is None or to is None:
            raise ProofError(f"{self.program.name}: {storage} read as {self.program.arithmetic!r}")
        least = (of.precision, to.precision), (of.largest, to.largest), (-of.least, -to.least)
        for what, (a, b) in zip(("digits", "largest", "least"), least, strict=True):
            self.oblige(f"{storage}: load, {what}", sp.Integer(min(a, b)), sp.Integer(a))

    def declare(self, x: Input, spaces: dict[str, Space], declared: dict[str, sp.Symbol]) -> None:
        if x.feature:
            kind = VectorSymbol if x.axes == "i" else VectorFamily
            self.vectors[x.name] = kind(x.name, spaces[x.name])
        elif x.axes == "ij":
            row = VectorSymbol(x.name, spaces[x.name])
            self.state.values[sp.Symbol(x.name, real=True)] = lambda j: inner(
                row, unit[_key(self.program, x.name, j)]
            )
        elif x.axes == "j":
            family = ScalarFamily(x.name)
            self.state.values[sp.Symbol(x.name, real=True)] = lambda j: family[_key(self.program, x.name, j)]
        else:
            s = declared.get(x.name, sp.Symbol(x.name, real=True))
            self.state.values[sp.Symbol(x.name, real=True)] = lambda j: s

    def run(self) -> list[Obligation]:
        """All obligations, in program order; see the module for what they mean."""
        self.stores()
        self.execute(self.program.body, axes="")
        missing = self.outputs.keys() - {s.name for s in self.program.statements() if isinstance(s, Output)}
        if missing:
            raise ProofError(f"{self.program.name}: no output {sorted(missing)}")
        return self.obligations

    def execute(self, body: tuple[Node, ...], axes: str) -> None:
        for node in body:
            match node:
                case Loop("j", inside) if any(isinstance(n, Sum) for n in inside):
                    self.key_loop(inside, KEYS)
                case Loop("j", (Loop("j", inside), *merge)) if any(isinstance(n, Sum) for n in inside):
                    self.part_loop(inside, merge)
                case Loop(axis, inside, ranged=ranged):
                    if ranged:
                        raise ProofError(
                            f"{self.program.name}: a ranged loop over {axis} without sums over keys"
                        )
                    if axis in axes:
                        raise ProofError(f"{self.program.name}: a loop over {axis} inside one over {axis}")
                    self.execute(inside, axes + axis)
                case Let() | Dot():
                    self.define(node)
                case Output():
                    self.output(node)
                case _:
                    raise ProofError(f"{self.program.name}: {type(node).__name__} outside a loop over keys")

    def evaluate(self, e: sp.Expr, j: Any) -> Any:
        """An expression of the program as a term, at key `j`."""
        table = {s: self.state.values[s](j) for s in e.free_symbols if s in self.state.values}
        table |= {s: self.state.sums[s] for s in e.free_symbols if s in self.state.sums}
        unknown = sorted(str(s) for s in e.free_symbols if s not in table)
        if unknown:
            raise ProofError(f"{self.program.name}: {', '.join(unknown)} used before it is computed")
        return e.xreplace(table)

    def vector(self, name: str, j: Any) -> Vector:
        v = self.vectors[name]
        return v[_key(self.program, name, j)] if isinstance(v, VectorFamily) else v

    def define(self, node: Let | Dot) -> None:
        values, sums = dict(self.state.values), dict(self.state.sums)
        here = Validator.__new__(Validator)
        here.program, here.vectors, here.state = self.program, self.vectors, _State(values, sums)
        if isinstance(node, Let):
            value = whole(node.value)
            self.state.values[node.name] = lambda j: here.evaluate(value, j)
        else:
            self.state.values[node.name] = lambda j: (
                here.evaluate(node.scale, j) * inner(here.vector(node.left, j), here.vector(node.right, j))
            )

    # the loop over key blocks

    def key_loop(self, body: tuple[Node, ...], keys: IndexSet) -> None:
        maxima = [n for n in body if isinstance(n, RunningMax)]
        tops = {
            n.name: (sp.Symbol(f"{n.name}_before", real=True), sp.Symbol(f"{n.name}_after", real=True))
            for n in maxima
        }
        for name, (before, _) in tops.items():
            self.state.values[name] = _constant(before)
        sums = [n for n in body if isinstance(n, Sum)]
        scaled: dict[sp.Symbol, Any] = {n.name: sp.S.One for n in sums}
        added: dict[sp.Symbol, Callable[[Any], Any]] = {}
        for node in body:
            match node:
                case Let() | Dot():
                    self.define(node)
                case RunningMax(name, old, _):
                    before, after = tops[name]
                    self.state.values[old] = _constant(before)
                    self.state.values[name] = _constant(after)
                case Rescale(names, factor):
                    for s in names:
                        scaled[s] = scaled[s] * self.evaluate(factor, None)
                        if s in added:
                            raise ProofError(f"{self.program.name}: {s} is rescaled after it was added to")
                case Sum(name, weight, vector):
                    if name in added:
                        raise ProofError(f"{self.program.name}: {name} is added to twice in one block")
                    added[name] = self.summand(weight, vector)
                case _:
                    raise ProofError(f"{self.program.name}: {type(node).__name__} in a loop over keys")
        for n in sums:
            self.invariant(n, added[n.name], scaled[n.name], tops, keys)
        for name, (_, after) in tops.items():
            self.state.values[name] = _constant(after)

    def summand(self, weight: sp.Symbol, vector: str | None) -> Callable[[Any], Any]:
        w = self.state.values[weight]
        return w if vector is None else lambda j: w(j) * self.vector(vector, j)

    def invariant(
        self,
        n: Sum,
        summand: Callable[[Any], Any],
        factor: Any,
        tops: dict[sp.Symbol, tuple[Any, Any]],
        keys: IndexSet,
    ) -> None:
        new = {after: before for before, after in tops.values()}

        def over(s: Any, *, old: bool = False) -> Any:
            t = total(summand, s)
            return t.xreplace(new) if old else t

        zero = ZeroVector(self.vectors[n.vector].space) if n.vector else sp.S.Zero
        self.oblige(f"{n.name}: entry", over(EMPTY), zero)
        carried = factor * over(SEEN, old=True)
        self.oblige(f"{n.name}: step", carried + over(BLOCK), over(DisjointUnion(SEEN, BLOCK)))
        self.state.sums[n.name] = over(keys)
        self.summands[n.name] = summand

    # the loop over parts of the keys

    def part_loop(self, body: tuple[Node, ...], merge: list[Node]) -> None:
        self.key_loop(body, PART)
        inner = {n.name for n in body if isinstance(n, Sum)}
        vectors = {n.name: n.vector for n in body if isinstance(n, Sum)}
        highest = {n.name: self.state.values[n.name](None) for n in body if isinstance(n, RunningMax)}
        tops: dict[Any, tuple[Any, Any]] = {}
        scaled: dict[sp.Symbol, Any] = {}
        merged: dict[sp.Symbol, sp.Symbol] = {}
        steps: list[tuple[sp.Symbol, Any]] = []
        for node in merge:
            match node:
                case RunningMax(name, old, of) if of in highest:
                    before, after = (sp.Symbol(f"{name}_{x}", real=True) for x in ("before", "after"))
                    tops[highest[of]] = before, after
                    self.state.values[old], self.state.values[name] = _constant(before), _constant(after)
                case Let():
                    self.define(node)
                case Rescale(names, factor):
                    for s in names:
                        scaled[s] = scaled.get(s, sp.S.One) * self.evaluate(factor, None)
                        if s in merged:
                            raise ProofError(f"{self.program.name}: {s} is rescaled after it was added to")
                case Add(name, factor, state) if state in inner and name not in merged:
                    merged[name] = state
                    steps.append((name, self.evaluate(factor, None) * self.state.sums[state]))
                case _:
                    raise ProofError(f"{self.program.name}: {type(node).__name__} in a loop over parts")
        for s in scaled.keys() - merged.keys():
            raise ProofError(f"{self.program.name}: {s} is rescaled and never added to")
        old, new = ({top: x[n] for top, x in tops.items()} for n in (0, 1))
        for name, gained in steps:
            summand, vector = self.summands[merged[name]], vectors[merged[name]]
            zero = ZeroVector(self.vectors[vector].space) if vector else sp.S.Zero
            self.oblige(f"{name}: entry", total(summand, EMPTY).xreplace(old), zero)
            carried = scaled.get(name, sp.S.One) * total(summand, SEEN).xreplace(old)
            whole = total(summand, DisjointUnion(SEEN, PART)).xreplace(new)
            self.oblige(f"{name}: merge", carried + gained, whole)
            self.state.sums[name] = total(summand, KEYS).xreplace(new)
        # The states of a part mean nothing after the last one.
        for s in inner:
            del self.state.sums[s]
        for s in highest:
            del self.state.values[s]

    def output(self, node: Output) -> None:
        result: Any = None
        for coefficient, target in node.terms:
            c = self.evaluate(sp.sympify(coefficient), None)
            if target is None:
                term = c
            elif isinstance(target, str):
                term = c * self.vector(target, None)
            else:
                term = c * self.state.sums[target]
            result = term if result is None else result + term
        if node.name not in self.outputs:
            raise ProofError(f"{self.program.name}: output {node.name!r} is not specified")
        self.oblige(f"{node.name}: output", result, self.outputs[node.name])

    def oblige(self, name: str, left: Any, right: Any) -> None:
        if isinstance(left, Vector) != isinstance(right, Vector):
            raise ProofError(f"{self.program.name}: {name}: a scalar where a vector is due, or the reverse")
        self.obligations.append(Obligation(name, left, right, decide(left, right)))


def validate(program: Program, outputs: Mapping[str, Any], prefix: str = "") -> list[Obligation]:
    """The obligations of a program against the terms it must compute, all proved; `prefix` of their names.

    Raises ProofError that names the first obligation that is refuted (with its witness) or undecided, or the
    statement that makes no sense.
    """
    return require_proved(program, Validator(program, outputs).run(), prefix)


def require_proved(program: Program, obligations: Iterable[Obligation], prefix: str = "") -> list[Obligation]:
    """The obligations, `prefix` before their names; ProofError that names the first that is not proved."""
    obligations = [replace(o, name=prefix + o.name) for o in obligations]
    for o in obligations:
        if not isinstance(o.verdict, Proved):
            raise ProofError(f"{program.name}: {o.name}: {o.verdict}")
    return obligations


def _constant(value: Any) -> Value:
    return lambda j: value


def _key(program: Program, name: str, j: Any) -> Any:
    if j is None:
        raise ProofError(f"{program.name}: {name} differs from key to key and is used once per query")
    return j


def _spaces(outputs: Mapping[str, Any]) -> dict[str, Space]:
    found: dict[str, Space] = {}
    for term in outputs.values():
        for x in sp.preorder_traversal(term):
            if isinstance(x, Vector) and hasattr(x, "family"):
                found[x.family] = x.space
            elif isinstance(x, VectorSymbol):
                found[x.name] = x.space
    return found


def _scalars(outputs: Mapping[str, Any]) -> dict[str, sp.Symbol]:
    return {s.name: s for term in outputs.values() for s in term.free_symbols if not s.is_integer}
