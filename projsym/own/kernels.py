"""Kernels of theorems of one's own: built and validated when first asked for, kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projsym.codegen.c_printer import emit_c
from projsym.codegen.generate import header
from projsym.codegen.gradient_kernel import GradientKernel
from projsym.codegen.kernel import Built, Kernel
from projsym.codegen.lower import LoweringError, lower
from projsym.codegen.numpy_printer import emit_numpy
from projsym.codegen.pass_tree import pair_loop
from projsym.codegen.program import Output, Program
from projsym.codegen.scalar_c import Unprintable
from projsym.runtime.manifest import Argument, Entry


@dataclass(frozen=True)
class OwnKernel(Kernel):
    """A forward kernel with numbers of the query, named in `rows`."""

    rows: tuple[str, ...] = ()

    def lower(self) -> Program:
        return lower(self.name, self.outputs(), self.rows)


@dataclass
class Sources:
    """The programs and sources of one kernel by target, ``"c/float32"``, ``"c/float64"`` and ``"numpy"``."""

    kernel: Kernel
    built: dict[str, Built] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def build(self, target: str) -> Built:
        """The validated program for a target. LoweringError, naming the term, for what no kernel computes."""
        if target not in self.built:
            where, _, dtype = target.partition("/")
            self.built[target] = _named(lambda: self.kernel.build(dtype or "float32", where))
        return self.built[target]

    def text(self, target: str) -> str:
        """The source for a target."""
        if target not in self.texts:
            b = self.build(target)
            _, _, dtype = target.partition("/")
            if dtype:
                head = (
                    "/*\n"
                    + "".join(f" * {line}".rstrip() + "\n" for line in header(b).splitlines())
                    + " */\n"
                )
                self.texts[target] = _named(
                    lambda: head + emit_c(b.program, dtype, bounded=b.bounded, parts=b.parts)
                )
            else:
                self.texts[target] = _named(lambda: emit_numpy(b.program, header(b, c=False), b.bounded))
        return self.texts[target]

    def entry(self) -> OwnEntry:
        """What the runtime needs to know."""
        program = self.build("c/float32").program
        outputs = [s for s in program.statements() if isinstance(s, Output)]
        name = self.kernel.name
        return OwnEntry(
            name,
            tuple(Argument(x.name, x.axes, x.feature) for x in program.inputs),
            tuple((o.name, o.feature) for o in outputs),
            tuple(o.axes for o in outputs),
            pair_loop(program).ranged,
            {},
            {"numpy": f"{name}.py"},
            Path("<projsym.compile>"),
            made=self.text,
        )


@dataclass(frozen=True)
class OwnEntry(Entry):
    """An entry whose sources are made, not read."""

    made: Callable[[str], str] = field(kw_only=True)

    def source(self, target: str) -> str:
        return self.made(target)


def _named(make: Callable[[], Any]) -> Any:
    """What `make` gives; what a printer refuses as the error of the whole."""
    try:
        return make()
    except Unprintable as e:
        raise LoweringError(f"weight: {e}") from e


def kernels(forward: Any, backward: Any, name: str, rows: tuple[str, ...]) -> tuple[Sources, Sources]:
    """The two kernels of a form."""
    return (
        Sources(OwnKernel(name, forward, rows=rows)),
        Sources(GradientKernel(f"{name}_backward", backward)),
    )
