"""C of a product of the rows of a group with a matrix of a head: panels, register tiles and their sizes.

A product adds to what is there. The rows of a panel that are used together are summed on their own, from
zero, in their order, and added once, which is what the error bound counts.
"""

from __future__ import annotations

PANEL = 16384
"""Bytes of a panel that are used together: half of a first-level cache of 32 kB."""

TILES = {"avx512": (12, 2), "avx2": (6, 2), "neon": (12, 2), "c": (6, 2)}
"""Rows and vectors of features of a register tile of a product, by instruction set."""

PRELUDE = """\
/* to[row][feature] += sum over t of from[row][t] * panel[t][feature], R rows by C vectors */
INLINE void MAP_TILE(const int R, const int C, T *to, const int P, const T *from, long ld, const T *panel,
                     long depth) {
  V acc[32];
  UNROLL for (int x = 0; x < R*C; x++) acc[x] = (V){0};
  OUTER(R, C, acc, from, ld, 1, panel, C*W, depth);
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
    STORE(to + r*P + c*W, LOAD(to + r*P + c*W) + acc[r*C + c]);
}
/* the rows in shares as even as can be: no tile is nearly empty */
INLINE void MAP_CHUNK(const int C, T *to, const int P, const T *from, long ld, const T *panel, long depth,
                      long rows) {
  const long turns = (rows + MAP_ROWS - 1)/MAP_ROWS, most = rows ? (rows + turns - 1)/turns : 1;
  for (long r = 0; r < rows; r += most) switch (LEAST(rows - r, most)) {
#define MAP_CASE(R) \\
    case R: MAP_TILE(R <= MAP_ROWS ? R : 1, C, to + r*P, P, from + r*ld, ld, panel, depth); break;
    EACH_MAP_CASE
  }
}
/* to += from @ panels, whose chunks of MAP_FEATURES vectors lie one after another, D rows each */
static __attribute__((noinline)) void MAP(T *to, const int P, const T *from, long ld, const T *panels,
                                          const int D, long rows) {
  for (int c = 0; c < P; c += MAP_FEATURES*(int)W)
    for (long t = 0; t < D; t += MAP_DEPTH) {
      const long depth = LEAST(MAP_DEPTH, D - t);
      if (P - c >= MAP_FEATURES*(int)W)
        MAP_CHUNK(MAP_FEATURES, to + c, P, from + t, ld, panels + (long)c*D + t*MAP_FEATURES*W, depth, rows);
      else for (int l = 0; c + l < P; l += W)  /* vectors of the last chunk have panels of their own */
        MAP_CHUNK(1, to + c + l, P, from + t, ld, panels + (long)(c + l)*D + t*W, depth, rows);
    }
}
/* panel `chunk` of a matrix of D rows and F columns, filled with zeros to P columns; numbers of a row are
   `step` apart, and those of a column one unless `step` is */
static void PANEL(T *to, const T *from, long ld, long step, const int D, const int F, const int P,
                  int chunk) {
  int c = chunk*MAP_FEATURES*(int)W;
  const int end = P - c < MAP_FEATURES*(int)W ? P : c + MAP_FEATURES*(int)W;
  while (c < end) {
    const int wide = end - c == MAP_FEATURES*(int)W ? end - c : (int)W;
    const long columns = LEAST(F - c, wide);
    if (step == 1) STAGE(to + (long)c*D, from + c, ld, columns, wide, D, D);
    else PACK(to + (long)c*D, from + c*step, step, D, wide, columns, 1);
    c += wide;
  }
}
/* every row the offset */
static void START(T *to, const int P, const T *offset, const int F, long rows) {
  for (long r = 0; r < rows; r++) {
    memcpy(to + r*P, offset, F*sizeof(T));
    if (P > F) memset(to + r*P + F, 0, (P - F)*sizeof(T));
  }
}
"""
