"""Real series, their windows, and a model that sees the past only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from projsym.learning.series import SERIES, SERIES_SIZES, Predictor, Series, SeriesTask, load_series
from projsym.learning.sizes import FORMS, Form, Sizes, Variant
from projsym.learning.train import Run, fit

SMALL = Sizes(width=8, hidden=12, heads=2, vocabulary=1, length=6, batch=8)


@pytest.mark.parametrize(("name", "count", "filled"), [("co2", 2_284, 59), ("sunspots", 309, 0)])
def test_series_as_published(name: str, count: int, filled: int) -> None:
    found = load_series(name)
    assert len(found.values) == count and found.filled == filled and np.isfinite(found.values).all()


def test_unknown_series_are_refused() -> None:
    with pytest.raises(ValueError, match="name: given 'weather'; allowed: one of co2, sunspots"):
        load_series("weather")


@pytest.fixture
def task() -> SeriesTask:
    values = np.cumsum(np.arange(101) % 7).astype(float)
    return SeriesTask(SMALL, Variant("tied"), Series("ramp", values, "1", "step", 0))


def test_windows_follow_each_other_without_overlap_of_what_is_scored(task: SeriesTask) -> None:
    """100 differences: training wants those up to 70, then 15 and 15 are scored, each once, in order."""
    scaled = torch.tensor((task.steps - task.mean) / task.deviation, dtype=torch.float32)
    assert torch.equal(task.training[-1], scaled[70 - 7 : 70])
    assert torch.equal(task.validation[:, -1], scaled[70:85])
    assert torch.equal(task.test[:, -1], scaled[85:])
    assert task.mean == task.steps[:70].mean()


@pytest.mark.parametrize("form", FORMS)
def test_no_row_sees_a_later_number(form: Form, task: SeriesTask) -> None:
    other = SeriesTask(SMALL, Variant(form), task.series)
    model = other.build(0).double().eval()
    x = torch.randn(3, 6, dtype=torch.float64)
    y = x.clone()
    y[:, 4] += 1
    assert torch.equal(model(x)[:, :4], model(y)[:, :4])
    assert not torch.equal(model(x)[:, 4:], model(y)[:, 4:])


def test_baselines(task: SeriesTask) -> None:
    """No change errs by the differences themselves; a period of 7 is linear in the last 6 (their sum is
    constant)."""
    found = task.baselines()
    assert found["no_change"] == pytest.approx(np.sqrt(np.mean(task.steps[85:] ** 2)))
    assert found["autoregression"] < 1e-9


def test_rmse_is_in_units_of_the_series(task: SeriesTask) -> None:
    class Nothing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    _, rmse = task.scores(Nothing(), task.test)
    assert rmse == pytest.approx(np.sqrt(np.mean((task.steps[85:] - task.mean) ** 2)), rel=1e-6)


def test_training_lowers_the_loss(task: SeriesTask, tmp_path: Path) -> None:
    model, rows = fit(task, Run(0, 5), tmp_path)
    assert isinstance(model, Predictor) and rows[-1]["training_loss"] < rows[1]["training_loss"]


def test_too_short_a_series_is_refused(task: SeriesTask) -> None:
    with pytest.raises(ValueError, match="series: given 9 steps"):
        SeriesTask(Sizes(8, 12, 2, 1, 8, 8), Variant("tied"), Series("x", np.arange(10.0), "1", "step", 0))


def test_sizes_fit_the_series() -> None:
    for name in SERIES:
        task = SeriesTask(SERIES_SIZES[name], Variant("folded"), load_series(name))
        assert min(task.examples, len(task.validation), len(task.test)) > 40
