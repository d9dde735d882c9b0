"""A Sphinx extension: ids such as I.4 in any text become links to their proof or refusal."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["setup", "split"]

_ID = re.compile(r"(?<![\w.])(?:I{1,3}|IV|VI?)\.[a-z]?\d+[a-z]*(?:/\w+)?(?![\w/])")
_LEFT_ALONE = (nodes.reference, nodes.literal, nodes.literal_block, nodes.title, nodes.math, nodes.math_block)


def split(text: str, known: dict[str, str]) -> list[tuple[str, str | None]]:
    """The text in pieces, each with the address that it links to or None."""
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for match in _ID.finditer(text):
        if match[0] in known:
            pieces += [(text[end : match.start()], None), (match[0], known[match[0]])]
            end = match.end()
    pieces.append((text[end:], None))
    return [p for p in pieces if p[0]]


def _link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    known: dict[str, str] = app.config.projsym_ids
    for node in list(doctree.findall(nodes.Text)):
        if any(isinstance(p, _LEFT_ALONE) for p in _parents(node)):
            continue
        pieces = split(node.astext(), known)
        if all(target is None for _, target in pieces) or node.parent is None:
            continue
        new: list[nodes.Node] = []
        for text, target in pieces:
            if target is None:
                new.append(nodes.Text(text))
                continue
            page, _, anchor = target.partition("#")
            if page == docname and not anchor:
                new.append(nodes.Text(text))
                continue
            uri = app.builder.get_relative_uri(docname, page) + (f"#{anchor}" if anchor else "")
            new.append(nodes.reference("", text, refuri=uri, internal=True))
        node.parent.replace(node, new)


def _parents(node: nodes.Node) -> list[nodes.Node]:
    out, at = [], node.parent
    while at is not None:
        out.append(at)
        at = at.parent
    return out


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the links; `projsym_ids` maps an id to "document" or "document#anchor"."""
    app.add_config_value("projsym_ids", {}, "env", [dict])
    app.connect("doctree-resolved", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
