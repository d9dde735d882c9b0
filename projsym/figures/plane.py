"""What pictures of the plane are made of; each function returns the data that it draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from projsym.errors import refused

Doubles = NDArray[np.float64]


def ellipse(ax: Axes, centre: Doubles, matrix: Doubles, size: float, **style: Any) -> Doubles:
    """Draw the image of a circle of radius `size` under a linear map, around `centre`.

    matrix: (2, 2), applied to column vectors: the Jacobian of a map shows as what it makes of a small circle.
    Returns the outline, (100, 2). ValueError for other shapes.
    """
    if np.shape(centre) != (2,) or np.shape(matrix) != (2, 2):
        got = f"shapes {np.shape(centre)} and {np.shape(matrix)}"
        raise ValueError(refused("centre, matrix", got, "(2,) and (2, 2)"))
    angle = np.linspace(0, 2 * np.pi, 100)
    outline: Doubles = centre + size * np.stack([np.cos(angle), np.sin(angle)], axis=1) @ matrix.T
    ax.plot(*outline.T, **style)
    return outline


def on_grid(
    f: Callable[[Doubles], Doubles], x: tuple[float, float], y: tuple[float, float], points: int = 80
) -> tuple[Doubles, Doubles, Doubles]:
    """`f` of the points of a regular grid, for contours.

    f: takes points (n, 2) and returns n numbers. x, y: the ends of the axes. Returns the coordinates,
    (points,) each, and the values, (points, points) with y along the first axis.
    """
    xs, ys = np.linspace(*x, points), np.linspace(*y, points)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    return xs, ys, f(grid).reshape(points, points)
