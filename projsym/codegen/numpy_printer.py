"""Loop program -> NumPy module.

The printer walks the tree and prints each statement by its kind; it knows no weight function. Row scalars
are columns `(heads, rows, 1)`, key scalars are rows `(heads, 1, keys)` and pairs `(heads, rows, keys)`, so
NumPy's broadcasting is the axis rule of the program. Loops over queries and keys have the blocks that the
program gives; heads, which have no block, are taken several at a time when a head is small.

The printed function takes arrays `(H, n, d)`, `(H, m, d)` (scalars of a key: `(H, m)`) of one dtype and
returns every output, then the number of rows whose normaliser is NaN or infinite. Structural names begin
with an underscore, so symbols of a program must not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import sympy as sp

from projsym.codegen.numpy_analysis import inner, loops, normalisers, reads
from projsym.codegen.numpy_bounded import Bounded
from projsym.codegen.numpy_infix import ordered, plain
from projsym.codegen.numpy_output import Outputs
from projsym.codegen.numpy_scalar import Elementwise
from projsym.codegen.numpy_writer import SHAPES, SLICES
from projsym.codegen.pass_tree import pair_loop
from projsym.codegen.program import (
    Dot,
    Let,
    Loop,
    Node,
    Output,
    Program,
    Rescale,
    RunningMax,
    Statement,
    Sum,
    symbol,
)

RANGES_DOC = (
    "    _lo, _hi: (H, n), integers from 0 to m, or None: query i sees the keys j with _lo <= j < _hi only.",
    "",
)
PAIRS = 65536
"""Pairs that are worked on together where the program leaves it open (heads of a small problem)."""


def emit_numpy(program: Program, header: str = "", bounded: Program | None = None) -> str:
    """The program as the text of a Python module that imports NumPy only and defines `program.name`.

    header: text put before the code as comment lines; without it, the program and its log. bounded: the same
    without its running maximum, for blocks of queries whose scores norms bound. The bytes depend on the
    arguments alone.
    Raises ValueError for a tree that it cannot print: a name that begins with an underscore or is reserved,
    an unknown function, pairs outside a loop over keys inside a loop over queries, a missing head loop; and
    for `bounded` of another program.
    """
    return _Printer(program, bounded).module(header)


class _Printer(Outputs):
    def __init__(self, program: Program, bounded: Program | None = None) -> None:
        super().__init__(program)
        self.work: dict[str, str] = {}
        self.free = _Printer(bounded) if bounded else None
        if self.free:
            self.free.lines, self.free.registers, self.free.work = self.lines, self.registers, self.work
            self.bounded = Bounded(self.free, program)

    def module(self, header: str) -> str:
        outputs = [s for s in self.p.statements() if isinstance(s, Output)]
        flags = [f"{o.name}=True" for o in outputs if not o.feature]
        flags += ["_lo=None", "_hi=None"] if self.ranged else []
        args = ", ".join([*(x.name for x in self.p.inputs), *(["*", *flags] if flags else [])])
        self.depth = 1
        self.put("_T, _low = _first.dtype.type, np.finfo(_first.dtype).min")
        self._sizes()
        self._blocks()
        self.put("_bad = 0")
        for o in outputs:
            rows = "_H, _n" if o.axes == "i" else "_H, _m"
            shape = f"{rows}, {self._width(o.feature)}" if o.feature else rows
            make = f"np.empty(({shape}), _T)"
            self.put(f"_out_{o.name} = {make}" + ("" if o.feature else f" if {o.name} else None"))
        for x in self.p.inputs:
            if x.axes == "" and not x.feature:
                self.put(f"{x.name} = np.float64({x.name})")
                self.cast(symbol(x.name))
        for x in ordered(self.stored):
            self.put(f"_all_{x} = np.empty((_hb, {'_n, 1' if self.axes[x] == 'i' else '1, _m'}), _T)")
        start = len(self.lines)
        for node in self.p.body:
            self._top(node)
        if any(isinstance(x, Sum) and x.over == "i" for x in self.p.statements()):
            for o in outputs:  # gradients, all of which must be finite
                asked = "" if o.feature else f" if {o.name} else 0"
                self.put(f"_bad += np.count_nonzero(~np.isfinite(_out_{o.name})){asked}")
        buffers = [f"    _buf{i} = np.empty(_hb * _ib * _jb, _T)" for i in range(self.registers.count)]
        buffers += [f"    {name} = {make}" for name, make in self.work.items()]
        if "_ones" in _words(self.lines):
            buffers.append("    _ones = np.ones(_jb, _T)")
        first = next(x.name for x in self.p.inputs if x.axes)
        body = [line.replace("_first", first) for line in self.lines[:start]]
        body = _without_idle_casts(body + buffers + self.lines[start:])
        returns = ", ".join([f"_out_{o.name}" for o in outputs] + ["int(_bad)"])
        told = header or "\n".join([str(self.p), "", *self.p.log]).rstrip()
        comments = [f"# {line}".rstrip() for line in told.splitlines()]
        return "\n".join(
            [
                *comments,
                "import numpy as np",
                "",
                "",
                "@np.errstate(all='ignore')",
                f"def {self.p.name}({args}):",
                f'    """{self._doc(outputs)}',
                "",
                *(RANGES_DOC if self.ranged else ()),
                "    The last item counts the rows whose normaliser is NaN or infinite.",
                '    """',
                *body,
                f"    return {returns}",
                "",
            ]
        )

    def _doc(self, outputs: list[Output]) -> str:
        """One line: what goes in, with shapes, and what comes out."""
        rows = {"": "", "i": "n", "j": "m", "ij": "n, m"}
        shaped = [
            f"{x.name} ({', '.join(['H', rows[x.axes], *filter(None, [x.feature])])})"
            for x in self.p.inputs
            if x.axes
        ]
        results = [
            f"{o.name} ({', '.join(['H', rows[o.axes], *filter(None, [o.feature])])})" for o in outputs
        ]
        return f"Arrays {', '.join(shaped)} of one dtype -> ({', '.join(results)}, count)."

    def _sizes(self) -> None:
        row = next(x for x in self.p.inputs if x.axes == "i")
        key = next(x for x in self.p.inputs if x.axes == "j")
        self.put(f"_H, _n, _m = {row.name}.shape[0], {row.name}.shape[1], {key.name}.shape[1]")

    def _blocks(self) -> None:
        """Sizes of the largest block of heads, rows and keys: the pair buffers hold that many."""
        every = list(loops(self.p.body))
        nested = {id(b): a for a in every if a.axis == "i" for b in loops(a.body) if b.axis == "j"}
        rows = [a.block for a in nested.values()]
        keys = [b.block for b in every if id(b) in nested]
        for letter, size, blocks in (("i", "_n", rows), ("j", "_m", keys)):
            whole = None in blocks or not blocks
            self.put(f"_{letter}b = " + (size if whole else f"min({size}, {max(b for b in blocks if b)})"))
        heads = next(x for x in every if x.axis == "h").block
        count = str(heads) if heads else f"min(_H, max(1, {PAIRS} // max(1, _ib * _jb)))"
        self.put(f"_hb = max(1, {count})")

    def _width(self, feature: str) -> str:
        owner = next((x for x in self.p.inputs if x.feature == feature), None)
        if owner is None:
            raise ValueError(f"feature {feature!r}: no input has it")
        return f"{owner.name}.shape[2]"

    def _top(self, node: Node) -> None:
        match node:
            case Let(name, "", value):
                self.compute_parameter(name, value)
            case Loop("h", body):
                self.put("for _h0 in range(0, _H, _hb):")
                self.depth += 1
                self.put("_h1 = min(_h0 + _hb, _H)")
                self._key_states(node)
                for below in body:
                    self._in_head(below)
                self.depth -= 1
            case _:
                raise ValueError(f"{node}: outside the loop over heads only parameters may be computed")

    def _in_head(self, node: Node) -> None:
        match node:
            case Let(name, "", value):
                self.compute_parameter(name, value)
            case Loop("j", body) if any(isinstance(x, Output) for x in body):
                self._key_outputs(node)
            case Loop("j"):
                self._simple_loop(node)
            case Loop("i", body) if any(isinstance(x, Loop) or not isinstance(x, Let | Dot) for x in body):
                self._rows(node)
            case Loop("i"):
                self._simple_loop(node)
            case _:
                raise ValueError(f"{node}: must be inside a loop over queries or keys")

    def _key_states(self, heads: Loop) -> None:
        """Sums over queries, for all keys of the heads: (heads, keys, features) or (heads, keys, 1)."""
        for s in inner(heads):
            if isinstance(s, Sum) and s.over == "i":
                if s.vector is not None and self.vectors[s.vector].axes != "i":
                    raise ValueError(f"{s.name}: {s.vector} is not a row vector")
                width = f"{s.vector}.shape[2]" if s.vector else "1"
                if o := self.gathering(s):
                    self.put(f"{s.name} = _out_{o.name}[_h0:_h1]")
                    self.put(f"{s.name}[...] = 0")
                else:
                    self.put(f"{s.name} = np.zeros((_h1 - _h0, _m, {width}), _T)")
                if s.vector:
                    self.put(f"_part_{s.name} = {self._work(f'part_{s.name}', width, 'j')}")

    def _key_outputs(self, loop: Loop) -> None:
        """A loop over keys after that over queries: gradients of keys."""
        indented = self.open(loop)
        self.views(loop)
        for s in loop.body:
            if not isinstance(s, Output):
                raise ValueError(f"{s}: only outputs belong in a loop over keys after that over queries")
            self.output(s)
        self.depth -= indented

    def _simple_loop(self, loop: Loop) -> None:
        """A loop that computes scalars of its own axis."""
        indented = self.open(loop)
        self.views(loop)
        for s in loop.body:
            if not isinstance(s, Let | Dot):
                raise ValueError(f"{s}: only scalars of axis {loop.axis} belong in this loop")
            if "".join(sorted(set(s.axes) - {loop.axis})):
                raise ValueError(f"{s}: depends on an axis that no loop around it runs over")
            self.small(s)
        self.depth -= indented

    def _rows(self, loop: Loop) -> None:
        """A loop over queries: row states, loops over keys, outputs."""
        free = self.free if self.free and any(node is pair_loop(self.p) for node in loop.body) else None
        if free:
            free.depth = self.depth
            self.bounded.measure(self.ranged)
        indented = self.open(loop)
        self.views(loop)
        if free:
            free.depth = self.depth
            self.bounded.choice()
            rows = next(x for x in loops(free.p.body) if any(node is pair_loop(free.p) for node in x.body))
            free.depth += 1
            free._block_of_rows(rows)
            self.put("else:")
            self.depth += 1
        self._block_of_rows(loop)
        self.depth -= indented + bool(free)

    def _block_of_rows(self, loop: Loop) -> None:
        self._states(loop)
        self.guarded = set()
        for node in loop.body:
            match node:
                case Loop("j"):
                    self._keys(node)
                case Let() | Dot() if node.axes in ("", "i"):
                    self.small(node)
                case Output():
                    self.output(node)
                case _:
                    raise ValueError(f"{node}: not inside a loop over keys")
        own = {s.name for s in inner(loop) if isinstance(s, Sum)}
        checks = [f"np.isfinite({x})" for x in normalisers(self.p) if x in own]
        if checks:
            self.put(f"_bad += np.count_nonzero(~({' & '.join(checks)}))")

    def _states(self, loop: Loop) -> None:
        for s in inner(loop):
            if isinstance(s, RunningMax):
                self.put(f"{s.name} = np.full({SHAPES['i']}, _low, _T)")
            elif isinstance(s, Sum) and s.over == "j" and s.vector is None:
                self.put(f"{s.name} = np.zeros({SHAPES['i']}, _T)")
            elif isinstance(s, Sum) and s.over == "j":
                if s.vector not in self.vectors or self.vectors[s.vector].axes != "j":
                    raise ValueError(f"{s.name}: {s.vector} is not a key vector")
                if o := self.gathering(s):
                    self.put(f"{s.name} = _out_{o.name}[{SLICES['i']}]")
                    self.put(f"{s.name}[...] = 0")
                else:
                    self.put(f"{s.name} = np.zeros((_h1 - _h0, _i1 - _i0, {s.vector}.shape[2]), _T)")
                self.put(f"_part_{s.name} = {self._work(f'part_{s.name}', f'{s.vector}.shape[2]')}")
            elif isinstance(s, Dot) and s.axes == "ij" and s.scale != 1:
                row, text = self._row_key(s)[0], plain(s.scale, self.names)
                work = self._work(f"scaled_{s.name}", f"{row}.shape[2]")
                self.put(f"_scaled_{s.name} = np.multiply({text}, _{row}, out={work})")

    def _work(self, name: str, width: str, axis: str = "i") -> str:
        """Rows of numbers for the queries at hand, or a block of keys, in an array made once a call."""
        self.work[f"_work_{name}"] = f"np.empty((_hb, _{axis}b, {width}), _T)"
        return f"_work_{name}[:_h1 - _h0" + (", :_i1 - _i0]" if axis == "i" else "]")

    def _row_key(self, s: Dot) -> tuple[str, str]:
        """The row vector and the key vector of an inner product of pairs."""
        known = [self.vectors[v] for v in (s.left, s.right) if v in self.vectors]
        sides = sorted(known, key=lambda x: x.axes)
        if [x.axes for x in sides] != ["i", "j"]:
            raise ValueError(f"{s.name} = <{s.left}, {s.right}>: must be a row vector and a key vector")
        return sides[0].name, sides[1].name

    def _keys(self, loop: Loop) -> None:
        indented = self.open(loop)
        self.views(loop)
        self.weights = {s.weight for s in loop.body if isinstance(s, Sum)} if loop.ranged else set()
        pairs = Elementwise(self.put, self.p.axes_of, self.names, self.registers)
        mark, before = len(self.lines), self.registers.count
        self.registers.free = [f"_x{i}" for i in reversed(range(before))]
        for at, s in enumerate(loop.body):
            if isinstance(s, Loop):
                raise ValueError("a loop over keys holds statements only")
            later = {x for t in loop.body[at + 1 :] if not isinstance(t, Loop) for x in reads(t)}
            self._pair_statement(s, pairs, {x for x in reads(s) if x not in later})
            pairs.release({x for x in pairs.home if x not in later})
        words = _words(self.lines[mark:])
        used = [r for i in range(self.registers.count) if (r := f"_x{i}") in words]
        pad = "    " * self.depth
        views = [f"{pad}{r} = _buf{r[2:]}[:_size].reshape(_shape)" for r in used]
        shape = [
            f"{pad}_shape = (_h1 - _h0, _i1 - _i0, _j1 - _j0)",
            f"{pad}_size = _shape[0] * _shape[1] * _shape[2]",
        ]
        self.lines[mark:mark] = shape + views
        self.depth -= indented

    def _pair_statement(self, s: Statement, pairs: Elementwise, dying: set[sp.Symbol]) -> None:
        match s:
            case Let(name, "ij", value):
                pairs.let(name, value, dying)
                if name in self.weights:
                    self.put(f"if _edge: np.copyto({pairs.home[name]}, 0, where=_hidden)")
            case Dot(name, "ij"):
                row, key = self._row_key(s)
                left = f"_scaled_{name}" if s.scale != 1 else f"_{row}"
                register = pairs.registers.take()
                pairs.home[name] = register
                self.put(f"np.matmul({left}, _{key}.swapaxes(1, 2), out={register})")
            case Let() | Dot():
                self.small(s)
            case RunningMax(name, old, of):
                if self.weights and of in pairs.home:
                    self.put(f"if _edge: np.copyto({pairs.home[of]}, -np.inf, where=_hidden)")
                top = f"{self._weight(of, pairs)}.max(axis=2, keepdims=True, initial=_low)"
                self.put(f"{old} = {name}")
                self.put(f"{name} = np.maximum({name}, {top})")
            case Rescale(sums, factor):
                self.put(f"_factor = {plain(factor, self.names)}")
                for x in sums:
                    self.put(f"{x} *= _factor")
            case Sum(name, weight, None, "i"):
                self.put(f"{name}[:, _j0:_j1] += {self._weight(weight, pairs)}.sum(axis=1)[:, :, None]")
            case Sum(name, weight, vector, "i"):
                turned = f"{self._weight(weight, pairs)}.swapaxes(1, 2)"
                product = f"np.matmul({turned}, _{vector}, out=_part_{name}[:, : _j1 - _j0])"
                self.put(f"{name}[:, _j0:_j1] += {product}")
            case Sum(name, weight, None) if weight in pairs.home:  # a product with ones is faster than a sum
                self.put(f"{name} += np.matmul({pairs.home[weight]}, _ones[: _j1 - _j0])[:, :, None]")
            case Sum(name, weight, None):
                self.put(f"{name} += {self._weight(weight, pairs)}.sum(axis=2, keepdims=True)")
            case Sum(name, weight, vector):
                self.put(f"{name} += np.matmul({self._weight(weight, pairs)}, _{vector}, out=_part_{name})")
            case _:
                raise ValueError(f"{s}: not allowed in a loop over keys")

    def _weight(self, x: sp.Symbol, pairs: Elementwise) -> str:
        if x in pairs.home:
            return pairs.home[x]
        if self.axes.get(x) in ("", "i", "j"):
            text = f"np.broadcast_to({self.name(x)}, _shape)"
            return f"np.where(_hidden, 0, {text})" if x in self.weights else text
        raise ValueError(f"symbol {x}: not defined before its use")


def _words(lines: Iterable[str]) -> set[str]:
    return {w for line in lines for w in re.findall(r"\w+", line)}


def _without_idle_casts(lines: list[str]) -> list[str]:
    """Without the casts of parameters that no array meets."""
    cast = re.compile(r" +(_\w+) = _T\(\w+\)")
    used = _words(line for line in lines if not cast.fullmatch(line))
    return [line for line in lines if not (found := cast.fullmatch(line)) or found[1] in used]
