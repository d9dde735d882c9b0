"""C of what reads a caller's vectors, whatever type their elements are stored in.

Each text below is printed for elements of the type of arithmetic `T`, and once more, with names that end in
``_STORED``, where a program stores vectors as bfloat16: a load then widens, which is exact, and a store of a
result rounds once. ``READ`` stands for one number, ``READU`` for a vector of them at an address, ``ROW`` for
a row of them.
"""

from __future__ import annotations

import re

WIDENING = """\
/* a bfloat16 is the upper half of a float: to widen it is exact; to store one is to round to the nearest, of
   two the even one, and NaN stays NaN */
typedef unsigned short S;
typedef S SU __attribute__((vector_size(VECTOR_BYTES/2), aligned(sizeof(S)), may_alias));
typedef unsigned UV __attribute__((vector_size(VECTOR_BYTES)));
INLINE T WIDE(S x) {
  const unsigned bits = (unsigned)x << 16;
  T y;
  memcpy(&y, &bits, sizeof y);
  return y;
}
INLINE V WIDEU(const S *p) { return (V)(__builtin_convertvector(*(const SU *)p, UV) << 16); }
INLINE void WIDE_ROW(T *to, const S *from, long n) {
  long a = 0;
  for (; a + (long)W <= n; a += W) *(VU *)(to + a) = WIDEU(from + a);
  for (; a < n; a++) to[a] = WIDE(from[a]);
}
INLINE S NARROW(T x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  const unsigned nan = bits >> 16 | 0x40, nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (S)(x != x ? nan : nearest);
}
"""

INNER = """\
/* the inner product in double, in eight partial sums */
typedef double DV __attribute__((vector_size(VECTOR_BYTES)));
enum { WD = VECTOR_BYTES/sizeof(double) };
typedef T DU __attribute__((vector_size(VECTOR_BYTES/sizeof(double)*sizeof(T)), aligned(sizeof(T)), \
may_alias));
INLINE DV DOUBLES(const T *p) { return __builtin_convertvector(*(const DU *)p, DV); }
INLINE double INNER(const T *a, const T *b, long n) {
  DV x[8/WD];
  double s[8], rest = 0;
  long i = 0;
  UNROLL for (int l = 0; l < 8/(int)WD; l++) x[l] = (DV){0};
  for (; i + 8 <= n; i += 8)
    UNROLL for (int l = 0; l < 8/(int)WD; l++) x[l] += DOUBLES(a + i + l*WD)*DOUBLES(b + i + l*WD);
  for (; i < n; i++) rest += (double)a[i]*(double)b[i];
  memcpy(s, x, sizeof s);
  return rest + (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
}
"""

INNER_STORED = """\
INLINE double INNER(const ELEMENT *a, const ELEMENT *b, long n) {
  double s[8] = {0}, rest = 0;
  long i = 0;
  for (; i + 8 <= n; i += 8) UNROLL for (int l = 0; l < 8; l++) \
s[l] += (double)READ(a[i + l])*(double)READ(b[i + l]);
  for (; i < n; i++) rest += (double)READ(a[i])*(double)READ(b[i]);
  return rest + (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
}
"""

LARGEST = """\
/* the largest magnitude in rows of D numbers; NaN where one is not finite */
INLINE double LARGEST(const ELEMENT *x, long ld, long D, long rows) {
  V most = {0}, odd = {0};
  double rest = 0, doubt = 0;
  for (long r = 0; r < rows; r++, x += ld) {
    long a = 0;
    for (; a + W <= D; a += W) { V y = READU(x + a); most = MAX(MAX(y, -y), most), odd += y - y; }
    for (; a < D; a++) {
      const double y = READ(x[a]);
      rest = SMAX(fabs(y), rest), doubt += y - y;
    }
  }
  for (int l = 0; l < W; l++) rest = SMAX(most[l], rest), doubt += odd[l];
  return rest + doubt;  /* a finite number less itself is 0, all others give NaN */
}
/* at least the largest norm of rows of D numbers, but for rounding; NaN where a square is not finite */
INLINE double LARGEST_NORM(const ELEMENT *x, long ld, const int D, long rows) {
  V most = {0}, odd = {0};
  double largest = 0, doubt = 0;
  for (long r = 0; r < rows; r += W) {
    V s[W], rest = {0};
    for (int i = 0; i < (int)W; i++) {
      const ELEMENT *row = x + LEAST(r + i, rows - 1)*ld;
      int a = 0;
      s[i] = (V){0};
      for (; a + (int)W <= D; a += W) { V y = READU(row + a); s[i] = FMA(y, y, s[i]); }
      for (; a < D; a++) rest[i] += READ(row[a])*READ(row[a]);
    }
    const V squares = SUMS_OF_LANES(s) + rest;
    most = MAX(squares, most), odd += squares - squares;
  }
  for (int l = 0; l < (int)W; l++) largest = SMAX(most[l], largest), doubt += odd[l];
  return sqrt(largest + D*(double)NORMAL) + doubt;
}
"""

STAGE = """\
/* rows of a matrix, padded with zeros to P features and `all` rows */
INLINE void STAGE(T *to, const ELEMENT *from, long ld, const int D, const int P, long rows, long all) {
  for (long r = 0; r < rows; r++) {
    ROW(to + r*P, from + r*ld, D);
    if (P > D) memset(to + r*P + D, 0, (P - D)*sizeof(T));
  }
  memset(to + rows*P, 0, (all - rows)*P*sizeof(T));
}
"""

PACK = """\
/* queries as columns of B: to[feature][query] = scale*from[query][feature], absent queries 0 */
INLINE void PACK(T *to, const ELEMENT *from, long ld, const int D, const int B, long rows, T scale) {
  for (long r = 0; r < rows; r += W) {
    long a = 0;
#ifdef TRANSPOSE
    for (; a + W <= D; a += W) {
      V x[W];
      UNROLL for (int l = 0; l < W; l++) x[l] = r + l < rows ? READU(from + (r + l)*ld + a)*scale : (V){0};
      TRANSPOSE(x);
      UNROLL for (int l = 0; l < W; l++) STORE(to + (a + l)*B + r, x[l]);
    }
#endif
    for (; a < D; a++)
      for (long l = r; l < r + W; l++) to[a*B + l] = l < rows ? scale*READ(from[l*ld + a]) : 0;
  }
}
"""

INNER_LANES = """\
/* the inner products of a row of P features with W rows, of which those from `rows` on repeat the last; one
   row after another, since memory is read fastest in its order, each in FEW_SUMS partial sums */
INLINE V INNER_LANES(const T *q, const ELEMENT *k, long ld, const int P, long rows) {
  V x[W];
  for (int l = 0; l < (int)W; l++) {
    const ELEMENT *at = k + LEAST(l, rows - 1)*ld;
    V acc[FEW_SUMS];
    UNROLL for (int c = 0; c < FEW_SUMS; c++) acc[c] = (V){0};
    int a = 0;
    for (; a + FEW_SUMS*(int)W <= P; a += FEW_SUMS*W)
      UNROLL for (int c = 0; c < FEW_SUMS; c++)
        acc[c] = FMA(READU(at + a + c*W), LOAD(q + a + c*W), acc[c]);
    UNROLL for (int c = 0; c < FEW_SUMS; c++)
      if (a + c*(int)W < P) acc[c] = FMA(READU(at + a + c*W), LOAD(q + a + c*W), acc[c]);
    UNROLL for (int s = FEW_SUMS/2; s; s /= 2)
      UNROLL for (int c = 0; c < s; c++) if ((c + s)*(int)W < P) acc[c] += acc[c + s];
    x[l] = acc[0];
  }
  return SUMS_OF_LANES(x);
}
"""

WEIGHTED = """\
/* sums[feature] += weights[key] * values[key][feature], a block of keys on its own and added once. Nothing is
   prefetched by hand: what reads a row needs as few loads as there can be, for the next rows to be on their
   way */
INLINE void WEIGHTED_ROWS(const int C, T *sums, const T *weights, const ELEMENT *values,
                          long ld, long first, long last) {
  V acc[FEW_FEATURES];
  UNROLL for (int c = 0; c < C; c++) acc[c] = (V){0};
  for (long j = first; j < last; j++) {
    const V w = SET1(weights[j]);
    UNROLL for (int c = 0; c < C; c++) acc[c] = FMA(w, READU(values + j*ld + c*W), acc[c]);
  }
  UNROLL for (int c = 0; c < C; c++) STORE(sums + c*W, LOAD(sums + c*W) + acc[c]);
}
INLINE void WEIGHTED_SUM(T *sums, const T *weights, const ELEMENT *values, long ld,
                         const int P, long first, long last) {
  const int whole = P/W/FEW_FEATURES*FEW_FEATURES;
  for (int c = 0; c < whole; c += FEW_FEATURES)
    WEIGHTED_ROWS(FEW_FEATURES, sums + c*W, weights, values + c*W, ld, first, last);
  if (whole < P/(int)W)
    WEIGHTED_ROWS(P/W - whole, sums + whole*W, weights, values + whole*W, ld, first, last);
}
"""


def plain(text: str) -> str:
    """A text for elements that are of the type of arithmetic."""
    text = re.sub(r"\bREAD\(([^()]*)\)", r"\1", text).replace("READU(", "LOADU(").replace("ELEMENT", "T")
    return re.sub(r"\bROW\((.*), (\w+)\);", r"memcpy(\1, \2*sizeof(T));", text)


def stored(text: str) -> str:
    """The same text for elements that are stored as bfloat16."""
    for name in re.findall(r"^INLINE \w+ (\w+)\(", text, flags=re.MULTILINE):
        text = re.sub(rf"\b{name}\(", f"{name}_STORED(", text)
    text = text.replace("READU(", "WIDEU(").replace("READ(", "WIDE(").replace("ELEMENT", "S")
    return text.replace("ROW(", "WIDE_ROW(")


STORED = WIDENING + "".join(map(stored, (INNER_STORED, LARGEST, STAGE, PACK)))
"""What a kernel with stored vectors has besides the prelude."""
