"""What the figures of one head mean."""

from __future__ import annotations

import numpy as np
import pytest

from projsym.audit.heads import bandwidth
from projsym.folding import normalise


@pytest.mark.parametrize("length", [0.1, 1.0, 10.0])
def test_bandwidth_is_that_of_a_gaussian_around_the_image_on_the_sphere(length: float) -> None:
    rng = np.random.default_rng(1)
    keys = normalise(rng.normal(size=(9, 6)), "layernorm", eps=0.0)
    query, scale = length * rng.normal(size=6), 0.4
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(keys) for b in keys[:i]]
    sigma = bandwidth(query[None, None], keys, scale)[0, 0] * np.sqrt(np.mean(np.square(pairs)))
    seen = query - query.mean()
    image = np.sqrt(6) * seen / np.linalg.norm(seen)
    by_distance = np.exp(-((keys - image) ** 2).sum(axis=1) / (2 * sigma**2))
    by_product = np.exp(scale * keys @ query)
    ratio = by_distance / by_distance.sum() / (by_product / by_product.sum())
    # Exponents below scale·‖q‖·r, each off by less than a thousand roundings of that.
    size = 1 + 2 * scale * np.linalg.norm(query) * np.sqrt(6)
    assert np.abs(ratio - 1).max() <= 1000 * 2.0**-53 * size
    assert np.ptp(by_product / by_product.sum()) > 1e-3


def test_bandwidth_of_a_zero_query_is_infinite_and_of_one_key_undefined() -> None:
    keys = normalise(np.random.default_rng(2).normal(size=(4, 5)), "layernorm", eps=0.0)
    assert np.isposinf(bandwidth(np.zeros((1, 2, 5)), keys, 1.0)).all()
    assert np.isnan(bandwidth(np.ones((1, 2, 5)), keys[:1], 1.0)).all()
