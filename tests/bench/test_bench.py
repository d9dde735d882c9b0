"""The benchmark: the gate refuses what is wrong, the timing interleaves, rows hold to their contract."""

from __future__ import annotations

import importlib.util
import json
import math
import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from projsym import get_num_threads, project, set_num_threads
from projsym.attention import attention
from projsym.bench import (
    Shape,
    backward,
    environment,
    jitted,
    measure,
    notes,
    peers,
    problems,
    run,
    timing,
)
from projsym.bench.backward import GradientGate
from projsym.bench.gate import EXTENDED, Gate, softmax_mean
from projsym.bench.memory import work_bytes
from projsym.bench.rows import CAUSAL, IN_NUMPY, Row
from projsym.bench.timing import Times, interleave
from projsym.runtime import storage

CONTRACT = {
    "kernel", "shape", "dtype", "threads", "peer", "ours_min_s", "peer_min_s", "ratio_min", "ratio_median",
    "peak_fraction", "max_abs_err", "err_bound",
}  # fmt: skip
TINY = (Shape(2, 5, 7, 8), Shape(1, 3, 3, 4, "float64"))


def problem(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return tuple(rng.standard_normal(s).astype(dtype) for s in ((2, 9, 8), (2, 11, 8), (2, 11, 5)))


def test_rows_hold_to_the_contract() -> None:
    rows = run(TINY, threads=[1], seconds=0.01)
    assert {(r.kernel, r.dtype) for r in rows} == {
        (k, t) for k in ("attention", "project", "attention with gradients") for t in ("float32", "float64")
    }
    found = {jitted.label(x, 1, environment()["cpus"]) for x in peers.available()[0]}
    assert {r.peer for r in rows} == found >= set(peers.FEW)
    for row in rows:
        data = json.loads(json.dumps(row.as_dict(), allow_nan=False))
        assert data.keys() >= CONTRACT
        assert row.verdict == "equal" and row.agreed
        assert 0 <= row.max_abs_err <= row.err_bound
        assert row.peer_max_abs_err <= row.peer_err_bound
        assert row.ratio_min == row.peer_min_s / row.ours_min_s
        assert 0 < row.peak_fraction < 1


@pytest.mark.parametrize(
    ("kernel", "pairs", "contractions"),
    [("attention", 35, 2), (IN_NUMPY, 35, 2), (CAUSAL, 15, 2), (backward.KERNEL, 35, backward.CONTRACTIONS)],
)
def test_a_peer_that_had_more_threads_than_its_row_says_is_refused(
    kernel: str, pairs: int, contractions: int
) -> None:
    rate, flops = 1e9, contractions * 2 * 2 * pairs * 8

    def row(peer: str, seconds: float) -> Row:
        bounds = {"max_abs_err": 0.0, "err_bound": 1.0, "peer_max_abs_err": 0.0, "peer_err_bound": 1.0}
        times = (1e-3, seconds, 1e3 * seconds, 1e3 * seconds)
        made = Row(kernel, (2, 5, 7, 8), "float32", 1, peer, *times, None, **bounds, verdict="equal")
        return measure._with_fraction(made, rate)

    possible = row("torch", 1.01 * flops / rate)
    assert possible.agreed and possible.peak_fraction == flops / 1e-3 / rate
    refused = row("torch", 0.99 * flops / rate)
    assert refused.verdict == "refused: torch above the rate of 1 thread" and not refused.agreed
    assert refused.ours_min_s is refused.peer_min_s is refused.ratio_min is refused.peak_fraction is None
    assert row("jax on 2 threads", 0.99 * flops / rate).agreed


def test_bfloat16_is_compared_with_torch() -> None:
    rows = run(
        [Shape(2, 9, 130, 16, "bfloat16"), Shape(2, 1, 800, 16, "bfloat16")], threads=[1], seconds=0.01
    )
    assert {(r.kernel, r.peer) for r in rows} == {("attention", "torch"), ("project", "torch")}
    for row in rows:
        assert row.verdict == "equal" and row.dtype == "bfloat16"
        assert 0 < row.max_abs_err <= row.err_bound < row.peer_err_bound


def test_causal_rows_have_every_peer() -> None:
    rows = run([], threads=[1], seconds=0.01, more={CAUSAL: [Shape(2, 33, 33, 8)]})
    assert {r.peer for r in rows} == {jitted.label(x, 1, environment()["cpus"]) for x in peers.available()[0]}
    for row in rows:
        assert row.verdict == "equal" and row.kernel == CAUSAL and row.ratio_min > 0
        assert 0 < row.peak_fraction < 1 and row.ours_work_bytes is row.peer_work_bytes is None


def test_the_causal_gate_knows_which_pairs_are_seen() -> None:
    case = problems.problem(CAUSAL, Shape(2, 17, 17, 8))
    gate, out = case.gate(), case.ours()
    assert gate.check(out, peer=False).equal
    # The last query sees all keys, so its output alone is the same without a mask.
    whole = problems.problem("attention", Shape(2, 17, 17, 8)).ours()
    close = np.abs(whole - gate.reference).max(axis=-1) <= gate.ours
    assert np.array_equal(close, [[False] * 16 + [True]] * 2)
    assert not gate.check(whole, peer=True).equal
    assert gate.check(np.where(np.arange(17)[:, None] < 16, out, whole), peer=True).equal


def test_the_kernel_in_numpy_has_the_threads_of_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, set[int]]] = []

    def spy(*arrays: np.ndarray, backend: str) -> np.ndarray:
        blas = {x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}
        seen.append((backend, blas))
        return attention(*arrays, backend=backend)

    monkeypatch.setattr(problems, "attention", spy)
    shape = Shape(1, 40, 900, 16)
    rows = run([], threads=[1], seconds=0.01, more={IN_NUMPY: [shape]})
    assert seen and all(x == ("numpy", {1}) for x in seen)
    assert [r.peer for r in rows] == ["numpy", "torch"]
    assert all(r.verdict == "equal" and r.ratio_min > 0 for r in rows)
    scores = 4 * shape.queries * shape.keys
    assert scores <= rows[0].peer_work_bytes < 2.5 * scores and rows[0].ours_work_bytes > 0
    assert rows[1].ours_work_bytes is rows[1].peer_work_bytes is None


def test_work_is_the_most_beside_the_result() -> None:
    def call() -> np.ndarray:
        for _ in range(2):  # one after the other: the most is one of them and its sum
            total = np.ones(2**20).sum()
        return np.full(2**17, total)

    assert 2**23 - 2**20 <= work_bytes(call) < 2**23 + 2**16
    tracemalloc.start()
    work_bytes(call)
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        (CAUSAL, Shape(1, 8, 9, 8)),
        (CAUSAL, Shape(1, 8, 8, 4)),
        (CAUSAL, Shape(1, 8, 8, 8, "float64")),
        (IN_NUMPY, Shape(1, 8, 8, 8, "bfloat16")),
        (backward.KERNEL, Shape(1, 8, 8, 8, "bfloat16")),
    ],
)
def test_shapes_that_a_kernel_is_not_measured_at(kernel: str, shape: Shape) -> None:
    with pytest.raises(ValueError, match=f"{kernel}: got Shape"):
        run([], threads=[1], more={kernel: [shape]})


def test_a_bfloat16_peer_that_rounds_scores_is_refused() -> None:
    rng = np.random.default_rng(3)
    drawn = [8 * rng.standard_normal((1, 40, 32)).astype(np.float32) for _ in range(3)]
    q, k, v = (storage.rounded(x, storage.BITS) for x in drawn)
    gate = Gate(q, k, v)
    exact = [storage.widened(x).astype(np.float64) for x in (q, k, v)]
    scores = exact[0] @ exact[1].swapaxes(-1, -2) / np.sqrt(32)
    rounded = storage.widened(storage.rounded(scores.astype(np.float32), storage.BITS)).astype(np.float64)

    def mean(s: np.ndarray) -> np.ndarray:
        w = np.exp(s - s.max(axis=-1, keepdims=True))
        return storage.rounded((w @ exact[2] / w.sum(axis=-1)[..., None]).astype(np.float32), storage.BITS)

    assert gate.check(mean(scores), peer=False).equal
    assert not gate.check(mean(rounded), peer=True).equal


def test_wrong_peer_is_refused_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unscaled(q, k, v, threads):
        return lambda: softmax_mean(q * np.float32(1.01), k, v)

    monkeypatch.setattr(peers, "_PEERS", {"wrong": (unscaled, ()), "numpy": (peers.numpy_peer, ())})
    rows = {
        r.peer: r for r in run([Shape(2, 9, 11, 8)], threads=[1], seconds=0.01) if r.kernel == "attention"
    }
    assert rows["wrong"].verdict == "refused: wrong beyond the error bound" and not rows["wrong"].agreed
    assert rows["wrong"].ours_min_s is rows["wrong"].ratio_min is rows["wrong"].peak_fraction is None
    assert rows["numpy"].agreed and rows["numpy"].ratio_min > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("peer", [False, True])
def test_gate(dtype: str, peer: bool) -> None:
    q, k, v = problem(dtype)
    gate = Gate(q, k, v)
    good = attention(q, k, v)
    assert gate.check(good, peer=peer).equal
    bound = (gate.peer if peer else gate.ours)[1, 3]
    for change in (2.5 * bound, math.nan, math.inf):
        bad = good.copy()
        bad[1, 3, 2] += change
        assert not gate.check(bad, peer=peer).equal
    assert not gate.check(good[:, :-1], peer=peer).equal
    assert not gate.check(np.zeros_like(good), peer=peer).equal


TIGHT = (
    Shape(2, 256, 1024, 64),
    Shape(8, 128, 128, 64),
    Shape(64, 20, 20, 32),
    Shape(1, 64, 512, 64, "float64"),
)
"""The shapes of the benchmark with fewer heads and queries."""


@pytest.mark.parametrize("shape", TIGHT, ids=lambda s: "x".join(map(str, (*s.sizes, s.dtype))))
@pytest.mark.parametrize("kernel", ["attention", "project"])
def test_the_bound_is_within_a_hundred_times_the_error(shape: Shape, kernel: str) -> None:
    q, k, v = problems.inputs(shape, kernel)
    out = attention(q, k, v, backend="c") if kernel == "attention" else project(q, k, backend="c")
    got = Gate(q, k, v, problems.order(kernel, shape)).check(out, peer=False)
    assert got.equal
    if shape.dtype == "float32" or EXTENDED:
        assert got.err_bound <= 100 * got.max_abs_err


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peers_compute_the_same_function(dtype: str) -> None:
    q, k, v = problem(dtype)
    gate = Gate(q, k, v)
    found, missing = peers.available()
    assert set(peers.FEW) <= found.keys() and missing.keys() <= {"jax", "numba"}
    for name, prepare in found.items():
        assert gate.check(prepare(q, k, v, 1)(), peer=True).equal, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jax_gradients_are_the_same(dtype: str) -> None:
    pytest.importorskip("jax")
    q, k, v = problem(dtype)
    g = np.random.default_rng(8).standard_normal((*q.shape[:-1], v.shape[-1])).astype(dtype)
    gate = GradientGate(g, q, k, v)
    dq, dk, dv = jitted.jax_gradients(g, q, k, v)()
    assert gate.check((dq, dk, dv), peer=True).equal
    assert not gate.check((dq, dk, dv + dv.dtype.type(1e-2)), peer=True).equal


def test_numba_keeps_the_number_of_threads() -> None:
    numba = pytest.importorskip("numba")
    q, k, v = problem()
    before = numba.get_num_threads()
    call = jitted.numba_peer(q, k, v, 1)
    assert np.array_equal(call(), call())
    assert numba.get_num_threads() == before


def test_jax_says_how_many_threads_it_has() -> None:
    assert jitted.label("jax", 1, 2) == "jax on 2 threads"
    assert jitted.label("jax", 2, 2) == "jax" and jitted.label("torch", 1, 2) == "torch"


def test_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_PEERS", {"absent": (peers.numpy_peer, ("no_such_module",))})
    found, missing = peers.available()
    assert not found and "no_such_module" in missing["absent"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_a_first_call_that_sets_the_threads_of_all_is_not_timed_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Numba does to PyTorch, whose OpenMP it shares, when it starts its threads."""
    import torch

    seen: list[int] = []
    before = torch.get_num_threads()

    def starter(q: np.ndarray, k: np.ndarray, v: np.ndarray, threads: int) -> peers.Call:
        call, started = peers.numpy_peer(q, k, v, threads), iter([True])

        def first() -> np.ndarray:
            if next(started, False):
                torch.set_num_threads(threads + 1)
            seen.append(torch.get_num_threads())
            return call()

        return first

    monkeypatch.setattr(peers, "_PEERS", {"starter": (starter, ())})
    run([Shape(1, 8, 8, 4)], threads=[1], seconds=0.01)
    # Twice, for each of the two kernels: in the call that starts them, which the gate makes.
    assert seen.count(2) == 2 and set(seen) == {1, 2}
    assert torch.get_num_threads() == before


def test_limited_restores_threads() -> None:
    import torch

    before = torch.get_num_threads()
    with peers.limited(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_run_restores_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = [Shape(1, 2, 2, 2)]
    run(tiny, threads=[1], seconds=0.001)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert get_num_threads() == 5  # still the default
    set_num_threads(3)
    run(tiny, threads=[1], seconds=0.001)
    assert get_num_threads() == 3
    set_num_threads(None)


class Clock:
    """Stands in for the module `time`: calls take the time that they say, whatever the machine does."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("cost", "order"), [(0.012, ["a", "b"]), (0.001, ["a", "a", "a", "b", "b", "b"])])
def test_interleaving_order(monkeypatch: pytest.MonkeyPatch, cost: float, order: list[str]) -> None:
    clock, calls = Clock(), []
    monkeypatch.setattr(timing, "time", clock)

    def work(name: str) -> None:
        calls.append(name)
        clock.now += cost

    times = interleave({"a": lambda: work("a"), "b": lambda: work("b")}, seconds=0.0)
    # Once to learn how long a call takes, then five rounds; short calls are warmed up and repeated.
    assert calls == ["a", "b"] + order * 5
    assert all(len(t.samples) == 5 and t.least == pytest.approx(cost) for t in times.values())


def test_ratio_is_within_rounds() -> None:
    ours, theirs = Times((1.0, 10.0, 2.0)), Times((2.0, 30.0, 2.0))
    assert theirs.median_ratio(ours) == 2.0 and theirs.least / ours.least == 2.0


def test_environment_says_what_holds_peers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert not any("OPENBLAS_CORETYPE" in note for note in notes())
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    data = json.loads(json.dumps(environment()))
    assert any("OPENBLAS_CORETYPE=Haswell" in note for note in data["notes"])
    assert data["packages"]["numpy"] == np.__version__ and data["cpus"] >= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1, 1, 1), ValueError, "heads: got 0"),
        ((1, 1, 1.5, 1), TypeError, "keys: got 1.5"),
        ((1, 1, 1, 1, "float16"), ValueError, "dtype: got 'float16'"),
    ],
)
def test_bad_shapes(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Shape(*arguments)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="threads: got 0, allowed are 1 to"):
        run(TINY, threads=[0])
    with pytest.raises(ValueError, match="seconds: got 0"):
        run(TINY, seconds=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_gated(dtype: str) -> None:
    q, k, v = problem(dtype)
    g = np.random.default_rng(8).standard_normal((2, 9, 5)).astype(dtype)
    gate = GradientGate(g, q, k, v)
    for name, make in {"ours": backward.ours, **backward.peers()}.items():
        made = make(g, q, k, v)()
        assert gate.check(made, peer=name != "ours").equal, name
        for n in range(3):
            bad = [x.copy() for x in made]
            bad[n][1, 3, 2] += 2.5 * gate.peer[("dq", "dk", "dv")[n]][1, 3, 2]
            assert not gate.check(tuple(bad), peer=True).equal  # type: ignore[arg-type]
    assert not gate.check((made[0][:, :-1], *made[1:]), peer=True).equal
