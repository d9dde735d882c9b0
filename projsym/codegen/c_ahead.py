"""C that asks memory ahead of time for what the next block of queries will read.

Short heads (few queries, few keys) are read once each, in pieces that a cache's own prefetching is too short
for: an idle memory and idle multipliers would take turns. So with every tile of keys some rows of what comes
next are asked for: the queries of the next block, and this block's share of the keys of the next head. Long
heads are read again by every block of queries, and their keys are left alone: they would push out what is in
use. No value depends on any of this.
"""

from __future__ import annotations

from projsym.codegen.c_names import Names
from projsym.codegen.c_text import Text
from projsym.codegen.program import Input

PRELUDE = """\
#define LINE 64
#define SHORT (1L << 17)  /* bytes of the keys of a head, asked for ahead: well below a second-level cache */
/* rows still to be asked for: `each` with a tile of keys */
typedef struct { const char *at; long rows, each, step, bytes; } ahead;
/* `rows` rows of `bytes` for so many tiles; of rows that follow one another, one piece with a tile */
INLINE ahead ROWS_AHEAD(const void *at, long rows, long step, long bytes, long tiles) {
  if (step != bytes) return (ahead){at, rows, (rows + tiles - 1)/tiles, step, bytes};
  const long piece = MOST(1, (rows*bytes + tiles*LINE - 1)/(tiles*LINE))*LINE;
  return (ahead){at, (rows*bytes + piece - 1)/piece, 1, piece, piece};
}
INLINE void ASK(ahead *x) {
  for (long r = 0; r < x->each && x->rows > 0; r++, x->rows--, x->at += x->step)
    for (long b = 0; b < x->bytes; b += LINE) __builtin_prefetch(x->at + b);
}
"""


class Ahead:
    """Prints what is asked for, and when."""

    def __init__(self, names: Names, text: Text) -> None:
        self.names, self.name, self.text = names, names.name, text
        vectors = names.plan.vectors.values()
        self.queries = [x for x in vectors if x.axes == "i"]
        self.keys = [x for x in vectors if x.axes == "j"]

    @property
    def field(self) -> str:
        """The field of the working memory."""
        return f"ahead next[{len(self.queries) + len(self.keys)}];"

    def function(self) -> None:
        """What fills it, for a head and a block of queries."""
        t, n = self.text, self.name
        head = f"static void {n}_ahead(const {n}_args *a, {n}_work *w, long H, long h, long i0)"
        with t.block(head):
            t(
                "const long tiles = MOST(1, a->m/TILE_KEYS), last = i0 + BLOCK_i >= a->n;",
                "const long g = h + last, i = last ? 0 : i0 + BLOCK_i;",
            )
            for s, x in enumerate(self.queries):
                self._rows(s, x, "g < H", "g", "i", "LEAST(a->n, i + BLOCK_i)")
            size = " + ".join(f"D_{x.feature}*sizeof *a->in_{x.name}" for x in self.keys)
            t(
                "const long block = i0/BLOCK_i, blocks = (a->n + BLOCK_i - 1)/BLOCK_i;",
                "const long first = a->m*block/blocks, end = a->m*(block + 1)/blocks;",
                f"const int some = h + 1 < H && a->m*(long)({size}) <= SHORT;",
            )
            for s, x in enumerate(self.keys, len(self.queries)):
                self._rows(s, x, "some", "h + 1", "first", "end")
        t("")

    def _rows(self, slot: int, x: Input, when: str, head: str, first: str, end: str) -> None:
        size, row = f"sizeof *a->in_{x.name}", f"a->at_{x.name}[{head}] + {first}*a->ld_{x.name}"
        with self.text.block(f"if ({when})"):
            self.text(
                f"const long rows = {end} - {first};",
                f"w->next[{slot}] = ROWS_AHEAD(a->in_{x.name} + {row}, rows, a->ld_{x.name}*{size}, "
                f"D_{x.feature}*{size}, tiles);",
            )
        self.text(f"else w->next[{slot}].rows = 0;")

    def ask(self) -> None:
        """With a tile of keys."""
        self.text(f"UNROLL for (int x = 0; x < {len(self.queries) + len(self.keys)}; x++) ASK(w->next + x);")
