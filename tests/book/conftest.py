"""The site of this checkout, built once for all processes of a test run."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from projsym.book import build_book

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; building raises on any warning.

    Processes of one run share its folder: the first builds, the others wait for it and for its failure.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    out, done = shared / "site" / "book", shared / "site-done"
    with (shared / "site-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            try:
                build_book(ROOT, out)
            except RuntimeError as e:
                done.write_text(str(e), encoding="utf-8")
                raise
            done.touch()
    if failure := done.read_text(encoding="utf-8"):
        pytest.fail(f"the site was not built: {failure}")
    return out
