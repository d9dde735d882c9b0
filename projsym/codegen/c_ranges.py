"""C of ranges: each row of a block sees the keys from its lo to its hi.

The keys that no row of a block sees are not looked at; a block of keys that all rows see wholly goes through
the code that knows no ranges; in the others, at the edges, a pair outside its row's range counts neither in a
running maximum nor in a sum, whatever its score.
"""

from __future__ import annotations

PRELUDE = """\
/* for rows with the ranges [lo, hi): all of these lie in [first, last), and [from, to) lies in each of them
*/ typedef struct { long first, last, from, to; } range; INLINE range RANGE(const long *lo, const long *hi,
long rows, long m) {
  range s = {0, m, 0, m};
  if (!lo) return s;
  s.first = m;
  s.last = 0;
  for (long r = 0; r < rows; r++) {
    if (lo[r] < hi[r]) { s.first = LEAST(s.first, lo[r]); s.last = MOST(s.last, hi[r]); }
    s.from = MOST(s.from, lo[r]);
    s.to = LEAST(s.to, hi[r]);
  }
  return s;
}
/* ranges from key j0 on, as lanes; absent rows see nothing */
INLINE void LANES_OF(I *to, const long *ends, long rows, const int B, long j0, long keys) {
  for (long r = 0; r < B; r++) to[r] = r < rows ? (I)LEAST(MOST(ends[r] - j0, 0), keys) : 0;
}
INLINE VI LOADI(const I *p) { return *(const VI *)p; }
INLINE VI SETI(I x) { return x - (VI){0}; }
INLINE VI WITHIN(VI lo, VI hi, long j) { return (lo <= SETI((I)j)) & (SETI((I)j) < hi); }
"""

ARGUMENTS = ("seen_lo", "seen_hi", "at_seen")
"""int64 arrays of a row's range, both alike, and where a head's begin; NULL: all rows see all keys."""

POINTERS = (
    "const long *lo = a->seen_lo ? a->seen_lo + a->at_seen[h] + i0 : NULL;",
    "const long *hi = lo ? a->seen_hi + a->at_seen[h] + i0 : NULL;",
)
OPEN = (*POINTERS, "const range seen = RANGE(lo, hi, nq, a->m);")
"""In the function of a block of queries."""

EDGE = (
    "const int edge = j0 < seen.from || j0 + nk > seen.to;",
    "if (edge) {",
    "  LANES_OF(w->seen_lo, lo, nq, BLOCK_i, j0, nk);",
    "  LANES_OF(w->seen_hi, hi, nq, BLOCK_i, j0, nk);",
    "}",
)
"""In the loop over blocks of keys."""

HIDDEN = {"max": "SET1(-INFINITY)", "sum": "(V){0}"}
"""What takes the place of a value that a row does not see."""


def select(value: str, instead: str) -> str:
    """The C of a value where the row sees the key."""
    return f"edge ? CHOOSE(within, {value}, {HIDDEN[instead]}) : {value}"
