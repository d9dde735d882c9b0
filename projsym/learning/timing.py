"""Seconds of a training step, split into attention and the rest, beside what the counts predict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from projsym.bench.timing import interleave

from .attention import CORES, Core
from .counts import predict
from .model import Translator, causal, source_mask
from .sizes import Sizes, Variant
from .start import adopt, draw
from .train import optimizer_for
from .vocabulary import PAD

__all__ = ["StepTime", "time_steps"]

PARTS = ("step", "attention", "optimizer")


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
) -> list[StepTime]:
    """Time about `steps` steps (at least five) of every variant around every core, in turn; the first variant
    must be a standard one. cores: names in `projsym.learning.attention.CORES`.

    Random tokens, sentences of half to the full length. threads: of PyTorch on the CPU, None for its default.
    """
    if not variants or variants[0].form != "standard":
        raise ValueError("variants: given none, or another first; allowed: the standard form first")
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        parts = {
            (core, variant): _parts(sizes, variant, torch.device(device), CORES[core])
            for core in cores
            for variant in variants
        }
        names = {_label(*at, name): call for at, (calls, _) in parts.items() for name, call in calls.items()}
        for call in names.values():
            call()
        begin = time.perf_counter()
        for call in names.values():
            call()
        times = interleave(names, steps * (time.perf_counter() - begin))
    finally:
        torch.set_num_threads(before)
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
    sizes: Sizes, variant: Variant, device: torch.device, core: Core
) -> tuple[Mapping[str, Callable[[], None]], int]:
    """Calls that do one step, its attention and its optimiser; and the number of parameters."""
    standard = Translator(sizes, Variant("standard", variant.head_width, variant.sigma))
    draw(standard, 0)
    model = Translator(sizes, variant, core)
    adopt(model, standard)
    model.to(device).train()
    optimizer = optimizer_for(model, 1e-3)
    generator = torch.Generator().manual_seed(0)
    shape = (sizes.batch, sizes.length)
    lengths = torch.randint((sizes.length + 1) // 2, sizes.length + 1, (sizes.batch, 1), generator=generator)
    tokens = torch.randint(min(4, sizes.vocabulary - 1), sizes.vocabulary, shape, generator=generator)
    tokens = tokens.masked_fill(torch.arange(sizes.length) >= lengths, PAD).to(device)
    visible = source_mask(tokens)
    x = torch.randn(*shape, sizes.width, generator=generator).to(device).requires_grad_()
    layers = (model.encoder_attention, model.decoder_attention, model.cross_attention)
    masks = (visible, causal(sizes.length, device), visible)

    def finished() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens, tokens)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD).backward()
        optimizer.step()
        finished()

    def attention() -> None:
        for layer, mask in zip(layers, masks, strict=True):
            y = layer(x, x, mask)
            parameters = [x, *layer.parameters()]
            torch.autograd.grad(y, parameters, torch.ones_like(y))
        finished()

    def optimize() -> None:
        optimizer.step()
        finished()

    calls = {"step": step, "attention": attention, "optimizer": optimize}
    return calls, sum(p.numel() for p in model.parameters())
