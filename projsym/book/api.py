"""Pages of the API reference: one a package, its text from the docstrings."""

from __future__ import annotations

import pkgutil
from collections import defaultdict

import projsym

__all__ = ["api_pages", "modules"]

_LEFT_OUT = ("projsym.kernels", "projsym.derivations")
"""Generated files and theorems: they have pages of their own."""

_INDEX = """# API reference

`import projsym` gives these and imports NumPy only:

| name | what it is |
|---|---|
{rows}

A package a page, its modules in alphabetical order, from their docstrings.

```{{toctree}}
:maxdepth: 1

{pages}
```
"""


def modules() -> dict[str, list[str]]:
    """Page -> names of the modules that it shows: a package with its modules, or the rest of `projsym`."""
    found = defaultdict(list)
    for info in pkgutil.walk_packages(projsym.__path__, "projsym."):
        if not info.name.startswith(_LEFT_OUT):
            parts = info.name.split(".")
            page = ".".join(parts[:2]) if info.ispkg or len(parts) > 2 else "projsym"
            found[page].append(info.name)
    return {page: sorted(names) for page, names in sorted(found.items())}


def api_pages() -> dict[str, str]:
    """File name in the site -> page: an index in Markdown, packages in the docstrings' reStructuredText."""
    found = modules()
    out = {f"api/{page}.rst": _page(page, names) for page, names in found.items()}
    return out | {"api/index.md": _INDEX.format(rows="\n".join(_public()), pages="\n".join(found))}


def _page(page: str, names: list[str]) -> str:
    parts = [page, "=" * len(page), ""]
    for n in names:
        if n != page:
            parts += [n, "-" * len(n), ""]
        parts += [
            f".. automodule:: {n}",
            "   :members:",
            "   :ignore-module-all:",
            "   :show-inheritance:",
            "",
        ]
    return "\n".join(parts)


def _public() -> list[str]:
    rows = []
    for public in projsym.__all__:
        if public != "__version__":
            value = getattr(projsym, public)
            summary = (value.__doc__ or "").strip().partition("\n")[0].rstrip(".")
            rows.append(f"| {{py:obj}}`projsym.{public} <{value.__module__}.{value.__name__}>` | {summary} |")
    return rows
