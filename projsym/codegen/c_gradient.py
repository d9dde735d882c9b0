"""C of the backward kernels: queries block by block against a chunk of keys whose sums stay in memory.

A unit of work is a head and a chunk of its keys. It goes through all queries in order and adds to the sums of
its keys, which nobody else touches; what it has for the queries is finished at once if the chunk is all keys,
and otherwise kept and added up over the chunks, in their order, once all are done. The chunks depend on the
number of keys, and on whether there is but one head; so results do not depend on the number of threads, bit
by bit.
"""

from __future__ import annotations

from projsym.codegen import c_ranges
from projsym.codegen.c_driver import Driver
from projsym.codegen.c_pairs import Pairs, row_key
from projsym.codegen.c_rows import Rows
from projsym.codegen.program import Output
from projsym.codegen.scalar_c import scalar

CHUNK = 1024
"""Keys in a unit of work at most, but for whole blocks: enough to pack a block of queries for, few enough
that the sums of a chunk stay in the second-level cache."""
SHARED = 384
"""Keys from which a single head is two units, work for two threads: with fewer, packing every block of
queries twice would cost more than that saves."""

PRELUDE = """\
/* sums[key][feature] += weights[key][query] * values[query][feature], R keys at a time; a block of queries is
   summed on its own and added once, which is what the error bound counts */
INLINE void GATHER_TILE(const int R, const int C, T *sums, const T *weights, const T *values, long ld,
                        const int P, const int B, long queries) {
  V acc[32];
  UNROLL for (int x = 0; x < R*C; x++) acc[x] = (V){0};
  OUTER(R, C, acc, weights, B, 1, values, ld, queries);
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
    STORE(sums + r*P + c*W, LOAD(sums + r*P + c*W) + acc[r*C + c]);
}
INLINE void GATHER_ROWS(const int R, T *sums, const T *weights, const T *values, long ld, const int P,
                        const int B, long queries) {
  const int vectors = P/W, chunks = (vectors + TILE_FEATURES - 1)/TILE_FEATURES;
  const int wide = (vectors + chunks - 1)/chunks, last = vectors - wide*(chunks - 1);
  int c = 0;
  for (; c < (chunks - 1)*wide; c += wide)
    GATHER_TILE(R, wide, sums + c*W, weights, values + c*W, ld, P, B, queries);
  GATHER_TILE(R, last, sums + c*W, weights, values + c*W, ld, P, B, queries);
}
/* the weights of absent keys, up to a whole tile, are set to 0: their sums stay what they are */
INLINE void GATHER(T *sums, T *weights, const T *values, long ld, const int P, const int B, long queries,
                   long keys) {
  long j = 0;
  const long all = (keys + TILE_ROWS - 1)/TILE_ROWS*TILE_ROWS;
  memset(weights + keys*B, 0, (all - keys)*B*sizeof(T));
  for (; j + TILE_ROWS/2 < keys; j += TILE_ROWS)
    GATHER_ROWS(TILE_ROWS, sums + j*P, weights + j*B, values, ld, P, B, queries);
  if (j < keys) GATHER_ROWS(TILE_ROWS/2, sums + j*P, weights + j*B, values, ld, P, B, queries);
}
/* sums[key] += weights[key][query], lane by lane */
INLINE void GATHER_LANES(T *sums, const T *weights, const int B, long queries, long keys) {
  for (long j = 0; j < keys; j++) {
    V s = (V){0};
    long i = 0;
    for (; i + W <= queries; i += W) s += LOAD(weights + j*B + i);
    for (long l = 0; i + l < queries; l++) s[l] += weights[j*B + i + l];
    STORE(sums + j*W, LOAD(sums + j*W) + s);
  }
}
/* the lanes of a key's sum, in double */
INLINE double LANES(const T *p) {
  double s = 0;
  for (int l = 0; l < W; l++) s += (double)p[l];
  return s;
}
"""


class GradientRows(Rows):
    """Prints what a block of queries and a chunk of keys take."""

    excused = False  # the gradient of a row that sees nothing is 0

    def functions(self, pairs: Pairs) -> None:
        """All functions of a block of queries, and that of the keys' gradients."""
        self.enter()
        self.leave()
        self.sweep(pairs)
        self.combine()
        self.keys_after()

    def _head(self, what: str, extra: str = "", kind: str = "void") -> str:
        n = self.name
        return f"static {kind} {n}_{what}(const {n}_args *a, {n}_work *w, long h, long i0{extra})"

    def enter(self) -> None:
        """Sums of the queries zero, and their scalars."""
        with self.text.block(self._head("enter")):
            self._open()
            self.empty()
            self.rows_before()
        self.text("")

    def leave(self) -> None:
        """The gradients of the queries of a block; it returns the number of those that are not finite."""
        with self.text.block(self._head("leave", kind="long")):
            self._open()
            self.text("long bad = 0;")
            self.rows_after()
            self.text("return bad;")
        self.text("")

    def doubts(self) -> list[str]:
        """The C of what a row of gradients is not counted for: all of them finite."""
        return [self._finite(o, "n + i0 + r") for o in self.names.outputs]

    def _finite(self, o: Output, at: str) -> str:
        if o.feature:
            return f"!odd_{o.name}"
        return f"(!a->out_{o.name} || isfinite(a->out_{o.name}[h*a->{at}]))"

    def odd(self, o: Output, value: str) -> str:
        """Only a finite number less itself is 0."""
        return f"{value} - {value} != 0"

    def sweep(self, pairs: Pairs) -> None:
        """One block of queries against the keys of a chunk."""
        t, plan = self.text, self.plan
        with t.block(self._head("rows", ", long begin, long end, T *keys")):
            self._open()
            t("const long nv = (nq + W - 1)/W, share = SHARE(nv, TILE_QUERY_VECTORS);")
            if plan.pairs.ranged:
                t(*c_ranges.OPEN)
                t("if (seen.last <= begin || seen.first >= end) return;")
            for dot in self.names.dots:
                row, _ = row_key(plan, dot)
                t(
                    f"PACK(w->pack_{dot.name}, vec_{row}, a->ld_{row}, D_{plan.vectors[row].feature}, "
                    f"BLOCK_i, nq, (T){scalar(dot.scale, self.names.row_symbol)});"
                )
            for x in self.names.gathered:
                f = plan.vectors[x].feature
                t(f"const T *all_{x} = vec_{x};", f"long lda_{x} = a->ld_{x};")
                with t.block(f"if (D_{f} % W)"):
                    t(f"STAGE(w->all_{x}, vec_{x}, a->ld_{x}, D_{f}, P_{f}, nq, nq);")
                    t(f"all_{x} = w->all_{x}; lda_{x} = P_{f};")
            first, last = self.ends("begin", "end")
            with t.block(f"for (long j0 = {first}; j0 < {last}; j0 += BLOCK_j)"):
                t(f"const long nk = LEAST({last} - j0, BLOCK_j);")
                if plan.pairs.ranged:
                    t(*c_ranges.EDGE)
                self.block(pairs)
        t("")

    def combine(self) -> None:
        """Keep the sums of a block of queries, or add up what the chunks kept."""
        t = self.text
        for what, op in (("keep", "to[x] = from[x]"), ("add", "from[x] += to[x]")):
            with t.block(f"static void {self.name}_{what}({self.name}_work *w, T *to)"):
                for s in self.names.sums.values():
                    f = f"BLOCK_i*P_{self.plan.vectors[s.vector].feature}" if s.vector else "BLOCK_i"
                    with t.block(""):
                        t(f"T *from = w->{'sum' if s.vector else 'row'}_{s.name};")
                        t(f"for (long x = 0; x < {f}; x++) {op};", f"to += {f};")
            t("")

    def keys_after(self) -> None:
        """The gradients of the keys of a chunk; it returns the number of those that are not finite."""
        t, names = self.text, self.names
        head = (
            f"static long {self.name}_keys(const {self.name}_args *a, long h, long begin, long end, T *keys)"
        )
        with t.block(head):
            t("long bad = 0;")
            with t.block("for (long j = begin; j < end; j++)"):
                for s in names.key_sums.values():
                    if s.vector is None:
                        at = f"keys + ({names.key_state(s)}) + (j - begin)*W"
                        t(f"const double val_{s.name} = LANES({at});")
                for o in names.key_outputs:
                    self.key_output(o)
                t(f"bad += !({' && '.join(self._finite(o, 'm + j') for o in names.key_outputs)});")
            t("return bad;")
        t("")

    def key_output(self, o: Output) -> None:
        """One output of one key."""
        t, names = self.text, self.names
        values = [scalar(c, names.state_symbol) for c, _ in o.terms]
        if not o.feature:
            t(f"if (a->out_{o.name}) a->out_{o.name}[h*a->m + j] = (T)({' + '.join(values)});")
            return
        f, terms = o.feature, []
        t(f"I odd_{o.name} = 0;")
        with t.block(""):
            for n, (value, (_, vector)) in enumerate(zip(values, o.terms, strict=True)):
                t(f"const T c{n} = (T){value};")
                if vector in names.key_sums:
                    x = f"x{n}[x]"
                    state = names.key_state(names.key_sums[vector])
                    t(f"const T *x{n} = keys + ({state}) + (j - begin)*P_{f};")
                else:
                    x = f"x{n}[x]"
                    t(f"const T *x{n} = a->in_{vector} + a->at_{vector}[h] + j*a->ld_{vector};")
                terms.append(f"c{n}*{x}")
            t(
                f"T *to = a->out_{o.name} + (h*a->m + j)*D_{f};",
                f"for (long x = 0; x < D_{f}; x++) to[x] = {' + '.join(terms)}, "
                f"odd_{o.name} |= {self.odd(o, 'to[x]')};",
            )


class GradientDriver(Driver):
    """Prints the external function."""

    def sizes(self) -> list[str]:
        """Also the keys that the sums of a chunk have room for."""
        self.text(
            f"const long pieces = MOST((m + CHUNK - 1)/CHUNK, H == 1 && m >= {SHARED} ? 2 : 1);",
            "const long chunk = MOST(1, ((m + pieces - 1)/pieces + BLOCK_j - 1)/BLOCK_j)*BLOCK_j;",
            "const long span = (LEAST(m, chunk) + TILE_ROWS)/TILE_ROWS*TILE_ROWS;",
        )
        return [*super().sizes(), "span"]

    def work(self) -> None:
        """All units of work, and the sums over chunks."""
        t, n, names = self.text, self.name, self.names
        size = f"sizeof(T)*({names.state_size()})"
        rows = " + ".join(
            f"BLOCK_i*P_{self.plan.vectors[s.vector].feature}" if s.vector else "BLOCK_i"
            for s in names.sums.values()
        )
        t("const long chunks = m > 0 ? (m + chunk - 1)/chunk : 1, blocks = (n + BLOCK_i - 1)/BLOCK_i;")
        t(f"const long row = {rows};", f"const {n}_args *a = &args;")
        t("T *kept = chunks > 1 ? malloc(chunks*H*blocks*row*sizeof(T) + 1) : NULL;")
        t("if (chunks > 1 && !kept) failed++;")
        if self.plan.heads.parallel:
            t("#pragma omp parallel num_threads(threads) reduction(+:bad, failed)")
        with t.block(""):
            if names.key_scalars:
                self.keys(self.plan.heads.parallel)
            t(
                f"{n}_work *w = aligned_alloc(64, sizeof({n}_work));",
                f"T *keys_of_chunk = aligned_alloc(64, {size});",
                "const int good = w && keys_of_chunk && (kept || chunks == 1);",
                "if (w) memset(w->next, 0, sizeof w->next);",
                "if (!good) failed++;",
            )
            self._for()
            with t.block("for (long h = 0; h < H; h++) for (long c = 0; c < chunks; c++) if (good)"):
                t(
                    "const long begin = c*chunk, end = LEAST(m, begin + chunk);",
                    f"memset(keys_of_chunk, 0, {size});",
                )
                with t.block("for (long b = 0; b < blocks; b++)"):
                    t(
                        f"if (chunks == 1) {n}_ahead(a, w, H, h, b*BLOCK_i);",
                        f"{n}_enter(a, w, h, b*BLOCK_i);",
                        f"{n}_rows(a, w, h, b*BLOCK_i, begin, end, keys_of_chunk);",
                        f"if (kept) {n}_keep(w, kept + ((c*H + h)*blocks + b)*row);",
                        f"else bad += {n}_leave(a, w, h, b*BLOCK_i);",
                    )
                t(f"bad += {n}_keys(a, h, begin, end, keys_of_chunk);")
            self._for()
            with t.block("for (long h = 0; h < H; h++) for (long b = 0; b < blocks; b++) if (good && kept)"):
                t(
                    f"{n}_enter(a, w, h, b*BLOCK_i);",
                    f"for (long c = 0; c < chunks; c++) {n}_add(w, kept + ((c*H + h)*blocks + b)*row);",
                    f"bad += {n}_leave(a, w, h, b*BLOCK_i);",
                )
            t("free(w);", "free(keys_of_chunk);")
        t("free(kept);")

    def _for(self) -> None:
        if self.plan.heads.parallel:
            share = "schedule(dynamic, 1 + H*chunks/(32*threads))"
            self.text(f"#pragma omp for collapse(2) {share}")
