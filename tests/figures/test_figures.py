"""The figures' look and what their helpers draw."""

from __future__ import annotations

import json
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from projsym.codegen.generate import COMMITTED, MANIFEST, kernels
from projsym.figures import Picture, ellipse, on_grid, picture, proof_graph, use


@pytest.fixture(autouse=True)
def _look() -> Iterator[None]:
    with mpl.rc_context():
        mpl.use("svg")
        use()
        yield


def _drawn() -> Picture:
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], marker="o", label="line")
    ax.legend()
    return picture(figure, "a line")


def test_a_figure_is_the_same_text_every_time_and_has_no_date() -> None:
    first, second = _drawn(), _drawn()
    assert first == second
    assert first.svg.startswith("<svg") and first.svg.rstrip().endswith("</svg>")
    assert "date" not in first.svg and repr(first) == "<a line>"
    assert not plt.get_fignums()


def test_an_ellipse_is_the_image_of_a_circle() -> None:
    _, ax = plt.subplots()
    matrix = np.array([[2.0, 1.0], [0.0, 0.5]])
    outline = ellipse(ax, np.array([1.0, -1.0]), matrix, 0.1)
    back = (outline - [1.0, -1.0]) @ np.linalg.inv(matrix).T
    assert np.abs(np.hypot(*back.T) - 0.1).max() < 1e-15
    plt.close("all")


def test_shapes_of_an_ellipse_are_named() -> None:
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"centre, matrix.*\(3,\) and \(2, 2\)"):
        ellipse(ax, np.zeros(3), np.eye(2), 1.0)
    plt.close("all")


def test_a_grid_has_y_along_its_rows() -> None:
    x, y, values = on_grid(lambda p: p[:, 0] + 10 * p[:, 1], (0, 1), (2, 3), 3)
    assert np.array_equal(values, x[None, :] + 10 * y[:, None])


def test_the_proof_graph_has_the_theorems_of_the_manifest() -> None:
    built = [k.build("float32") for k in kernels()[:2]]
    graph = proof_graph(built)
    manifest = json.loads((COMMITTED / MANIFEST).read_text(encoding="utf-8"))["kernels"]
    for b in built:
        used = {start[1] for start, end in graph.edges if end == ("kernel", b.kernel.name)}
        assert set(manifest[b.kernel.name]["theorems"]) <= used
    assert (("law", "definition of softmax"), ("specification", built[0].kernel.of.id)) in graph.edges
    assert picture(graph.draw(), "graph").svg.count("<g id=") > len(graph.edges)
