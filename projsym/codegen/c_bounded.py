"""C of the choice between the rows with a running maximum and those without [IV.2].

Before the blocks of queries, the largest norm of the keys of a head and the largest magnitudes of its key
scalars are found; with the largest norm of a block's queries they bound its scores [IV.2a]. Where no score
can be above `REACH` in magnitude, weights are between ``2**-REACH`` and ``2**REACH``: a sum of weights is at
least ``keys * 2**-REACH``, so that a product of weight and value that underflows (and loses at most half the
least subnormal number) moves the mean by less than the least normal number; and no sum can overflow if the
values, times their number, stay below ``2**VALUES``. The choice depends on the inputs alone. Where rows see
ranges of keys the maximum is kept, so that no bit of a result depends on keys that its row does not see.

A norm is computed in the kernel's type, at most ``(d + 2) u`` off relatively, which the last bit between
`REACH` and what the argument above would allow (29 and 58) covers for ``d`` up to 10**5.
"""

from __future__ import annotations

import sympy as sp

from projsym.codegen.c_names import Names
from projsym.codegen.c_text import Text
from projsym.codegen.pass_bounded import exponents, inner_products, query_and_key, reach
from projsym.codegen.scalar_c import scalar

REACH = {"float32": 28, "float64": 56}
VALUES = {"float32": 96, "float64": 960}
FEWEST = 2  # blocks of queries that share the work of finding the norms of the keys


class Bounded:
    """Prints what decides whether a block of queries needs no running maximum.

    names: of the program without the maximum; its inputs, parameters and key scalars are those of the one
    with it.
    """

    def __init__(self, names: Names, text: Text, dtype: str) -> None:
        self.names, self.plan, self.text, self.dtype = names, names.plan, text, dtype
        program = self.plan.program
        self.exponents, self.dots = exponents(program), inner_products(program)
        symbols = sorted({s for e in self.exponents for s in e.free_symbols}, key=str)
        self.scalars = [s for s in symbols if self.plan.axes[s] == "j"]
        self.keys = list(dict.fromkeys(query_and_key(d, self.plan.vectors)[1] for d in self.dots.values()))
        self.values = [s.vector for s in names.sums.values() if s.vector]
        self.entries = [
            *(f"norm_{k}" for k in self.keys),
            *(f"most_{s}" for s in self.scalars),
            *(f"value_{v}" for v in dict.fromkeys(self.values)),
        ]

    def measure(self) -> None:
        """In the driver, in a parallel region: the magnitudes of every head, unless threads do it."""
        self.text("#pragma omp for schedule(static)")
        with self.text.block("for (long h = 0; h < (most && !own ? H : 0); h++)"):
            self._measure_head()

    def measure_own(self) -> None:
        """In the driver, before a block of queries: the magnitudes of a head that one thread has all of."""
        with self.text.block("if (most && own && !i0)"):
            self._measure_head()

    def _measure_head(self) -> None:
        t, vectors = self.text, self.plan.vectors
        norm, largest = self.names.reader("LARGEST_NORM"), self.names.reader("LARGEST")
        t(f"double *to = most + h*{len(self.entries)};")
        for n, k in enumerate(self.keys):
            t(f"to[{n}] = {norm}(in_{k} + at_{k}[h], ld_{k}, D_{vectors[k].feature}, m);")
        for n, s in enumerate(self.scalars, len(self.keys)):
            at = f"in_{s} + at_{s}[h]" if str(s) in self.plan.scalars else f"key_{s} + h*m"
            t(f"to[{n}] = LARGEST({at}, 0, m, 1);")
        for n, v in enumerate(dict.fromkeys(self.values), len(self.keys) + len(self.scalars)):
            t(f"to[{n}] = {largest}(in_{v} + at_{v}[h], ld_{v}, D_{vectors[v].feature}, m);")

    def choice(self) -> None:
        """The function of a block of queries that calls the right one of the two."""
        t, name = self.text, self.names.name
        head = f"static long {name}_rows(const {name}_args *a, {name}_work *w, long h, long i0)"
        with t.block(head):
            t(f"if (!a->most) return {name}_online(a, w, h, i0);")
            t("const long nq = a->n - i0 < BLOCK_i ? a->n - i0 : BLOCK_i;")
            for n, entry in enumerate(self.entries):
                t(f"const double {entry} = a->most[h*{len(self.entries)} + {n}];")
            norm = self.names.reader("LARGEST_NORM")
            rows = dict.fromkeys(query_and_key(d, self.plan.vectors)[0] for d in self.dots.values())
            for q in rows:
                t(
                    f"const double norm_{q} = {norm}(a->in_{q} + a->at_{q}[h] + i0*a->ld_{q}, "
                    f"a->ld_{q}, D_{self.plan.vectors[q].feature}, nq);"
                )
            tests = [f"{self._reach(e)} <= {REACH[self.dtype]}" for e in self.exponents]
            tests += [f"value_{v}*a->m <= 0x1p{VALUES[self.dtype]}" for v in dict.fromkeys(self.values)]
            t(
                f"const int safe = {' && '.join(tests)};",
                f"return safe ? {name}_bounded(a, w, h, i0) : {name}_online(a, w, h, i0);",
            )
        t("")

    def _reach(self, e: sp.Expr) -> str:
        """The C of an upper bound of an exponent's magnitude."""
        bound = reach(e, self.dots, self.plan.vectors, self.scalars, "norm_", "most_")
        return scalar(bound, lambda s: str(s) if s not in self.plan.axes else self.names.row_symbol(s))
