"""Next-step prediction of a measured series by a small causal transformer with attention in four forms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from projsym.errors import refused

from .attention import Attention, Core, torch_core
from .model import EPSILON, FeedForward, causal
from .sizes import Sizes, Variant
from .start import adopt, draw

__all__ = ["SERIES", "SERIES_SIZES", "Predictor", "Series", "SeriesTask", "load_series"]

SERIES_SIZES = {
    "co2": Sizes(width=32, hidden=64, heads=4, vocabulary=1, length=52, batch=64),
    "sunspots": Sizes(width=32, hidden=64, heads=4, vocabulary=1, length=22, batch=16),
}
"""Windows of a year of weeks, and of two solar cycles of years. There is no vocabulary."""
SERIES = tuple(SERIES_SIZES)
TRAINING, VALIDATION = 0.70, 0.85  # ends of the parts, in order of time


@dataclass(frozen=True)
class Series:
    """values: as measured, in `unit`, one each `step` of time; `filled` of them were missing."""

    name: str
    values: NDArray[np.float64]
    unit: str
    step: str
    filled: int


def load_series(name: str) -> Series:
    """'co2' (weekly, Mauna Loa 1958–2001) or 'sunspots' (yearly, 1700–2008), public domain, of statsmodels.

    Missing weeks are filled linearly between their neighbours. ValueError for another name,
    ModuleNotFoundError that names the extra if statsmodels is missing.
    """
    if name not in SERIES:
        raise ValueError(refused("name", repr(name), f"one of {', '.join(SERIES)}"))
    try:
        from statsmodels.datasets import co2, sunspots
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "statsmodels is not installed; install it with `pip install 'projsym[learning]'`"
        ) from None
    if name == "sunspots":
        yearly = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(np.float64)
        return Series(name, yearly, "sunspot number", "year", 0)
    weekly = co2.load_pandas().data["co2"].to_numpy(np.float64)
    known = np.flatnonzero(~np.isnan(weekly))
    filled = np.interp(np.arange(len(weekly)), known, weekly[known])
    return Series(name, filled, "ppm", "week", len(weekly) - len(known))


class Predictor(nn.Module):
    """(B, n) numbers -> (B, n) predictions, row t of the number after t from those up to t."""

    def __init__(self, sizes: Sizes, variant: Variant, core: Core = torch_core) -> None:
        super().__init__()
        self.sizes, self.variant = sizes, variant
        width = sizes.width
        self.enter = nn.utils.skip_init(nn.Linear, 1, width)
        self.position = nn.utils.skip_init(nn.Embedding, sizes.length, width)
        head_width = sizes.head_width(variant.head_width)
        self.attention = Attention(variant.form, width, sizes.heads, head_width, variant.sigma, core)
        self.forward_layers = FeedForward(width, sizes.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(width, EPSILON) for _ in range(2))
        self.leave = nn.utils.skip_init(nn.Linear, width, 1)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.enter(numbers.unsqueeze(-1)) + self.position.weight[: numbers.shape[1]]
        x = self.norms[0](x + self.attention(x, x, causal(numbers.shape[1], x.device)))
        return self.leave(self.norms[1](x + self.forward_layers(x))).squeeze(-1)


class SeriesTask:
    """A `Task`: predict the next difference of a series from the `length` before it.

    Differences, standardised by the training part; parts follow each other in time. All rows of a
    window are trained on; in validation and test only the last one counts, and it lies in that part.
    """

    def __init__(self, sizes: Sizes, variant: Variant, series: Series, core: Core = torch_core) -> None:
        self.sizes, self.variant, self.series, self.core = sizes, variant, series, core
        steps = np.diff(series.values)
        ends = [0, int(TRAINING * len(steps)), int(VALIDATION * len(steps)), len(steps)]
        if ends[1] <= sizes.length or min(ends[2] - ends[1], ends[3] - ends[2]) < 1:
            raise ValueError(
                refused("series", f"{len(steps)} steps", f"more than {sizes.length / TRAINING:.0f}")
            )
        self.mean, self.deviation = float(steps[: ends[1]].mean()), float(steps[: ends[1]].std())
        self.steps, self.ends = steps, ends
        scaled = torch.tensor((steps - self.mean) / self.deviation, dtype=torch.float32)
        windows = scaled.unfold(0, sizes.length + 1, 1)  # window s wants the steps s+1 … s+length
        first = [max(0, end - sizes.length) for end in ends]
        self.training = windows[: first[1]]
        self.validation, self.test = windows[first[1] : first[2]], windows[first[2] : first[3]]
        self.digest = hashlib.sha256(steps.tobytes()).hexdigest()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "task": self.series.name, **asdict(self.sizes), **asdict(self.variant),
            "core": self.core.__name__, "examples": self.digest
        }  # fmt: skip

    @property
    def examples(self) -> int:
        return len(self.training)

    @property
    def batch(self) -> int:
        return self.sizes.batch

    def build(self, seed: int) -> nn.Module:
        """The variant, started from the standard model of this seed."""
        standard = Predictor(self.sizes, Variant("standard", self.variant.head_width, self.variant.sigma))
        draw(standard, seed)
        model = Predictor(self.sizes, self.variant, self.core)
        adopt(model, standard)
        return model

    def loss(self, model: nn.Module, index: Tensor) -> Tensor:
        """Mean square over all rows of the windows, in variances of the training part."""
        part = self.training[index]
        return nn.functional.mse_loss(model(part[:, :-1]), part[:, 1:])

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """validation_loss (as `loss`, of the last row) and validation_rmse (in units of the series)."""
        loss, rmse = self.scores(model, self.validation)
        return {"validation_loss": loss, "validation_rmse": rmse}

    @torch.no_grad()
    def scores(self, model: nn.Module, windows: Tensor) -> tuple[float, float]:
        """Mean square of the last row's error, and its root in units of the series."""
        mean = nn.functional.mse_loss(model(windows[:, :-1])[:, -1], windows[:, -1]).item()
        return mean, mean**0.5 * self.deviation

    def baselines(self) -> dict[str, float]:
        """Test RMSE, in units of the series, of two simple predictors: no change, and a linear
        autoregression on the same window (least squares on the training part)."""
        steps, p = self.steps, self.sizes.length
        rows = np.lib.stride_tricks.sliding_window_view(steps, p + 1)
        design = np.column_stack([np.ones(len(rows)), rows[:, :-1]])
        known, asked = slice(0, self.ends[1] - p), slice(self.ends[2] - p, None)
        weights = np.linalg.lstsq(design[known], rows[known, -1], rcond=None)[0]
        error = rows[asked, -1] - design[asked] @ weights
        return {
            "no_change": float(np.sqrt(np.mean(rows[asked, -1] ** 2))),
            "autoregression": float(np.sqrt(np.mean(error**2))),
        }

    def to(self, device: torch.device) -> None:
        self.training, self.validation = self.training.to(device), self.validation.to(device)
        self.test = self.test.to(device)
