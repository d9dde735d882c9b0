"""Figures of the notebooks and of the site: one look, vector graphics, no date in the file."""

from .graph import Graph, proof_graph
from .plane import ellipse, on_grid
from .style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, YELLOW, Picture, picture, use

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "YELLOW",
    "Graph",
    "Picture",
    "ellipse",
    "on_grid",
    "picture",
    "proof_graph",
    "use",
]
