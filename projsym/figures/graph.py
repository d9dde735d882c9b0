"""The proof graph: which laws and theorems every generated kernel rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from projsym.codegen.kernel import Built
from projsym.proof.theorem import Theorem

from .style import BLUE, GREEN, GREY, SKY, VERMILION

Node = tuple[str, str]
"""A kind ("law", "theorem", "specification" or "kernel") and a name."""

COLUMNS = ("law", "theorem", "specification", "kernel")
_COLOURS = {"law": GREY, "theorem": SKY, "specification": GREEN, "kernel": VERMILION}
_EDGES = {"law": GREY, "theorem": BLUE, "specification": GREEN}


@dataclass(frozen=True)
class Graph:
    """Nodes by column, and edges from what is used to what uses it; `titles` of theorems by their id."""

    columns: tuple[tuple[Node, ...], ...]
    edges: tuple[tuple[Node, Node], ...]
    titles: Mapping[str, str]

    def draw(self) -> Figure:
        """The columns side by side, every edge a curve; what a node uses stands to its left."""
        figure, ax = plt.subplots(figsize=(10.5, max(5.6, 0.8 * max(map(len, self.columns)))))
        place = {}
        for x, column in enumerate(self.columns):
            for n, node in enumerate(column):
                place[node] = np.array([x, 1 - (n + 0.5) / len(column)])
        along = np.linspace(0, 1, 30)[:, None]
        rise = along**2 * (3 - 2 * along)
        for start, end in self.edges:
            a, b = place[start], place[end]
            curve = a + (b - a) * np.hstack([along, rise])
            law = start[0] == "law"
            ax.plot(
                *curve.T, color=_EDGES[start[0]], lw=0.6 if law else 1.3, alpha=0.6 if law else 0.9, zorder=1
            )
        for node, (x, y) in place.items():
            title = self.titles.get(node[1], "") if node[0] == "theorem" else ""
            label = "\n".join([node[1], *wrap(title, 24)])
            box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": _COLOURS[node[0]], "lw": 1.4}
            ax.text(x, y, label, ha="center", va="center", fontsize=8.5, bbox=box, zorder=2)
        for x, head in enumerate(("laws", "cited theorems", "specifications", "generated kernels")):
            ax.text(x, 1.03, head, ha="center", va="bottom", weight="bold")
        ax.set(xlim=(-0.45, 3.5), ylim=(-0.02, 1.1))
        ax.set_axis_off()
        return figure


def proof_graph(built: Iterable[Built]) -> Graph:
    """The graph of validated programs: citations of their schedules, and of the proofs of what these cite.

    Edges: a law to a theorem whose chain uses it; a law or theorem to the kernel whose schedule cites it; a
    kernel's specification, with the laws of its chain, to the kernel.
    """
    edges: dict[tuple[Node, Node], None] = {}
    titles: dict[str, str] = {}
    for b in built:
        titles |= {t.id: t.title for t in b.theorems}
        kernel, own = ("kernel", b.kernel.name), ("specification", b.kernel.of.id)
        edges[own, kernel] = None
        for t in b.theorems:
            node = own if t is b.kernel.of else ("theorem", t.id)
            edges |= {(("law", name), node): None for name in _laws(t)}
            edges[node, kernel] = None
        edges |= {(("law", c.name), kernel): None for c in b.cited if not isinstance(c, Theorem)}
    nodes = dict.fromkeys(sorted(node for edge in edges for node in edge))
    columns = tuple(tuple(n for n in nodes if n[0] == kind) for kind in COLUMNS)
    return Graph(columns, tuple(edges), titles)


def _laws(t: Theorem) -> list[str]:
    return [law.name for s in t.steps for law in s.reason.laws]
