"""C of one block of queries: pack, row scalars, key blocks, outputs."""

from __future__ import annotations

import sympy as sp

from projsym.codegen import c_ranges
from projsym.codegen.c_names import Names, element
from projsym.codegen.c_pairs import Pairs, row_key
from projsym.codegen.c_text import Text
from projsym.codegen.program import Dot, Input, Let, Output, RunningMax
from projsym.codegen.scalar_c import scalar


class Rows:
    """Prints the function of one head and one block of queries.

    excused: whether a row that sees no key is never counted as bad.
    """

    excused = True

    def __init__(self, names: Names, text: Text) -> None:
        self.names, self.plan, self.name, self.text = names, names.plan, names.name, text

    def row_block(self, pairs: Pairs, function: str, prefix: str = "") -> None:
        """The function of one head and one block of queries; it returns the number of bad rows.

        prefix: of the names of its three steps, by default that of the function.
        """
        own = prefix or function
        self.clear(own)
        self.enter_block(own)
        self.sweep_block(pairs, own)
        self.leave_block(own)
        head = f"static long {function}(const {self.name}_args *a, {self.name}_work *w, long h, long i0)"
        with self.text.block(head):
            self.text(
                f"{own}_enter(a, w, h, i0);",
                f"{own}_sweep(a, w, h, i0, 0, a->m);",
                f"return {own}_leave(a, w, h, i0);",
            )
        self.text("")

    def _open(self) -> None:
        """The number of queries and where their vectors are."""
        t = self.text
        t("const long nq = a->n - i0 < BLOCK_i ? a->n - i0 : BLOCK_i;")
        for x in self.plan.vectors.values():
            if x.axes == "i":
                at = f"a->in_{x.name} + a->at_{x.name}[h] + i0*a->ld_{x.name}"
                t(f"const {element(x)} *vec_{x.name} = {at};")
                t(f"(void)vec_{x.name};")

    def enter_block(self, own: str) -> None:
        """The empty state, and row scalars."""
        t, plan = self.text, self.plan
        head = f"ONCE void {own}_enter(const {self.name}_args *a, {self.name}_work *w, long h, long i0)"
        with t.block(head):
            self._open()
            self.empty(vectors=False)
            for top in (s for s in plan.pairs.body if isinstance(s, RunningMax)):
                t(f"for (long r = 0; r < BLOCK_i; r++) w->row_{top.name}[r] = LOWEST;")
            if plan.before or self.names.row_values:
                self.rows_before()

    def clear(self, own: str) -> None:
        """Sums of vectors at 0, for what does not begin with a block of keys that sets them."""
        with self.text.block(f"static void {own}_clear({self.name}_work *w, long nq)"):
            self.empty(numbers=False)
            self.text("(void)w, (void)nq;")

    def empty(self, numbers: bool = True, vectors: bool = True) -> None:
        """Sums over keys at 0, those of vectors as far as there are queries."""
        for total in self.names.sums.values():
            if not (vectors if total.vector else numbers):
                continue
            where = f"w->{'sum' if total.vector else 'row'}_{total.name}"
            size = f"sizeof {where}"
            if total.vector:
                rows = f"(nq + TILE_ROWS)*P_{self.plan.vectors[total.vector].feature}*sizeof(T)"
                size = f"nq + TILE_ROWS < BLOCK_i ? {rows} : {size}"
            self.text(f"memset({where}, 0, {size});")

    def sweep_block(self, pairs: Pairs, own: str) -> None:
        """The keys from `begin`, at a multiple of a block's, to `end`."""
        t, plan = self.text, self.plan
        head = f"ONCE void {own}_sweep(const {self.name}_args *a, {self.name}_work *w, long h, long i0, "
        with t.block(head + "long begin, long end)"):
            self._open()
            t("const long nv = (nq + W - 1)/W, share = SHARE(nv, TILE_QUERY_VECTORS);")
            if plan.pairs.ranged:
                t(*c_ranges.OPEN)
            for dot in self.names.dots:
                self.pack(dot)
            first, last = self.ends("begin", "end")
            t(f"const long first = {first};", f"if (first >= {last}) {own}_clear(w, nq);")
            with t.block(f"for (long j0 = first; j0 < {last}; j0 += BLOCK_j)"):
                t(f"const long nk = LEAST({last} - j0, BLOCK_j);")
                if plan.pairs.ranged:
                    t(*c_ranges.EDGE)
                self.block(pairs)

    def pack(self, dot: Dot) -> None:
        """The queries of an inner product as columns, scaled where they are widened."""
        row, _ = row_key(self.plan, dot)
        x = self.plan.vectors[row]
        self.text(
            f"{'PACK_QUERIES' if x.storage else 'PACK'}(w->pack_{dot.name}, vec_{row}, a->ld_{row}, "
            f"D_{x.feature}, BLOCK_i, nq, (T){scalar(dot.scale, self.names.row_symbol)});"
        )

    def leave_block(self, own: str) -> None:
        """The outputs; it returns the number of bad rows."""
        t = self.text
        head = f"ONCE long {own}_leave(const {self.name}_args *a, {self.name}_work *w, long h, long i0)"
        with t.block(head):
            self._open()
            t("long bad = 0;")
            if self.plan.pairs.ranged:
                t(*c_ranges.POINTERS, "(void)lo, (void)hi;")
            self.rows_after()
            t("return bad;")

    def block(self, pairs: Pairs) -> None:
        """What a block of keys takes: its rows, its pairs' numbers as the tiles need them, its phases."""
        for k in self.names.key_vectors:
            self.stage(self.plan.vectors[k])
        for x in self.names.pairs:
            at = f"a->in_{x.name} + a->at_{x.name}[h] + i0*a->ld_{x.name} + j0"
            self.text(f"PACK(w->bias_{x.name}, {at}, a->ld_{x.name}, nk, BLOCK_i, nq, (T)1.0);")
        pairs.phases()

    def ends(self, begin: str, end: str) -> tuple[str, str]:
        """The C of where the loop over blocks of keys begins, at a multiple of their size, and ends."""
        if not self.plan.pairs.ranged:
            return begin, end
        return f"MOST({begin}, seen.first/BLOCK_j*BLOCK_j)", f"LEAST({end}, seen.last)"

    def stage(self, x: Input) -> None:
        """Key rows of one block, copied only where they are not whole vectors, or fewer than one tile, or
        stored in another type."""
        t, k, f = self.text, x.name, x.feature
        if x.storage:
            at = f"a->in_{k} + a->at_{k}[h] + j0*a->ld_{k}"
            self.stage_stored(x, at)
            return
        t(f"const T *vec_{k} = a->in_{k} + a->at_{k}[h] + j0*a->ld_{k};")
        with t.block(f"if (D_{f} % W || a->ld_{k} != D_{f} || nk < TILE_KEYS)"):
            t(
                f"STAGE(w->stage_{k}, vec_{k}, a->ld_{k}, D_{f}, P_{f}, nk, MOST(nk, TILE_KEYS));",
                f"vec_{k} = w->stage_{k};",
            )

    def stage_stored(self, x: Input, at: str) -> None:
        """Key rows in another type: widened, or as they are for scores and in pairs for sums."""
        t, k, f = self.text, x.name, x.feature
        scored = any(k == row_key(self.plan, dot)[1] for dot in self.names.dots)
        summed = any(k == s.vector for s in self.names.sums.values())
        t("#ifdef PAIRED")
        if scored:
            t(f"const KEY *vec_{k} = {at};")
            with t.block(f"if (D_{f} % 2 || a->ld_{k} != D_{f} || nk < TILE_KEYS)"):
                t(
                    f"STAGE_ROWS(w->rows_{k}, vec_{k}, a->ld_{k}, D_{f}, nk, MOST(nk, TILE_KEYS));",
                    f"vec_{k} = w->rows_{k};",
                )
        if summed:
            t(f"PAIR_ROWS(w->pairs_{k}, {at}, a->ld_{k}, D_{f}, P_{f}, nk);")
        t(
            "#else",
            f"STAGE_STORED(w->stage_{k}, {at}, a->ld_{k}, D_{f}, P_{f}, nk, MOST(nk, TILE_KEYS));",
            f"const KEY *vec_{k} = w->stage_{k};",
            "#endif",
        )

    def rows_before(self) -> None:
        """Row scalars that the loop over keys reads; absent rows are 0."""
        t = self.text
        t(*(f"memset(w->row_{s}, 0, sizeof w->row_{s});" for s in self.names.row_values))
        with t.block("for (long r = 0; r < nq; r++)"):
            t(*(f"const double val_{s.name} = {self.names.row_value(s)};" for s in self.plan.before))
            t(*(f"w->row_{s}[r] = (T){self.names.row_symbol(s)};" for s in self.names.row_values))
            t(*(f"w->keep_{s}[r] = val_{s};" for s in self.names.kept))

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
            t(*(f"const double val_{s} = w->keep_{s}[r];" for s in self.names.kept))
            for s in self.plan.after:
                if isinstance(s, Output):
                    self.output(s)
                    continue
                users = self.needed_by(s.name)
                value = self.names.row_value(s)
                if users and not any(o.feature for o in users):
                    value = f"{' || '.join(f'a->out_{o.name}' for o in users)} ? {value} : 0"
                t(f"const double val_{s.name} = {value};")
            tests = self.doubts()
            if tests and self.plan.pairs.ranged and self.excused:
                tests = [f"((lo && lo[r] >= hi[r]) || ({' && '.join(tests)}))"]
            if tests:
                t(f"bad += !({' && '.join(tests)});")

    def doubts(self) -> list[str]:
        """The C of what a row is not counted for: what lets a caller skip a look at every output."""
        tests: list[str] = []
        for s in self.plan.normalisers():
            tests += [f"isfinite(w->row_{s}[r])", f"w->row_{s}[r] != 0"]
        for o in self.names.outputs:
            if o.feature and self.shared(o):
                tests.append(f"!odd_{o.name}")
            elif not o.feature and tests:
                tests.append(f"(!a->out_{o.name} || isfinite(a->out_{o.name}[h*a->n + i0 + r]))")
        return tests

    def shared(self, o: Output) -> bool:
        """Whether an output is a sum of vectors that scores are made of as well, and so must be finite."""
        if not self.plan.normalisers():
            return False
        scored = {row_key(self.plan, dot)[1] for dot in self.names.dots}
        vectors = {self.names.sums[v].vector for _, v in o.terms if v in self.names.sums}
        return bool(vectors & scored)

    def odd(self, o: Output, value: str) -> str:
        """The C of whether a row is counted for a number of an output of vectors; "" if for none."""
        return f"{value} != {value}" if self.shared(o) else ""

    def output(self, o: Output) -> None:
        """One output of one row."""
        t, sums = self.text, frozenset(self.plan.states())
        values = [scalar(c, self.names.row_symbol, sums) for c, _ in o.terms]
        if not o.feature:
            t(f"if (a->out_{o.name}) a->out_{o.name}[h*a->n + i0 + r] = (T)({' + '.join(values)});")
            return
        f, terms = o.feature, []
        check, value = "", "y" if o.storage else "to[x]"
        odd = self.odd(o, value)
        if odd:
            t(f"I odd_{o.name} = 0;")
            check = f", odd_{o.name} |= {odd}"
        with t.block(""):
            for n, (value, (_, vector)) in enumerate(zip(values, o.terms, strict=True)):
                t(f"const T c{n} = (T){value};")
                x = f"w->sum_{vector}[r*P_{f} + x]"
                terms.append(
                    f"c{n}*" + (x if vector in self.names.sums else f"vec_{vector}[r*a->ld_{vector} + x]")
                )
            t(f"{element(o)} *to = a->out_{o.name} + ((h*a->n + i0) + r)*D_{f};")
            store = f"to[x] = {' + '.join(terms)}{check};"
            if o.storage:
                store = f"{{ const T y = {' + '.join(terms)}; to[x] = NARROW(y){check}; }}"
            t(f"for (long x = 0; x < D_{f}; x++) {store}")
