"""The check of kernels against their theorems, and that it fails where it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from projsym import check
from projsym.bounds import forward_bound
from projsym.codegen.generate import kernels
from projsym.proof.verdict import ProofError
from projsym.runtime.manifest import load

KERNELS = {kernel.name: kernel for kernel in kernels()}
SIZES = ((2, 0, 7), (1, 1, 7), (3, 9, 7))


@pytest.mark.parametrize("backend", ["c", "numpy"])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("attention", "float32"),
        ("attention_softcap", "float32"),
        ("project_gaussian_biased", "float64"),
        ("project_bandwidths", "float32"),
        ("project_bandwidths_masked", "float64"),
        ("attention", "bfloat16"),
        ("project_dot", "bfloat16"),
        ("project_gaussian", "bfloat16"),
    ],
)
def test_a_kernel_is_within_its_bound(name: str, dtype: str, backend: str) -> None:
    found = check.check_kernel(KERNELS[name], dtype, backend, SIZES)
    assert found.good and found.instances == len(SIZES)
    assert 0 < found.max_abs_err <= found.err_bound and 0 < found.lse_abs_err <= found.lse_bound
    assert found.as_dict()["verdict"] == "checked"


def perturbed(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Kernels whose first output is off by `factor` times its bound."""
    real = check.call

    def call(kernel: str, given: dict[str, Any], backend: str) -> tuple[Any, Any]:
        out, lse = real(kernel, given, backend)
        options = {x: given[x] for x in check.NUMBERS if x in given}
        target = "numpy" if backend == "numpy" else f"c/{out.dtype.name}"
        options |= {"exp_error": None, "dtype": out.dtype.name}
        options |= {"softcap": given["cap"]} if "cap" in given else {}
        options |= load()[kernel].order(target, len(given["q"]), len(given["k"]), out.shape[-1])
        bound = forward_bound(given["q"], given["k"], given.get("v", given["k"]), **options)
        moved = out.copy()
        moved[0, 0] += out.dtype.type(factor * bound[0])
        return moved, lse

    monkeypatch.setattr(check, "call", call)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_wrong_kernel_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    perturbed(monkeypatch, 10)
    found = check.check_kernel(KERNELS[name], "float64", "c", ((3, 9, 7),))
    assert not found.good and found.worst_ratio > 5
    assert found.as_dict()["verdict"] == "refuted"


def test_a_wrong_log_sum_exp_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = check.call
    monkeypatch.setattr(check, "call", lambda *a: (real(*a)[0], real(*a)[1] + 1e-9))
    assert not check.check_kernel(KERNELS["project_dot"], "float64", "c", ((3, 9, 7),)).good


def test_rows_without_keys_must_be_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = check.call
    monkeypatch.setattr(check, "call", lambda *a: (real(*a)[0] + 1, real(*a)[1]))
    with pytest.raises(ProofError, match="not the unit"):
        check.check_kernel(KERNELS["project_dot"], "float64", "numpy", ((2, 0, 7),))


def test_inputs_follow_the_manifest_and_the_seed() -> None:
    given = check.inputs("project_gaussian_biased", 2, 5, 3, "float32")
    assert {n: np.shape(x) for n, x in given.items()} == {
        "q": (2, 3),
        "k": (5, 3),
        "key_bias": (5,),
        "sigma": (),
    }
    again = check.inputs("project_gaussian_biased", 2, 5, 3, "float32")
    assert all(np.array_equal(given[n], again[n]) for n in given)
    assert given["q"].dtype == np.float32 and given["sigma"] > 0


def test_all_kernels_dtypes_and_backends_are_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SIZES", ())
    seen: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        check, "check_kernel", lambda k, dtype, backend: seen.append((k.name, dtype, backend))
    )
    list(check.check_all(KERNELS.values()))
    assert len(set(seen)) == len(seen) == 4 * len(KERNELS)
