"""A scheduled layer as C: the functions of its attention, the products around them, the external function.

Sequences go through in groups of about `ROWS` rows, and a group stays in the second-level cache: for each
head its images, its means, and what is added of them, each a matrix of a few hundred rows. The products are
`CONTRACT`'s register tiles with the maps packed into panels, so that the part of a panel that is in use stays
in the first-level cache while the rows of the group pass. Every number is summed in one order, whatever the
group, so results do not depend on the number of threads.
"""

from __future__ import annotations

from projsym.codegen.c_names import Names
from projsym.codegen.c_pairs import Pairs
from projsym.codegen.c_plan import plan
from projsym.codegen.c_prelude import prelude
from projsym.codegen.c_printer import _check_blocks, _notes, _sizes, _structs, _wider
from projsym.codegen.c_rows import Rows
from projsym.codegen.c_text import Text
from projsym.codegen.isa import ISAS
from projsym.codegen.layer_products import PANEL, PRELUDE, TILES
from projsym.codegen.layer_program import Image, LayerProgram, Weight
from projsym.codegen.program import Let
from projsym.codegen.scalar_c import power_function, powers, scalar

ROWS = 96
"""Rows of a group of sequences: some 100 kB an array at 256 features of float32."""


class Layer:
    """Prints a layer."""

    def __init__(self, layer: LayerProgram, dtype: str) -> None:
        self.layer, self.name, self.text = layer, layer.name, Text()
        self.plan = plan(layer.core)
        self.names = Names(self.plan)
        if self.names.arrays or self.names.key_scalars or self.names.key_sums:
            raise ValueError(f"{layer.name}: only attention of vectors alone, without sums over queries")
        _check_blocks(self.plan, dtype)
        self.dtype = dtype

    def source(self, header: str = "") -> str:
        """The C text."""
        t, p = self.text, self.layer.core
        t("/*", *(f" * {line}".rstrip() for line in str(self.layer).splitlines()), " *")
        _notes(p.with_(body=()), t, head="")
        t("")
        t.raw(header)
        _wider(self.names, t)
        t.raw(prelude(self.dtype, p.tiles))
        t("")
        used = {n for s in self.plan.pairs.body if isinstance(s, Let) for n in powers(s.value)}
        t(*(power_function(n) for n in sorted(used)))
        self.sizes()
        t.raw(PRELUDE)
        t("")
        _structs(self.names, t, None)
        pairs = Pairs(self.plan, t, self.names.key_state)
        pairs.nests()
        Rows(self.names, t).row_block(pairs, f"{self.name}_rows")
        self.arguments()
        self.group()
        self.driver()
        return str(t)

    def sizes(self) -> None:
        """Sizes of features that only the layer has, of tiles and of groups."""
        t = self.text
        _sizes(self.names, t)
        for f in dict.fromkeys(f for w in self.layer.weights for f in (w.source, w.target)):
            if f not in self.names.features:
                t(f"#ifndef D_{f}", f'#error "compile with -DD_{f}=<size of feature {f}>"', "#endif")
                t(f"#define P_{f} ((D_{f} + (int)W - 1)/(int)W*(int)W)")
        most = max(rows for rows, _ in TILES.values())
        for n, isa in enumerate(ISAS):
            t("#else" if isa.condition == "1" else f"#{'el' if n else ''}if {isa.condition}")
            rows, features = TILES[isa.name]
            t(f"#define MAP_ROWS {rows}", f"#define MAP_FEATURES {features}")
        t("#endif", f"#define MAP_DEPTH ({PANEL}/(MAP_FEATURES*VECTOR_BYTES))", f"#define GROUP_ROWS {ROWS}")
        t(f"#define EACH_MAP_CASE {' '.join(f'MAP_CASE({r})' for r in range(1, most + 1))}", "")

    # ---- arguments
    def signature(self) -> str:
        """The parameters of the external function."""
        parts = ["long L", "long H", "long n", "long m"]
        parts += [
            f"const T *in_{x.name}, const long *at_{x.name}, long ld_{x.name}" for x in self.layer.sources
        ]
        parts += [
            f"const T *map_{w.name}, long next_{w.name}, long ld_{w.name}, long step_{w.name}"
            for w in self.layer.weights
        ]
        parts += [f"const T *offset_{name}, long next_{name}" for name, _ in self.layer.offsets]
        parts += [f"const T *start_{self.layer.added.start}"]
        parts += [f"double par_{p}" for p in self.layer.parameters]
        outputs = [self.layer.added.name, *(o.name for o in self.names.outputs if not o.feature)]
        saved = [f"T *saved_{name}" for name in self.saved()]
        return ", ".join([*parts, *(f"T *out_{o}" for o in outputs), *saved, "int threads"])

    def saved(self) -> list[str]:
        """What a backward pass needs: every image, and the mean."""
        return [*(x.name for x in self.layer.images), self.layer.added.mean]

    def arguments(self) -> None:
        """What a group receives."""
        t = self.text
        with t.block("typedef struct", f"}} {self.name}_layer;"):
            t("long L, H, n, m;")
            for x in self.layer.sources:
                t(f"const T *in_{x.name}; const long *at_{x.name}; long ld_{x.name};")
            t(*(f"const T *panels_{w.name};" for w in self.layer.weights))
            t(*(f"const T *offset_{name}; long next_{name};" for name, _ in self.layer.offsets))
            t(f"const T *start_{self.layer.added.start};")
            t(*(f"double par_{p};" for p in self.numbers()))
            t(f"T *out_{self.layer.added.name};")
            t(*(f"T *out_{o.name};" for o in self.names.outputs if not o.feature))
            t(*(f"T *saved_{name};" for name in self.saved()))
        t("")

    def numbers(self) -> list[str]:
        """Parameters, given and computed."""
        return [*self.layer.parameters, *(str(s.name) for s in self.plan.parameters)]

    def panel_size(self, w: Weight) -> str:
        """The C of how many numbers the panels of one head take."""
        return f"(long)D_{w.source}*P_{w.target}"

    @staticmethod
    def bytes(count: str) -> str:
        """The C of the memory for so many numbers: whole multiples of the alignment, not nothing."""
        return f"(({count})*(long)sizeof(T)/64 + 1)*64"

    # ---- one group of sequences
    def buffers(self) -> list[tuple[str, str, str]]:
        """Arrays of a group: name, rows of a sequence, and numbers of a row. The last need not be aligned."""
        added = self.layer.added
        images = [
            (x.name, "n" if x.source.axes == "i" else "m", f"P_{x.weight.target}") for x in self.layer.images
        ]
        return [
            *images,
            ("total", "n", f"P_{added.weight.target}"),
            ("mean", "n", f"D_{added.weight.source}"),
        ]

    def group(self) -> None:
        """The function of n queries from `begin` on of a sequence, or of several whole sequences.

        It returns the number of rows that are bad in an attention, and of those that are at the end.
        """
        t, layer, added = self.text, self.layer, self.layer.added
        head = (
            f"static long {self.name}_group(const {self.name}_layer *a, {self.name}_work *w, T *memory, "
            "long first, long count, long begin, long n)"
        )
        with t.block(head):
            t("static const long zero[1] = {0};", "const long m = a->m;", "long bad = 0;")
            for name, rows, size in self.buffers():
                t(f"T *const to_{name} = memory; memory += count*{rows}*{size};")
            f = added.weight.target
            t(f"START(to_total, P_{f}, a->start_{added.start}, D_{f}, count*n);")
            with t.block("for (long head = 0; head < a->H; head++)"):
                for x in layer.images:
                    self.image(x)
                    self.save(
                        x.name, "n" if x.source.axes == "i" else "m", x.weight.target, f"P_{x.weight.target}"
                    )
                with t.block("for (long l = 0; l < count; l++)"):
                    self.attention()
                self.save(added.mean, "n", added.weight.source, f"D_{added.weight.source}")
                self.map("to_total", added.weight, "to_mean", f"D_{added.weight.source}", "count*n")
            with t.block("for (long r = 0; r < count*n; r++)"):
                t(
                    f"const T *total = to_total + r*P_{f};",
                    "V rest = {0};",
                    f"for (int x = 0; x < P_{f}; x += W) rest += LOAD(total + x)*0;",
                    "for (int l = 1; l < (int)W; l++) rest[0] += rest[l];",
                    "bad += rest[0] != 0;",
                    f"memcpy(a->out_{added.name} + (first*a->n + begin + r)*D_{f}, total, D_{f}*sizeof(T));",
                )
            t("return bad;")
        t("")

    def map(self, to: str, w: Weight, source: str, ld: str, rows: str) -> None:
        """One product, added to what is there."""
        panels = f"a->panels_{w.name} + head*{self.panel_size(w)}"
        self.text(f"MAP({to}, P_{w.target}, {source}, {ld}, {panels}, D_{w.source}, {rows});")

    def image(self, x: Image) -> None:
        """The images of all rows of a group; sequences that lie one after another are one matrix."""
        t, s, f = self.text, x.source.name, x.weight.target
        query = x.source.axes == "i"
        rows = "n" if query else "m"
        if x.offset:
            offset = f"a->offset_{x.offset} + head*a->next_{x.offset}"
            t(f"START(to_{x.name}, P_{f}, {offset}, D_{f}, count*{rows});")
        else:
            t(f"memset(to_{x.name}, 0, count*{rows}*P_{f}*sizeof(T));")
        with t.block("for (long l = 0, run; l < count; l += run)"):
            t(
                f"const long *at = a->at_{s} + first + l;",
                "run = 1;",
                f"while (l + run < count && at[run] == at[0] + run*{rows}*a->ld_{s}) run++;",
            )
            at = f"a->in_{s} + at[0]" + (f" + begin*a->ld_{s}" if query else "")
            self.map(f"to_{x.name} + l*{rows}*P_{f}", x.weight, at, f"a->ld_{s}", f"run*{rows}")

    def save(self, name: str, rows: str, feature: str, ld: str) -> None:
        """Keep what a backward pass needs, if it is wanted."""
        start = "(head*a->L + first)*" + ("a->n + begin" if rows == "n" else "m")
        to = f"a->saved_{name} + ({start} + r)*D_{feature}"
        with self.text.block(f"if (a->saved_{name})"):
            self.text(
                f"for (long r = 0; r < count*{rows}; r++)",
                f"  memcpy({to}, to_{name} + r*{ld}, D_{feature}*sizeof(T));",
            )

    def attention(self) -> None:
        """The mean of every query of one sequence."""
        t, images = self.text, {x.name: x for x in self.layer.images}
        fields = [".n = n", ".m = m", *(f".par_{p} = a->par_{p}" for p in self.numbers())]
        for v in self.plan.vectors.values():
            rows = "n" if v.axes == "i" else "m"
            if v.name in images:
                at, ld = f"to_{v.name} + l*{rows}*P_{v.feature}", f"P_{v.feature}"
            else:
                at, ld = f"a->in_{v.name} + a->at_{v.name}[first + l]", f"a->ld_{v.name}"
                at += f" + begin*a->ld_{v.name}" if v.axes == "i" else ""
            fields += [f".in_{v.name} = {at}", f".at_{v.name} = zero", f".ld_{v.name} = {ld}"]
        for o in self.names.outputs:
            if o.feature:
                fields.append(f".out_{o.name} = to_{o.name} + l*n*D_{o.feature}")
            else:
                at = f"a->out_{o.name} + (head*a->L + first + l)*a->n + begin"
                fields.append(f".out_{o.name} = a->out_{o.name} ? {at} : NULL")
        t(
            f"const {self.name}_args args = {{{', '.join(fields)}}};",
            f"for (long i0 = 0; i0 < n; i0 += BLOCK_i) bad += {self.name}_rows(&args, w, 0, i0);",
        )

    # ---- the external function
    def driver(self) -> None:
        """Parameters, panels, then all groups."""
        t, layer = self.text, self.layer
        with t.block(f"int {self.name}({self.signature()})"):
            t("if (L*n == 0) return 0;")
            for s in self.plan.parameters:
                t(f"const double par_{s.name} = {scalar(s.value, self.names.key_symbol)};")
            t("long bad = 0, failed = 0;")
            sizes = [f"H*{self.panel_size(w)}" for w in layer.weights]
            t(f"T *panels = aligned_alloc(64, {self.bytes(' + '.join(sizes))});", "if (!panels) return -1;")
            where = "panels"
            for w, size in zip(layer.weights, sizes, strict=True):
                t(f"T *panels_{w.name} = {where};")
                where = f"panels_{w.name} + {size}"
            fields = ["L", "H", "n", "m"]
            for x in layer.sources:
                fields += [f"in_{x.name}", f"at_{x.name}", f"ld_{x.name}"]
            fields += [f"panels_{w.name}" for w in layer.weights]
            for name, _ in layer.offsets:
                fields += [f"offset_{name}", f"next_{name}"]
            fields += [f"start_{layer.added.start}", *(f"par_{p}" for p in self.numbers())]
            fields += [
                f"out_{layer.added.name}",
                *(f"out_{o.name}" for o in self.names.outputs if not o.feature),
            ]
            fields += [f"saved_{name}" for name in self.saved()]
            t(f"const {self.name}_layer args = {{{', '.join(f'.{x} = {x}' for x in fields)}}};")
            # Images of keys are for all queries of a sequence: only without them do threads share one.
            shared = any(x.source.axes == "j" for x in layer.images)
            parts = "1" if shared else "LEAST((threads + L - 1)/L, (n + BLOCK_i - 1)/BLOCK_i)"
            t(
                "if (threads < 1) threads = 1;",
                "long groups = (L*n + GROUP_ROWS - 1)/GROUP_ROWS;",
                "groups = LEAST(L, (groups + threads - 1)/threads*threads);",
                f"const long most = (L + groups - 1)/groups, parts = groups < L ? 1 : {parts};",
                "if (threads > groups*parts) threads = groups*parts;",
            )
            each = " + ".join(f"{rows}*{size}" for _, rows, size in self.buffers())
            t("#pragma omp parallel num_threads(threads) reduction(+:bad, failed)")
            with t.block(""):
                for w in layer.weights:
                    f = w.target
                    t("#pragma omp for collapse(2) schedule(static)")
                    t("for (long head = 0; head < H; head++)")
                    with t.block(f"for (int c = 0; c < (P_{f}/(int)W + MAP_FEATURES - 1)/MAP_FEATURES; c++)"):
                        to = f"panels_{w.name} + head*{self.panel_size(w)}"
                        source = f"map_{w.name} + head*next_{w.name}, ld_{w.name}, step_{w.name}"
                        t(f"PANEL({to}, {source}, D_{w.source}, D_{f}, P_{f}, c);")
                t(
                    f"{self.name}_work *w = aligned_alloc(64, sizeof({self.name}_work));",
                    f"T *memory = aligned_alloc(64, {self.bytes(f'most*({each})')});",
                    "if (!w || !memory) failed++;",
                    "#pragma omp for schedule(dynamic, 1)",
                )
                with t.block("for (long g = 0; g < groups*parts; g++) if (w && memory)"):
                    t(
                        "const long at = g/parts, part = g%parts;",
                        "const long first = at*L/groups, count = (at + 1)*L/groups - first;",
                        "const long begin = part*n/parts, end = (part + 1)*n/parts;",
                        f"bad += {self.name}_group(&args, w, memory, first, count, begin, end - begin);",
                    )
                t("free(w);", "free(memory);")
            t("free(panels);", "return failed ? -1 : bad > INT_MAX ? INT_MAX : (int)bad;")


def emit_layer_c(layer: LayerProgram, dtype: str, header: str = "") -> str:
    """The C source of a scheduled layer, the same bytes every time.

    dtype: "float32" or "float64", of all arrays; parameters are doubles. header: text put before the code.
    Compile as the kernels of `projsym.codegen.c_printer`. The one external function has the layer's name and
    returns 0, or -1 when memory could not be had, or the number of rows as there and of those whose output is
    not finite::

        int NAME(long L, long H, long n, long m,           // sequences, heads, queries, keys
                 const T *x, const long *x_at, long x_ld,  // inputs: sequence l at x + x_at[l]
                 const T *A, long A_next, long A_ld,       // maps: head h at A + h*A_next, rows A_ld apart,
                 long A_step,                              // numbers of a row A_step; A_step or A_ld is 1
                 const T *a, long a_next,                  // offsets: head h at a + h*a_next
                 const T *start,                           // one vector
                 double p,                                 // parameters
                 T *out,                                   // (L, n, D)
                 T *lse,                                   // (H, L, n) or NULL
                 T *q, T *mean,                            // images and means (H, L, n, D), or NULL
                 int threads);

    Raises ValueError for another dtype, and for an attention whose program has more than vectors and
    parameters.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return Layer(layer, dtype).source(header)
