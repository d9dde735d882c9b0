"""The benchmark's files: predictions, the machine, refused rows, PyTorch with and without its fast path."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from projsym.bench import (
    FULL,
    MORE,
    SHAPES,
    Shape,
    backward,
    compilers,
    fixed,
    markdown,
    measure,
    peers,
    problems,
    product,
    result,
    write,
)
from projsym.bench.gate import Gate, kept, softmax_mean
from projsym.bench.predict import BYTES, EXPONENTIALS, FLOPS, predict
from projsym.bench.rows import CAUSAL, IN_NUMPY

TINY = (Shape(2, 5, 7, 8), Shape(1, 3, 3, 4, "float64"))
FURTHER = {CAUSAL: (Shape(2, 9, 9, 8),), IN_NUMPY: (Shape(1, 20, 30, 8),)}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """With the peers that compile nothing; the tests of the rows have all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "_PEERS", {name: peers._PEERS[name] for name in peers.FEW})
        return result(TINY, [1], 0.01, more=FURTHER)


def test_every_row_has_a_prediction(data: dict[str, Any]) -> None:
    assert {r["kernel"] for r in data["rows"]} == set(FLOPS) == set(EXPONENTIALS) == set(BYTES)
    for r in data["rows"]:
        assert r["predicted_s"] > 0
        assert r["prediction_error"] == r["predicted_s"] / r["ours_min_s"] - 1
    assert data["fma_flops_per_s"].keys() == {"float32", "float64"} and data["read_bytes_per_s"]["1"] > 0


def test_counts() -> None:
    """(2, 5, 7, 8) in float32 by hand: 70 pairs, two contractions of 16 flops, a polynomial of degree 6."""
    p = predict("project", (2, 5, 7, 8), "float32", 1e9, 1e9)
    assert (p.flops, p.exponentials, p.bytes) == (70 * 32, 70, 4 * 2 * 8 * (5 + 5 + 7))
    assert p.seconds == (70 * 32 + 2 * 70 * (6 + 8)) / 1e9
    assert predict("project", (2, 5, 7, 8), "float32", 1e18, 1e9).seconds == p.bytes / 1e9
    assert predict("attention", (2, 5, 7, 8), "float32", 1e9, 1e9).bytes == 4 * 2 * 8 * (5 + 5 + 7 + 7)
    assert predict(backward.KERNEL, (2, 5, 7, 8), "float32", 1e9, 1e9).flops == 70 * 7 * 16
    # Causal, 9 queries and keys: 45 pairs of each head.
    p = predict(CAUSAL, (2, 9, 9, 8), "float32", 1e9, 1e9)
    assert (p.flops, p.exponentials, p.bytes) == (90 * 32, 90, 4 * 2 * 8 * 36)
    assert predict(IN_NUMPY, (2, 5, 7, 8), "float32", 1e9, 1e9) == predict(
        "attention", (2, 5, 7, 8), "float32", 1e9, 1e9
    )
    for shape in FULL:
        flops = predict("attention", shape.sizes, shape.dtype, 1e9, 1e9).flops
        assert flops == shape.flops


def test_files(data: dict[str, Any], tmp_path: Path) -> None:
    paths = write(data, tmp_path / "new")
    assert [p.name for p in paths] == ["bench.json", "bench.md", "roofline.svg", "ratio.svg", "error.svg"]
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(data))
    text = paths[1].read_text()
    assert "- attention in NumPy 1×20×30×8 float32, threads: 1: works in 0.0" in text
    assert all(f"| {kernel} |" in text for kernel in FURTHER)
    assert data["environment"]["cpu"] in text and data["environment"]["compiler"] in text
    assert all(note in text for note in data["environment"]["notes"])
    assert text.count("\n| ") == len(data["rows"]) + 2
    assert all("<svg" in p.read_text() for p in paths[2:])


def test_a_refused_row_has_no_time(data: dict[str, Any], tmp_path: Path) -> None:
    times = ("ours_min_s", "peer_min_s", "ratio_min", "ratio_median", "peak_fraction", "prediction_error")
    row = data["rows"][0] | dict.fromkeys(times) | {"verdict": "refused: numpy beyond the error bound"}
    changed = data | {"rows": [row]}
    assert "| refused: numpy beyond the error bound |" in markdown(changed)
    write(changed, tmp_path)


def test_the_fix_runs_where_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forced, whatever the processor: rows come back from the other process under their own name."""
    monkeypatch.setattr(fixed, "mkl_on_amd", lambda: False)
    assert fixed.rows(TINY, [1], 0.01, tmp_path) == []
    monkeypatch.setattr(fixed, "mkl_on_amd", lambda: True)
    rows = fixed.rows(TINY[:1], [1], 0.01, tmp_path, FURTHER)
    assert len(list(tmp_path.iterdir())) == 4  # references and bounds of four kernels
    assert {r.peer for r in rows} == {fixed.PEER} and {r.kernel for r in rows} == set(FLOPS) - {IN_NUMPY}
    assert all(r.agreed and r.shape in (TINY[0].sizes, FURTHER[CAUSAL][0].sizes) for r in rows)


def test_kept_gates_judge_alike(tmp_path: Path) -> None:
    """Made, kept and read again, they pass what is right and refuse what is off."""
    q, k, v = problems.inputs(TINY[0], "attention")
    gates = [kept(folder, "one", partial(Gate, q, k, v)) for folder in (None, tmp_path, tmp_path)]
    good = softmax_mean(q, k, v)
    for gate in gates:
        assert gate.check(good, peer=True) == gates[0].check(good, peer=True)
        assert gate.check(good, peer=True).equal and not gate.check(good + 1, peer=True).equal


def test_a_process_that_fails_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fixed, "mkl_on_amd", lambda: True)
    monkeypatch.setattr(fixed, "_CODE", "raise SystemExit('no such luck')")
    with pytest.raises(RuntimeError, match="the rows of torch, MKL fixed failed:\nno such luck"):
        fixed.rows(TINY, [1], 0.01, tmp_path)


def test_compilers_are_compared(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = data["compilers"]
    if not (shutil.which("gcc") and shutil.which("clang")):
        # With one compiler there is nothing to compare.
        assert not found
        pytest.skip("needs gcc and clang")
    assert [x["shape"] for x in found] == [list(s.sizes) for s in TINY]
    assert all(x["seconds"].keys() == {"gcc", "clang"} and min(x["seconds"].values()) > 0 for x in found)
    monkeypatch.setattr(compilers.shutil, "which", lambda name: None if name == "clang" else "gcc")
    assert compilers.compare(TINY, 0.01) == []


def test_differences_between_compilers_are_shown() -> None:
    one = {"shape": [1, 2, 3, 4], "dtype": "float32", "seconds": {"gcc": 1.0, "clang": 1.06}}
    two = one | {"seconds": {"gcc": 1.04, "clang": 1.0}}
    assert compilers.lines([one, two]) == [
        "attention 1×2×3×4 float32, 1 thread: gcc 1.06 times as fast as clang"
    ]
    assert "at most 5%" in compilers.lines([two])[0] and compilers.lines([]) == []


def test_shapes() -> None:
    assert set(SHAPES) < set(FULL) and len(set(FULL)) == len(FULL)
    assert set(MORE) == set(FLOPS) - set(measure.KERNELS)
    for kernel, shapes in MORE.items():
        assert all(problems.problem(kernel, shape).peers for shape in shapes)
    assert product.result.__defaults__ == (None, None, 0.4, None)
