"""C of the loop over keys: one inline function per nest, and the sequence of phases."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from projsym.codegen import c_ranges
from projsym.codegen.c_plan import Nest, Plan
from projsym.codegen.c_text import Text
from projsym.codegen.program import Dot, Let, Rescale, RunningMax, Sum, symbol
from projsym.codegen.scalar_c import scalar, vector
from projsym.schedules import WIDEST


def row_key(plan: Plan, dot: Dot) -> tuple[str, str]:
    """The row vector and the key vector of an inner product over pairs."""
    pair = sorted((dot.left, dot.right), key=lambda x: plan.vectors[x].axes)
    if [plan.vectors[x].axes for x in pair] != ["i", "j"]:
        raise ValueError(f"{dot.name} over pairs must be of a query vector and a key vector")
    return pair[0], pair[1]


KINDS = (("whole", "TILE_KEYS", 0), ("half", "HALF_TILE", 1), ("edge", "TILE_KEYS", 1))
"""Tile functions: their name, their keys, and whether some of these may be done or absent."""


class Pairs:
    """Prints the phases of a key block."""

    def __init__(
        self,
        plan: Plan,
        text: Text,
        state: Callable[[Sum], str] = str,
        bounded: bool = False,
        ask: Callable[[], None] | None = None,
    ) -> None:
        self.plan, self.text, self.name = plan, text, plan.program.name
        tiled = [n for n, phase in enumerate(plan.phases) if isinstance(phase, Nest) and phase.dot]
        self.ask, self.first = ask, tiled[:1]  # what goes with each tile of keys of the first inner product
        self.state = state  # where a key's sum starts in the memory of a chunk
        self.function = f"{self.name}_{'bounded_' if bounded else ''}pairs"
        self.small = plan.small(bounded)
        self.given = {symbol(x.name) for x in plan.scalars.values() if x.axes == "ij"}
        self.ranged = plan.pairs.ranged
        chunks = any(isinstance(s, Sum) and s.over == "i" for s in plan.pairs.body)
        self.begins = "0" if chunks else "j0 == first"  # whether a block of keys is its row's first one
        self.weights = {s.weight for s in plan.pairs.body if isinstance(s, Sum)} if self.ranged else set()

    def symbol(self, s: sp.Symbol) -> str:
        """The C of a symbol inside a nest: a vector of lanes."""
        axes = self.plan.axes[s]
        if axes == "j":
            return f"SET1(key_{s}[j + r])"
        return {"ij": "pair_", "i": "row_", "": "par_"}[axes] + str(s)

    # ---- nests
    def nests(self) -> None:
        """All nest functions."""
        for n, phase in enumerate(self.plan.phases):
            if isinstance(phase, Nest):
                (self.tile if phase.dot else self.sweep)(n, phase)

    def _context(self, nest: Nest) -> None:
        t = self.text
        for s in sorted(nest.read(), key=str):
            axes = self.plan.axes[s]
            if axes == "":
                t(f"const V par_{s} = SET1((T)a->par_{s});")
            elif axes == "j" and str(s) in self.plan.scalars:
                t(f"const T *key_{s} = a->in_{s} + a->at_{s}[h] + j0;")
            elif axes == "j":
                t(f"const T *key_{s} = a->key_{s} + h*a->m + j0;")

    def _states(self, nest: Nest) -> list[sp.Symbol]:
        return [s.name for s in nest.body if isinstance(s, RunningMax | Sum)]

    def _rows(self, nest: Nest, at: str) -> None:
        sums = {s.name for s in nest.body if isinstance(s, Sum)}
        rows = {s for s in nest.read() if self.plan.axes[s] == "i"} | set(self._states(nest))
        if self.ranged:
            self.text(f"const VI lo = LOADI(w->seen_lo + {at}), hi = LOADI(w->seen_hi + {at});")
        for s in sorted(rows - sums, key=str):
            self.text(f"V row_{s} = LOAD(w->row_{s} + {at});")
        for s in sorted(sums, key=str):
            self.text(f"V part_{s} = (V){{0}};")

    def _keep(self, nest: Nest, at: str) -> None:
        """Store the row states; a sum gets what this nest has added, once a block of keys."""
        for s in nest.body:
            if isinstance(s, RunningMax):
                self.text(f"STORE(w->row_{s.name} + {at}, row_{s.name});")
            elif isinstance(s, Sum):
                to = f"w->{'part' if nest.dot else 'row'}_{s.name} + {at}"
                self.text(f"STORE({to}, LOAD({to}) + part_{s.name});")

    def _body(self, nest: Nest) -> None:
        t, buffers = self.text, self.plan.buffers
        if self.ranged:
            t("const VI within = WITHIN(lo, hi, j + r);")
        for s in nest.loads:
            t(f"const V pair_{s} = LOAD(w->pair{buffers[s]} + at);")
        for s in sorted(nest.read() & self.given, key=str):
            t(f"const V pair_{s} = LOAD(w->bias_{s} + at);")
        for s in nest.body:
            match s:
                case Let(name=name, value=value):
                    text = vector(value, self.symbol, self.small)
                    if name in self.weights:
                        t(f"const V any_{name} = {text};")
                        text = c_ranges.select(f"any_{name}", "sum")
                    t(f"const V pair_{name} = {text};")
                case RunningMax(name=name, of=of):
                    seen = c_ranges.select(f"pair_{of}", "max") if self.ranged else f"pair_{of}"
                    t(f"row_{name} = MAX(row_{name}, {seen});")
                case Sum(name=name, weight=weight):
                    t(f"part_{name} += pair_{weight};")
        for s in nest.stores:
            t(f"STORE(w->pair{buffers[s]} + at, pair_{s});")

    def tile(self, n: int, nest: Nest) -> None:
        """A nest with an inner product: R keys by C vectors of queries.

        What is left over goes in half tiles; a last one that is not full begins before its first new key
        `from`, over keys that are done, so that it reads nothing past the block.
        """
        assert nest.dot is not None
        t, dot = self.text, nest.dot
        _, key = row_key(self.plan, dot)
        f, stored = self.plan.vectors[key].feature, self.plan.vectors[key].storage
        kind = "KEY" if stored else "T"
        arguments = (
            f"const {self.name}_args *a, {self.name}_work *w, "
            f"const {kind} *vec_{key}, long h, long j0, long nk, long from, long j, long v"
        )
        edge = "const int edge, " if self.ranged else ""
        head = f"INLINE void {self.function}{n}(const int R, const int C, const int part, {edge}{arguments})"
        with t.block(head):
            self._context(nest)
            if stored:
                scale = scalar(dot.scale, lambda s: f"a->par_{s}")
                t(f"const V scale_{dot.name} = SET1((T){scale});", f"(void)scale_{dot.name};")
            rows, row = f"w->pack_{dot.name} + v*W", f"ROW(D_{f}, P_{f})"
            t(
                "V acc[32];",
                "UNROLL for (int x = 0; x < R*C; x++) acc[x] = (V){0};",
                f"SCORES(R, C, acc, vec_{key} + j*{row}, {row}, {rows}, BLOCK_i, D_{f});"
                if stored
                else f"OUTER(R, C, acc, vec_{key} + j*P_{f}, P_{f}, 1, {rows}, BLOCK_i, D_{f});",
            )
            here = "!part || (from <= j + r && j + r < nk)"
            with t.block("UNROLL for (int c = 0; c < C; c++)"):
                self._rows(nest, "(v + c)*W")
                with t.block(f"UNROLL for (int r = 0; r < R; r++) if ({here})"):
                    t(
                        "const long at = (j + r)*BLOCK_i + (v + c)*W;",
                        f"const V pair_{dot.name} = "
                        + (f"SCALED(acc[r*C + c], scale_{dot.name});" if stored else "acc[r*C + c];"),
                    )
                    self._body(nest)
                self._keep(nest, "(v + c)*W")
        names = ", ".join(x.split()[-1].lstrip("*") for x in arguments.split(","))
        for c in range(1, WIDEST + 1):
            for kind, keys, part in KINDS if self.ranged else KINDS[:2]:
                flags = f"{part}, {int(kind == 'edge')}" if self.ranged else f"{part}"
                with t.block(f"TILE_FUNCTION {self.function}{n}_{kind}_{c}({arguments})"):
                    t(f"if ({c} <= TILE_QUERY_VECTORS) {self.function}{n}({keys}, {c}, {flags}, {names});")
        t("")

    def sweep(self, n: int, nest: Nest) -> None:
        """A nest without an inner product: one vector of queries, all keys of the block."""
        t = self.text
        head = (
            f"INLINE void {self.function}{n}({'const int edge, ' if self.ranged else ''}"
            f"const {self.name}_args *a, {self.name}_work *w, long h, long j0, long nk, long v)"
        )
        with t.block(head):
            self._context(nest)
            t("enum { r = 0 };")
            self._rows(nest, "v*W")
            with t.block("for (long j = 0; j < nk; j++)"):
                t("const long at = j*BLOCK_i + v*W;")
                self._body(nest)
            self._keep(nest, "v*W")
        t("")

    # ---- phases
    def phases(self) -> None:
        """The body of the loop over key blocks, in the function of a row block."""
        t, paired = self.text, set[int]()
        for n, phase in enumerate(self.plan.phases):
            match phase:
                case Nest():
                    for top in phase.maxima():
                        t(f"memcpy(w->row_{top.old}, w->row_{top.name}, sizeof w->row_{top.name});")
                    self._call(n, phase)
                case Rescale():
                    self._rescale(phase)
                case Sum(over="i"):
                    self._gather(phase)
                case Sum(name=name, weight=weight, vector=key):
                    assert key is not None
                    x, buffer = self.plan.vectors[key], self.plan.buffers[weight]
                    rest = f"P_{x.feature}, BLOCK_i, nq, nk, {self.begins});"
                    plain = f"CONTRACT(w->sum_{name}, w->pair{buffer}, vec_{key}, {rest}"
                    if not x.storage:
                        t(plain)
                        continue
                    t("#ifdef PAIRED")
                    if buffer not in paired:
                        t(f"PAIR_WEIGHTS(w->pair{buffer}, BLOCK_i, nv, nk);")
                    paired.add(buffer)
                    t(f"CONTRACT_PAIRS(w->sum_{name}, w->pair{buffer}, w->pairs_{key}, {rest}")
                    t("#else", plain, "#endif")

    def _gather(self, s: Sum) -> None:
        """A sum over the queries of the block, for every key of the block."""
        weights = f"w->pair{self.plan.buffers[s.weight]}"
        to = f"keys + ({self.state(s)})"
        if s.vector is None:
            self.text(f"GATHER_LANES({to} + (j0 - begin)*W, {weights}, BLOCK_i, nq, nk);")
            return
        x, f = s.vector, self.plan.vectors[s.vector].feature
        self.text(f"GATHER({to} + (j0 - begin)*P_{f}, {weights}, all_{x}, lda_{x}, P_{f}, BLOCK_i, nq, nk);")

    def _call(self, n: int, nest: Nest) -> None:
        t = self.text
        if nest.dot is None:
            for test, edge in (("if (edge) ", "1, "), ("else ", "0, ")) if self.ranged else (("", ""),):
                t(f"{test}for (long v = 0; v < nv; v++) {self.function}{n}({edge}a, w, h, j0, nk, v);")
            return
        _, key = row_key(self.plan, nest.dot)
        t(*(f"memset(w->part_{s.name}, 0, sizeof w->part_{s.name});" for s in nest.sums()))
        call, rest = f"{self.function}{n}", f"a, w, vec_{key}, h, j0, nk"
        if self.ranged:
            t(
                "if (edge) for (long from = 0; from < nk; from += TILE_KEYS)",
                f"  QUERY_TILES({call}_edge, {rest}, from, MOST(0, LEAST(from, nk - TILE_KEYS)))",
            )
        with t.block("else" if self.ranged else ""):
            t("long from = 0;")
            with t.block("for (; from + TILE_KEYS <= nk; from += TILE_KEYS)"):
                if self.ask and n in self.first:
                    self.ask()
                t(f"QUERY_TILES({call}_whole, {rest}, from, from)")
            t(
                "for (; from < nk; from += HALF_TILE)",
                f"  QUERY_TILES({call}_half, {rest}, from, MOST(0, LEAST(from, nk - HALF_TILE)))",
            )
        for s in nest.sums():
            t(f"for (long r = 0; r < BLOCK_i; r++) w->row_{s.name}[r] += w->part_{s.name}[r];")

    def _rescale(self, step: Rescale) -> None:
        """Sums in the new scale; a first block of keys finds the empty state, the same in every scale."""
        t = self.text
        with t.block("if (j0 > first)"):
            sums = {s.name: s for s in self.plan.pairs.body if isinstance(s, Sum)}
            scalar = [s for s in step.sums if sums[s].vector is None]
            vectors = [s for s in step.sums if sums[s].vector is not None]
            with t.block("for (long v = 0; v < nv; v++)"):
                for s in sorted(step.factor.free_symbols, key=str):
                    if self.plan.axes[s] == "i":
                        t(f"const V row_{s} = LOAD(w->row_{s} + v*W);")
                    else:
                        t(f"const V par_{s} = SET1((T)a->par_{s});")
                t(f"const V factor = {vector(step.factor, self.symbol, self.small)};")
                t(*(f"STORE(w->row_{s} + v*W, LOAD(w->row_{s} + v*W)*factor);" for s in scalar))
                t("STORE(w->factor + v*W, factor);")
            if vectors:
                with t.block("for (long r = 0; r < nq; r++) if (w->factor[r] != 1)"):
                    for s in vectors:
                        f = self.plan.vectors[str(sums[s].vector)].feature
                        t(f"for (long x = 0; x < P_{f}; x++) w->sum_{s}[r*P_{f} + x] *= w->factor[r];")
