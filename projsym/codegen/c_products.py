"""C of inner products and weighted sums in pairs of bfloat16, where a CPU adds two such products at once.

A lane holds two numbers: of an inner product two neighbouring features, of a weighted sum two keys. A product
is exact; to add two of them and what has been added up so far takes two roundings at most, as many as to add
them one by one, so that a bound for any order holds. Numbers below the least normal one are taken for 0.

A kernel is compiled so where the compiler's target has the instruction, unless ``WHOLE_WEIGHTS`` is defined;
with ``PAIRED`` defined it is on every CPU, by other instructions. Otherwise numbers are widened first, and
weights stay as they are.
"""

from __future__ import annotations

import re

CONTRACT = """\
/* sums[row][feature] += weights[key][row] * values[key][feature], for R rows and C vectors of features; a
   block of keys is summed on its own and added once, which is what the error bound counts; the `first` one
   takes the place of what there was */
INLINE void CONTRACT_TILE(const int R, const int C, T *sums, const T *weights, const T *values, const int P,
                          const int B, long keys, const int first) {
  V acc[32];
  UNROLL for (int x = 0; x < R*C; x++) acc[x] = (V){0};
  OUTER(R, C, acc, weights, 1, B, values, P, keys);
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
    STORE(sums + r*P + c*W, first ? acc[r*C + c] : LOAD(sums + r*P + c*W) + acc[r*C + c]);
}
/* one chunk of features stays in the first-level cache while all rows pass; a last tile that is at most half
   full is computed as half a tile */
INLINE void CONTRACT_CHUNK(const int C, T *sums, const T *weights, const T *values, const int P, const int B,
                           long rows, long keys, const int first) {
  long r = 0;
  for (; r + TILE_ROWS/2 < rows; r += TILE_ROWS)
    CONTRACT_TILE(TILE_ROWS, C, sums + r*P, weights + r, values, P, B, keys, first);
  if (r < rows) CONTRACT_TILE(TILE_ROWS/2, C, sums + r*P, weights + r, values, P, B, keys, first);
}
INLINE void CONTRACT(T *sums, const T *weights, const T *values, const int P, const int B, long rows,
                     long keys, const int first) {
  const int vectors = P/W, chunks = (vectors + TILE_FEATURES - 1)/TILE_FEATURES;
  const int wide = (vectors + chunks - 1)/chunks, last = vectors - wide*(chunks - 1);
  int c = 0;
  for (; c < (chunks - 1)*wide; c += wide)
    CONTRACT_CHUNK(wide, sums + c*W, weights, values + c*W, P, B, rows, keys, first);
  CONTRACT_CHUNK(last, sums + c*W, weights, values + c*W, P, B, rows, keys, first);
}
"""

_PAIRED = """\
#if defined(__AVX512BF16__) && VECTOR_BYTES == 64 && !defined(WHOLE_WEIGHTS) && !defined(PAIRED)
#define PAIRED
#endif
#ifndef PAIRED
typedef T KEY;  /* of keys as a tile of scores reads them, in rows of ROW numbers */
#define ROW(D, P) (P)
#define NARROWED(x) (x)
#define PACK_QUERIES(...) PACK_STORED(__VA_ARGS__)
#define SCALED(score, scale) (score)  /* the queries are */
#define SCORES(R, C, acc, keys, row, queries, B, D) OUTER(R, C, acc, keys, row, 1, queries, B, D)
#else
typedef S KEY;
#define ROW(D, P) (((D) + 1)/2*2)
enum { UPPER = -0x10000 };
#if defined(__AVX512BF16__) && VECTOR_BYTES == 64
INLINE V ADD_PAIRS(V a, V b, V c) { return (V)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b); }
#else
INLINE V ADD_PAIRS(V a, V b, V c) {
  const V high = FMA((V)((VI)a & UPPER), (V)((VI)b & UPPER), c);
  return FMA((V)((UV)a << 16), (V)((UV)b << 16), high);
}
#endif
/* to the nearest bfloat16, of two the one of larger magnitude: weights are finite, or NaN, which stays NaN */
INLINE V NARROWED(V x) { return (V)(((VI)x + 0x8000) & UPPER); }
/* two numbers in every lane */
INLINE V PAIR(const S *p) {
  I x;
  memcpy(&x, p, sizeof x);
  return (V)((VI){0} + x);
}
#define SCALED(score, scale) ((score)*(scale))  /* a query times the scale would have to be rounded */
/* queries as columns of B: to[pair of features][query], absent queries 0, not scaled */
INLINE void PACK_QUERIES(T *to, const S *from, long ld, const int D, const int B, long rows, T scale) {
  (void)scale;
  for (long r = 0; r < rows; r += W) {
    long a = 0;
#ifdef TRANSPOSE
    for (; 2*(a + W) <= D; a += W) {
      V x[W];
      UNROLL for (int l = 0; l < W; l++) {
        x[l] = (V){0};
        if (r + l < rows) memcpy(x + l, from + (r + l)*ld + 2*a, sizeof x[l]);
      }
      TRANSPOSE(x);
      UNROLL for (int l = 0; l < W; l++) STORE(to + (a + l)*B + r, x[l]);
    }
#endif
    for (; 2*a < D; a++)
      for (long l = r; l < r + W; l++) {
        S pair[2] = {0};
        if (l < rows) memcpy(pair, from + l*ld + 2*a, LEAST(D - 2*a, 2)*sizeof(S));
        memcpy(to + a*B + l, pair, sizeof pair);
      }
  }
}
/* rows of keys, padded with zeros to whole pairs and `all` rows */
INLINE void STAGE_ROWS(S *to, const S *from, long ld, const int D, long rows, long all) {
  for (long r = 0; r < rows; r++) {
    memcpy(to + r*ROW(D, 0), from + r*ld, D*sizeof(S));
    if (D % 2) to[r*ROW(D, 0) + D] = 0;
  }
  memset(to + rows*ROW(D, 0), 0, (all - rows)*ROW(D, 0)*sizeof(S));
}
/* acc[r][c] += sum over pairs t < n of left[r*lr + t*lt] * right[t*rt + c*W + lane], as OUTER */
INLINE void OUTER_PAIRS(const int R, const int C, V *restrict acc, const S *left, long lr, long lt,
                        const T *right, long rt, long n) {
  FOUR_TIMES for (long t = 0; t < n; t++) {
    V b[16];
    UNROLL for (int c = 0; c < C; c++) b[c] = LOADU(right + t*rt + c*W);
    UNROLL for (int r = 0; r < R; r++) {
      V a = PAIR(left + r*lr + t*lt);
      UNROLL for (int c = 0; c < C; c++) acc[r*C + c] = ADD_PAIRS(a, b[c], acc[r*C + c]);
    }
  }
}
#define SCORES(R, C, acc, keys, row, queries, B, D) \\
  OUTER_PAIRS(R, C, acc, keys, row, 2, queries, B, ((D) + 1)/2)
/* values of two keys in a lane: to[pair of keys][feature], 0 for absent keys and features */
INLINE void PAIR_ROWS(T *to, const S *from, long ld, const int D, const int P, long rows) {
  for (long j = 0; j < rows; j += 2, to += P) {
    const int both = j + 1 < rows;
    const S *low = from + j*ld, *high = low + both*ld;
    int a = 0;
    for (; a + (int)W <= D; a += W) {
      const V above = both ? WIDEU(high + a) : (V){0};
      STORE(to + a, (V)((UV)above | (UV)WIDEU(low + a) >> 16));
    }
    for (; a < P; a++) {
      const S pair[2] = {a < D ? low[a] : 0, both && a < D ? high[a] : 0};
      memcpy(to + a, pair, sizeof pair);
    }
  }
}
/* weights of two keys in a lane, where they were: the lower halves of narrowed weights are empty */
INLINE void PAIR_WEIGHTS(T *weights, const int B, long vectors, long keys) {
  for (long j = 0; j < keys; j += 2) for (long v = 0; v < vectors; v++) {
    const V low = LOAD(weights + j*B + v*W), high = j + 1 < keys ? LOAD(weights + (j + 1)*B + v*W) : (V){0};
    STORE(weights + j/2*B + v*W, (V)((UV)high | (UV)low >> 16));
  }
}
"""


def _paired(text: str) -> str:
    """The same text for pairs of keys."""
    text = re.sub(r"\bCONTRACT(_\w+)?\(", r"CONTRACT_PAIRS\1(", text)
    found = "OUTER(R, C, acc, weights, 1, B, values, P, keys);"
    if found not in text:
        raise AssertionError(f"no {found} to print for pairs")
    pairs = "OUTER_PAIRS(R, C, acc, (const S *)weights, 2, 2*B, values, P, (keys + 1)/2);"
    return text.replace(found, pairs)


PAIRED = _PAIRED + _paired(CONTRACT) + "#endif\n"
"""What a kernel with stored vectors has for its products."""
