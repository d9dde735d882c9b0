"""C of keys in parts: each unit of work is a head, a block of queries and a part of the keys [IV.1].

A unit starts from the empty state and keeps its sums; once all units are done the parts of a block of queries
are merged, in their order, by one thread. Whether there are parts, and where they begin, depends on the
numbers of queries and keys alone: a result is the same, bit for bit, on any number of threads and among any
other heads. Merged states take the memory of those of a part: merging the first part with the empty state
[IV.1d] is to copy it.
"""

from __future__ import annotations

import sympy as sp

from projsym.codegen.c_bounded import FEWEST
from projsym.codegen.c_names import Names
from projsym.codegen.c_text import Text
from projsym.codegen.isa import ISAS
from projsym.codegen.pass_tree import loops, pair_loop, part_loop
from projsym.codegen.program import Add, Dot, Let, Loop, Program, Rescale, RunningMax, Sum
from projsym.codegen.scalar_c import vector

FEW_BLOCK = 16
"""Keys that few queries take at once where sums are of the keys themselves: read a second time they must be
in the first-level cache, which is also what the next keys stream through."""


def reads_twice(program: Program) -> bool:
    """Whether a weighted sum is one of the keys that scores are formed of."""
    body = pair_loop(program).body
    keys = {x for s in body if isinstance(s, Dot) for x in (s.left, s.right)}
    return any(isinstance(s, Sum) and s.vector in keys for s in body)


def parts_of(program: Program, dtype: str) -> dict[str, int]:
    """What an error bound has to know of a program in parts, as `projsym.runtime.manifest.Parts`.

    A product is one of ``lanes*FEW_SUMS`` sums, to which one row more than whole ones may come; these are
    added pairwise, then lanes, one by one at worst.
    """
    (rows,) = loops(program.body, "i")
    loop = part_loop(program)
    if loop is None or loop.block is None or rows.block is None:
        raise ValueError(f"{program.name}: no loop over parts of the keys")
    features = [(isa.lanes(dtype), max(4, 128 // isa.bytes)) for isa in ISAS]
    return {
        "below": FEWEST * rows.block,
        "size": loop.block,
        "few": program.few,
        "block": FEW_BLOCK if reads_twice(program) else 0,
        "stride": min(lanes * f for lanes, f in features),
        "rest": max(1 + f.bit_length() + lanes for lanes, f in features),
    }


class Parts:
    """Prints what keeps and what merges the states of parts.

    names: of the program without parts, whose states these are. program: the same in parts.
    """

    def __init__(self, names: Names, program: Program, text: Text) -> None:
        loop = part_loop(program)
        if loop is None or loop.block is None:
            raise ValueError(f"{program.name}: no loop over parts of the keys")
        self.names, self.plan, self.name, self.text = names, names.plan, names.name, text
        self.merge = [s for s in loop.body if not isinstance(s, Loop)]
        self.size, self.few, self.twice = loop.block, program.few, reads_twice(program)
        sums = [s for s in self.plan.pairs.body if isinstance(s, Sum)]
        self.maxima = [s.name for s in self.plan.pairs.body if isinstance(s, RunningMax)]
        self.scalars = [*self.maxima, *(s.name for s in sums if s.vector is None)]
        self.vectors = {s.name: self.plan.vectors[s.vector].feature for s in sums if s.vector}
        # The merged states by name, each to the state of a part whose memory it takes.
        self.home = {s.name: s.of for s in self.merge if isinstance(s, RunningMax)}
        self.home |= {s.name: s.state for s in self.merge if isinstance(s, Add)}

    def define(self) -> None:
        """The sizes that decide about parts."""
        self.text(f"#define PART {self.size}")
        if self.few:
            self.text(
                f"#define FEW {self.few}",
                "#define FEW_FEATURES (REGISTERS/2)",
                "#define FEW_SUMS (VECTOR_BYTES < 32 ? 8 : 4)",
            )
            if self.twice:
                self.text(f"#define FEW_BLOCK (BLOCK_j < {FEW_BLOCK} ? BLOCK_j : {FEW_BLOCK})")
            else:
                self.text("#define FEW_BLOCK BLOCK_j")

    def room(self) -> str:
        """The C of how many numbers the states of a unit take, for `room` rows, whole vectors of them."""
        return f"room*({' + '.join([str(len(self.scalars)), *(f'P_{f}' for f in self.vectors.values())])})"

    def functions(self) -> None:
        """Keep the states of a unit; merge them with those so far."""
        t, n = self.text, self.name
        with t.block(f"static void {n}_keep(const {n}_work *w, T *to, long rows, long room)"):
            for s in self.scalars:
                t(f"memcpy(to, w->row_{s}, room*sizeof(T)), to += room;")
            for s, f in self.vectors.items():
                t(f"memcpy(to, w->sum_{s}, rows*P_{f}*sizeof(T)), to += room*P_{f};")
        with t.block(f"static void {n}_first({n}_work *w, const T *from, long rows, long room)"):
            for s in self.scalars:
                t(f"memcpy(w->row_{s}, from, room*sizeof(T)), from += room;")
            for s, f in self.vectors.items():
                t(f"memcpy(w->sum_{s}, from, rows*P_{f}*sizeof(T)), from += room*P_{f};")
        with t.block(f"static void {n}_merge({n}_work *w, const T *from, long rows, long room)"):
            for at, s in enumerate(self.scalars):
                t(f"const T *of_{s} = from + {at}*room;")
            t(f"from += {len(self.scalars)}*room;")
            for s, f in self.vectors.items():
                t(f"const T *of_{s} = from;", f"from += room*P_{f};")
            with t.block("for (long r = 0; r < room; r += W)"):
                self._rows()
        t("")

    def _rows(self) -> None:
        """One vector of rows: the statements of the merge in their order."""
        t, factor = self.text, None
        t(*(f"const V row_{s} = LOADU(of_{s} + r);" for s in self.maxima))
        for s in self.merge:
            match s:
                case RunningMax(name, old, of):
                    t(
                        f"const V row_{old} = LOAD(w->row_{of} + r), row_{name} = MAX(row_{old}, row_{of});",
                        f"STORE(w->row_{of} + r, row_{name});",
                    )
                case Rescale(sums, value):
                    t(f"const V factor = {self._vector(value)};")
                    factor = sums
                case Let(name, _, value):
                    t(f"const V row_{name} = {self._vector(value)};")
                case Add(name, value, state):
                    own = "factor*" if factor and name in factor else ""
                    if state not in self.vectors:
                        gain = "" if value == 1 else f"{self._vector(value)}*"
                        at = f"w->row_{state} + r"
                        t(f"STORE({at}, {own}LOAD({at}) + {gain}LOADU(of_{state} + r));")
                        continue
                    f = self.vectors[state]
                    with t.block("for (long l = 0; l < LEAST(W, rows - r); l++)"):
                        gain = "" if value == 1 else f"{self._vector(value)}[l]*"
                        to = f"w->sum_{state}[(r + l)*P_{f} + x]"
                        own = "factor[l]*" if own else ""
                        t(
                            f"for (long x = 0; x < P_{f}; x++) "
                            f"{to} = {own}{to} + {gain}of_{state}[(r + l)*P_{f} + x];"
                        )

    def _vector(self, e: sp.Expr) -> str:
        """An expression of row values, as lanes of rows."""
        return vector(e, lambda s: f"row_{s}")

    def sizes(self) -> None:
        """In the driver: how many parts there are, and the memory of their states."""
        t = self.text
        t(
            f"const long blocks = (n + BLOCK_i - 1)/BLOCK_i, share = n < {FEWEST}*BLOCK_i && m > PART;",
            "const long parts = share ? (m + PART - 1)/PART : 1;",
            "const long room = (LEAST(n, BLOCK_i) + W - 1)/W*W;",
            f"const long size = {self.room()};",
            "T *kept = share ? malloc(H*blocks*parts*size*sizeof(T) + 1) : NULL;",
            "const int ready = kept || !share;",
            "if (!ready) failed++;",
        )

    def condition(self) -> str:
        """The C of whether a call is for `work`."""
        return f"share || n <= {self.few}" if self.few else "share"

    def work(self) -> None:
        """In the driver's parallel region: all units, then all merges."""
        t, n = self.text, self.name
        sweep = f"(n <= FEW ? {n}_few : {n}_sweep)" if self.few else f"{n}_sweep"
        t("#pragma omp for collapse(3) schedule(dynamic, 1 + H*blocks*parts/(32*threads))")
        t("for (long h = 0; h < H; h++) for (long b = 0; b < blocks; b++) for (long p = 0; p < parts; p++)")
        with t.block("  if (w && ready)"):
            t(f"{n}_enter(&args, w, h, b*BLOCK_i);")
            if self.few:
                t(f"if (n <= FEW) {n}_clear(w, n);")
            t(
                f"{sweep}(&args, w, h, b*BLOCK_i, p*PART, parts > 1 ? LEAST(m, (p + 1)*PART) : m);",
                "T *to = kept ? kept + ((h*blocks + b)*parts + p)*size : NULL;",
                f"if (to) {n}_keep(w, to, LEAST(n - b*BLOCK_i, BLOCK_i), room);",
                f"else bad += {n}_leave(&args, w, h, b*BLOCK_i);",
            )
        t("#pragma omp for collapse(2) schedule(static)")
        with t.block("for (long h = 0; h < (kept ? H : 0); h++) for (long b = 0; b < blocks; b++) if (w)"):
            t(
                "const T *from = kept + (h*blocks + b)*parts*size;",
                "const long rows = LEAST(n - b*BLOCK_i, BLOCK_i);",
                f"{n}_enter(&args, w, h, b*BLOCK_i);",
                f"{n}_first(w, from, rows, room);",
                f"for (long p = 1; p < parts; p++) {n}_merge(w, from + p*size, rows, room);",
                f"bad += {n}_leave(&args, w, h, b*BLOCK_i);",
            )
