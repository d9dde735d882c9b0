"""A scheduled program as C.

The source serves every instruction set of `projsym.codegen.isa` and every feature size (macros ``D_<feature>``).
What is printed is the program's tree, statement by statement: parameters once per call, key scalars once per
head, then for each block of queries the row scalars, the key blocks with their phases
(`projsym.codegen.c_plan`), and the outputs. It guarantees nothing about rounding beyond array semantics; the
result does not depend on the number of threads, since a row block is always computed by one thread.
"""

from __future__ import annotations

import sympy as sp

from projsym.codegen.c_pairs import Pairs, row_key
from projsym.codegen.c_plan import Nest, Plan, plan
from projsym.codegen.c_text import Text
from projsym.codegen.isa import prelude
from projsym.codegen.program import (
    Dot,
    Input,
    Let,
    Output,
    Program,
    RunningMax,
    Sum,
    symbol,
)
from projsym.codegen.scalar_c import power_function, powers, scalar


def emit_c(program: Program, dtype: str, header: str = "") -> str:
    """The C source of a scheduled program, the same bytes every time.

    dtype: "float32" or "float64", of all arrays; parameters are doubles. header: text put before the code.
    Compile with ``-O3 -ffp-contract=off -fno-math-errno -std=gnu11 -D D_<feature>=<size>`` for every feature,
    and ``-fopenmp`` for threads.

    The one external function has the program's name and returns 0, or -1 when memory could not be had, or the
    number of rows whose normaliser is NaN or infinite::

        int NAME(long H, long n, long m,
                 const T *x, const long *x_at, long x_ld,   // vector inputs: head h at x + x_at[h], rows x_ld apart
                 const T *b, const long *b_at,              // scalar inputs of a query or key, contiguous
                 double p,                                  // parameters
                 T *out,                                    // outputs (H, n, D) or (H, n); a scalar may be NULL
                 int threads);

    Raises ValueError for another dtype, names that are no C identifiers, statements not yet hoisted, loops
    without a block size, and expressions without a C form.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return _Kernel(plan(program), dtype, header).source()


def _identifier(name: str) -> None:
    if not (name.isidentifier() and name.isascii()):
        raise ValueError(f"{name!r} is not a C identifier")


class _Kernel:
    def __init__(self, plan: Plan, dtype: str, header: str) -> None:
        self.plan, self.dtype, self.header = plan, dtype, header
        self.program, self.name, self.text = plan.program, plan.program.name, Text()
        self.outputs = [s for s in plan.after if isinstance(s, Output)]
        self.sums = {s.name: s for s in plan.pairs.body if isinstance(s, Sum)}
        self.features = sorted({x.feature for x in plan.vectors.values()})
        self.row_inputs = [x for x in plan.scalars.values() if x.axes == "i"]
        self.arrays = [x for x in plan.scalars.values() if x.axes]
        self.parameters = [x.name for x in plan.scalars.values() if not x.axes]
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
        for name in (self.name, *self.features, *map(str, plan.axes), *plan.vectors, *(o.name for o in self.outputs)):
            _identifier(name)

    # ---- names
    def signature(self) -> str:
        """The parameters of the external function."""
        parts = ["long H", "long n", "long m"]
        for x in self.plan.vectors.values():
            parts += [f"const T *in_{x.name}", f"const long *at_{x.name}", f"long ld_{x.name}"]
        for x in self.arrays:
            parts += [f"const T *in_{x.name}", f"const long *at_{x.name}"]
        parts += [f"double par_{p}" for p in self.parameters]
        return ", ".join([*parts, *(f"T *out_{o.name}" for o in self.outputs), "int threads"])

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

    # ---- the file
    def source(self) -> str:
        """Everything."""
        t, p = self.text, self.program
        notes = [*str(p).splitlines(), *(["schedule:"] if p.log else []), *(f"  {line}" for line in p.log)]
        t("/*", *(f" * {line}".rstrip() for line in notes), " */", "")
        t(*self.header.splitlines(), *prelude(self.dtype, p.tiles).splitlines(), "")
        used = {n for s in self.plan.pairs.body if isinstance(s, Let) for n in powers(s.value)}
        t(*(power_function(n) for n in sorted(used)))
        self.sizes()
        self.structs()
        pairs = Pairs(self.plan, t)
        pairs.nests()
        self.row_block(pairs)
        self.driver()
        return str(t)

    def sizes(self) -> None:
        """Feature sizes, block sizes, and what they must satisfy."""
        t = self.text
        for f in self.features:
            t(f"#ifndef D_{f}", f'#error "compile with -DD_{f}=<size of feature {f}>"', "#endif")
        t(*(f"#define P_{f} ((D_{f} + (int)W - 1)/(int)W*(int)W)" for f in self.features))
        t(f"#define BLOCK_i {self.plan.rows.block}", f"#define BLOCK_j {self.plan.pairs.block}",
          "#define STAGED ((BLOCK_j + TILE_KEYS - 1)/TILE_KEYS*TILE_KEYS)",
          '_Static_assert(BLOCK_i % W == 0, "a block of queries must be whole vectors");',
          '_Static_assert(BLOCK_i % TILE_ROWS == 0, "a block of queries must be whole tiles");', "")

    def structs(self) -> None:
        """What a row block receives, and its working memory."""
        t, plan = self.text, self.plan
        with t.block("typedef struct", f"}} {self.name}_args;"):
            t("long n, m;")
            for x in plan.vectors.values():
                t(f"const T *in_{x.name}; const long *at_{x.name}; long ld_{x.name};")
            t(*(f"const T *in_{x.name}; const long *at_{x.name};" for x in self.arrays))
            t(*(f"double par_{p};" for p in [*self.parameters, *(str(s.name) for s in plan.parameters)]))
            t(*(f"const T *key_{s};" for s in self.key_scalars))
            t(*(f"T *out_{o.name};" for o in self.outputs))
        with t.block("typedef struct", f"}} {self.name}_work;"):
            for dot in self.dots:
                f = plan.vectors[dot.left].feature
                t(f"T pack_{dot.name}[D_{f}*BLOCK_i] ALIGNED;")
            t(*(f"T stage_{k}[STAGED*P_{plan.vectors[k].feature}] ALIGNED;" for k in self.key_vectors))
            t(*(f"T pair{b}[BLOCK_j*BLOCK_i] ALIGNED;" for b in sorted(set(plan.buffers.values()))))
            for s in sorted(plan.states() | set(self.row_values), key=str):
                t(f"T row_{s}[BLOCK_i] ALIGNED;")
            t(*(f"T sum_{s.name}[BLOCK_i*P_{plan.vectors[s.vector].feature}] ALIGNED;"
                for s in self.sums.values() if s.vector))
            t(*(f"double keep_{s}[BLOCK_i] ALIGNED;" for s in self.kept))
            t("T factor[BLOCK_i] ALIGNED;")
        t("")

    # ---- one block of queries
    def row_block(self, pairs: Pairs) -> None:
        """The function of one head and one block of queries; it returns the number of bad rows."""
        t, plan = self.text, self.plan
        head = f"static long {self.name}_rows(const {self.name}_args *a, {self.name}_work *w, long h, long i0)"
        with t.block(head):
            t("const long m = a->m, nq = a->n - i0 < BLOCK_i ? a->n - i0 : BLOCK_i, nv = (nq + W - 1)/W;",
              "long bad = 0;")
            for x in plan.vectors.values():
                if x.axes == "i":
                    t(f"const T *vec_{x.name} = a->in_{x.name} + a->at_{x.name}[h] + i0*a->ld_{x.name};")
            for dot in self.dots:
                row, _ = row_key(plan, dot)
                t(f"PACK(w->pack_{dot.name}, vec_{row}, a->ld_{row}, D_{plan.vectors[row].feature}, BLOCK_i, nq, "
                  f"(T){scalar(dot.scale, self.row_symbol)});")
            for total in self.sums.values():
                where = f"w->{'sum' if total.vector else 'row'}_{total.name}"
                t(f"memset({where}, 0, sizeof {where});")
            for top in (s for s in plan.pairs.body if isinstance(s, RunningMax)):
                t(f"for (long r = 0; r < BLOCK_i; r++) w->row_{top.name}[r] = LOWEST;")
            if plan.before or self.row_values:
                self.rows_before()
            with t.block("for (long j0 = 0; j0 < m; j0 += BLOCK_j)"):
                t("const long nk = m - j0 < BLOCK_j ? m - j0 : BLOCK_j;")
                for k in self.key_vectors:
                    self.stage(plan.vectors[k])
                pairs.phases()
            self.rows_after()
            t("return bad;")
        t("")

    def stage(self, x: Input) -> None:
        """Key rows of one block, copied only where they are not whole tiles of whole vectors already."""
        t, k, f = self.text, x.name, x.feature
        t(f"const T *vec_{k} = a->in_{k} + a->at_{k}[h] + j0*a->ld_{k};")
        with t.block(f"if (D_{f} % W || a->ld_{k} != D_{f} || nk % TILE_KEYS)"):
            t(f"STAGE(w->stage_{k}, vec_{k}, a->ld_{k}, D_{f}, P_{f}, nk, "
              "(nk + TILE_KEYS - 1)/TILE_KEYS*TILE_KEYS);",
              f"vec_{k} = w->stage_{k};")

    def row_value(self, s: Let | Dot) -> str:
        """The C of a row statement's value."""
        if isinstance(s, Let):
            return scalar(s.value, self.row_symbol, frozenset(self.plan.states()))
        f = self.plan.vectors[s.left].feature
        left, right = (f"vec_{x} + r*a->ld_{x}" for x in (s.left, s.right))
        return self.scaled(s, f"INNER({left}, {right}, D_{f})", scalar(s.scale, self.row_symbol))

    @staticmethod
    def scaled(s: Dot, text: str, scale: str) -> str:
        """An inner product times its scale."""
        return text if s.scale == 1 else f"{scale}*{text}"

    def rows_before(self) -> None:
        """Row scalars that the loop over keys reads; absent rows are 0."""
        t = self.text
        t(*(f"memset(w->row_{s}, 0, sizeof w->row_{s});" for s in self.row_values))
        with t.block("for (long r = 0; r < nq; r++)"):
            t(*(f"const double val_{s.name} = {self.row_value(s)};" for s in self.plan.before))
            t(*(f"w->row_{s}[r] = (T){self.row_symbol(s)};" for s in self.row_values))
            t(*(f"w->keep_{s}[r] = val_{s};" for s in self.kept))

    def needed_by(self, name: sp.Symbol) -> list[Output]:
        """The outputs that a row scalar after the loop over keys is for."""
        users, found = {name}, []
        for s in self.plan.after:
            if isinstance(s, Let) and s.value.free_symbols & users:
                users.add(s.name)
            elif isinstance(s, Output) and any(c.free_symbols & users for c, _ in s.terms):
                found.append(s)
        return found

    def rows_after(self) -> None:
        """Row scalars and outputs; what serves only absent outputs is not computed."""
        t = self.text
        with t.block("for (long r = 0; r < nq; r++)"):
            t(*(f"const double val_{s} = w->keep_{s}[r];" for s in self.kept))
            tests = [f"isfinite(w->row_{s}[r])" for s in self.plan.normalisers()]
            if tests:
                t(f"bad += !({' && '.join(tests)});")
            for s in self.plan.after:
                if isinstance(s, Output):
                    self.output(s)
                    continue
                users = self.needed_by(s.name)
                value = self.row_value(s)
                if users and not any(o.feature for o in users):
                    value = f"{' || '.join(f'a->out_{o.name}' for o in users)} ? {value} : 0"
                t(f"const double val_{s.name} = {value};")

    def output(self, o: Output) -> None:
        """One output of one row."""
        t, sums = self.text, frozenset(self.plan.states())
        values = [scalar(c, self.row_symbol, sums) for c, _ in o.terms]
        if not o.feature:
            t(f"if (a->out_{o.name}) a->out_{o.name}[h*a->n + i0 + r] = (T)({' + '.join(values)});")
            return
        f, terms = o.feature, []
        with t.block(""):
            for n, (value, (_, vector)) in enumerate(zip(values, o.terms, strict=True)):
                t(f"const T c{n} = (T){value};")
                x = f"w->sum_{vector}[r*P_{f} + x]"
                terms.append(f"c{n}*" + (x if vector in self.sums else f"vec_{vector}[r*a->ld_{vector} + x]"))
            t(f"T *to = a->out_{o.name} + ((h*a->n + i0) + r)*D_{f};",
              f"for (long x = 0; x < D_{f}; x++) to[x] = {' + '.join(terms)};")

    # ---- the external function
    def driver(self) -> None:
        """Parameters, key scalars, then all row blocks."""
        t, plan = self.text, self.plan
        across, down = plan.heads.parallel, plan.rows.parallel
        with t.block(f"int {self.name}({self.signature()})"):
            for s in plan.parameters:
                t(f"const double par_{s.name} = {scalar(s.value, self.key_symbol)};")
            t("long bad = 0, failed = 0;")
            if self.key_scalars:
                t(f"T *keys = malloc({len(self.key_scalars)}*H*m*sizeof(T) + 1);", "if (!keys) return -1;")
            t(*(f"T *key_{s} = keys + {n}*H*m;" for n, s in enumerate(self.key_scalars)))
            fields = ["n", "m"]
            for x in plan.vectors.values():
                fields += [f"in_{x.name}", f"at_{x.name}", f"ld_{x.name}"]
            for x in self.arrays:
                fields += [f"in_{x.name}", f"at_{x.name}"]
            fields += [f"par_{p}" for p in [*self.parameters, *(str(s.name) for s in plan.parameters)]]
            fields += [f"key_{s}" for s in self.key_scalars] + [f"out_{o.name}" for o in self.outputs]
            t(f"const {self.name}_args args = {{{', '.join(f'.{x} = {x}' for x in fields)}}};")
            t("if (threads < 1) threads = 1;")
            if across or down:
                t("#pragma omp parallel num_threads(threads) reduction(+:bad, failed)")
            with t.block(""):
                if self.key_scalars:
                    self.keys(across)
                t(f"{self.name}_work *w = aligned_alloc(64, sizeof({self.name}_work));",
                  "if (w) memset(w, 0, sizeof *w); else failed++;")
                if across:
                    t(f"#pragma omp for{' collapse(2)' if down else ''} schedule(dynamic, 1)")
                t("for (long h = 0; h < H; h++)")
                if down and not across:
                    t("#pragma omp for schedule(dynamic, 1)")
                t("  for (long i0 = 0; i0 < n; i0 += BLOCK_i)",
                  f"    if (w) bad += {self.name}_rows(&args, w, h, i0);",
                  "free(w);")
            if self.key_scalars:
                t("free(keys);")
            t("return failed ? -1 : bad > INT_MAX ? INT_MAX : (int)bad;")

    def keys(self, across: bool) -> None:
        """Key scalars, once per head."""
        t = self.text
        if across:
            t("#pragma omp for collapse(2) schedule(static)")
        t("for (long h = 0; h < H; h++)")
        with t.block("for (long j = 0; j < m; j++)"):
            for loop in self.plan.key_loops:
                for s in loop.body:
                    if isinstance(s, Let):
                        value = scalar(s.value, self.key_symbol)
                    else:
                        assert isinstance(s, Dot)
                        f = self.plan.vectors[s.left].feature
                        left, right = (f"in_{x} + at_{x}[h] + j*ld_{x}" for x in (s.left, s.right))
                        value = self.scaled(s, f"INNER({left}, {right}, D_{f})", scalar(s.scale, self.key_symbol))
                    t(f"const double val_{s.name} = {value};")
            t(*(f"key_{s}[h*m + j] = (T)val_{s};" for s in self.key_scalars))
