"""C of a block of keys for few queries: keys are the lanes, and one query follows another.

With queries as lanes most lanes of a vector would be empty. Here a score is an inner product of two rows of
features, for as many keys at once as a vector has lanes; what follows of it is done for these keys together;
and a weighted sum goes through the keys with features as lanes. So every key is read from memory once and
used twice while it is in the first-level cache, which is what bounds the time of decoding [IV.3].
"""

from __future__ import annotations

import sympy as sp

from projsym.codegen import c_ranges
from projsym.codegen.c_names import Names, element
from projsym.codegen.c_pairs import row_key
from projsym.codegen.c_plan import Nest
from projsym.codegen.c_reads import INNER_LANES, WEIGHTED, plain, stored
from projsym.codegen.c_text import Text
from projsym.codegen.program import Input, Let, Rescale, RunningMax, Sum, whole
from projsym.codegen.scalar_c import scalar, vector

_SUMS = """\
/* keys of a row of weights, in whole vectors */
#define FEW_KEYS ((FEW_BLOCK + W - 1)/W*W)
_Static_assert(FEW*FEW_KEYS <= BLOCK_i*BLOCK_j, "the weights of few queries fit where those of a block do");
"""

_LANES = """\
/* the first numbers of an array as lanes, those from `count` on 0 */
INLINE V SOME(const T *p, long count) {
  if (count >= W) return LOADU(p);
  V x = {0};
  for (long l = 0; l < count; l++) x[l] = p[l];
  return x;
}
/* lanes first <= l < last */
INLINE VI LANES_WITHIN(long first, long last) {
  VI l;
  UNROLL for (int i = 0; i < W; i++) l[i] = i;
  return (l >= SETI((I)MOST(first, 0))) & (l < SETI((I)LEAST(MOST(last, 0), W)));
}
/* the largest lane, and the sum of all */
#ifdef TRANSPOSE
#define BOTH(op, s) x = op(__builtin_shufflevector(x, x, LOW_##s), __builtin_shufflevector(x, x, HIGH_##s));
#define PLUS(a, b) ((a) + (b))
#define HIGHER(s) BOTH(MAX, s)
#define ADDED(s) BOTH(PLUS, s)
INLINE T HIGHEST(V x) { EACH_SWAP(HIGHER) return x[0]; }
INLINE T TOTAL(V x) { EACH_SWAP(ADDED) return x[0]; }
#else
INLINE T HIGHEST(V x) {
  for (int l = 1; l < (int)W; l++) x[0] = x[0] > x[l] ? x[0] : x[l];
  return x[0];
}
INLINE T TOTAL(V x) {
  for (int s = W/2; s; s /= 2) for (int l = 0; l < s; l++) x[l] += x[l + s];
  return x[0];
}
#endif
"""

PRELUDE = _SUMS + plain(INNER_LANES) + _LANES + plain(WEIGHTED)
STORED = stored(INNER_LANES) + stored(WEIGHTED)
"""What few queries take besides where vectors are stored as bfloat16."""


class Few:
    """Prints the function that takes few queries through the keys of a part."""

    def __init__(self, names: Names, text: Text) -> None:
        self.names, self.plan, self.name, self.text = names, names.plan, names.name, text
        self.small = self.plan.small(bounded=False)
        self.weights = {s.weight for s in self.plan.pairs.body if isinstance(s, Sum)}

    def functions(self) -> None:
        """One function for each nest, and that of a part."""
        for n, phase in enumerate(self.plan.phases):
            if isinstance(phase, Nest):
                self.nest(n, phase)
        self.part()

    def symbol(self, s: sp.Symbol) -> str:
        """The C of a symbol inside a nest: a vector of keys."""
        return {"ij": "pair_", "j": "key_", "i": "row_", "": "par_"}[self.plan.axes[s]] + str(s)

    def nest(self, n: int, nest: Nest) -> None:
        """The keys first <= j < last of a block, for query r."""
        t, dot = self.text, nest.dot
        key = row_key(self.plan, dot)[1] if dot else None
        rows = f", const T *vec_{key}, long ld_{key}" if key else ""
        if key and self.plan.vectors[key].storage:
            rows = f", const S *raw_{key}{rows}"
        head = (
            f"INLINE void {self.name}_few{n}(const {self.name}_args *a, {self.name}_work *w{rows}, long h, "
        )
        with t.block(head + "long i0, long j0, long first, long last, long r)"):
            self._context(nest)
            with t.block("for (long j = first/W*W; j < last; j += W)"):
                t(
                    "const int whole = first <= j && j + W <= last;",
                    "const VI within = LANES_WITHIN(first - j, last - j);",
                )
                if dot:
                    f = self.plan.vectors[row_key(self.plan, dot)[0]].feature
                    row = f"w->row_of_{dot.name} + r*P_{f}"
                    value = f"INNER_LANES({row}, vec_{key} + j*ld_{key}, ld_{key}, P_{f}, last - j)"
                    if self.plan.vectors[str(key)].storage:
                        ld = f"a->ld_{key}"
                        direct = f"INNER_LANES_STORED({row}, raw_{key} + j*{ld}, {ld}, P_{f}, last - j)"
                        value = f"D_{f} % W ? {value} : {direct}"
                    t(f"const V pair_{dot.name} = {value};")
                self._body(nest)
            for s in nest.body:
                if isinstance(s, RunningMax):
                    t(f"w->row_{s.name}[r] = HIGHEST(row_{s.name});")
                elif isinstance(s, Sum):
                    t(f"w->row_{s.name}[r] += TOTAL(part_{s.name});")
        t("")

    def _context(self, nest: Nest) -> None:
        t, states = self.text, {s.name for s in nest.body if isinstance(s, Sum)}
        reads = nest.read() | {s.name for s in nest.body if isinstance(s, RunningMax)}
        for s in sorted(reads - states, key=str):
            axes = self.plan.axes[s]
            if axes == "":
                t(f"const V par_{s} = SET1((T)a->par_{s});")
            elif axes == "i":
                t(f"V row_{s} = SET1(w->row_{s}[r]);")
            elif axes == "j":
                given = str(s) in self.plan.scalars
                at = f"a->in_{s} + a->at_{s}[h]" if given else f"a->key_{s} + h*a->m"
                t(f"const T *keys_{s} = {at} + j0;")
            elif str(s) in self.plan.scalars:
                t(f"const T *pairs_{s} = a->in_{s} + a->at_{s}[h] + (i0 + r)*a->ld_{s} + j0;")
        t(*(f"V part_{s} = {{0}};" for s in sorted(states, key=str)))
        t("(void)i0, (void)j0, (void)h;")

    def _body(self, nest: Nest) -> None:
        t, buffers = self.text, self.plan.buffers
        for s in nest.loads:
            t(f"const V pair_{s} = LOAD(w->pair{buffers[s]} + r*FEW_KEYS + j);")
        for s in sorted(nest.read(), key=str):
            if self.plan.axes[s] == "j":
                t(f"const V key_{s} = SOME(keys_{s} + j, last - j);")
            elif self.plan.axes[s] == "ij" and str(s) in self.plan.scalars:
                t(f"const V pair_{s} = SOME(pairs_{s} + j, last - j);")
        for s in nest.body:
            match s:
                case Let(name=name, value=value):
                    text = vector(whole(value), self.symbol, self.small)
                    if name in self.weights:
                        t(f"const V any_{name} = {text};")
                        text = f"whole ? any_{name} : CHOOSE(within, any_{name}, {c_ranges.HIDDEN['sum']})"
                    t(f"const V pair_{name} = {text};")
                case RunningMax(name=name, of=of):
                    seen = f"whole ? pair_{of} : CHOOSE(within, pair_{of}, {c_ranges.HIDDEN['max']})"
                    t(f"row_{name} = MAX(row_{name}, {seen});")
                case Sum(name=name, weight=weight):
                    t(f"part_{name} += pair_{weight};")
        for s in nest.stores:
            t(f"STORE(w->pair{buffers[s]} + r*FEW_KEYS + j, pair_{s});")

    def part(self) -> None:
        """All queries of a call, from key `begin` to `end`."""
        t, plan = self.text, self.plan
        head = (
            f"static void {self.name}_few(const {self.name}_args *a, {self.name}_work *w, long h, long i0, "
        )
        with t.block(head + "long begin, long end)"):
            t("const long nq = LEAST(a->n - i0, FEW);")
            if plan.pairs.ranged:
                t(*c_ranges.OPEN)
            for dot in self.names.dots:
                row, _ = row_key(plan, dot)
                f, scale = plan.vectors[row].feature, scalar(dot.scale, self.names.row_symbol)
                stage = self.names.reader("STAGE")
                t(
                    f"const {element(plan.vectors[row])} *vec_{row} = "
                    f"a->in_{row} + a->at_{row}[h] + i0*a->ld_{row};",
                    f"{stage}(w->row_of_{dot.name}, vec_{row}, a->ld_{row}, D_{f}, P_{f}, nq, nq);",
                    f"for (long x = 0; x < nq*P_{f}; x++) w->row_of_{dot.name}[x] *= (T){scale};",
                )
            first, last = "begin", "end"
            if plan.pairs.ranged:
                first, last = "MOST(begin, seen.first/FEW_BLOCK*FEW_BLOCK)", "LEAST(end, seen.last)"
            with t.block(f"for (long j0 = {first}; j0 < {last}; j0 += FEW_BLOCK)"):
                t(f"const long nk = LEAST({last} - j0, FEW_BLOCK);")
                for k in self.names.key_vectors:
                    self._stage(plan.vectors[k])
                with t.block("for (long r = 0; r < nq; r++)"):
                    if plan.pairs.ranged:
                        t(
                            "const long from = lo ? LEAST(MOST(lo[r] - j0, 0), nk) : 0;",
                            "const long to = lo ? LEAST(MOST(hi[r] - j0, 0), nk) : nk;",
                        )
                    else:
                        t("const long from = 0, to = nk;")
                    t("if (from >= to) continue;")
                    self._phases()
        t("")

    def _stage(self, x: Input) -> None:
        t, k, f = self.text, x.name, x.feature
        if x.storage:
            at = f"a->in_{k} + a->at_{k}[h] + j0*a->ld_{k}"
            t(
                f"const S *raw_{k} = {at};",
                f"const T *vec_{k} = w->stage_{k};",
                f"const long ld_{k} = P_{f};",
                f"if (D_{f} % W) STAGE_STORED(w->stage_{k}, raw_{k}, a->ld_{k}, D_{f}, P_{f}, nk, nk);",
            )
            return
        t(f"const T *vec_{k} = a->in_{k} + a->at_{k}[h] + j0*a->ld_{k};", f"long ld_{k} = a->ld_{k};")
        with t.block(f"if (D_{f} % W)"):
            t(
                f"STAGE(w->stage_{k}, vec_{k}, ld_{k}, D_{f}, P_{f}, nk, nk);",
                f"vec_{k} = w->stage_{k}, ld_{k} = P_{f};",
            )

    def _phases(self) -> None:
        t = self.text
        for n, phase in enumerate(self.plan.phases):
            match phase:
                case Nest():
                    t(*(f"w->row_{top.old}[r] = w->row_{top.name}[r];" for top in phase.maxima()))
                    key = row_key(self.plan, phase.dot)[1] if phase.dot else None
                    rows = f", vec_{key}, ld_{key}" if key else ""
                    if key and self.plan.vectors[key].storage:
                        rows = f", raw_{key}{rows}"
                    t(f"{self.name}_few{n}(a, w{rows}, h, i0, j0, from, to, r);")
                case Rescale():
                    self._rescale(phase)
                case Sum(name=name, weight=weight, vector=key):
                    assert key is not None
                    f = self.plan.vectors[key].feature
                    sums = f"w->sum_{name} + r*P_{f}, w->pair{self.plan.buffers[weight]} + r*FEW_KEYS"
                    text = f"WEIGHTED_SUM({sums}, vec_{key}, ld_{key}, P_{f}, from, to);"
                    if self.plan.vectors[key].storage:
                        direct = f"WEIGHTED_SUM_STORED({sums}, raw_{key}, a->ld_{key}, P_{f}, from, to);"
                        text = f"if (D_{f} % W) {text} else {direct}"
                    t(text)

    def _rescale(self, step: Rescale) -> None:
        t = self.text
        sums = {s.name: s for s in self.plan.pairs.body if isinstance(s, Sum)}
        with t.block(""):
            for s in sorted(step.factor.free_symbols, key=str):
                row = self.plan.axes[s] == "i"
                value = f"w->row_{s}[r]" if row else f"(T)a->par_{s}"
                t(f"const V {'row' if row else 'par'}_{s} = SET1({value});")
            t(f"const V factors = {vector(step.factor, self.symbol, self.small)};")
            with t.block("if (factors[0] != 1)"):
                for s in step.sums:
                    key = sums[s].vector
                    if key is None:
                        t(f"w->row_{s}[r] *= factors[0];")
                        continue
                    at = f"w->sum_{s}[r*P_{self.plan.vectors[key].feature} + x]"
                    t(f"for (long x = 0; x < P_{self.plan.vectors[key].feature}; x++) {at} *= factors[0];")
