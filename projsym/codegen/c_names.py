"""What the C of a kernel is called: every name of the program gets a prefix, so none can collide.

``in_``, ``at_``, ``ld_`` and ``out_`` are arguments, ``seen_`` ranges of keys; ``par_`` parameters; ``key_``
key scalars; ``row_``, ``sum_``, ``keep_``, ``pack_``, ``stage_``, ``bias_`` and ``pair`` working memory of a
block of queries; ``val_`` local doubles; ``vec_`` the vectors of a block.
"""

from __future__ import annotations

import sympy as sp

from projsym.codegen import c_ranges
from projsym.codegen.c_pairs import row_key
from projsym.codegen.c_plan import Nest, Plan
from projsym.codegen.program import Dot, Input, Let, Output, Sum
from projsym.codegen.scalar_c import scalar


def _identifier(name: str) -> None:
    if not (name.isidentifier() and name.isascii()):
        raise ValueError(f"{name!r} is not a C identifier")


def element(x: Input | Output) -> str:
    """The C type of the elements of an argument."""
    return "S" if x.storage else "T"


class Names:
    """The values of a plan that need memory, and the C of symbols outside the loop over pairs."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.name = plan, plan.program.name
        self.outputs = [s for s in plan.after if isinstance(s, Output)]
        self.key_outputs = plan.key_outputs
        sums = [s for s in plan.pairs.body if isinstance(s, Sum)]
        self.sums = {s.name: s for s in sums if s.over == "j"}
        self.key_sums = {s.name: s for s in sums if s.over == "i"}
        self.gathered = list(dict.fromkeys(s.vector for s in self.key_sums.values() if s.vector))
        self.features = sorted({x.feature for x in plan.vectors.values()})
        self.row_inputs = [x for x in plan.scalars.values() if x.axes == "i"]
        self.arrays = [x for x in plan.scalars.values() if len(x.axes) == 1]
        self.pairs = [x for x in plan.scalars.values() if x.axes == "ij"]
        self.parameters = [x.name for x in plan.scalars.values() if not x.axes]
        self.storage = next((x.storage for x in plan.vectors.values() if x.storage), "")
        self.dots = [p.dot for p in plan.phases if isinstance(p, Nest) and p.dot]
        keys = [row_key(plan, d)[1] for d in self.dots]
        self.key_vectors = list(dict.fromkeys([*keys, *(s.vector for s in self.sums.values() if s.vector)]))
        self.key_scalars = [s for s in plan.pair_reads("j") if str(s) not in plan.scalars]
        self.row_values = [s for s in plan.pair_reads("i") if s not in plan.states()]
        late: set[sp.Symbol] = set()
        for s in plan.after:
            if isinstance(s, Let):
                late |= s.value.free_symbols
            elif isinstance(s, Output):
                late |= {x for c, _ in s.terms for x in c.free_symbols}
        self.kept = sorted({s.name for s in plan.before} & late, key=str)
        for name in (
            self.name,
            *self.features,
            *map(str, plan.axes),
            *plan.vectors,
            *(o.name for o in self.every_output),
        ):
            _identifier(name)

    def reader(self, function: str) -> str:
        """The name of a function of `projsym.codegen.c_reads` for the vectors of this program."""
        return f"{function}_STORED" if self.storage else function

    def signature(self) -> str:
        """The parameters of the external function."""
        parts = ["long H", "long n", "long m"]
        for x in self.plan.vectors.values():
            parts += [f"const {element(x)} *in_{x.name}", f"const long *at_{x.name}", f"long ld_{x.name}"]
        for x in self.arrays:
            parts += [f"const T *in_{x.name}", f"const long *at_{x.name}"]
        for x in self.pairs:
            parts += [f"const T *in_{x.name}", f"const long *at_{x.name}", f"long ld_{x.name}"]
        parts += [f"double par_{p}" for p in self.parameters]
        parts += [f"{element(o)} *out_{o.name}" for o in self.every_output]
        return ", ".join([*parts, *(f"const long *{x}" for x in self.ranges), "int threads"])

    @property
    def ranges(self) -> tuple[str, ...]:
        """The arguments that tell which keys a row sees."""
        return c_ranges.ARGUMENTS if self.plan.pairs.ranged else ()

    @property
    def every_output(self) -> list[Output]:
        """Outputs of queries, then of keys: the order of the arguments."""
        return [*self.outputs, *self.key_outputs]

    def state_size(self) -> str:
        """The C of how many numbers the sums of a chunk of keys take."""
        return " + ".join(map(self._state, self.key_sums.values()))

    def key_state(self, sum: Sum) -> str:
        """The C of where a key sum starts in the memory of a chunk."""
        before = list(self.key_sums.values())[: list(self.key_sums).index(sum.name)]
        return " + ".join(map(self._state, before)) or "0"

    def _state(self, s: Sum) -> str:
        return f"a->span*P_{self.plan.vectors[s.vector].feature}" if s.vector else "a->span*W"

    def state_symbol(self, s: sp.Symbol) -> str:
        """The C of a symbol where the outputs of a key are written."""
        return f"a->par_{s}" if self.plan.axes[s] == "" else f"val_{s}"

    def row_symbol(self, s: sp.Symbol) -> str:
        """The C of a symbol in the loops over the rows of a block: a double."""
        if self.plan.axes[s] == "":
            return f"a->par_{s}"
        if s in self.plan.states():
            return f"(double)w->row_{s}[r]"
        if str(s) in self.plan.scalars:
            return f"(double)a->in_{s}[a->at_{s}[h] + i0 + r]"
        return f"val_{s}"

    def key_symbol(self, s: sp.Symbol) -> str:
        """The C of a symbol in the loop over keys alone: a double."""
        if self.plan.axes[s] == "":
            return f"par_{s}"
        if str(s) in self.plan.scalars:
            return f"(double)in_{s}[at_{s}[h] + j]"
        return f"val_{s}"

    def inner(self, s: Dot, left: str, right: str, scale: str) -> str:
        """The C of an inner product of two rows at those addresses."""
        text = f"{self.reader('INNER')}({left}, {right}, D_{self.plan.vectors[s.left].feature})"
        return text if s.scale == 1 else f"{scale}*{text}"

    def row_value(self, s: Let | Dot) -> str:
        """The C of a row statement's value, in the loops over the rows of a block."""
        if isinstance(s, Let):
            return scalar(s.value, self.row_symbol, frozenset(self.plan.states()))
        left, right = (f"vec_{x} + r*a->ld_{x}" for x in (s.left, s.right))
        return self.inner(s, left, right, scalar(s.scale, self.row_symbol))

    def key_value(self, s: Let | Dot) -> str:
        """The C of a key statement's value, in the loop over keys alone."""
        if isinstance(s, Let):
            return scalar(s.value, self.key_symbol)
        left, right = (f"in_{x} + at_{x}[h] + j*ld_{x}" for x in (s.left, s.right))
        return self.inner(s, left, right, scalar(s.scale, self.key_symbol))
