"""The configuration of Sphinx, as a value: the site needs no file beside the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projsym import __version__

__all__ = ["configuration"]

_COLOURS = {"color-brand-primary": "#00619a", "color-brand-content": "#00619a"}
_ALIASES = ("Array", "ArrayLike", "Backend", "DTypeLike", "Doubles", "Form", "Norm", "NDArray", "Verdict")
"""Type aliases that signatures show by name; what they stand for fills lines."""

_COLOURS_DARK = {"color-brand-primary": "#6cb8ea", "color-brand-content": "#6cb8ea"}


def configuration(ids: Mapping[str, str]) -> dict[str, Any]:
    """Settings for `Sphinx(confoverrides=…)`; ids: where the page of each theorem and refusal is.

    Nothing is fetched when the site is built or read: MathJax is a file of the site, search results show no
    excerpts (a browser refuses to read pages of a local site for them), and no widget libraries are named.
    """
    return {
        "project": "projsym",
        "version": __version__,
        "release": __version__,
        "copyright": "The projsym authors",
        "html_title": "projsym",
        "html_theme": "furo",
        "html_theme_options": {
            "light_css_variables": _COLOURS,
            "dark_css_variables": _COLOURS_DARK,
        },
        "extensions": [
            "myst_nb",
            "sphinx.ext.autodoc",
            "sphinx.ext.mathjax",
            "projsym.book.crossref",
            "projsym.book.docstrings",
            "projsym.book.navigation",
            "projsym.book.figures",
        ],
        "projsym_ids": dict(ids),
        "nb_execution_mode": "off",
        "nb_ipywidgets_js": {},
        "nb_merge_streams": True,
        # Tables and formulas in the output of cells, which CommonMark, the default, does not know.
        "nb_render_markdown_format": "myst",
        "myst_enable_extensions": ["dollarmath", "colon_fence", "attrs_block"],
        "myst_heading_anchors": 3,
        "default_role": "code",
        # Two modules may have a class of one name; a signature then links to the first.
        "suppress_warnings": ["ref.python"],
        "autodoc_member_order": "bysource",
        "autodoc_inherit_docstrings": False,
        "autodoc_typehints": "signature",
        "autodoc_typehints_format": "short",
        "autodoc_type_aliases": {name: name for name in _ALIASES},
        "python_use_unqualified_type_names": True,
        "python_maximum_signature_line_length": 90,
        "mathjax_path": "mathjax/tex-svg.js",
        "html_static_path": ["_static"],
        "html_css_files": ["book.css"],
        "html_show_search_summary": False,
        "html_copy_source": False,
        "html_show_sourcelink": False,
        "exclude_patterns": ["_static"],
    }
