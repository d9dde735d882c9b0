"""Training is a function of its settings, whatever interrupts it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from projsym.learning import checkpoint
from projsym.learning.corpus import Splits
from projsym.learning.sizes import FORMS, Form, Sizes, Variant
from projsym.learning.train import Run, epoch_seed, fit, reproducible
from projsym.learning.translation import Translation

EPOCHS = 4
SETUP = """
from projsym.learning.corpus import Pair, Splits
from projsym.learning.sizes import Sizes, Variant
from projsym.learning.train import Run, fit
from projsym.learning.translation import Translation

words = [tuple("abcdefgh"[: 1 + i % 7]) for i in range(24)]
pairs = tuple(Pair(str(i), w, tuple(reversed(w))) for i, w in enumerate(words))
task = Translation(Sizes(8, 16, 2, 20, 8, 4), Variant("tied"), Splits(pairs, pairs[:6], (), 0))
run = Run(seed=5, epochs=4)
"""
CHILD = """
import sys
from pathlib import Path

def on_step(epoch, step):
    if (epoch, step) == (3, 2):
        print("in the middle of an epoch", flush=True)
        sys.stdin.read()  # until killed

fit(task, run, Path(sys.argv[1]), on_step=on_step)
"""


def curve(folder: Path) -> list[dict[str, str]]:
    """The log without its seconds, every digit as written."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def test_resume_after_kill_9_gives_the_same_curve_bit_for_bit(tmp_path: Path) -> None:
    """The uninterrupted run and the resumed one in this process, the killed one in another."""
    here: dict[str, Any] = {}
    exec(SETUP, here)
    here["fit"](here["task"], here["run"], tmp_path / "whole")

    command = [sys.executable, "-c", SETUP + CHILD, str(tmp_path / "cut")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cut:
        assert cut.stdout is not None and cut.stdout.readline() == "in the middle of an epoch\n"
        os.kill(cut.pid, signal.SIGKILL)
        assert cut.wait() == -signal.SIGKILL
    assert [row["epoch"] for row in curve(tmp_path / "cut")] == ["0.0", "1.0", "2.0"]

    steps: list[tuple[int, int]] = []
    here["fit"](here["task"], here["run"], tmp_path / "cut", on_step=lambda *at: steps.append(at))
    assert steps[0] == (3, 0)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "whole")) == EPOCHS + 1
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("cut", "whole")]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name])


@pytest.fixture
def task(sizes: Sizes, splits: Splits) -> Translation:
    return Translation(sizes, Variant("folded"), splits)


def test_more_epochs_go_on_from_the_checkpoint(task: Translation, tmp_path: Path) -> None:
    fit(task, Run(0, 1), tmp_path / "a")
    _, rows = fit(task, Run(0, 3), tmp_path / "a")
    _, whole = fit(task, Run(0, 3), tmp_path / "b")
    drop = ("seconds",)
    assert [{k: v for k, v in r.items() if k not in drop} for r in rows] == [
        {k: v for k, v in r.items() if k not in drop} for r in whole
    ]


def test_a_checkpoint_of_other_settings_is_refused(task: Translation, tmp_path: Path) -> None:
    fit(task, Run(0, 1), tmp_path)
    with pytest.raises(ValueError, match=r"seed = 0 there, 1 now; allowed: the same settings"):
        fit(task, Run(1, 1), tmp_path)


def test_the_global_state_is_left_alone(task: Translation, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fit(task, Run(0, 1), tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    threads = torch.get_num_threads()
    with reproducible(Run(0, 1, threads=threads + 1)):
        assert torch.get_num_threads() == threads + 1 and torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns(form: Form, sizes: Sizes, splits: Splits, tmp_path: Path) -> None:
    _, rows = fit(Translation(sizes, Variant(form, "split", "learned"), splits), Run(0, 3), tmp_path)
    assert rows[-1]["training_loss"] < rows[1]["training_loss"]


def test_standard_and_folded_start_as_one_function(sizes: Sizes, splits: Splits) -> None:
    """Equal losses before training, to the rounding of A and B; the tied form is another function."""
    losses = {}
    for form in FORMS:
        task = Translation(sizes, Variant(form), splits)
        losses[form] = task.evaluate(task.build(0).double().eval())["validation_loss"]
    assert abs(losses["folded"] - losses["standard"]) < 1e-6 < abs(losses["tied"] - losses["standard"])


def test_divergence_stops_the_run(task: Translation, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="training diverged"):
        fit(task, Run(0, 1, learning_rate=1e30), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_epochs_have_seeds_of_their_own() -> None:
    assert len({epoch_seed(s, e) for s in range(20) for e in range(20)}) == 400
    assert 0 <= epoch_seed(0, 1) < 2**63


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    checkpoint.write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
