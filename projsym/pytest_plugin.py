"""A pytest plugin: one test for each theorem and refusal of a file, and verdicts of the ledger as fixtures.

Load it with ``-p projsym.pytest_plugin``. The option ``projsym_theorems`` lists the files' names::

    [tool.pytest.ini_options]
    addopts = ["-p", "projsym.pytest_plugin"]
    projsym_theorems = ["*_theorems.py"]

A test passes only if its theorem is proved (as by `projsym.proof.prove.prove`, whose docstring says what
that guarantees), or its claim refuted with a witness. A file without either is an error: it would pass for
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from projsym.proof.ledger import Refutation, load_file
from projsym.proof.prove import Proof, prove
from projsym.proof.refusal import REFUSALS, Refusal
from projsym.proof.show import explain, explain_refusal
from projsym.proof.theorem import REGISTRY, Theorem
from projsym.proof.verdict import ProofError, Proved
from projsym.testing import assert_proved, assert_refuted

_OPTION = "projsym_theorems"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.addini(_OPTION, "Names (globs) of files whose theorems and refusals are tests.", "args", [])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A collector for a file that the option names."""
    if any(file_path.match(pattern) for pattern in parent.config.getini(_OPTION)):
        return TheoremFile.from_parent(parent, path=file_path)
    return None


class TheoremFile(pytest.File):
    """A Python file whose theorems and refusals are tests; CollectError if it registers none."""

    def collect(self) -> Iterator[pytest.Item]:
        theorems, refusals = dict(REGISTRY), dict(REFUSALS)
        load_file(self.path)
        known: list[Theorem | Refusal] = [t for id, t in REGISTRY.items() if theorems.get(id) is not t]
        known += [r for id, r in REFUSALS.items() if refusals.get(id) is not r]
        if not known:
            raise self.CollectError(f"{self.path.name} registers no theorem and no refusal")
        for x in known:
            yield VerdictItem.from_parent(self, name=x.id, what=x)


class VerdictItem(pytest.Item):
    """One theorem that must be proved, or one claim that must be refuted."""

    def __init__(self, *, what: Theorem | Refusal, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.what = what

    def runtest(self) -> None:
        if isinstance(self.what, Theorem):
            proof = prove(self.what)
            if not isinstance(proof.verdict, Proved):
                raise ProofError(explain(proof))
            return
        refutation = Refutation(self.what, self.what.refute())
        if not refutation.good:
            raise ProofError(explain_refusal(refutation))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, ProofError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        kind = "theorem" if isinstance(self.what, Theorem) else "refusal"
        return self.path, None, f"{kind} {self.name}"


@pytest.fixture(scope="session")
def proved() -> Callable[[str | Theorem], Proof]:
    """``proved("I.4")``: the proof, made once a session; fails as `projsym.testing.assert_proved` does."""
    return _once(assert_proved)


@pytest.fixture(scope="session")
def refuted() -> Callable[[str | Refusal], Refutation]:
    """``refuted("VI.1")``: made once a session; fails as `assert_refuted` of `projsym.testing`."""
    return _once(assert_refuted)


def _once(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    done: dict[Any, Any] = {}

    def get(what: Any) -> Any:
        key = what if isinstance(what, str) else id(what)
        if key not in done:
            done[key] = (what, check(what))  # holds `what`, so that its identity stays its own
        return done[key][1]

    return get
