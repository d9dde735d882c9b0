"""Every backend node case of the ONNX operator Attention, on both backends.

The cases and their tolerances are those of the package `onnx`: its own runner compares with the tolerances
that a case carries, and for bfloat16 with two units in the last place. The ``_expanded`` twins of some test a
graph of other operators and are not about this one.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from projsym.onnx_attention import onnx_attention

onnx = pytest.importorskip("onnx")

OUTSIDE: dict[str, str] = {}
"""Cases that are not run, by name, with the reason."""


def _cases() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other operators' cases overflow on purpose
        found = collect_testcases("Attention")
    alone = (c for c in found if [n.op_type for n in c.model.graph.node] == ["Attention"])
    return {c.name: c for c in alone}


CASES = _cases()


def test_the_cases_are_all_there() -> None:
    assert len(CASES) >= 93 and len(OUTSIDE) <= 5 and set(OUTSIDE) <= set(CASES)


@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.parametrize("name", sorted(set(CASES) - set(OUTSIDE)))
def test_case(name: str, backend: str) -> None:
    case = CASES[name]
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given, want = case.data_sets[0]
    values = iter(given)
    inputs = [next(values) if x else None for x in node.input]
    wanted = len(node.output) > 3 and bool(node.output[3])
    made = onnx_attention(*inputs, **attributes, qk_matmul_output=wanted, backend=backend)
    got = [x for x, output in zip(made, node.output, strict=False) if output]
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a is not None and a.shape == b.shape and a.dtype == b.dtype
        rtol = max(case.rtol, 2**-6) if a.dtype.name == "bfloat16" else case.rtol
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=rtol, atol=case.atol)
