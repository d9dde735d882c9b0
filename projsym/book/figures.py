"""A Sphinx extension: the figures of notebooks, with their titles in words and a link to each by itself.

A figure that is wider than a phone can be opened alone and enlarged; who does not see it is read its title.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx

__all__ = ["setup", "title"]


def title(svg: str) -> str:
    """The title in the metadata of a drawing; "figure" if it has none."""
    found = re.search(r"<dc:title>(.+?)</dc:title>", svg, re.DOTALL)
    return unescape(found[1]).strip() if found else "figure"


def _name(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir) / image["uri"]
        if path.suffix != ".svg" or image["uri"] not in app.env.images or image.parent is None:
            continue
        image["alt"] = title(path.read_text(encoding="utf-8"))
        # Where the builder copies it: the folder of images is beside the first page.
        up = "../" * docname.count("/")
        address = f"{up}{app.builder.imagedir}/{quote(app.env.images[image['uri']][1])}"
        link = nodes.reference("", "", refuri=address, internal=True, reftitle="the figure by itself")
        image.parent.replace(image, link)
        link += image


def setup(app: Sphinx) -> dict[str, Any]:
    """Name and link every drawing once its page is resolved."""
    app.connect("doctree-resolved", _name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
