"""C of the external function: parameters, key scalars, and all blocks of queries."""

from __future__ import annotations

from projsym.codegen.c_ahead import Ahead
from projsym.codegen.c_bounded import FEWEST, Bounded
from projsym.codegen.c_names import Names
from projsym.codegen.c_parts import Parts
from projsym.codegen.c_text import Text
from projsym.codegen.program import Dot, Let
from projsym.codegen.scalar_c import scalar

OWN = 16
"""Heads for each thread from which a thread takes whole heads, and measures them when it comes to them: their
keys are then read from memory once."""


class Driver:
    """Prints the external function."""

    def __init__(
        self,
        names: Names,
        text: Text,
        ahead: Ahead,
        bounded: Bounded | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.bounded, self.parts, self.ahead = bounded, parts, ahead
        self.names, self.plan, self.name, self.text = names, names.plan, names.name, text

    def driver(self) -> None:
        """Parameters, key scalars, then all row blocks."""
        t, plan = self.text, self.plan
        with t.block(f"int {self.name}({self.names.signature()})"):
            for s in plan.parameters:
                t(f"const double par_{s.name} = {scalar(s.value, self.names.key_symbol)};")
            t("long bad = 0, failed = 0;")
            if self.names.key_scalars:
                t(
                    f"T *keys = malloc({len(self.names.key_scalars)}*H*m*sizeof(T) + 1);",
                    "if (!keys) return -1;",
                )
            t(*(f"T *key_{s} = keys + {n}*H*m;" for n, s in enumerate(self.names.key_scalars)))
            fields = self.sizes()
            for x in plan.vectors.values():
                fields += [f"in_{x.name}", f"at_{x.name}", f"ld_{x.name}"]
            for x in self.names.arrays:
                fields += [f"in_{x.name}", f"at_{x.name}"]
            for x in self.names.pairs:
                fields += [f"in_{x.name}", f"at_{x.name}", f"ld_{x.name}"]
            fields += [f"par_{p}" for p in [*self.names.parameters, *(str(s.name) for s in plan.parameters)]]
            fields += [f"key_{s}" for s in self.names.key_scalars] + [
                f"out_{o.name}" for o in self.names.every_output
            ]
            fields += self.names.ranges
            if self.bounded:
                fields.append("most")
                size = f"{len(self.bounded.entries)}*H*sizeof(double) + 1"
                ask = f"n >= {FEWEST}*BLOCK_i{' && !seen_lo' if self.names.ranges else ''}"
                t(
                    f"double *most = {ask} ? malloc({size}) : NULL;",
                    f"if ({ask} && !most) "
                    f"{'{ free(keys); return -1; }' if self.names.key_scalars else 'return -1;'}",
                )
            t(f"const {self.name}_args args = {{{', '.join(f'.{x} = {x}' for x in fields)}}};")
            t("if (threads < 1) threads = 1;")
            if self.bounded:
                t(f"const int own = H >= {OWN}L*threads;")
            if self.parts:
                self.parts.sizes()
            self.work()
            if self.parts:
                t("free(kept);")
            if self.names.key_scalars:
                t("free(keys);")
            if self.bounded:
                t("free(most);")
            t("return failed ? -1 : bad > INT_MAX ? INT_MAX : (int)bad;")

    def sizes(self) -> list[str]:
        """The sizes that a block receives."""
        return ["n", "m"]

    def work(self) -> None:
        """All row blocks."""
        t, plan = self.text, self.plan
        across, down = plan.heads.parallel, plan.rows.parallel
        if across or down:
            t("#pragma omp parallel num_threads(threads) reduction(+:bad, failed)")
        with t.block(""):
            if self.names.key_scalars:
                self.keys(across)
            if self.bounded:
                self.bounded.measure()
            t(
                f"{self.name}_work *w = aligned_alloc(64, sizeof({self.name}_work));",
                "if (!w) failed++;",
            )
            if self.parts:
                t("if (w) memset(w->next, 0, sizeof w->next);")
            if self.parts:
                with t.block(f"if ({self.parts.condition()})"):
                    self.parts.work()
                with t.block("else"):
                    self.blocks(across, down)
            else:
                self.blocks(across, down)
            t("free(w);")

    def blocks(self, across: bool, down: bool) -> None:
        """Blocks of queries, each with all keys."""
        t = self.text
        if across:
            blocks = "(n + BLOCK_i - 1)/BLOCK_i"
            size = f"1 + H*({blocks})/(32*threads)"
            if self.bounded:
                size = f"own ? (1 + H/(32*threads))*({blocks}) : {size}"
            share = f"schedule(dynamic, {size})"
            t(f"#pragma omp for{' collapse(2)' if down else ''} {share}")
        t("for (long h = 0; h < H; h++)")
        if down and not across:
            t("#pragma omp for schedule(dynamic, 1)")
        with t.block("  for (long i0 = 0; i0 < n; i0 += BLOCK_i) if (w)"):
            if self.bounded:
                self.bounded.measure_own()
            t(f"{self.name}_ahead(&args, w, H, h, i0);", f"bad += {self.name}_rows(&args, w, h, i0);")

    def keys(self, across: bool) -> None:
        """Key scalars, once per head."""
        t = self.text
        if across:
            t("#pragma omp for collapse(2) schedule(static)")
        t("for (long h = 0; h < H; h++)")
        with t.block("for (long j = 0; j < m; j++)"):
            for loop in self.plan.key_loops:
                for s in loop.body:
                    assert isinstance(s, Let | Dot)
                    t(f"const double val_{s.name} = {self.names.key_value(s)};")
            t(*(f"key_{s}[h*m + j] = (T)val_{s};" for s in self.names.key_scalars))
