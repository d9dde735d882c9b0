"""Every refusal of the PyTorch functions: the argument, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import projsym.torch as pt

X = torch.ones(2, 3, 4)
NAN = torch.full((2, 3, 4), torch.nan)
HUGE = torch.full((2, 3, 4), 1e30)

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: pt.attention(np.ones((3, 4)), X, X), TypeError, "query: given ndarray; allowed: a dense CPU"),
    (lambda: pt.attention(X, X.half(), X), TypeError, "key: given a tensor of torch.float16; allowed"),
    (lambda: pt.attention(X, X.double(), X), TypeError, "key: given torch.float64; allowed: torch.float32"),
    (lambda: pt.attention(X, X, X.to_sparse()), TypeError, "value: given a torch.sparse_coo tensor on cpu"),
    (lambda: pt.attention(X[0, 0], X, X), ValueError, r"query: given shape \(4,\); allowed: at least 2 axes"),
    (lambda: pt.attention(X, X[..., :2], X), ValueError, r"key: given shape \(2, 3, 2\); allowed: shape"),
    (lambda: pt.attention(X, X, X[:, :2]), ValueError, r"value: given shape \(2, 2, 4\); allowed: shape"),
    (
        lambda: pt.attention(X, X.repeat(2, 1, 1), X),
        ValueError,
        r"leading axes of query, key, value: given \(2,\)",
    ),
    (lambda: pt.attention(X, X, X, scale="1"), TypeError, "scale: given '1' of type str; allowed: a finite"),
    (lambda: pt.attention(X, X, X, scale=torch.inf), ValueError, "scale: given inf; allowed: a finite"),
    (
        lambda: pt.attention(X, X, X, scale=X),
        ValueError,
        "scale: given a tensor of shape .*; allowed: a number",
    ),
    (lambda: pt.attention(X, X, X, scale=torch.tensor(1)), TypeError, "scale: given a tensor of torch.int64"),
    (lambda: pt.attention(NAN, X, X), ValueError, "query: given NaN or infinite entries; allowed: finite"),
    (lambda: pt.attention(HUGE, HUGE, X), OverflowError, "a score or lse is outside the range of float32"),
    (
        lambda: pt.project(X, X, scale=1.0, sigma=1.0),
        ValueError,
        "scale, sigma: given 1.0 and 1.0; allowed: one",
    ),
    (
        lambda: pt.project(X, X, sigma=0.0),
        ValueError,
        "sigma: given 0.0; allowed: a finite real number greater",
    ),
    (lambda: pt.project(X, X, sigma=torch.tensor(-1.0)), ValueError, "sigma: given -1.0; allowed: a finite"),
    (lambda: pt.project(X, X, sigma=True), TypeError, "sigma: given True of type bool; allowed"),
    (lambda: pt.project(X, X, key_bias=torch.ones(2)), ValueError, r"key_bias: given shape \(2,\); allowed"),
    (lambda: pt.project(X, X, key_bias=torch.ones(3).double()), TypeError, "key_bias: given torch.float64"),
    (
        lambda: pt.project(X, X, key_bias=NAN[0, :, 0]),
        ValueError,
        "key_bias: given NaN; allowed: finite numbers",
    ),
]


@pytest.mark.parametrize("call, error, message", REFUSED, ids=[m[:40] for _, _, m in REFUSED])
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
