"""The proof graph: which laws and theorems every generated kernel rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from projsym.codegen.kernel import Built
from projsym.proof.theorem import Theorem

from .style import BLUE, GREEN, GREY, SKY, VERMILION

Node = tuple[str, str]
"""A kind ("law", "theorem", "specification" or "kernel") and a name."""

COLUMNS = ("law", "theorem", "specification", "kernel")
_COLOURS = {"law": GREY, "theorem": SKY, "specification": BLUE, "kernel": VERMILION}


@dataclass(frozen=True)
class Graph:
    """Nodes by column, and edges from what is used to what uses it."""

    columns: tuple[tuple[Node, ...], ...]
    edges: tuple[tuple[Node, Node], ...]

    def draw(self) -> Figure:
        """The columns side by side, every edge a line; what a kernel uses stands to its left."""
        figure, ax = plt.subplots(figsize=(9.5, 5.2))
        place = {}
        for x, column in enumerate(self.columns):
            for n, node in enumerate(column):
                place[node] = (x, 1 - (n + 0.5) / len(column))
        for start, end in self.edges:
            colour = GREEN if start[0] == "specification" else _COLOURS[start[0]]
            across = [place[start], place[end]]
            ax.plot(*zip(*across, strict=True), color=colour, lw=0.9, alpha=0.7, zorder=1)
        for node, (x, y) in place.items():
            box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": _COLOURS[node[0]], "lw": 1.4}
            ax.text(x, y, node[1], ha="center", va="center", fontsize=8.5, bbox=box, zorder=2)
        titles = ("laws", "theorems", "specifications", "generated kernels")
        for x, title in enumerate(titles):
            ax.text(x, 1.03, title, ha="center", va="bottom", weight="bold")
        ax.set(xlim=(-0.45, 3.5), ylim=(-0.02, 1.1))
        ax.set_axis_off()
        return figure


def proof_graph(built: Iterable[Built]) -> Graph:
    """The graph of validated programs: citations of their schedules, and of the proofs of what these cite.

    Edges: a law to a theorem whose chain uses it; a law or theorem to the kernel whose schedule cites it; a
    kernel's specification, with the laws of its chain, to the kernel.
    """
    edges: dict[tuple[Node, Node], None] = {}
    for b in built:
        kernel, own = ("kernel", b.kernel.name), ("specification", b.kernel.of.id)
        edges[own, kernel] = None
        for t in b.theorems:
            node = own if t is b.kernel.of else ("theorem", t.id)
            edges |= {(("law", name), node): None for name in _laws(t)}
            edges[node, kernel] = None
        edges |= {(("law", c.name), kernel): None for c in b.cited if not isinstance(c, Theorem)}
    nodes = dict.fromkeys(sorted(node for edge in edges for node in edge))
    columns = tuple(tuple(n for n in nodes if n[0] == kind) for kind in COLUMNS)
    return Graph(columns, tuple(edges))


def _laws(t: Theorem) -> list[str]:
    return [law.name for s in t.steps for law in s.reason.laws]
