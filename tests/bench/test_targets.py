"""What was wanted, beside measured rows: met, short or refused, and never left out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from projsym.bench import FULL, MORE

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "targets.py"


@pytest.fixture(scope="module")
def targets() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("needs the checkout")
    spec = importlib.util.spec_from_file_location("targets", SCRIPT)
    made = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "targets", made)  # where a dataclass looks for its own module
        spec.loader.exec_module(made)
    return made


def row(
    kernel: str, shape: tuple[int, ...], peer: str, ratio: float, peak: float = 0.5, **other: Any
) -> dict[str, Any]:
    made = {"kernel": kernel, "shape": list(shape), "dtype": "float32", "threads": 1, "peer": peer}
    made |= {"ratio_min": ratio, "ratio_median": ratio, "peak_fraction": peak, "verdict": "equal"}
    return made | {"ours_work_bytes": None, "peer_work_bytes": None} | other


def table(targets: ModuleType, rows: list[dict[str, Any]]) -> list[str]:
    return targets.table({"rows": rows, "read_bytes_per_s": {"1": 1.0}})[2:]


def test_every_kernel_and_size_is_measured(targets: ModuleType) -> None:
    for aim in targets.AIMS:
        for kernel in aim.kernels:
            measured = {s.sizes for s in MORE.get(kernel, FULL) if s.dtype == aim.dtype}
            assert set(aim.shapes) <= measured, aim.what
    assert set(MORE) <= {kernel for aim in targets.AIMS for kernel in aim.kernels}


def test_causal(targets: ModuleType) -> None:
    kernel, shape = "causal attention", (1, 2048, 2048, 64)
    good = [row(kernel, shape, "torch", 1.3, 0.81), row(kernel, shape, "numpy", 3.0, 0.81)]
    [line] = table(targets, good)
    assert line == f"| causal | {kernel} 1×2048×2048×64 | 1 | 81% | 80% | torch | 1.30 (1.30) | 1.25 | met |"
    others = [row(kernel, shape, "jax on 2 threads", 0.9), row(kernel, shape, "x", 1.2)]
    [line] = table(targets, [good[1], *others])
    assert line.endswith("| x | 1.20 (1.20) | 1.25 | short: peak, ratio (52%) |")
    [line] = table(targets, [row(kernel, shape, "x", 2.0) | {"verdict": "refused: x", "ratio_min": None}])
    assert "| refused |" in line


def test_the_kernel_in_numpy(targets: ModuleType) -> None:
    kernel, shape = "attention in NumPy", (1, 4096, 4096, 64)
    rows = [
        row(kernel, shape, "numpy", 2.4, ours_work_bytes=10**6, peer_work_bytes=67 * 10**6),
        row(kernel, shape, "torch", 1.3),
        row(kernel, shape, "numpy", 1.0, threads=2, ours_work_bytes=10**6, peer_work_bytes=67 * 10**6),
        row(kernel, shape, "torch", 1.5, threads=2),
    ]
    lines = table(targets, rows)
    assert [(x.split(" | ")[0][2:], x.split(" | ")[-1]) for x in lines] == [
        ("over NumPy, on 1 thread", "met |"),
        ("over PyTorch as installed", "short: ratio (54%) |"),
        ("over PyTorch as installed", "met |"),
    ]
    assert targets.memory({"rows": rows}) == ["- 1×4096×4096×64: 1.00 MB, 1/67.0 of 67.00 MB: met"]
    rows[0] |= {"ours_work_bytes": 2 * 10**6}
    assert targets.memory({"rows": rows}) == ["- 1×4096×4096×64: 2.00 MB, 1/33.5 of 67.00 MB: short"]
    rows[0] |= {"ours_work_bytes": None, "peer_work_bytes": None, "verdict": "refused: numpy"}
    assert targets.memory({"rows": rows}) == ["- 1×4096×4096×64: refused"]
    assert targets.memory({"rows": []}) == ["- not measured"]
