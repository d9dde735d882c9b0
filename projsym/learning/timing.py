"""Seconds of a training step, split into attention and the rest, beside what the counts predict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from projsym.bench.timing import interleave

from .attention import CORES
from .counts import predict
from .model import Translator, causal, source_mask
from .sizes import Sizes, Variant
from .start import adopt, draw
from .train import optimizer_for
from .vocabulary import PAD

__all__ = ["StepTime", "time_steps"]

PARTS = ("step", "attention", "optimizer")
GRAPH = " graph"


@dataclass(frozen=True)
class StepTime:
    """One variant around one core. Seconds are the least of all rounds.

    step: forward, backward and optimiser. attention: the three attention layers alone, forward and backward,
    on inputs of the same shape. optimizer: of all parameters. rest: step less these two, so it carries their
    errors. ratio: the standard form's seconds over this one's with the same core, median over rounds that
    were timed in turn; predicted ratios: of operations [III.6].
    """

    variant: str
    core: str
    parameters: int
    step: float
    attention: float
    optimizer: float
    rest: float
    step_ratio: float
    attention_ratio: float
    predicted_step_ratio: float
    predicted_attention_ratio: float
    rounds: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def time_steps(
    sizes: Sizes,
    variants: Sequence[Variant],
    steps: int,
    device: str = "cpu",
    threads: int | None = None,
    cores: Sequence[str] = ("torch",),
    precision: str = "highest",
) -> list[StepTime]:
    """Time about `steps` steps (at least five) of every variant around every core, in turn; the first variant
    must be a standard one. cores: names in `projsym.learning.attention.CORES`; on a GPU each of them is timed
    once more with " graph" after its name: the launches of a step recorded once and replayed, which leaves
    the time that Python and the launches take out.

    Random tokens, sentences of half to the full length. threads: of PyTorch on the CPU, None for its default.
    precision: as in `Run`.
    """
    if not variants or variants[0].form != "standard":
        raise ValueError("variants: given none, or another first; allowed: the standard form first")
    before, precise = torch.get_num_threads(), torch.get_float32_matmul_precision()
    on = torch.device(device)
    if on.type == "cuda":
        cores = [core + kind for core in cores for kind in ("", GRAPH)]
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        parts = {(core, variant): _parts(sizes, variant, on, core) for core in cores for variant in variants}
        names = {_label(*at, name): call for at, (calls, _) in parts.items() for name, call in calls.items()}
        for call in names.values():
            call()
        begin = time.perf_counter()
        for call in names.values():
            call()
        times = interleave(names, steps * (time.perf_counter() - begin))
    finally:
        torch.set_num_threads(before)
        torch.set_float32_matmul_precision(precise)
    found = []
    for (core, variant), (_, parameters) in parts.items():
        step, attention, optimizer = (times[_label(core, variant, part)] for part in PARTS)
        said = predict(sizes, variant)
        found.append(
            StepTime(
                variant.name,
                core,
                parameters,
                step.least,
                attention.least,
                optimizer.least,
                step.least - attention.least - optimizer.least,
                times[_label(core, variants[0], "step")].median_ratio(step),
                times[_label(core, variants[0], "attention")].median_ratio(attention),
                said.step_ratio,
                said.attention_ratio,
                len(step.samples),
            )
        )
    return found


def _label(core: str, variant: Variant, part: str) -> str:
    return f"{core} {variant.name} {part}"


def _parts(
    sizes: Sizes, variant: Variant, device: torch.device, core: str
) -> tuple[Mapping[str, Callable[[], None]], int]:
    """Calls that do one step, its attention and its optimiser; and the number of parameters."""
    recorded = core.endswith(GRAPH)
    standard = Translator(sizes, Variant("standard", variant.head_width, variant.sigma))
    draw(standard, 0)
    model = Translator(sizes, variant, CORES[core.removesuffix(GRAPH)])
    adopt(model, standard)
    model.to(device).train()
    optimizer = optimizer_for(model, 1e-3, capturable=recorded)
    generator = torch.Generator().manual_seed(0)
    shape = (sizes.batch, sizes.length)
    lengths = torch.randint((sizes.length + 1) // 2, sizes.length + 1, (sizes.batch, 1), generator=generator)
    tokens = torch.randint(min(4, sizes.vocabulary - 1), sizes.vocabulary, shape, generator=generator)
    tokens = tokens.masked_fill(torch.arange(sizes.length) >= lengths, PAD).to(device)
    visible = source_mask(tokens)
    x = torch.randn(*shape, sizes.width, generator=generator).to(device).requires_grad_()
    layers = (model.encoder_attention, model.decoder_attention, model.cross_attention)
    masks = (visible, causal(sizes.length, device), visible)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens, tokens)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD).backward()
        optimizer.step()

    def attention() -> None:
        for layer, mask in zip(layers, masks, strict=True):
            y = layer(x, x, mask)
            parameters = [x, *layer.parameters()]
            torch.autograd.grad(y, parameters, torch.ones_like(y))

    def optimize() -> None:
        optimizer.step()

    calls: dict[str, Callable[[], None]] = {"step": step, "attention": attention, "optimizer": optimize}
    if device.type == "cuda":
        calls = {name: _finished(_recorded(call) if recorded else call) for name, call in calls.items()}
    return calls, sum(p.numel() for p in model.parameters())


def _finished(call: Callable[[], None]) -> Callable[[], None]:
    """The call, until the GPU has done what it launches."""

    def whole() -> None:
        call()
        torch.cuda.synchronize()

    return whole


def _recorded(call: Callable[[], None]) -> Callable[[], None]:
    """A replay of what `call` launches on the GPU; it is called three times first, as PyTorch asks."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay(_arrays: Callable[[], None] = call) -> None:
        # What was recorded reads and writes the arrays that `call` holds: it lives as long as this.
        graph.replay()

    return replay
