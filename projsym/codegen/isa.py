"""The only machine-dependent text of a kernel: one table of instruction sets.

One source serves every row of the table: the compiler's predefined macros pick the row. A vector `V` has
`W` lanes of `T`; arithmetic is that of GCC/Clang vector extensions, so a row names only what these lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from projsym.schedules import REGISTERS, TILE, WIDEST

TILES = TILE
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

    def tile(self, tiles: Mapping[str, int], name: str, features: int = 0) -> int:
        """The tile size in force for vectors of that many features: this instruction set's own, of the
        narrowest class that they are above, else the common one, else 1."""
        for least in reversed(self.classes(tiles)):
            own = f"{self.name}_{name}_above_{least}"
            if features > least and own in tiles:
                return tiles[own]
        return tiles.get(f"{self.name}_{name}", tiles.get(name, 1))

    def classes(self, tiles: Mapping[str, int]) -> list[int]:
        """The numbers of features above which tiles change, ascending."""
        own = (name.rpartition("_above_") for name in tiles if name.startswith(f"{self.name}_"))
        return sorted({int(least) for _, found, least in own if found})

    def check(self, tiles: Mapping[str, int]) -> None:
        """ValueError if a register tile (accumulators, one row of factors, one broadcast) does not fit."""
        for features in (0, *(least + 1 for least in self.classes(tiles))):
            for tall, wide in (("keys", "query_vectors"), ("rows", "features")):
                r, c = (self.tile(tiles, x, features) for x in (tall, wide))
                if wide == "query_vectors" and c > WIDEST:
                    raise ValueError(f"tile: query_vectors={c}, allowed are 1 to {WIDEST}")
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
        REGISTERS["avx512"],
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
        REGISTERS["avx2"],
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
        REGISTERS["neon"],
        {
            "FMA(a, b, c)": _neon("vfmaq", "c a b"),
            "MAX(a, b)": _neon("vmaxq", "a b"),
            "MIN(a, b)": _neon("vminq", "a b"),
            "SQRT(a)": _neon("vsqrtq", "a"),
            "ROUND(a)": _neon("vrndnq", "a"),
        },
    ),
    ISA("c", "1", "", 16, REGISTERS["c"]),
)


def isa_text(isa: ISA, dtype: str, tiles: Mapping[str, int]) -> list[str]:
    which = 0 if dtype == "float32" else 1
    lines = [f"#include <{isa.include}>"] if isa.include else []
    lines += [f"#define VECTOR_BYTES {isa.bytes}", f"#define REGISTERS {isa.registers}"]
    lines += [
        "#ifndef TILE_KEYS",
        *(f"#define TILE_{t.upper()} {_size(isa, tiles, t)}" for t in TILES),
        "#endif",
    ]
    lines += [f"#define {head} {texts[which]}" for head, texts in isa.operations.items()]
    if not any(head.startswith("FMA") for head in isa.operations):
        lines.append("#define FMA(a, b, c) ((a)*(b) + (c))  /* no fused multiply-add: rounds twice */")
    return lines + _swaps(isa.lanes(dtype))


def _size(isa: ISA, tiles: Mapping[str, int], name: str) -> str:
    """The C of a tile size; ``WIDER(n)`` is whether a vector has more than n features."""
    text = str(isa.tile(tiles, name))
    for least in isa.classes(tiles):
        text = f"(WIDER({least}) ? {isa.tile(tiles, name, least + 1)} : {text})"
    return text


def _swaps(lanes: int) -> list[str]:
    """The lanes of two vectors with blocks of 1, 2, 4, … lanes exchanged: the steps of a transposition."""
    steps = [1 << n for n in range(lanes.bit_length() - 1)]
    lines = [f"#define EACH_SWAP(SWAP) {' '.join(f'SWAP({s})' for s in steps)}"]
    for s in steps:
        low = [lanes + (x ^ s) if x & s else x for x in range(lanes)]
        high = [lanes + x if x & s else x ^ s for x in range(lanes)]
        lines += [
            f"#define LOW_{s} {', '.join(map(str, low))}",
            f"#define HIGH_{s} {', '.join(map(str, high))}",
        ]
    return lines
