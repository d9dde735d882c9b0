"""The C text before every kernel: types, vector operations, the exponential, the loops of register tiles."""

from __future__ import annotations

from collections.abc import Mapping

from projsym.codegen.c_products import CONTRACT
from projsym.codegen.c_reads import INNER, LARGEST, PACK, STAGE, plain
from projsym.codegen.exp2 import coefficients
from projsym.codegen.isa import ISAS, isa_text


def prelude(dtype: str, tiles: Mapping[str, int]) -> str:
    """The C text before a kernel: the types `T`, `V`, `I`, the operations, `EXP2` and the helpers.

    dtype: "float32" or "float64". `EXP2` is exact where a power of two is (integer argument in range), has
    the certified error of `projsym.codegen.exp2` elsewhere, is 0 for every argument below the exponent
    range (also minus infinity), infinite above it, and NaN for NaN (on AVX-512 also for plus infinity).
    `EXP2_SMALL` and `EXP2_NEAR` are it with fewer operations, for arguments that are known to be small.
    """
    single = dtype == "float32"
    lines: list[str] = []
    for n, isa in enumerate(ISAS):
        lines.append("#else" if isa.condition == "1" else f"#{'el' if n else ''}if {isa.condition}")
        lines += isa_text(isa, dtype, tiles)
    lines.append("#endif")
    c = [f"(T){x.hex()}" for x in coefficients(dtype)]
    horner = [f"V p = SET1({c[-1]});", *(f"p = FMA(p, f, SET1({x}));" for x in reversed(c[:-1]))]
    mantissa, high, flush = (23, 128, -160) if single else (52, 1024, -1100)
    return _PRELUDE.format(
        T="float" if single else "double",
        I="int" if single else "long long",
        isa="\n".join(lines),
        magic=repr(1.5 * 2.0**mantissa),
        offset=high - 1,
        less=high - 2,
        mantissa=mantissa,
        low=2 - high,
        high=high,
        flush=flush,
        zero=1 - high,
        least="FLT_MIN" if single else "DBL_MIN",
        lowest="FLT_MAX" if single else "DBL_MAX",
        sqrt="sqrtf" if single else "sqrt",
        horner="\n  ".join(horner),
        inner=plain(INNER),
        largest=plain(LARGEST),
        stage=plain(STAGE),
        pack=plain(PACK),
        contract=CONTRACT,
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
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define FOUR_TIMES _Pragma("clang loop unroll_count(4)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#define FOUR_TIMES _Pragma("GCC unroll 4")
#endif
#define LOWEST (-{lowest})
#define NORMAL {least}
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
  V t = MAX(SET1({flush}), x), n = ROUND(t), f = t - n;
#else
  V t = MIN(SET1({high}), MAX(SET1({low}), x)), z = t + (MAGIC + {less}), f = t - (z - (MAGIC + {less}));
#endif
  {horner}
#ifdef SCALE
  return SCALE(p, n);
#else
  V y = p*(V)((VI)z << {mantissa});  /* z holds n + {less}, the exponent field of 2^(n - 1) or 0 */
  return y + y;
#endif
}}

/* the same for numbers of at most 100, NaN and minus infinity included */
INLINE V EXP2_SMALL(V x) {{
#ifdef SCALE
  return EXP2(x);
#else
  V t = MAX(SET1({zero}), x), z = t + (MAGIC + {offset}), f = t - (z - (MAGIC + {offset}));
  {horner}
  return p*(V)((VI)z << {mantissa});  /* z holds n + {offset}, the exponent field of 2^n or 0 */
#endif
}}

/* the same for numbers of magnitude at most 100 */
INLINE V EXP2_NEAR(V x) {{
  V z = x + MAGIC, f = x - (z - MAGIC);
  {horner}
  return (V)((VI)p + ((VI)z << {mantissa}));  /* z ends in n, which is added to the exponent field */
}}

{inner}/* a/b, and 0 for an empty sum b: a row without keys is the unit of the merge monoid */
INLINE double GUARDED(double a, double b) {{ return b == 0 ? 0 : a/b; }}
INLINE double SMAX(double a, double b) {{ return a > b ? a : b; }}
INLINE long MOST(long a, long b) {{ return a > b ? a : b; }}
INLINE long LEAST(long a, long b) {{ return a < b ? a : b; }}
INLINE double SMIN(double a, double b) {{ return a < b ? a : b; }}

/* x[i][l] = x[l][i] */
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SWAP(s) UNROLL for (int i = 0; i < W; i++) if (!(i & s)) {{ \\
    const V a = x[i], b = x[i | s]; \\
    x[i] = __builtin_shufflevector(a, b, LOW_##s); \\
    x[i | s] = __builtin_shufflevector(a, b, HIGH_##s); \\
  }}
#define TRANSPOSE SHUFFLE
INLINE void SHUFFLE(V x[W]) {{ EACH_SWAP(SWAP) }}
#endif
#endif
/* lane l of the sum is the sum of the lanes of x[l] */
#ifdef TRANSPOSE
#define FOLD(s) UNROLL for (int i = 0; i < W; i += 2*s) {{ \\
    const V a = x[i], b = x[i + s]; \\
    x[i] = __builtin_shufflevector(a, b, LOW_##s) + __builtin_shufflevector(a, b, HIGH_##s); \\
  }}
INLINE V SUMS_OF_LANES(V x[W]) {{ EACH_SWAP(FOLD) return x[0]; }}
#else
INLINE V SUMS_OF_LANES(V x[W]) {{
  V s = {{0}};
  for (int i = 0; i < W; i++) for (int l = 0; l < W; l++) s[i] += x[i][l];
  return s;
}}
#endif
{largest}
/* acc[r][c] += sum over t < n of left[r*lr + t*lt] * right[t*rt + c*W + lane], R by C vectors in registers */
INLINE void OUTER(const int R, const int C, V *restrict acc, const T *left, long lr, long lt,
                  const T *right, long rt, long n) {{
  FOUR_TIMES for (long t = 0; t < n; t++) {{
    V b[16];
    UNROLL for (int c = 0; c < C; c++) b[c] = LOADU(right + t*rt + c*W);
    UNROLL for (int r = 0; r < R; r++) {{
      V a = SET1(left[r*lr + t*lt]);
      UNROLL for (int c = 0; c < C; c++) acc[r*C + c] = FMA(a, b[c], acc[r*C + c]);
    }}
  }}
}}
{contract}#define HALF_TILE ((TILE_KEYS + 1)/2)
/* a register tile as a function of its own: inlined, constants of what follows its inner product could stay
   in registers that the sums of the product need */
#define ONCE static __attribute__((noinline))
#define TILE_FUNCTION ONCE void
/* vectors in a tile: as many as fit, in shares as even as can be */
INLINE long SHARE(long vectors, long fit) {{
  const long turns = (vectors + fit - 1)/fit;
  return (vectors + turns - 1)/turns;
}}
/* the tiles TILE_4, … of 4, … vectors for all vectors of queries */
#define QUERY_TILES(TILE, ...) {{ \\
    for (long v = 0; v < nv; v += share) switch (LEAST(nv - v, share)) {{ \\
      case 4: TILE##_4(__VA_ARGS__, v); break; \\
      case 3: TILE##_3(__VA_ARGS__, v); break; \\
      case 2: TILE##_2(__VA_ARGS__, v); break; \\
      case 1: TILE##_1(__VA_ARGS__, v); break; \\
    }} \\
  }}
{stage}{pack}"""
