"""The built site: complete, without a network, its links and pages tied to the ledger."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

import projsym
from projsym.book.pages import label, name
from projsym.claims import CLAIMS
from projsym.proof import ledger

MATHJAX = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"
ROOT = Path(__file__).resolve().parent.parent.parent


class Page(HTMLParser):
    """Ids of a page, what it loads, and where it leads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        a = {k: v or "" for k, v in attributes}
        if "id" in a:
            self.ids.add(a["id"])
        if tag in ("script", "img", "iframe", "source") and "src" in a:
            self.loads.append(a["src"])
        if tag == "link" and a.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(a["href"])
        if tag == "a" and "href" in a:
            self.leads.append(a["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {p: Page(p) for p in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for address in page.loads:
            assert not urlparse(address).netloc and not address.startswith("data:text"), (path, address)
            assert (path.parent / unquote(urlparse(address).path)).is_file(), (path, address)


def test_every_link_inside_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for address in page.leads:
            at = urlparse(address)
            if at.scheme or at.netloc:
                continue
            target = (path.parent / unquote(at.path)).resolve() if at.path else path
            assert target.is_file(), (path.relative_to(site), address)
            if at.fragment and target.suffix == ".html":
                assert unquote(at.fragment) in pages[target].ids, (path.relative_to(site), address)


def test_notebooks_show_tables_and_formulas_of_their_outputs(site: Path) -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [
            "".join(o["data"]["text/markdown"])
            for c in cells
            for o in c.get("outputs", [])
            if "text/markdown" in o.get("data", {})
        ]
        page = (site / f"notebooks/{path.stem}.html").read_text(encoding="utf-8")
        tables = sum(len(re.findall(r"^\|(?: *:?-+:? *\|)+$", o, re.MULTILINE)) for o in outputs)
        shown = len(re.findall(r'<table class="[^"]*docutils', page))
        assert shown >= tables, (path.name, shown, tables)
        assert not re.search(r"\|\s*(?:---|—|–)\s*\|", re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)), (
            path
        )
        if any("$" in o for o in outputs):
            assert "$" not in re.sub(r"<(pre|script|code).*?</\1>", "", page, flags=re.DOTALL), path


def test_figures_have_titles_and_open_by_themselves(site: Path, pages: dict[Path, Page]) -> None:
    for path in sorted((site / "notebooks").glob("*.html")):
        drawn = re.findall(r'<img alt="([^"]*)" src="([^"]*)"', path.read_text(encoding="utf-8"))
        for alt, address in drawn:
            assert len(alt.split()) > 1 and ".svg" not in alt, (path.name, alt)
            assert address in pages[path].leads, (path.name, address)
        count = sum("image/svg+xml" in str(c) for c in _cells(ROOT / f"notebooks/{path.stem}.ipynb"))
        assert len(drawn) == count, path.name


def _cells(path: Path) -> list[dict[str, object]]:
    if not path.exists():  # the page over all notebooks
        return []
    cells: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def test_signatures_show_names(site: Path) -> None:
    for path in (site / "api").glob("*.html"):
        assert "TypeAliasForwardRef" not in path.read_text(encoding="utf-8"), path


def test_styles_name_no_other_machine(site: Path) -> None:
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")), path


def test_every_theorem_and_refusal_has_its_place(site: Path, pages: dict[Path, Page]) -> None:
    theorems, refusals = ledger.select()
    for t in theorems:
        text = (site / f"theorems/{name(t.id)}.html").read_text(encoding="utf-8")
        assert "proved for all sizes" in text and "second opinion" in text, t.id
        chapter = t.id.partition(".")[0]
        assert f"{name(t.id)}.html" in pages[site / f"theorems/chapter-{chapter}.html"].leads, t.id
    for r in refusals:
        assert f"refusal-{label(r.id)}" in pages[site / "refusals.html"].ids, r.id


def test_a_theorem_leads_to_kernels_tests_and_notebook_sections(site: Path, pages: dict[Path, Page]) -> None:
    leads = pages[site / "theorems/I.4.html"].leads
    assert any(x.startswith("../notebooks/01_identity.html#") for x in leads)
    assert any(x.startswith("../tests/tests-test_notebooks.py.html#") for x in leads)
    assert any(x.startswith("../refusals.html#refusal-vi-1") for x in leads)
    for id, kernel in (("IV.6/project_gaussian", "project-gaussian"), ("IV.6l/layer_tied", "layer-tied")):
        assert f"../kernels.html#kernel-{kernel}" in pages[site / f"theorems/{name(id)}.html"].leads
    for t in ledger.select()[0]:
        leads = pages[site / f"theorems/{name(t.id)}.html"].leads
        assert any(x.startswith("../notebooks/") and "#" in x for x in leads), t.id
        assert "../tests/index.html#tests-of-every-theorem" in leads, t.id


def test_ids_in_text_are_links(site: Path, pages: dict[Path, Page]) -> None:
    assert "../theorems/I.4.html" in pages[site / "notebooks/01_identity.html"].leads
    assert "theorems/I.7n.html" in pages[site / "audit_a_model.html"].leads
    claims = pages[site / "claims.html"].leads
    for id in {id for c in CLAIMS for id in c.theorems}:
        page = f"refusals.html#refusal-{label(id)}" if id.startswith("VI") else f"theorems/{name(id)}.html"
        assert page in claims, id


@pytest.mark.parametrize("public", [n for n in projsym.__all__ if n != "__version__"])
def test_public_docstrings_render(site: Path, public: str) -> None:
    value = getattr(projsym, public)
    package = ".".join(value.__module__.split(".")[:2])
    page = package if (site / f"api/{package}.html").is_file() else "projsym"
    text = (site / f"api/{page}.html").read_text(encoding="utf-8")
    assert f'id="{value.__module__}.{value.__name__}"' in text
    words = re.sub(r"[^\w ].*", "", (value.__doc__ or "").strip().partition("\n")[0])
    assert len(words) > 5 and words in re.sub(r"<[^>]+>", "", text)


def test_search_index_is_a_script_with_theorems(site: Path) -> None:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    assert text.startswith("Search.setIndex(") and "theorems/I.4" in text


def test_mathjax_is_the_file_that_it_says() -> None:
    folder = ROOT / "docs/_static/mathjax"
    assert hashlib.sha256((folder / "tex-svg.js").read_bytes()).hexdigest() == MATHJAX
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
