"""The pytest plugin in sessions of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

HEAD = """
from projsym.algebra import VectorSymbol, inner, norm2
from projsym.proof import by, theorem, refusal
from projsym.proof.laws import arithmetic, bilinearity

x, h = VectorSymbol("x"), VectorSymbol("h")
"""
PROVED = (
    HEAD
    + """

@theorem("plug.1", "Expansion")
def expansion():
    yield inner(x, x - h)
    yield by(bilinearity), norm2(x) - inner(x, h)


@refusal("plug.r1", "inner products have no sign", repair="they do")
def sign():
    return inner(x, -h), inner(x, h)
"""
)
WRONG = (
    HEAD
    + """

@theorem("plug.2", "Too weak")
def weak():
    yield inner(x, x - h)
    yield by(arithmetic), norm2(x) - inner(x, h)


@theorem("plug.3", "Wrong sign")
def wrong():
    yield inner(x, x - h)
    yield by(bilinearity), norm2(x) + inner(x, h)


@refusal("plug.r2", "a true statement", repair="none")
def true():
    return inner(x, h), inner(h, x)
"""
)


@pytest.fixture
def session(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p projsym.pytest_plugin\nprojsym_theorems = *_theorems.py\n")
    return pytester


def test_theorems_and_refusals_are_tests(session: pytest.Pytester) -> None:
    session.makepyfile(good_theorems=PROVED)
    result = session.runpytest_subprocess("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*good_theorems.py::plug.1 PASSED*", "*good_theorems.py::plug.r1 PASSED*"])


def test_unknown_false_and_not_refuted_all_fail_and_say_why(session: pytest.Pytester) -> None:
    session.makepyfile(bad_theorems=WRONG)
    result = session.runpytest_subprocess()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*NOT PROVED by this law; left with*", "*FALSE at *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_file_without_theorems_is_an_error(session: pytest.Pytester) -> None:
    session.makepyfile(empty_theorems="x = 1")
    result = session.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*empty_theorems.py registers no theorem and no refusal*"])


def test_fixtures_prove_once_a_session_and_fail(session: pytest.Pytester) -> None:
    session.makepyfile(
        """
        import pytest

        def test_once(proved, refuted):
            assert proved("I.1") is proved("I.1")
            assert refuted("VI.1").good

        def test_assumptions(proved):
            assert [h.name for h in proved("I.4").theorem.assumptions] == ["equal norms"]

        # An unknown id must fail a user's test, with this error; strict: passing would be a failure.
        @pytest.mark.xfail(raises=KeyError, strict=True)
        def test_unknown(proved):
            proved("I.99")
        """
    )
    session.runpytest_subprocess().assert_outcomes(passed=2, xfailed=1)


def test_a_notebook_that_no_longer_holds_fails(session: pytest.Pytester) -> None:
    """As the how-to has it: the cell asserts, nbval runs it."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbval")
    v4 = nbformat.v4
    for name, id in (("good", "I.1"), ("bad", "I.99")):
        cell = v4.new_code_cell(f"from projsym.testing import assert_proved\n_ = assert_proved({id!r})")
        book = v4.new_notebook(
            cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "3"}}
        )
        nbformat.write(book, session.path / f"{name}.ipynb")
    session.runpytest_subprocess("--nbval", "good.ipynb").assert_outcomes(passed=1)
    session.runpytest_subprocess("--nbval", "bad.ipynb").assert_outcomes(failed=1)


def test_other_sessions_pay_nothing(session: pytest.Pytester) -> None:
    """Without the option a session that has projsym installed does not load it."""
    session.makeini("[pytest]\n")
    session.makepyfile("import sys\ndef test_x():\n    assert 'projsym' not in sys.modules\n")
    session.runpytest_subprocess().assert_outcomes(passed=1)
