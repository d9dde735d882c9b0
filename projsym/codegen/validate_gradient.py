"""Translation validation of programs with sums over keys *and* over queries: the backward kernels.

As in `projsym.codegen.validate`, but a symbol stands for a function of a query and a key, and there are two
kinds of state: a query's, which the loop over keys fills, and a key's, which lasts through the loop over
queries. Both are filled block by block from weights that depend on no state, so the invariant is the sum over
what was seen:

* *entry*: on the empty set it is the initial state;
* *step*: one more block takes the state of the seen to that of the seen and the block;
* *output*: from the state of all keys (or queries) each output is the specified gradient, for any query
  (or key).

In a ranged loop both sums run over the pairs that are seen [I.10b]; the sets of the theorem are any.
Guarantees and blind spots are those of `projsym.codegen.validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

from projsym.algebra.scalars import ScalarFamily, inner, total
from projsym.algebra.sets import EMPTY, KEYS, DisjointUnion
from projsym.algebra.terms import Vector, VectorFamily, ZeroVector
from projsym.derivations.backward import QUERIES
from projsym.derivations.notation import unit
from projsym.proof.prove import decide
from projsym.proof.verdict import ProofError

from .lower_gradient import INDEX, Gradient
from .program import Dot, Let, Loop, Node, Output, Program, Sum, symbol
from .validate import BLOCK, SEEN, Obligation, _scalars, _spaces, require_proved

Value = Callable[[Any, Any], Any]
"""A symbol's value at a query and a key; either is None where no loop over that axis is open."""
_SETS = {"i": QUERIES, "j": KEYS}


class GradientValidator:
    """Executes one program symbolically against the gradients that its outputs must equal."""

    def __init__(self, program: Program, outputs: Mapping[str, Gradient]) -> None:
        self.program, self.outputs = program, outputs
        terms = {name: g.term for name, g in outputs.items()}
        spaces, parameters = _spaces(terms), _scalars(terms)
        self.vectors = {
            x.name: (x.axes, VectorFamily(x.name, spaces[x.name])) for x in program.inputs if x.feature
        }
        self.values: dict[sp.Symbol, Value] = {}
        self.states: dict[sp.Symbol, Callable[[Any], Any]] = {}
        self.state_axes: dict[sp.Symbol, str] = {}
        self.obligations: list[Obligation] = []
        for x in program.inputs:
            if x.axes == "ij":
                rows = VectorFamily(x.name, spaces[x.name])
                self.values[symbol(x.name)] = self.entry(rows, x.name)
            elif x.axes and not x.feature:
                family = ScalarFamily(x.name)
                self.values[symbol(x.name)] = self.member(family, x.axes, x.name)
            elif not x.axes:
                self.values[symbol(x.name)] = self.constant(parameters.get(x.name, symbol(x.name)))

    def fail(self, message: str) -> ProofError:
        return ProofError(f"{self.program.name}: {message}")

    def at(self, axes: str, name: str, i: Any, j: Any) -> Any:
        """The index that a letter of that axis is taken at."""
        index = i if axes == "i" else j
        if index is None:
            what = {"i": "query", "j": "key"}[axes]
            raise self.fail(f"{name} differs from {what} to {what} and is used outside a loop over them")
        return index

    def member(self, family: ScalarFamily, axes: str, name: str) -> Value:
        return lambda i, j: family[self.at(axes, name, i, j)]

    def entry(self, rows: VectorFamily, name: str) -> Value:
        """A number for each pair, as the coordinate of a query's row at a key."""
        return lambda i, j: inner(rows[self.at("i", name, i, j)], unit[self.at("j", name, i, j)])

    def constant(self, letter: sp.Symbol) -> Value:
        return lambda i, j: letter

    def vector(self, name: str, i: Any, j: Any) -> Vector:
        axes, family = self.vectors[name]
        return family[self.at(axes, name, i, j)]

    def run(self) -> list[Obligation]:
        """All obligations, in program order."""
        self.execute(self.program.body, "")
        missing = self.outputs.keys() - {s.name for s in self.program.statements() if isinstance(s, Output)}
        if missing:
            raise self.fail(f"no output {sorted(missing)}")
        return self.obligations

    def execute(self, body: tuple[Node, ...], open_axes: str) -> None:
        for node in body:
            match node:
                case Loop(axis, inside, ranged=ranged):
                    if ranged and (axis != "j" or not any(isinstance(n, Sum) for n in inside)):
                        raise self.fail(f"a ranged loop over {axis} without sums over pairs")
                    if axis in open_axes:
                        raise self.fail(f"a loop over {axis} inside one over {axis}")
                    self.execute(inside, open_axes + axis)
                    self.finish(inside, axis)
                case Let() | Dot():
                    self.define(node)
                case Sum():
                    self.accumulate(node, open_axes)
                case Output():
                    self.output(node, open_axes)
                case _:
                    raise self.fail(f"{type(node).__name__} where sums over queries leave no place for it")

    def finish(self, inside: tuple[Node, ...], axis: str) -> None:
        """States that are whole once a loop has run: sums over its axis; those of queries end with them."""
        done = [s for s in Program("", (), inside).statements() if isinstance(s, Sum) and s.over == axis]
        if axis == "i":
            self.states = {s: f for s, f in self.states.items() if self.state_axes[s] != "i"}
        for s in done:
            self.state_axes[s.name] = s.axes
            self.states[s.name] = self.whole(s)

    def whole(self, s: Sum) -> Callable[[Any], Any]:
        return lambda at: self.summed(s, at, _SETS[s.over])

    def evaluate(self, e: sp.Expr, i: Any, j: Any) -> Any:
        """An expression of the program as a term, at a query and a key."""
        table: dict[sp.Basic, Any] = {}
        for s in e.free_symbols:
            if s in self.values:
                table[s] = self.values[s](i, j)
            elif s in self.states:
                table[s] = self.states[s](self.at(self.state_axes[s], str(s), i, j))
            else:
                raise self.fail(f"{s} used before it is computed")
        return e.xreplace(table)

    def define(self, node: Let | Dot) -> None:
        if node.name in self.values or node.name in self.states:
            raise self.fail(f"{node.name} is computed twice")
        if isinstance(node, Let):
            if node.value.free_symbols & self.states.keys():
                raise self.fail(f"{node.name} reads a sum")
            self.values[node.name] = lambda i, j: self.evaluate(node.value, i, j)
            return
        self.values[node.name] = lambda i, j: (
            self.evaluate(sp.sympify(node.scale), i, j)
            * inner(self.vector(node.left, i, j), self.vector(node.right, i, j))
        )

    def summed(self, s: Sum, at: Any, over: sp.Basic) -> Any:
        """What a sum holds for the query or key `at` once the members of a set are added."""

        def summand(other: Any) -> Any:
            i, j = (at, other) if s.over == "j" else (other, at)
            w = self.evaluate(s.weight, i, j)
            return w if s.vector is None else w * self.vector(s.vector, i, j)

        return total(summand, over)

    def accumulate(self, s: Sum, open_axes: str) -> None:
        if not {"h", "i", "j"} <= set(open_axes):
            raise self.fail(f"{s.name} is summed outside the loops over queries and keys")
        if any(o.name.startswith(f"{s.name}:") for o in self.obligations):
            raise self.fail(f"{s.name} is added to twice")
        at, zero = INDEX[s.axes], sp.S.Zero
        if s.vector is not None:
            zero = ZeroVector(self.vectors[s.vector][1].space)
        self.oblige(f"{s.name}: entry", self.summed(s, at, EMPTY), zero)
        carried = self.summed(s, at, SEEN) + self.summed(s, at, BLOCK)
        self.oblige(f"{s.name}: step", carried, self.summed(s, at, DisjointUnion(SEEN, BLOCK)))

    def output(self, node: Output, open_axes: str) -> None:
        if open_axes.replace("h", "") != node.axes:
            raise self.fail(f"output {node.name} of axis {node.axes} inside loops over {open_axes!r}")
        if node.name not in self.outputs:
            raise self.fail(f"output {node.name!r} is not specified")
        if self.outputs[node.name].axes != node.axes:
            raise self.fail(
                f"output {node.name} is one per {node.axes}, specified per {self.outputs[node.name].axes}"
            )
        i, j = (INDEX["i"], None) if node.axes == "i" else (None, INDEX["j"])
        result: Any = None
        for coefficient, target in node.terms:
            c = self.evaluate(sp.sympify(coefficient), i, j)
            if target is None:
                term = c
            elif isinstance(target, str):
                term = c * self.vector(target, i, j)
            elif target in self.states:
                term = c * self.states[target](self.at(self.state_axes[target], str(target), i, j))
            else:
                raise self.fail(f"{target} used before it is computed")
            result = term if result is None else result + term
        self.oblige(f"{node.name}: output", result, self.outputs[node.name].term)

    def oblige(self, name: str, left: Any, right: Any) -> None:
        if isinstance(left, Vector) != isinstance(right, Vector):
            raise self.fail(f"{name}: a scalar where a vector is due, or the reverse")
        self.obligations.append(Obligation(name, left, right, decide(left, right)))


def validate_gradients(
    program: Program, outputs: Mapping[str, Gradient], prefix: str = ""
) -> list[Obligation]:
    """The obligations of a program against the gradients it must compute, all proved.

    prefix: of their names.

    Raises ProofError that names the first obligation that is refuted (with its witness) or undecided, or the
    statement that makes no sense.
    """
    return require_proved(program, GradientValidator(program, outputs).run(), prefix)
