"""One look for every figure: colours that colour-blind readers can tell apart, and SVG without a date.

The colours are those of M. Okabe and K. Ito, *Color universal design* (2008). Shapes and line styles say the
same again, so that a figure can be read without any colour.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#777777"

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "projsym",  # ids of clip paths and markers, otherwise random
    "svg.fonttype": "path",  # the same letters on machines without the font
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",  # readable on a dark page
}


def use() -> None:
    """Set this look for all figures of the process."""
    plt.rcParams.update(_SETTINGS)


@dataclass(frozen=True)
class Picture:
    """A finished figure; Jupyter shows the SVG, `title` is what plain text shows."""

    title: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<{self.title}>"


def picture(figure: Figure, title: str) -> Picture:
    """The figure as SVG, an element without declaration that a page can hold; the figure is closed.

    The same data give the same bytes with one release of matplotlib.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    plt.close(figure)
    text = file.getvalue()
    text = re.sub(r"[ \t]+$", "", text[text.index("<svg") :], flags=re.MULTILINE)
    # A page that is narrower than the figure, a phone's say, scales it.
    return Picture(title, text.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1))
