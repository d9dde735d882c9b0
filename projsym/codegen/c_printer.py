"""A scheduled program as C.

The source serves every instruction set of `projsym.codegen.isa` and every feature size (macros
``D_<feature>``). What is printed is the program's tree, statement by statement: parameters once per call,
key scalars once per head, then for each block of queries the row scalars, the key blocks with their phases
(`projsym.codegen.c_plan`), and the outputs. The result does not depend on the number of threads: a block of
queries, or its share of a part of the keys where there are parts, is always computed by one thread, in one
order, and parts are merged in one order.
"""

from __future__ import annotations

from projsym.codegen import c_ranges
from projsym.codegen.c_ahead import PRELUDE as AHEAD
from projsym.codegen.c_ahead import Ahead
from projsym.codegen.c_bounded import Bounded
from projsym.codegen.c_driver import Driver
from projsym.codegen.c_few import PRELUDE as FEW
from projsym.codegen.c_few import STORED as FEW_STORED
from projsym.codegen.c_few import Few
from projsym.codegen.c_gradient import CHUNK, PRELUDE, GradientDriver, GradientRows
from projsym.codegen.c_names import Names, element
from projsym.codegen.c_pairs import Pairs
from projsym.codegen.c_parts import Parts
from projsym.codegen.c_plan import Plan, plan
from projsym.codegen.c_prelude import prelude
from projsym.codegen.c_products import PAIRED
from projsym.codegen.c_reads import STORED
from projsym.codegen.c_rows import Rows
from projsym.codegen.c_text import Text
from projsym.codegen.isa import ISAS
from projsym.codegen.pass_parts import alike
from projsym.codegen.program import Let, Program, step, tanh2
from projsym.codegen.scalar_c import power_function, powers
from projsym.codegen.tanh2 import C as TANH2


def emit_c(
    program: Program,
    dtype: str,
    header: str = "",
    bounded: Program | None = None,
    parts: Program | None = None,
) -> str:
    """The C source of a scheduled program, the same bytes every time.

    bounded: the same without its running maximum, for blocks of queries whose scores norms bound.
    parts: the same with the keys in parts, for calls with few queries (`projsym.codegen.c_parts`).

    dtype: "float32" or "float64", of arithmetic and of all arrays but vectors that the program stores in
    another type (``S`` in place of ``T`` below); parameters are doubles. header: text put before the code.
    Compile with ``-O3 -ffp-contract=off -fno-math-errno -std=gnu11 -D D_<feature>=<size>`` for every feature,
    and ``-fopenmp`` for threads.

    The one external function has the program's name and returns 0, or -1 when memory could not be had, or the
    number of rows that a caller must look at: a normaliser is NaN, infinite or zero (which a row without keys
    is too), or a scalar output is not finite, or a mean of vectors that scores are made of is NaN::

        int NAME(long H, long n, long m,
                 const T *x, const long *x_at, long x_ld,   // vectors: head h at x + x_at[h], rows x_ld apart
                 const T *b, const long *b_at,              // scalar inputs of a query or key, contiguous
                 const T *c, const long *c_at, long c_ld,   // scalar inputs of a pair, rows of m c_ld apart
                 double p,                                  // parameters
                 T *out,                                    // (H, n, D), or (H, n) or NULL for a scalar
                 const long *lo, const long *hi,            // if the loop over keys is ranged: row i of head
                 const long *at,                            // h sees lo[at[h] + i] <= j < hi[at[h] + i]
                 int threads);

    Raises ValueError for another dtype, names that are no C identifiers, statements not yet hoisted, loops
    without a block size, expressions without a C form, and for `bounded` or `parts` of another program.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    if program.arithmetic not in ("", dtype):
        raise ValueError(f"{program.name}: dtype must be {program.arithmetic!r}, got {dtype!r}")
    if parts and not alike(program, parts):
        raise ValueError(f"{parts.name}: the program in parts is not the first one cut into parts")
    return _source(plan(program), plan(bounded) if bounded else None, parts, dtype, header)


def _source(plan: Plan, free: Plan | None, shared: Program | None, dtype: str, header: str) -> str:
    _check_blocks(plan, dtype)
    p, names, t = plan.program, Names(plan), Text()
    _notes(p, t)
    if free:
        _check_alike(plan, free)
        t("/* where norms bound the scores:", " *")
        _notes(free.program, t, head="")
    if shared:
        t("/* for few queries:", " *")
        _notes(shared, t, head="")
    t("")
    t.raw(header)
    _wider(names, t)
    t.raw(prelude(dtype, p.tiles))
    if names.storage:
        t.raw(STORED)
        t.raw(PAIRED)
    t("")
    used = {n for x in (plan, free) if x for s in x.pairs.body if isinstance(s, Let) for n in powers(s.value)}
    t(*(power_function(n) for n in sorted(used)))
    values = [s.value for s in plan.pairs.body if isinstance(s, Let)]
    if any(e.has(tanh2) for e in values):
        t.raw(TANH2)
    if any(e.has(step) for e in values):
        t("INLINE V STEP(V x) { return CHOOSE(x > 0, SET1((T)1), SET1((T)0)); }")
    _sizes(names, t)
    if plan.pairs.ranged:
        t.raw(c_ranges.PRELUDE)
        t("")
    if names.key_sums:
        block = plan.pairs.block or 1
        t(f"#define CHUNK {-(-CHUNK // block) * block}")
        t.raw(PRELUDE)
        t("")
    ahead = Ahead(names, t)
    t.raw(AHEAD)
    t("")
    parts = Parts(names, shared, t) if shared else None
    if parts:
        parts.define()
        if parts.few:
            t.raw(FEW)
            if names.storage:
                t.raw(FEW_STORED)
            t("")
    _structs(names, t, free, parts, ahead)
    pairs = Pairs(plan, t, names.key_state, ask=ahead.ask)
    pairs.nests()
    if names.key_sums:
        GradientRows(names, t).functions(pairs)
        ahead.function()
        GradientDriver(names, t, ahead).driver()
        return str(t)
    Rows(names, t).row_block(pairs, f"{p.name}_{'online' if free else 'rows'}", p.name)
    if parts:
        parts.functions()
        if parts.few:
            Few(names, t).functions()
    bounded = None
    if free:
        others = Pairs(free, t, bounded=True, ask=ahead.ask)
        others.nests()
        Rows(Names(free), t).row_block(others, f"{p.name}_bounded")
        bounded = Bounded(Names(free), t, dtype)
        bounded.choice()
    ahead.function()
    Driver(names, t, ahead, bounded, parts).driver()
    return str(t)


def _wider(names: Names, t: Text) -> None:
    """What the table of tiles asks of the widest feature."""
    t(f"#define WIDER(n) ({' || '.join(f'D_{f} > (n)' for f in names.features)})")


def _notes(p: Program, t: Text, head: str = "/*") -> None:
    """A program and its schedule as a comment."""
    notes = [*str(p).splitlines(), *(["schedule:"] if p.log else []), *(f"  {line}" for line in p.log)]
    t(*([head] if head else []), *(f" * {line}".rstrip() for line in notes), " */")


def _check_alike(plan: Plan, free: Plan) -> None:
    """ValueError unless the two share arguments and working memory."""

    def shared(p: Plan) -> list[object]:
        program = p.program
        return [
            program.name,
            program.inputs,
            program.tiles,
            p.parameters,
            p.key_loops,
            p.before,
            p.rows.block,
        ]

    if shared(plan) != shared(free) or not set(free.buffers.values()) <= set(plan.buffers.values()):
        raise ValueError(
            f"{free.program.name}: the bounded program has other arguments or values than the first"
        )


def _check_blocks(plan: Plan, dtype: str) -> None:
    """ValueError unless a block of queries is whole vectors and whole tiles on every instruction set."""
    size = plan.rows.block or 0
    for isa in ISAS:
        tiles, sizes = plan.program.tiles, [("lanes", isa.lanes(dtype))]
        for features in (0, *(least + 1 for least in isa.classes(tiles))):
            sizes.append(("rows of a tile", isa.tile(tiles, "rows", features)))
        for what, n in sizes:
            if size % n:
                raise ValueError(f"block of {size} queries is no multiple of the {n} {what} of {isa.name}")


def _sizes(names: Names, t: Text) -> None:
    """Feature sizes, block sizes, and what they must satisfy."""
    plan = names.plan
    for f in names.features:
        t(f"#ifndef D_{f}", f'#error "compile with -DD_{f}=<size of feature {f}>"', "#endif")
    t(*(f"#define P_{f} ((D_{f} + (int)W - 1)/(int)W*(int)W)" for f in names.features))
    t(
        "#ifndef BLOCK_i",
        f"#define BLOCK_i {plan.rows.block}",
        "#endif",
        "#ifndef BLOCK_j",
        f"#define BLOCK_j ({_keys(names)})",
        "#endif",
        "#define STAGED (BLOCK_j > TILE_KEYS ? BLOCK_j : TILE_KEYS)",
        '_Static_assert(BLOCK_i % W == 0, "a block of queries must be whole vectors");',
        '_Static_assert(BLOCK_i % TILE_ROWS == 0, "a block of queries must be whole tiles");',
        "",
    )


def _keys(names: Names) -> str:
    """The number of keys in a block, by the widest feature."""
    text = str(names.plan.pairs.block)
    for features, keys in names.plan.program.blocks:
        text = f"WIDER({features}) ? {keys} : {text}"
    return text


def _structs(
    names: Names, t: Text, free: Plan | None, parts: Parts | None = None, ahead: Ahead | None = None
) -> None:
    """What a row block receives, and its working memory."""
    plan = names.plan
    with t.block("typedef struct", f"}} {names.name}_args;"):
        t("long n, m, span;" if names.key_sums else "long n, m;")
        for x in plan.vectors.values():
            t(f"const {element(x)} *in_{x.name}; const long *at_{x.name}; long ld_{x.name};")
        t(*(f"const T *in_{x.name}; const long *at_{x.name};" for x in names.arrays))
        t(*(f"const T *in_{x.name}; const long *at_{x.name}; long ld_{x.name};" for x in names.pairs))
        t(*(f"double par_{p};" for p in [*names.parameters, *(str(s.name) for s in plan.parameters)]))
        t(*(f"const T *key_{s};" for s in names.key_scalars))
        t(*(f"{element(o)} *out_{o.name};" for o in names.every_output))
        t(*(f"const long *{x};" for x in names.ranges))
        if free:
            t("const double *most;")
    with t.block("typedef struct", f"}} {names.name}_work;"):
        for dot in names.dots:
            f = plan.vectors[dot.left].feature
            t(f"T pack_{dot.name}[D_{f}*BLOCK_i] ALIGNED;")
            if parts and parts.few:
                t(f"T row_of_{dot.name}[P_{f}*FEW] ALIGNED;")
        t(*(f"T stage_{k}[STAGED*P_{plan.vectors[k].feature}] ALIGNED;" for k in names.key_vectors))
        if names.storage:
            t("#ifdef PAIRED")
            for k in names.key_vectors:
                f = plan.vectors[k].feature
                t(f"S rows_{k}[STAGED*ROW(D_{f}, P_{f})] ALIGNED;")
                t(f"T pairs_{k}[(STAGED + 1)/2*P_{f}] ALIGNED;")
            t("#endif")
        t(*(f"T all_{x}[BLOCK_i*P_{plan.vectors[x].feature}] ALIGNED;" for x in names.gathered))
        t(*(f"T bias_{x.name}[BLOCK_j*BLOCK_i] ALIGNED;" for x in names.pairs))
        room = "(BLOCK_j + TILE_ROWS)" if names.key_sums else "BLOCK_j"
        t(*(f"T pair{b}[{room}*BLOCK_i] ALIGNED;" for b in sorted(set(plan.buffers.values()))))
        for s in sorted(plan.states() | set(names.row_values), key=str):
            t(f"T row_{s}[BLOCK_i] ALIGNED;")
        t(
            *(
                f"T sum_{s.name}[BLOCK_i*P_{plan.vectors[s.vector].feature}] ALIGNED;"
                for s in names.sums.values()
                if s.vector
            )
        )
        t(*(f"double keep_{s}[BLOCK_i] ALIGNED;" for s in names.kept))
        for s in dict.fromkeys(s.name for x in (plan, free) if x for s in x.tile_sums()):
            t(f"T part_{s}[BLOCK_i] ALIGNED;")
        t(*(f"I {x}[BLOCK_i] ALIGNED;" for x in names.ranges[:2]))
        t("T factor[BLOCK_i] ALIGNED;", *([ahead.field] if ahead else []))
    t("")
