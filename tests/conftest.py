"""The order of the test files: those that take minutes first, so that no process ends with one alone."""

from __future__ import annotations

import pytest

LONGEST = (
    "tests/book/test_site.py",
    "tests/runtime/test_sanitizers.py",
    "tests/test_backward.py",
    "notebooks/05_computation.ipynb",
    "tests/proof/test_mutants.py",
    "tests/audit/test_audit.py",
    "tests/own/test_compile.py",
    "tests/own/test_weights.py",
    "tests/proof/test_fuzz.py",
    "tests/codegen/test_generate.py",
)


def pytest_configure(config: pytest.Config) -> None:
    # Else pytest-xdist begins with the files that have many tests, and those are not the long ones.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))
