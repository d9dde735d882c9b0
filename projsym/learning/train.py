"""Training with a checkpoint after every epoch; on one CPU the curve is a function of the settings.

The order of the examples and the dropout of an epoch come from the seed and the number of the epoch alone, so
they are no state: an epoch that was cut off is run again from its checkpoint exactly as it would have been.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import checkpoint
from .tables import csv_text

__all__ = ["Row", "Run", "Task", "epoch_seed", "fit", "optimizer_for", "reproducible"]

Row = dict[str, float]
CHECKPOINT, LOG = "checkpoint.pt", "log.csv"


class Task(Protocol):
    """What is learnt: data with a loss and a score."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain data that tells one task from another, a hash of the examples included."""

    @property
    def examples(self) -> int: ...

    @property
    def batch(self) -> int: ...

    def build(self, seed: int) -> nn.Module:
        """A new model on the CPU."""

    def loss(self, model: nn.Module, index: Tensor) -> Tensor:
        """Mean loss of the training examples with these numbers, differentiable."""

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Scores on the validation part."""

    def to(self, device: torch.device) -> None:
        """Move the data."""


@dataclass(frozen=True)
class Run:
    """seed: of the draw, the order and the dropout. threads: of PyTorch on the CPU; sums depend on it.
    precision: of float32 products, as in `torch.set_float32_matmul_precision`; "high" is TF32 on a GPU."""

    seed: int
    epochs: int
    learning_rate: float = 1e-3
    device: str = "cpu"
    threads: int = 1
    precision: str = "highest"

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed run must share; not the number of epochs, which may be raised."""
        return {
            "seed": self.seed, "learning_rate": self.learning_rate,
            "device": self.device, "threads": self.threads, "precision": self.precision,
        }  # fmt: skip


def epoch_seed(seed: int, epoch: int) -> int:
    """63 bits that the seed and the epoch determine."""
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def optimizer_for(model: nn.Module, learning_rate: float, capturable: bool = False) -> torch.optim.Optimizer:
    """RMSprop with Keras' defaults, as in the example. capturable: in a graph of a GPU's launches."""
    parameters = model.parameters()
    return torch.optim.RMSprop(parameters, lr=learning_rate, alpha=0.9, eps=1e-7, capturable=capturable)


def fit(
    task: Task,
    run: Run,
    folder: Path,
    *,
    start: nn.Module | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[nn.Module, list[Row]]:
    """Train until `run.epochs`, from the checkpoint in `folder` if there is one: the model and its curve.

    Each row: epoch (0 is the start), training_loss (mean over its steps), seconds (of these steps), and what
    `task.evaluate` gives. They are written to log.csv after every epoch. start: another first model than
    `task.build`, changed in place; its weights must be a function of the settings. on_step(epoch, step) is
    called after every step. The global random state is as before afterwards.
    """
    settings = {**task.settings, **run.settings}
    state = checkpoint.load(folder / CHECKPOINT, settings)
    device = torch.device(run.device)
    task.to(device)
    with reproducible(run):
        model = (task.build(run.seed) if start is None else start).to(device)
        optimizer = optimizer_for(model, run.learning_rate)
        if state is None:
            rows = [{"epoch": 0.0, **_evaluated(task, model)}]
        else:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            rows = state["rows"]
            checkpoint.write_atomically(folder / LOG, csv_text(rows).encode())
        for epoch in range(len(rows), run.epochs + 1):
            rows.append(_epoch(task, model, optimizer, run, epoch, on_step))
            content = {
                "settings": settings, "rows": rows,
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            }  # fmt: skip
            checkpoint.save(folder / CHECKPOINT, content)
            checkpoint.write_atomically(folder / LOG, csv_text(rows).encode())
    return model.eval(), rows


def _epoch(
    task: Task,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    epoch: int,
    on_step: Callable[[int, int], None] | None,
) -> Row:
    torch.manual_seed(epoch_seed(run.seed, epoch))
    order = torch.randperm(task.examples)
    model.train()
    total = torch.zeros((), dtype=torch.float64, device=torch.device(run.device))
    begin = time.perf_counter()
    steps = order.split(task.batch)
    for step, index in enumerate(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(model, index.to(run.device))
        loss.backward()
        optimizer.step()
        total += loss.detach()
        if on_step:
            on_step(epoch, step)
    mean = total.item() / len(steps)
    seconds = time.perf_counter() - begin
    if not mean < float("inf"):
        raise FloatingPointError(f"the loss of epoch {epoch} is {mean}: training diverged")
    return {"epoch": float(epoch), "training_loss": mean, "seconds": seconds, **_evaluated(task, model)}


def _evaluated(task: Task, model: nn.Module) -> Mapping[str, float]:
    model.eval()
    with torch.no_grad():
        return task.evaluate(model)


@contextmanager
def reproducible(run: Run) -> Iterator[None]:
    """The run's threads and precision, and on the CPU deterministic algorithms only; everything as before
    afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    precision = torch.get_float32_matmul_precision()
    on_cpu = torch.device(run.device).type == "cpu"
    with torch.random.fork_rng():
        try:
            torch.set_num_threads(run.threads)
            torch.set_float32_matmul_precision(run.precision)
            torch.use_deterministic_algorithms(on_cpu or strict)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            torch.use_deterministic_algorithms(strict)
