"""What every part of the NumPy printer shares: names, lines, views of the inputs, scalars of one axis."""

from __future__ import annotations

import keyword

import sympy as sp

from projsym.codegen.numpy_analysis import inner, loops, reads
from projsym.codegen.numpy_infix import Names, ordered, plain
from projsym.codegen.numpy_scalar import Registers
from projsym.codegen.program import Dot, Let, Loop, Output, Program, Sum, symbol

SLICES = {"": "", "i": "_h0:_h1, _i0:_i1", "j": "_h0:_h1, _j0:_j1", "ij": "_h0:_h1, _i0:_i1, _j0:_j1"}
SHAPES = {"i": "(_h1 - _h0, _i1 - _i0, 1)", "j": "(_h1 - _h0, 1, _j1 - _j0)"}


class Writer:
    """Lines of a module under construction, and the statements that compute parameters, rows or keys."""

    def __init__(self, program: Program) -> None:
        self.p = program
        self.axes = program.axes()
        self.vectors = {x.name: x for x in program.inputs if x.feature}
        self.lines: list[str] = []
        self.depth = 0
        self.registers = Registers()
        self.sums = {s.name: s for s in program.statements() if isinstance(s, Sum)}
        self.blocks = {"i": "_n", "j": "_m"}
        self.ranged = any(loop.ranged for loop in loops(program.body))
        self.parameters = Names(self.parameter)
        self.names = Names(self.name, self.constant, lambda x: self.axes.get(x) == "")
        self.check()
        self.stored = self.find_stored()

    def check(self) -> None:
        names = [x.name for x in self.p.inputs] + [str(s) for s in self.axes]
        names += [s.name for s in self.p.statements() if isinstance(s, Output)]
        for name in names:
            if name.startswith("_") or name == "np" or keyword.iskeyword(name) or not name.isidentifier():
                raise ValueError(f"name {name!r}: must be an identifier without leading underscore, not 'np'")
        if not any(x.axes == "i" for x in self.p.inputs) or not any(x.axes == "j" for x in self.p.inputs):
            raise ValueError(f"program {self.p.name}: needs an input per query and an input per key")
        if sum(isinstance(x, Loop) and x.axis == "h" for x in self.p.body) != 1:
            raise ValueError(f"program {self.p.name}: needs exactly one loop over heads, outermost")

    def find_stored(self) -> set[sp.Symbol]:
        """Row and key scalars that are read in another loop than the one that defines them."""
        found = set()
        for loop in loops(self.p.body):
            inside = inner(loop)
            here = {s.name for s in loop.body if isinstance(s, Let | Dot) and s.axes == loop.axis}
            outside = [s for s in self.p.statements() if not any(s is t for t in inside)]
            found |= {x for s in outside for x in reads(s) if x in here}
        return found

    def put(self, text: str = "") -> None:
        self.lines.append(("    " * self.depth + text).rstrip())

    def parameter(self, x: sp.Symbol) -> str:
        if self.axes.get(x) != "":
            raise ValueError(f"{x}: a parameter may depend on parameters only")
        return str(x)

    def constant(self, e: sp.Expr) -> str:
        return f"_T({plain(e, self.parameters)})"

    def name(self, x: sp.Symbol) -> str:
        """The text of a parameter, row or key scalar where arrays are computed."""
        axes = self.axes.get(x)
        if axes is None:
            raise ValueError(f"symbol {x}: not defined by program {self.p.name}")
        is_input = any(symbol(a.name) == x for a in self.p.inputs)
        return f"_{x}" if axes == "" or is_input or x in self.stored else str(x)

    def cast(self, x: sp.Symbol) -> None:
        """A parameter is computed in double and rounded once to the dtype of the arrays."""
        self.put(f"_{x} = _T({x})")

    def compute_parameter(self, name: sp.Symbol, value: sp.Expr) -> None:
        text = plain(value, self.parameters)
        self.put(f"{name} = {text}" if value.free_symbols else f"{name} = np.float64({text})")
        self.cast(name)

    def open(self, loop: Loop) -> bool:
        """The head of a loop over `i` or `j`; True if it indents."""
        a, first, size = f"_{loop.axis}", "0", self.blocks[loop.axis]
        if loop.ranged:
            self.put("_first, _last = 0, _m")
            self.put("if _lo is not None:")
            self.put("    _l, _h = _lo[_h0:_h1, _i0:_i1, None], _hi[_h0:_h1, _i0:_i1, None]")
            self.put("    _first = int(_l.min(where=_l < _h, initial=_m))")
            self.put("    _last = int(_h.max(where=_l < _h, initial=0))")
            first, size = f"_first // {loop.block} * {loop.block}" if loop.block else "_first", "_last"
        if loop.block is None:
            self.put(f"{a}0, {a}1 = {first}, {size}")
        else:
            self.put(f"for {a}0 in range({first}, {size}, {loop.block}):")
            self.depth += 1
            self.put(f"{a}1 = min({a}0 + {loop.block}, {size})")
        if loop.ranged:
            self.put("_edge, _hidden = _lo is not None and (_j0 < _l.max() or _h.min() < _j1), False")
            self.put("if _edge:")
            self.put("    _j = np.arange(_j0, _j1)")
            self.put("    _hidden = (_j < _l) | (_j >= _h)")
        return loop.block is not None

    def views(self, loop: Loop) -> None:
        """Views of the inputs and stored scalars of the loop's axis that its statements use."""
        inside = inner(loop)
        axis = loop.axis
        named = {v for s in inside if isinstance(s, Dot) for v in (s.left, s.right)}
        named |= {s.vector for s in inside if isinstance(s, Sum) and s.vector}
        named |= {v for s in inside if isinstance(s, Output) for _, v in s.terms if isinstance(v, str)}
        read = {x for s in inside for x in reads(s)}
        here = {s.name for s in loop.body if isinstance(s, Let | Dot)}
        for x in self.p.inputs:
            if x.axes == axis and x.name in named:
                self.put(f"_{x.name} = {x.name}[{SLICES[axis]}]")
            elif x.axes == "ij" and axis == "j" and symbol(x.name) in read:
                self.put(f"_{x.name} = {x.name}[{SLICES['ij']}]")
            elif x.axes == axis and symbol(x.name) in read:
                at = "_h0:_h1, _i0:_i1, None" if axis == "i" else "_h0:_h1, None, _j0:_j1"
                self.put(f"_{x.name} = {x.name}[{at}]")
        for s in ordered(read & self.stored - here):
            if self.axes[s] == axis:
                self.put(f"_{s} = _all_{s}[{self.stored_at(axis)}]")

    def stored_at(self, axis: str) -> str:
        return ":_h1 - _h0, _i0:_i1" if axis == "i" else ":_h1 - _h0, :, _j0:_j1"

    def small(self, s: Let | Dot) -> None:
        """A scalar of rows or of keys."""
        if s.axes == "":
            assert isinstance(s, Let)
            self.compute_parameter(s.name, s.value)
            return
        if isinstance(s, Let):
            text = plain(s.value, self.names)
            if not set(self.p.axes_of(s.value)):
                text = f"np.full({SHAPES[s.axes]}, {text}, _T)"
        else:
            subscript = "hia,hia->hi" if s.axes == "i" else "hja,hja->hj"
            for v in (s.left, s.right):
                if v not in self.vectors or self.vectors[v].axes != s.axes:
                    raise ValueError(f"{s.name}: {v!r} is not a vector of axis {s.axes!r}")
            new_axis = "[:, :, None]" if s.axes == "i" else "[:, None]"
            text = f"np.einsum({subscript!r}, _{s.left}, _{s.right}){new_axis}"
            if s.scale != 1:
                text = f"{plain(s.scale, self.names)} * {text}"
        self.put(f"{self.name(s.name)} = {text}")
        if s.name in self.stored:
            self.put(f"_all_{s.name}[{self.stored_at(s.axes)}] = _{s.name}")
