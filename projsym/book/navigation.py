"""A Sphinx extension: the tree of pages in the sidebar is made once for all pages that are not in it.

Sphinx makes it anew for each page, to mark the page. The theorems' pages, four in five, are in no table of
contents; in one folder their trees are equal.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from sphinx.application import Sphinx

__all__ = ["setup"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Replace the function `toctree` that the theme calls, before the theme calls it."""
    made: dict[Any, str] = {}

    def share(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
        listed = {name for names in app.env.toctree_includes.values() for name in names}
        if pagename in {*listed, app.config.root_doc} or doctree is None or "toctree" not in context:
            return
        make, folder = context["toctree"], PurePosixPath(pagename).parent

        def once(**options: Any) -> str:
            key = (folder, *sorted(options.items()))
            if key not in made:
                made[key] = make(**options)
            return made[key]

        context["toctree"] = once

    app.connect("html-page-context", share, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
