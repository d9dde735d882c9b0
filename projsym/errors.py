"""Exceptions, warnings and the one wording of a refused argument.

Refused arguments raise the built-in TypeError or ValueError; their text always has three parts: which
argument, what was given, what is allowed.
"""

from __future__ import annotations


class CompilerError(RuntimeError):
    """A kernel could not be compiled or loaded; the text holds the command and the compiler's output."""


class BackendWarning(UserWarning):
    """Something other than what was hoped for is used: NumPy kernels, or a temporary kernel cache."""


def refused(argument: str, given: object, allowed: str) -> str:
    """The message about an argument: ``refused("scale", "nan", "a finite number")``."""
    return f"{argument}: given {given}; allowed: {allowed}"
