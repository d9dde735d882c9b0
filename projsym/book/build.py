"""Writing the pages and running Sphinx over them."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from projsym.book import api, code_pages, pages, tables
from projsym.book.config import configuration
from projsym.book.links import Section, kernel_theorems, notebook_sections, tests_naming, with_labels
from projsym.claims import CLAIMS
from projsym.proof import ledger
from projsym.proof.prove import Proof, require

__all__ = ["build_book", "write_pages"]

Progress = Callable[[str], None]
KERNELS = Path(__file__).resolve().parent.parent / "kernels"


def build_book(root: Path, out: Path, progress: Progress | None = None) -> Path:
    """Build the site of the checkout `root` into `out` and return its first page.

    Notebooks are shown as they were run, not executed. The pages that Sphinx reads go to a folder beside
    `out` with "-source" at its end; both are emptied first. Proves every theorem and refutes every refusal.

    Raises FileNotFoundError unless `root` has docs/ and notebooks/, ModuleNotFoundError without the `book`
    extra, ProofError if anything is not proved or refuted, RuntimeError for any warning of Sphinx, such as a
    broken link or a docstring that does not render.
    """
    try:
        for name in ("furo", "myst_nb"):
            import_module(name)
        from sphinx.application import Sphinx
    except ModuleNotFoundError as e:
        raise ModuleNotFoundError(f"{e.name} is not installed: `pip install 'projsym[book]'`") from None
    source = out.with_name(out.name + "-source")
    for folder in (out, source):
        if folder.exists():
            shutil.rmtree(folder)
    ids = write_pages(root, source, progress or (lambda line: None))
    app = Sphinx(
        str(source),
        None,
        str(out),
        str(source / ".doctrees"),
        "html",
        confoverrides=configuration(ids),
        status=None,
        warning=sys.stderr,
    )
    app.build()
    if app.statuscode or app._warncount:
        raise RuntimeError(f"Sphinx gave {app._warncount} warnings, shown above")
    return out / "index.html"


def write_pages(root: Path, source: Path, progress: Progress) -> dict[str, str]:
    """Write all pages into `source`; return where each theorem and refusal has its page."""
    for part in ("docs", "notebooks"):
        if not (root / part).is_dir():
            raise FileNotFoundError(f"root: {root} has no folder {part!r}; allowed is a checkout of projsym")
    theorems, refusals = ledger.select()
    proofs, refutations = [], []
    for t in theorems:
        proofs.append(require(t))
        progress(t.id)
    for r in refusals:
        refutations.append(ledger.Refutation(r, r.require()))
        progress(r.id)
    ids = {t.id: f"theorems/{pages.name(t.id)}" for t in theorems}
    ids |= {r.id: f"refusals#refusal-{pages.label(r.id)}" for r in refusals}
    shutil.copytree(root / "docs", source)
    written = {**_theory(root, proofs, refutations), **api.api_pages(), **_notebooks(root)}
    written["claims.md"] = tables.claims_page(CLAIMS, ids)
    written["bench.md"] = tables.bench_page(root / "benchmarks")
    for file, text in written.items():
        path = source / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return ids


def _theory(root: Path, proofs: Sequence[Proof], refutations: Sequence[ledger.Refutation]) -> dict[str, str]:
    """Theorems, refusals, and the kernels and tests that they link to: file name -> page."""
    theorems = [p.theorem.id for p in proofs]
    ids = [*theorems, *(r.refusal.id for r in refutations)]
    kernels: dict[str, list[str]] = defaultdict(list)
    for kernel, cited in kernel_theorems(KERNELS / "manifest.json").items():
        for id in cited:
            kernels[id].append(kernel)
    sections: dict[str, list[Section]] = defaultdict(list)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for id, found in notebook_sections(path, ids).items():
            sections[id] += found
    uses = pages.Uses(kernels, tests_naming(root, ids), sections)
    repairs = {t: [r.refusal.id for r in refutations if t in r.refusal.repaired_by] for t in theorems}

    out = {
        f"theorems/{pages.name(p.theorem.id)}.md": pages.theorem_page(p, uses, repairs[p.theorem.id])
        for p in proofs
    }
    chapters = [c for c in pages.CHAPTERS if any(pages.chapter_of(t) == c for t in theorems)]
    for c in chapters:
        chosen = [p for p in proofs if pages.chapter_of(p.theorem.id) == c]
        out[f"theorems/chapter-{c}.md"] = pages.chapter_page(c, chosen, uses)
    out["theorems/index.md"] = pages.chapters_page(chapters, [p.theorem for p in proofs])
    out["refusals.md"] = pages.refusals_page(refutations, uses, theorems)
    out["kernels.md"] = code_pages.kernels_page(KERNELS, theorems)
    tests = code_pages.pages_of_tests(root, uses.tests)
    out |= {f"tests/{pages.name(file)}.md": text for file, text in tests.items()}
    return out | {"tests/index.md": code_pages.tests_index(root, tests)}


def _notebooks(root: Path) -> dict[str, str]:
    found = sorted((root / "notebooks").glob("*.ipynb"))
    listed = "\n".join(p.stem for p in found)
    index = (
        "# Notebooks\n\nAs they were run: text, proofs, checks, figures. Every output but times is compared "
        f"by the tests.\n\n```{{toctree}}\n:maxdepth: 2\n\n{listed}\n```\n"
    )
    return {f"notebooks/{p.name}": with_labels(p) for p in found} | {"notebooks/index.md": index}
