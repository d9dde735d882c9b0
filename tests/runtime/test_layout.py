"""Addresses: every element a kernel would read is the element that NumPy reads."""

from __future__ import annotations

import numpy as np
import pytest

from projsym.runtime.layout import heads, ready, usable

BASE = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
VIEWS = {
    "itself": BASE,
    "swapped": BASE.swapaxes(0, 1),
    "backwards": BASE[::-1, ::-1],
    "zero stride": np.broadcast_to(BASE[:, :1], (2, 3, 4, 5)),
    "every other row": BASE[:, :, ::2],
    "part of a row": BASE[..., 1:3],
    "one feature": BASE[..., 2:3],
    "no heads": BASE[0, 0],
    "same row": np.broadcast_to(BASE[:, :, :1], (2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_elements(name: str) -> None:
    x = VIEWS[name]
    assert usable(x, 2) and ready(x, 2) is x
    lead = np.broadcast_shapes(x.shape[:-2], (7, 1, 1))
    want = np.broadcast_to(x, lead + x.shape[-2:]).reshape(-1, *x.shape[-2:])
    table, at = heads(x, lead, 2)
    assert at == table.ctypes.data and table.shape == (len(want),)
    row = x.strides[-2] // x.itemsize
    start = (x.__array_interface__["data"][0] - BASE.__array_interface__["data"][0]) // x.itemsize
    flat = BASE.reshape(-1)
    for h, head in enumerate(want):
        for r, line in enumerate(head):
            first = start + table[h] + r * row
            assert np.array_equal(flat[first : first + len(line)], line)


@pytest.mark.parametrize(
    "x",
    [
        BASE[..., ::2],
        BASE[..., ::-1],
        BASE[:, :, ::-1],
        BASE.swapaxes(2, 3),
        np.zeros((3, 4), "f4,i1")["f0"],
        np.frombuffer(bytes(8 * 12 + 1), np.uint8)[1:].view(np.float64).reshape(3, 4),
    ],
    ids=["features", "backward features", "backward rows", "transposed", "odd stride", "unaligned"],
)
def test_copies(x: np.ndarray) -> None:
    assert not usable(x, 2)
    copy = ready(x, 2)
    assert usable(copy, 2) and np.array_equal(copy, x) and not np.shares_memory(copy, x)


def test_scalars_of_keys() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert usable(x[::-1], 1) and usable(x[:, :, :2], 1) and not usable(x[..., ::2], 1)
    table, _ = heads(x[::-1], (2, 3), 1)
    assert list(table) == [0, 4, 8, -12, -8, -4]
