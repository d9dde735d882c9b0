"""Symbolic derivation and verification of attention, and the kernels that come out of it.

``import projsym`` gives the public functions and imports NumPy only; the symbolic part loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from projsym.attention import attention, project
from projsym.backward import attention_backward, project_backward
from projsym.errors import BackendWarning, CompilerError
from projsym.merging import merge
from projsym.runtime.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from projsym.folding import Folded, fold
    from projsym.own import compile

__version__ = "0.1.0"

_LAZY: dict[str, str] = {
    "Folded": "projsym.folding",
    "compile": "projsym.own",
    "fold": "projsym.folding",
}
"""Public name -> module that defines it, imported on first use."""

__all__ = [
    "BackendWarning",
    "CompilerError",
    "Folded",
    "__version__",
    "attention",
    "attention_backward",
    "compile",
    "fold",
    "get_num_threads",
    "merge",
    "project",
    "project_backward",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'projsym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
