"""Arrays of other libraries through DLPack: read in place, and results that they can read in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import projsym
from projsym.runtime import c_kernel


class Foreign:
    """An array of a library that NumPy knows nothing of: DLPack is all it speaks."""

    def __init__(self, data: Any, fails: bool = False) -> None:
        self._data, self._fails = data, fails

    def __dlpack__(self, **options: Any) -> Any:
        if self._fails:
            raise BufferError("on another device")
        return self._data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._data.__dlpack_device__()
        return device


def test_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [np.random.default_rng(s).standard_normal((2, 5, 4)) for s in range(3)]
    seen: list[int] = []
    real = c_kernel.address
    monkeypatch.setattr(c_kernel, "address", lambda x: seen.append(real(x)) or real(x))  # type: ignore[func-returns-value]
    out = projsym.attention(*map(Foreign, data))
    assert np.array_equal(out, projsym.attention(*data))
    assert seen[:3] == [x.ctypes.data for x in data]


def test_results_are_read_in_place() -> None:
    q = np.random.default_rng(0).standard_normal((2, 5, 4))
    out = projsym.project(q, q)
    tensor = torch.from_dlpack(out)
    assert tensor.data_ptr() == out.ctypes.data
    assert np.shares_memory(np.from_dlpack(tensor), out)


def test_refused() -> None:
    whole = np.ones((2, 3), np.int64)
    with pytest.raises(TypeError, match="q: given int64 array; allowed: an array of float32 or float64"):
        projsym.project(Foreign(whole), Foreign(whole))
    with pytest.raises(
        TypeError, match=r"q: given Foreign \(on another device\); allowed: an array of float32"
    ):
        projsym.project(Foreign(whole, fails=True), whole)
