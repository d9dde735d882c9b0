"""The only machine-dependent text of a kernel: one table of instruction sets, and the prelude made from it.

One source serves every row of the table: the compiler's predefined macros pick the row. A vector `V` has
`W` lanes of `T`; arithmetic is that of GCC/Clang vector extensions, so a row names only what these lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from projsym.codegen.exp2 import coefficients

TILES = ("query_vectors", "keys", "rows", "features")
BYTES = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class ISA:
    """An instruction set: when it applies, its vectors, and its operations by macro name.

    operations: macro with arguments -> text for float32 and for float64. Macros that are not named get the
    portable definition.
    """

    name: str
    condition: str
    include: str
    bytes: int
    registers: int
    operations: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def lanes(self, dtype: str) -> int:
        """Lanes of a vector."""
        return self.bytes // BYTES[dtype]

    def tile(self, tiles: Mapping[str, int], name: str) -> int:
        """The tile size in force: this instruction set's own, else the common one, else 1."""
        return tiles.get(f"{self.name}_{name}", tiles.get(name, 1))

    def check(self, tiles: Mapping[str, int]) -> None:
        """ValueError if a register tile (accumulators, one row of factors, one broadcast) does not fit."""
        for tall, wide in (("keys", "query_vectors"), ("rows", "features")):
            r, c = self.tile(tiles, tall), self.tile(tiles, wide)
            if r * c + c + 1 > self.registers:
                raise ValueError(
                    f"tile: {tall}={r} by {wide}={c} needs {r * c + c + 1} vector registers, "
                    f"{self.name} has {self.registers}"
                )


def _x86(bits: str) -> dict[str, tuple[str, str]]:
    def both(text: str) -> tuple[str, str]:
        return text.format(s="ps"), text.format(s="pd")

    return {
        "FMA(a, b, c)": both(f"_mm{bits}_fmadd_{{s}}(a, b, c)"),
        "MAX(a, b)": both(f"_mm{bits}_max_{{s}}(a, b)"),
        "MIN(a, b)": both(f"_mm{bits}_min_{{s}}(a, b)"),
        "SQRT(a)": both(f"_mm{bits}_sqrt_{{s}}(a)"),
    }


def _neon(op: str, args: str) -> tuple[str, str]:
    f32 = ", ".join(f"(float32x4_t)({a})" for a in args.split())
    return f"((V){op}_f32({f32}))", f"((V){op}_f64({f32.replace('32x4', '64x2')}))"


ISAS = (
    ISA(
        "avx512",
        "defined(__AVX512F__)",
        "immintrin.h",
        64,
        32,
        {
            **_x86("512"),
            "ROUND(a)": ("_mm512_roundscale_ps(a, 8)", "_mm512_roundscale_pd(a, 8)"),
            "SCALE(p, n)": ("_mm512_scalef_ps(p, n)", "_mm512_scalef_pd(p, n)"),
        },
    ),
    ISA(
        "avx2",
        "defined(__AVX2__) && defined(__FMA__)",
        "immintrin.h",
        32,
        16,
        {
            **_x86("256"),
            "ROUND(a)": ("_mm256_round_ps(a, 8)", "_mm256_round_pd(a, 8)"),
        },
    ),
    ISA(
        "neon",
        "defined(__ARM_NEON) && defined(__aarch64__)",
        "arm_neon.h",
        16,
        32,
        {
            "FMA(a, b, c)": _neon("vfmaq", "c a b"),
            "MAX(a, b)": _neon("vmaxq", "a b"),
            "MIN(a, b)": _neon("vminq", "a b"),
            "SQRT(a)": _neon("vsqrtq", "a"),
            "ROUND(a)": _neon("vrndnq", "a"),
        },
    ),
    ISA("c", "1", "", 16, 16),
)


def _isa_text(isa: ISA, dtype: str, tiles: Mapping[str, int]) -> list[str]:
    which = 0 if dtype == "float32" else 1
    lines = [f"#include <{isa.include}>"] if isa.include else []
    lines += [f"#define VECTOR_BYTES {isa.bytes}"]
    lines += [f"#define TILE_{t.upper()} {isa.tile(tiles, t)}" for t in TILES]
    lines += [f"#define {head} {texts[which]}" for head, texts in isa.operations.items()]
    if not any(head.startswith("FMA") for head in isa.operations):
        lines.append("#define FMA(a, b, c) ((a)*(b) + (c))  /* no fused multiply-add: rounds twice */")
    return lines


def prelude(dtype: str, tiles: Mapping[str, int]) -> str:
    """The C text before a kernel: the types `T`, `V`, `I`, the operations, `EXP2` and the helpers.

    dtype: "float32" or "float64". `EXP2` is exact where a power of two is (integer argument in range), has
    the certified error of `projsym.codegen.exp2` elsewhere, is 0 for every argument below the exponent
    range (also minus infinity), infinite above it, and NaN for NaN (on AVX-512 also for plus infinity).
    """
    single = dtype == "float32"
    lines: list[str] = []
    for n, isa in enumerate(ISAS):
        lines.append("#else" if isa.condition == "1" else f"#{'el' if n else ''}if {isa.condition}")
        lines += _isa_text(isa, dtype, tiles)
    lines.append("#endif")
    c = [f"(T){x.hex()}" for x in coefficients(dtype)]
    horner = [f"V p = SET1({c[-1]});", *(f"p = FMA(p, f, SET1({x}));" for x in reversed(c[:-1]))]
    mantissa, low, high, flush = (23, -125, 128, -160) if single else (52, -1021, 1024, -1100)
    return _PRELUDE.format(
        T="float" if single else "double",
        I="int" if single else "long long",
        isa="\n".join(lines),
        magic=repr(1.5 * 2.0**mantissa),
        mantissa=mantissa,
        low=low,
        high=high,
        flush=flush,
        lowest="FLT_MAX" if single else "DBL_MAX",
        sqrt="sqrtf" if single else "sqrt",
        horner="\n  ".join(horner),
    )


_PRELUDE = """\
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef {T} T;
typedef {I} I;
{isa}
#define ALIGNED __attribute__((aligned(64)))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
#define ONCE _Pragma("GCC unroll 1")
#define LOWEST (-{lowest})
typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));
typedef T VU __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef I VI __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));
enum {{ W = VECTOR_BYTES/sizeof(T) }};

INLINE V SET1(T x) {{ return x - (V){{0}}; }}
INLINE V LOAD(const T *p) {{ return *(const V *)p; }}
INLINE V LOADU(const T *p) {{ return *(const VU *)p; }}
INLINE void STORE(T *p, V x) {{ *(V *)p = x; }}
INLINE V CHOOSE(VI c, V a, V b) {{ return (V)((c & (VI)a) | (~c & (VI)b)); }}
#ifndef MAX  /* the second argument where one is NaN, as on x86 */
#define MAX(a, b) PLAIN_MAX(a, b)
#define MIN(a, b) PLAIN_MIN(a, b)
INLINE V PLAIN_MAX(V a, V b) {{ return CHOOSE(a > b, a, b); }}
INLINE V PLAIN_MIN(V a, V b) {{ return CHOOSE(a < b, a, b); }}
#endif
#ifndef SQRT
#define SQRT(a) PLAIN_SQRT(a)
INLINE V PLAIN_SQRT(V a) {{ for (int i = 0; i < W; i++) a[i] = {sqrt}(a[i]); return a; }}
#endif
#define MAGIC ((T){magic})  /* adding it leaves the nearest integer in the low mantissa bits */
#ifndef ROUND
#define ROUND(a) PLAIN_ROUND(a)
INLINE V PLAIN_ROUND(V a) {{ V z = a + MAGIC; return z - MAGIC; }}
#endif

INLINE V EXP2(V x) {{
#ifdef SCALE
  V t = MAX(SET1({flush}), x);
  V n = ROUND(t), f = t - n;
#else
  V t = MIN(SET1({high}), MAX(SET1({low}), x));
  V n = ROUND(t), f = t - n;
#endif
  {horner}
#ifdef SCALE
  return SCALE(p, n);
#else
  V y = (V)((VI)p + ((VI)(n + MAGIC) << {mantissa}));
  y = (V)((VI)y & ~(VI)(x < SET1({low})));
  return CHOOSE(x < SET1({high}), y, x + SET1(INFINITY));
#endif
}}

/* the inner product in double, in eight partial sums */
INLINE double INNER(const T *a, const T *b, long n) {{
  double s[8] = {{0}}, rest = 0;
  long i = 0;
  for (; i + 8 <= n; i += 8) UNROLL for (int l = 0; l < 8; l++) s[l] += (double)a[i + l]*(double)b[i + l];
  for (; i < n; i++) rest += (double)a[i]*(double)b[i];
  return rest + (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
}}
/* a/b, and 0 for an empty sum b: a row without keys is the unit of the merge monoid */
INLINE double GUARDED(double a, double b) {{ return b == 0 ? 0 : a/b; }}
INLINE double SMAX(double a, double b) {{ return a > b ? a : b; }}
INLINE double SMIN(double a, double b) {{ return a < b ? a : b; }}

/* acc[r][c] += sum over t < n of left[r*lr + t*lt] * right[t*rt + c*W + lane], R by C vectors in registers */
INLINE void OUTER(const int R, const int C, V *restrict acc, const T *left, long lr, long lt,
                  const T *right, long rt, long n) {{
  ONCE for (long t = 0; t < n; t++) {{
    V b[16];
    UNROLL for (int c = 0; c < C; c++) b[c] = LOADU(right + t*rt + c*W);
    UNROLL for (int r = 0; r < R; r++) {{
      V a = SET1(left[r*lr + t*lt]);
      UNROLL for (int c = 0; c < C; c++) acc[r*C + c] = FMA(a, b[c], acc[r*C + c]);
    }}
  }}
}}
/* sums[row][feature] += weights[key][row] * values[key][feature], for rows < ROWS and P features; a block of
   keys is summed on its own and added once, which is what the error bound counts */
INLINE void CONTRACT_TILE(const int C, T *sums, const T *weights, const T *values, const int P, const int B,
                          long keys) {{
  V acc[32];
  UNROLL for (int r = 0; r < TILE_ROWS; r++) UNROLL for (int c = 0; c < C; c++)
    acc[r*C + c] = (V){{0}};
  OUTER(TILE_ROWS, C, acc, weights, 1, B, values, P, keys);
  UNROLL for (int r = 0; r < TILE_ROWS; r++) UNROLL for (int c = 0; c < C; c++)
    STORE(sums + r*P + c*W, LOAD(sums + r*P + c*W) + acc[r*C + c]);
}}
INLINE void CONTRACT(T *sums, const T *weights, const T *values, const int P, const int B, long rows,
                     long keys) {{
  const int vectors = P/W, chunks = (vectors + TILE_FEATURES - 1)/TILE_FEATURES;
  const int wide = (vectors + chunks - 1)/chunks, last = vectors - wide*(chunks - 1);
  for (long r = 0; r < rows; r += TILE_ROWS) {{
    int c = 0;
    for (; c < (chunks - 1)*wide; c += wide)
      CONTRACT_TILE(wide, sums + r*P + c*W, weights + r, values + c*W, P, B, keys);
    CONTRACT_TILE(last, sums + r*P + c*W, weights + r, values + c*W, P, B, keys);
  }}
}}
/* rows of a matrix, padded with zeros to P features and `all` rows */
INLINE void STAGE(T *to, const T *from, long ld, const int D, const int P, long rows, long all) {{
  for (long r = 0; r < rows; r++) {{
    memcpy(to + r*P, from + r*ld, D*sizeof(T));
    if (P > D) memset(to + r*P + D, 0, (P - D)*sizeof(T));
  }}
  memset(to + rows*P, 0, (all - rows)*P*sizeof(T));
}}
/* queries as columns of B: to[feature][query] = scale*from[query][feature], absent queries 0 */
INLINE void PACK(T *to, const T *from, long ld, const int D, const int B, long rows, T scale) {{
  for (long r = 0; r < (rows + W - 1)/W*W; r++)
    for (long a = 0; a < D; a++) to[a*B + r] = r < rows ? scale*from[r*ld + a] : 0;
}}
"""
