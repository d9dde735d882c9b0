"""Chapter V in numbers: what the statements mean, computed without the terms that prove them."""

from __future__ import annotations

import numpy as np
import pytest

from projsym.proof import ledger, prove
from projsym.proof.verdict import Proved, Refuted

THEOREMS = {t.id: t for t in ledger.select()[0]}
IDS = ["V.1", "V.1l", "V.1s", "V.1w", "V.1t", "V.1e", "V.1m", "V.1f", "V.2a", "V.2w", "V.2q", "V.2m", "V.2j"]
IDS += ["V.3", "V.3r", "V.3e", "V.4", "V.4m", "V.4n", "V.4b", "V.5", "V.5r"]
IDS += ["V.1n", "V.1lw", "V.1ls", "V.1lb", "V.1tb", "V.1eb", "V.1es", "V.1fc", "V.1fd", "V.1fj"]
IDS += ["V.2", "V.2k", "V.2h", "V.2l", "V.3w", "V.3s", "V.3b", "V.4p", "V.4t", "V.5h"]
EPS = np.finfo(float).eps


@pytest.mark.parametrize("id", IDS)
def test_the_statement_is_there_proved_and_quick(id: str) -> None:
    """Also: without any of its hypotheses it is refuted."""
    proof = prove(THEOREMS[id])
    assert isinstance(proof.verdict, Proved)
    assert all(isinstance(n.verdict, Refuted) for n in proof.needs)
    assert proof.milliseconds < 2000


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def test_first_order_error_is_within_its_bound() -> None:
    """V.3e: |e_j| ≤ a_j² exp(|a_j|)/2, so the error is at most its mean times the spread of the values."""
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1, 0.5, 0.9):
        a, v = rng.uniform(-size, size, 8), rng.standard_normal(8)
        e = 1 - (1 + a) * np.exp(-a)
        assert np.all(e >= -2 * EPS) and np.all(e <= a**2 * np.exp(np.abs(a)) / 2 + 2 * EPS)
        first = ((1 + a) * v).sum() / (1 + a).sum()
        error = abs(softmax(a) @ v - first)
        assert error <= softmax(a) @ (a**2 * np.exp(np.abs(a)) / 2 * np.abs(v - first)) + 64 * EPS


def test_the_recursion_forgets_like_the_weights() -> None:
    """V.3r: irregular times, one pass with a state of d × d_v numbers against the sum over all pairs."""
    rng = np.random.default_rng(1)
    t = np.cumsum(rng.uniform(0.1, 2, 20))
    k, v, rate = rng.standard_normal((20, 3)), rng.standard_normal((20, 2)), 0.3
    state, last = np.zeros((3, 2)), t[0]
    for time, key, value in zip(t, k, v, strict=True):
        state, last = np.exp(-rate * (time - last)) * state + np.outer(key, value), time
    fade = np.exp(-rate * (t[-1] - t))
    direct = np.einsum("j,ja,jb->ab", fade, k, v)
    magnitude = np.einsum("j,ja,jb->ab", fade, np.abs(k), np.abs(v))
    assert np.all(np.abs(state - direct) <= 200 * EPS * magnitude)


def test_a_local_linear_fit_has_no_first_order_bias() -> None:
    """V.4 at a boundary: the kernel mean is off by far more than rounding, the local-linear fit is not."""
    keys = np.linspace(0, 1, 11)
    values, q = 3 * keys - 1, 0.0
    w = softmax(-((q - keys) ** 2) / (2 * 0.2**2))
    centre = w @ keys
    u = (q - centre) / (w @ (keys - centre) ** 2)
    fit = (w * (1 + u * (keys - centre))) @ values
    assert abs(fit - (3 * q - 1)) <= 64 * EPS * (1 + abs(u))
    assert w @ values - (3 * q - 1) == pytest.approx(3 * (centre - q), rel=64 * EPS)
    assert w @ values - (3 * q - 1) > 0.1


def test_iteration_lowers_the_energy_by_the_stated_amount() -> None:
    """V.5 along ten steps: the energy falls at least by half the squared step."""
    rng = np.random.default_rng(2)
    k, x = rng.standard_normal((7, 2)), np.array([2.0, -1.0])

    def energy(y: np.ndarray) -> float:
        return -np.log(np.exp(-((y - k) ** 2).sum(1) / 2).sum())

    for _ in range(10):
        y = softmax(-((x - k) ** 2).sum(1) / 2) @ k
        assert energy(x) - energy(y) >= ((x - y) ** 2).sum() / 2 - 64 * EPS * (1 + abs(energy(x)))
        x = y
