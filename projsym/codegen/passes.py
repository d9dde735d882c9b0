"""Schedule passes: pure functions from program to program, each an instance of a proven law.

A pass checks what it needs and raises ValueError naming the term that forbids it. A pass with nothing to do
returns the program as it is, except where doing nothing would hide a mistake (blocking a loop that is not
there). None of them sees numerical error: they are identities of real arithmetic, and
`projsym.codegen.validate` proves the result of all of them again from the tree alone.
"""

from __future__ import annotations

import re
from dataclasses import replace

import sympy as sp

from projsym.codegen.isa import ISAS, TILES
from projsym.codegen.pass_bounded import bounded
from projsym.codegen.pass_hoist import hoist
from projsym.codegen.pass_online import online
from projsym.codegen.pass_parts import parts
from projsym.codegen.pass_tree import (
    fresh,
    has_state,
    has_state_over,
    loops,
    map_nodes,
    pair_loop,
    rebuild,
)
from projsym.codegen.program import Dot, Let, Loop, Node, Program, exp2, tanh2

__all__ = [
    "base_two",
    "block",
    "bounded",
    "fold_scale",
    "hoist",
    "hyperbolic",
    "online",
    "parallel",
    "parts",
    "ranged",
    "tile",
]


def base_two(program: Program) -> Program:
    """``exp(x) = exp2(x*log2e)`` in every weight [IV.4]; the exponent is expanded, so hoist can split it."""
    log2e = fresh(program, "log2e")

    def change(node: Node) -> Node:
        if isinstance(node, Let) and node.value.has(sp.exp):
            value = node.value.replace(sp.exp, lambda x: exp2(sp.expand_mul(sp.expand_mul(x) * log2e)))
            return Let(node.name, node.axes, value)
        return node

    body = map_nodes(program.body, change)
    if body == program.body:
        return program
    return program.with_(body=(Let(log2e, "", 1 / sp.log(2)), *body))


def hyperbolic(program: Program) -> Program:
    """``tanh(x) = tanh2(2*x*log2e)`` in every weight [IV.4t]; `fold_scale` can move the factor."""
    known = [s.name for s in program.statements() if isinstance(s, Let) and s.value == 1 / sp.log(2)]
    log2e = known[0] if known else fresh(program, "log2e")

    def change(node: Node) -> Node:
        if isinstance(node, Let) and node.value.has(sp.tanh):
            value = node.value.replace(sp.tanh, lambda x: tanh2(sp.expand_mul(2 * x * log2e)))
            return Let(node.name, node.axes, value)
        return node

    body = map_nodes(program.body, change)
    if body == program.body:
        return program
    return program.with_(body=body if known else (Let(log2e, "", 1 / sp.log(2)), *body))


def _spread(e: sp.Expr, x: sp.Symbol) -> sp.Expr:
    """Products distributed over sums wherever `x` is, at every depth; powers of sums stay."""
    functions = e.atoms(exp2, tanh2)
    if e.xreplace({f: sp.S.One for f in functions}).has(x):
        return e.replace(lambda y: y.is_Add or y.is_Mul, sp.expand_mul)
    return e.xreplace({f: f.func(_spread(f.args[0], x)) for f in functions if f.has(x)})


def _coefficients(e: sp.Expr, x: sp.Symbol) -> list[sp.Expr] | None:
    """The coefficients of all occurrences of `x`, or None if one of them is not linear."""
    if e == x:
        return [sp.S.One]
    if not e.has(x):
        return []
    if e.is_Mul:
        u, v = e.as_independent(x, as_Add=False)
        if v == x:
            return [u]
    found: list[sp.Expr] = []
    for a in e.args:
        inner = _coefficients(a, x)
        if inner is None or (inner and e.is_Mul and a == x):
            return None
        found += inner
    return found


def fold_scale(program: Program) -> Program:
    """``c*<q, k> = <c*q, k>`` [bilinearity]: a parameter factor moves into the inner product.

    Done where every use of the product carries a rational multiple of one parameter factor, so that no
    division by a parameter appears; other products stay.
    """
    loop = pair_loop(program)
    body = list(loop.body)
    for n, dot in enumerate(loop.body):
        if not (isinstance(dot, Dot) and dot.axes == "ij"):
            continue
        values = {
            k: _spread(let.value, dot.name)
            for k, let in enumerate(body)
            if isinstance(let, Let) and let.value.has(dot.name)
        }
        found = [_coefficients(v, dot.name) for v in values.values()]
        flat = [u for us in found if us is not None for u in us]
        if None in found or not flat:
            continue
        u = flat[0]
        if u == 1 or program.axes_of(u) or not all((w / u).is_Rational for w in flat):
            continue
        body[n] = replace(dot, scale=dot.scale * u)
        for k, v in values.items():
            body[k] = replace(body[k], value=_spread(v.xreplace({dot.name: dot.name / u}), dot.name))
    return program.with_(body=rebuild(program.body, loop, (replace(loop, body=tuple(body)),)))


def block(program: Program, axis: str, size: int, wide: tuple[tuple[int, int], ...] = ()) -> Program:
    """Cut the loop over pairs of `axis` into blocks of `size` ["j": IV.1; "i": rows are independent].

    wide: for "j", other sizes where there are more than so many features, as in `Program.blocks`.
    Raises ValueError for another axis, a size that is no positive integer, or a loop already cut.
    """
    if axis not in ("i", "j"):
        raise ValueError(f"block: axis must be 'i' or 'j', got {axis!r}")
    for number in (size, *(keys for _, keys in wide)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"block: size must be a positive integer, got {number!r}")
    if wide and (axis != "j" or sorted(wide) != list(wide)):
        raise ValueError(f"block: wide must be ascending, and of keys, got {wide!r} for {axis!r}")
    pairs = pair_loop(program)
    loop = pairs if axis == "j" else next(iter(loops(program.body, "i")))
    if loop.block is not None:
        raise ValueError(f"block: the loop over {axis} is already in blocks of {loop.block}")
    changed = program.with_(body=rebuild(program.body, loop, (replace(loop, block=size),)))
    return changed.with_(blocks=wide) if wide else changed


def ranged(program: Program) -> Program:
    """Restrict the loop over pairs to the keys that each row sees [I.10m, I.10b]."""
    loop = pair_loop(program)
    return program.with_(body=rebuild(program.body, loop, (replace(loop, ranged=True),)))


def parallel(program: Program, *axes: str) -> Program:
    """Run the loops over `axes` in parallel [independence of rows]; ValueError where one carries sums."""
    for axis in axes:
        found = list(loops(program.body, axis))
        if not found:
            raise ValueError(f"parallel: no loop over {axis!r}")
        for loop in found:
            if has_state(loop) or has_state_over(loop, axis):
                raise ValueError(f"parallel: the loop over {axis!r} carries sums from one turn to the next")

    def mark(node: Node) -> Node:
        return replace(node, parallel=True) if isinstance(node, Loop) and node.axis in axes else node

    return program.with_(body=map_nodes(program.body, mark))


_ABOVE = re.compile(r"_above_[1-9][0-9]*$")


def tile(program: Program, **numbers: int) -> Program:
    """Set register tile sizes [Fubini]: they change the order of independent work only.

    Names are those of `projsym.codegen.isa.TILES`, for one instruction set alone with its name in front:
    ``tile(p, keys=8, avx2_keys=4)``, and with ``_above_64`` behind it, of an instruction set, for vectors of
    more than 64 features alone. Raises ValueError for unknown names, sizes below 1, and tiles that
    need more vector registers than there are.
    """
    known = {name for t in TILES for name in (t, *(f"{isa.name}_{t}" for isa in ISAS))}
    for name, size in numbers.items():
        if _ABOVE.sub("", name) not in known or (_ABOVE.search(name) and name.split("_above")[0] in TILES):
            raise ValueError(f"tile: unknown tile {name!r}; known: {', '.join(sorted(known))}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"tile: {name} must be a positive integer, got {size!r}")
    tiles = {**program.tiles, **numbers}
    for isa in ISAS:
        isa.check(tiles)
    return program.with_(tiles=tiles)
