"""The interactive figure's formulas, run in node, against projsym within proven bounds."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import projsym
from projsym.bounds import forward_bound
from projsym.testing import assert_within

SCRIPT = Path(__file__).resolve().parent.parent.parent / "docs/_static/projection.js"
EXP = 2.0**-50  # relative error that is assumed of the script engine's exp
U = 2.0**-53
RUN = """
const f = require(process.argv[1]);
const out = [];
for (const surface of Object.keys(f.SURFACES))
  for (const sigma of [0.05, 0.4, 3])
    for (const q of [[0.6, 1.9], [0, 0], [-2.3, 2.3]]) {
      const keys = f.SURFACES[surface], got = f.project(q, keys, sigma);
      out.push({surface, sigma, q, keys, ...got, axes: f.axes(got.jacobian).values});
    }
console.log(JSON.stringify(out));
"""


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None:
        # Nothing else that the tests install runs JavaScript.
        pytest.skip("node is not installed: the figure's script cannot be run")
    done = subprocess.run([node, "-e", RUN, str(SCRIPT)], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == 27
    return found


def test_points_and_weights_are_those_of_project(cases: list[dict[str, Any]]) -> None:
    for c in cases:
        q, keys, sigma = np.array([c["q"]], float), np.array(c["keys"]), c["sigma"]
        script = forward_bound(q, keys, keys, sigma=sigma, block=len(keys), exp_error=EXP)
        bound = script + forward_bound(q, keys, keys, sigma=sigma)
        assert_within(c["point"], projsym.project(q, keys, sigma=sigma)[0], bound)
        one = np.eye(len(keys))
        bias = -(keys**2).sum(axis=1) / (2 * sigma**2)
        exact = np.exp(q @ keys.T / sigma**2 + bias - (q @ keys.T / sigma**2 + bias).max())[0]
        spread = 2 * forward_bound(q, keys, one, sigma=sigma, block=len(keys), exp_error=EXP)
        assert_within(c["weights"], exact / exact.sum(), spread)


def test_jacobian_is_the_weighted_covariance(cases: list[dict[str, Any]]) -> None:
    """The script's own weights and point in, so that only its sums are off: (m + 4) roundings a product."""
    for c in cases:
        w, keys, p = np.array(c["weights"]), np.array(c["keys"]), np.array(c["point"])
        off = keys - p
        exact = np.einsum("j,ja,jb->ab", w, off, off) / c["sigma"] ** 2
        size = np.einsum("j,ja,jb->ab", w, abs(off), abs(off)) / c["sigma"] ** 2
        xx, xy, yy = c["jacobian"]
        assert_within([[xx, xy], [xy, yy]], exact, 2 * (len(keys) + 8) * U * size + 1e-300)
        # Weyl: eigenvalues of the rounded matrix are off by no more than its entries and the few operations.
        values = np.linalg.eigvalsh([[xx, xy], [xy, yy]])[::-1]
        assert_within(c["axes"], values, 32 * U * np.abs([xx, xy, yy]).sum() + 1e-300)


def test_effective_keys_are_exp_of_the_entropy(cases: list[dict[str, Any]]) -> None:
    for c in cases:
        w = np.array(c["weights"])
        w = w[w > 0]
        assert 1 <= c["effective"] <= len(c["keys"]) * (1 + 64 * U)
        entropy = -(w * np.log(w)).sum()
        # Logarithms within 4 roundings, a product and fewer than m additions of terms below 1/e in size.
        assert_within(np.log(c["effective"]), entropy, 2 * (len(w) + 16) * U * (1 + abs(w * np.log(w)).sum()))
