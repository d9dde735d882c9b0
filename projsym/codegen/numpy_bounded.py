"""NumPy text of the choice between rows with a running maximum and rows without [IV.2].

As in `projsym.codegen.c_bounded`, with its limits: the largest norms of the keys of the heads at hand and of
the queries of a block bound the scores [IV.2a], and the largest magnitudes of values bound the sums. Where
rows see ranges of keys the maximum is kept. Norms are computed in the type of the arrays; squares that
underflow lose at most the least normal number each, which is added again, so that no bound is too low.
"""

from __future__ import annotations

import sympy as sp

from projsym.codegen.c_bounded import REACH, VALUES
from projsym.codegen.numpy_infix import Names, plain
from projsym.codegen.numpy_writer import Writer
from projsym.codegen.pass_bounded import exponents, inner_products, query_and_key, reach
from projsym.codegen.pass_tree import pair_loop
from projsym.codegen.program import Loop, Node, Output, Program, Sum

FEWEST = 64  # queries that share the work of finding the norms of the keys
_SUBSCRIPTS = {"i": "hia,hia->hi", "j": "hja,hja->hj"}


class Bounded:
    """Prints what decides whether a block of queries needs no running maximum.

    writer: of the program without the maximum, whose lines are those of the module.
    Raises ValueError if that program differs from `program` in more than the maximum.
    """

    def __init__(self, writer: Writer, program: Program) -> None:
        free = writer.p
        if _shared(program) != _shared(free):
            raise ValueError(f"{free.name}: the bounded program has other arguments or values than the first")
        self.w, self.exponents, self.dots = writer, exponents(free), inner_products(free)
        symbols = sorted({s for e in self.exponents for s in e.free_symbols}, key=str)
        self.scalars = [s for s in symbols if writer.axes[s] == "j"]
        pairs = [query_and_key(d, writer.vectors) for d in self.dots.values()]
        self.rows = list(dict.fromkeys(q for q, _ in pairs))
        self.keys = list(dict.fromkeys(k for _, k in pairs))
        self.values = sorted({s.vector for s in writer.sums.values() if s.vector})

    def measure(self, ranged: bool) -> None:
        """Before a loop over queries: the magnitudes of the keys of these heads."""
        put = self.w.put
        put(f"_free = _n >= {FEWEST}" + (" and _lo is None" if ranged else ""))
        put("if _free:")
        self.w.depth += 1
        single, double = (f"({REACH[t]}, 2.0**{VALUES[t]})" for t in ("float32", "float64"))
        put(f"_reach, _most = {single} if _T is np.float32 else {double}")
        for k in self.keys:
            put(self._norm(k, "j", f"{k}[_h0:_h1]"))
        for s in self.scalars:
            at = f"_all_{s}[:_h1 - _h0]" if s in self.w.stored else f"{s}[_h0:_h1]"
            put(f"_size_{s} = np.float64(np.absolute({at}).max(initial=0))")
        for v in self.values:
            at = f"{v}[_h0:_h1]"  # the least and the largest number, so that no array of magnitudes is made
            put(f"_free = _free and {at}.max(initial=0) * _T(_m) <= _most")
            put(f"_free = _free and -{at}.min(initial=0) * _T(_m) <= _most")
        self.w.depth -= 1

    def choice(self) -> None:
        """In a loop over queries: whether this block needs no maximum, as a condition with a body to come."""
        put = self.w.put
        put("_fits = _free")
        put("if _free:")
        self.w.depth += 1
        for q in self.rows:
            put(self._norm(q, "i", f"_{q}"))
        put("_fits = " + " and ".join(f"{self._reach(e)} <= _reach" for e in self.exponents))
        self.w.depth -= 1
        put("if _fits:")

    def _norm(self, vector: str, axis: str, at: str) -> str:
        least = f"{vector}.shape[2] * float(np.finfo(_T).tiny)"
        largest = f"np.float64(np.einsum({_SUBSCRIPTS[axis]!r}, {at}, {at}).max(initial=0))"
        return f"_norm_{vector} = np.sqrt({largest} + {least})"

    def _reach(self, e: sp.Expr) -> str:
        """The text of an upper bound of an exponent's magnitude, in double."""
        bound = reach(e, self.dots, self.w.vectors, self.scalars, "_norm_", "_size_")
        return plain(bound, Names(str))


def _shared(program: Program) -> list[object]:
    """What a program and that without its maximum have in common: all but the pairs and the outputs."""

    def without(body: tuple[Node, ...]) -> list[object]:
        found: list[object] = []
        for node in body:
            if isinstance(node, Loop):
                found += [node.axis, node.block, [] if node is pairs else without(node.body)]
            elif not isinstance(node, Output):
                found.append(node)
        return found

    pairs = pair_loop(program)
    sums = [s for s in program.statements() if isinstance(s, Sum)]
    outputs = [(s.name, s.feature, s.axes) for s in program.statements() if isinstance(s, Output)]
    return [program.name, program.inputs, without(program.body), sums, outputs]
