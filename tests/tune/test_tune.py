"""Measuring tiles: what is compared and written, never how long it takes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from projsym import schedules, tune
from projsym.cli import cli
from projsym.runtime import isa, tuned
from projsym.schedules import PASSES, REGISTERS, fits
from projsym.tune.candidates import candidates, committed

measuring = importlib.import_module("projsym.tune.measure")  # the package's attribute is the function


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJSYM_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("name", REGISTERS)
def test_candidates_fit_and_begin_with_the_committed_one(name: str) -> None:
    for way in PASSES:
        first = committed(way, name, "float32", 64)
        found = candidates(name, first)
        assert found[0] == first and len(set(found)) == len(found) > 4
        assert all(fits(name, row) for row in found)
        blocks = schedules.load().blocks[way, "float32"]
        assert all(blocks.queries % row[3] == 0 for row in found)


def fake(monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[int, ...], float]) -> None:
    """Times by tile, 1 for the others."""

    class Problem:
        def __init__(self, *_: object) -> None: ...

        def times(self, rows: list[schedules.Row], _: float) -> dict[schedules.Row, list[float]]:
            return {row: [seconds.get(row[1:], 1.0)] * 3 for row in rows}

    monkeypatch.setattr(measuring, "_Problem", Problem)


def test_the_fastest_pair_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.isa, "chosen", lambda: "avx2")
    _, *first = committed("forward", "avx2", "float32", 64)
    scores, sums = (2, 6, *first[2:]), (*first[:2], 4, 3)
    fake(monkeypatch, {scores: 0.9, sums: 0.95, (2, 6, 4, 3): 0.8})
    assert tune.measure("forward", "float32", 64)[0] == (0, 2, 6, 4, 3)
    fake(monkeypatch, {scores: 0.9, sums: 0.95, (2, 6, 4, 3): 1.2})
    assert tune.measure("forward", "float32", 64)[0][1:] == tuple(first)
    fake(monkeypatch, {scores: 0.995})
    assert tune.measure("forward", "float32", 64)[0][1:] == tuple(first)


@pytest.mark.parametrize("way", PASSES)
def test_a_variant_outside_its_bound_stops_the_run(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "ROWS", 50)
    problem = measuring._Problem(way, "float32", 8)
    row = committed(way, isa.chosen(), "float32", 8)
    assert len(problem.times([row], 1e-6)[row]) >= 1
    monkeypatch.setattr(problem, "check", lambda made: False)
    with pytest.raises(RuntimeError, match="outside its error bound"):
        problem.times([row], 1e-6)


def test_the_gate_of_variants_sees_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "ROWS", 50)
    problem = measuring._Problem("forward", "float32", 8)
    kernel = problem._kernel(committed("forward", isa.chosen(), "float32", 8))
    made, _ = kernel.plan((1,), problem.arrays)(tuple(problem.arrays.values()), (8**-0.5,))
    assert problem.check(made)
    made[0][0, 3, 2] += 1e-3
    assert not problem.check(made)


def test_rows() -> None:
    chosen = {32: (0, 3, 4, 6, 2), 64: (0, 3, 4, 6, 2), 96: (0, 3, 4, 4, 3), 128: (0, 2, 6, 4, 3)}
    assert tune.rows(chosen) == ((0, 3, 4, 6, 2), (64, 3, 4, 4, 3), (96, 2, 6, 4, 3))


def test_kept_beside_what_was_there(tmp_path: Path) -> None:
    one, two = ("forward", "avx2", "float32"), ("backward", "c", "float64")
    path = tune.keep({one: ((0, 3, 4, 6, 2),)})
    assert path == tuned.table_file() == tmp_path / "schedules.toml"
    tune.keep({two: ((0, 2, 4, 6, 2),)})
    tune.keep({one: ((0, 2, 6, 6, 2),)})
    found = schedules.load(path).tiles
    assert {key: t.rows for key, t in found.items()} == {one: ((0, 2, 6, 6, 2),), two: ((0, 2, 4, 6, 2),)}


def test_committed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "table.toml"
    path.write_text(schedules.COMMITTED.read_text())
    tune.commit({("forward", "neon", "float32"): ((0, 2, 8, 6, 2),)}, path)
    before, after = schedules.load(), schedules.load(path)
    assert after.tiles["forward", "neon", "float32"] == schedules.Tiles(((0, 2, 8, 6, 2),), "measured")
    changed = {k for k in before.tiles if before.tiles[k] != after.tiles[k]}
    assert changed == {("forward", "neon", "float32")} and before.blocks == after.blocks
    assert path.read_text().count("#") == schedules.COMMITTED.read_text().count("#")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sideways", "float32", 64), "way: given 'sideways'; allowed: forward or backward"),
        (("forward", "float16", 64), "dtype: given 'float16'"),
        (("forward", "float32", 0), "features: given 0; allowed: an integer of at least 1"),
        (("forward", "float32", 64, 0.0), "seconds: given 0.0"),
    ],
)
def test_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune.measure(*arguments)  # type: ignore[arg-type]


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, {})
    done = CliRunner().invoke(cli, ["tune", "--pass", "forward", "--dtype", "float32", "--features", "64"])
    assert done.exit_code == 0 and f"forward {isa.chosen()} float32 d=64" in done.output
    assert ("forward", isa.chosen(), "float32") in schedules.load(tuned.table_file()).tiles
