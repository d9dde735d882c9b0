"""Kernels of whole layers: a theorem [IV.6l/…], its maps read off its last line, and a schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace

from projsym.derivations.layers import LAYER_PREFIX
from projsym.proof.laws import Law
from projsym.proof.prove import require
from projsym.proof.theorem import REGISTRY, Theorem

from .kernel import Kernel, Schedule, resolve
from .layer_lower import lower_layer
from .layer_program import LayerProgram
from .layer_validate import validate_layer
from .program import Program
from .schedule import Step, apply, default, ranged
from .validate import Obligation


def unmasked(program: Program, dtype: str, target: str = "c") -> list[Step]:
    """The default schedule of a layer's attention, whose rows see all keys."""
    return [step for step in default(program, dtype, target) if step != ranged()]


@dataclass(frozen=True)
class LayerKernel(Kernel):
    """The kernel of a layer's theorem; `schedule` is that of its attention."""

    schedule: Schedule = unmasked

    def build_layer(self, dtype: str, target: str = "c") -> BuiltLayer:
        """Lower, schedule and validate. ProofError unless theorem, citations and program are proved."""
        require(self.of)
        plain = lower_layer(self.name, self.outputs())
        steps = tuple(self.schedule(plain.core, dtype, target))
        layer = replace(plain, core=apply(plain.core, steps))
        obligations = validate_layer(layer, self.outputs())
        cited = tuple(resolve(c) for c in dict.fromkeys(c for s in steps for c in s.cites))
        return BuiltLayer(self, dtype, layer, tuple(obligations), cited)


@dataclass(frozen=True)
class BuiltLayer:
    """A layer with the proof that it computes its theorem, head by head."""

    kernel: LayerKernel
    dtype: str
    layer: LayerProgram
    obligations: tuple[Obligation, ...]
    cited: tuple[Theorem | Law, ...]

    @property
    def theorems(self) -> tuple[Theorem, ...]:
        """The theorem itself and those that the schedule cites."""
        return (self.kernel.of, *[t for t in self.cited if isinstance(t, Theorem)])


def layer_kernels() -> tuple[LayerKernel, ...]:
    """One kernel for each theorem [IV.6l/…]: its name is the last part of the id."""
    return tuple(
        LayerKernel(t.id.removeprefix(LAYER_PREFIX), t)
        for t in REGISTRY.values()
        if t.id.startswith(LAYER_PREFIX)
    )
