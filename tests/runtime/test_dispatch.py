"""Choosing a backend, and the meaning of a kernel's status, with a stand-in kernel written by hand."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import projsym
from projsym.errors import BackendWarning, CompilerError
from projsym.runtime import dispatch, manifest

C = """
int project_dot(long H, long n, long m, const float *q, const long *q_at, long q_ld,
                const float *k, const long *k_at, long k_ld,
                double scale, float *out, float *lse, int threads) {
    for (long h = 0; h < H; h++)
        for (long i = 0; i < n; i++) {
            for (long a = 0; a < D_d; a++)
                out[(h * n + i) * D_d + a] =
                    q[q_at[h] + i * q_ld + a] + 1000 * k[k_at[h] + (m - 1) * k_ld + a];
            if (lse) lse[h * n + i] = (float)scale;
        }
    return STATUS;
}
"""
NUMPY = """
import numpy as np
def project_dot(q, k, scale, *, lse=True):
    return q + 1000 * k[:, -1:], np.full(q.shape[:2], scale, q.dtype), 0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kernels `project_dot`: out = q + 1000 * last key, lse = scale; status 0 until `give` changes it."""
    entry = {
        "inputs": [
            {"name": "q", "axes": "i", "feature": "d"},
            {"name": "k", "axes": "j", "feature": "d"},
            {"name": "scale", "axes": "", "feature": ""},
        ],
        "outputs": [
            {"name": "out", "axes": "i", "feature": "d"},
            {"name": "lse", "axes": "i", "feature": ""},
        ],
        "ranged": False,
        "blocks": {"c/float32": [[0, 64]], "numpy": [[0, 64]]},
        "files": {"c/float32": "stand_in.c", "numpy": "stand_in.py"},
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"kernels": {"project_dot": entry}}))
    (tmp_path / "stand_in.py").write_text(NUMPY)
    monkeypatch.setattr(manifest, "KERNELS", tmp_path)
    monkeypatch.setattr(dispatch, "_said", set())
    monkeypatch.setenv("PROJSYM_CACHE_DIR", str(tmp_path / "cache"))
    give(tmp_path, 0)
    return tmp_path


def give(folder: Path, status: int) -> None:
    (folder / "stand_in.c").write_text(C.replace("STATUS", str(status)))


def arrays(*lead_q: int, lead_k: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    q = r.integers(0, 9, (*lead_q, 3, 5)).astype(np.float32)
    return q, r.integers(0, 9, (*lead_k, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("backend", ["c", "numpy", None])
def test_every_head_is_found(folder: Path, backend: str | None) -> None:
    for lead_q, lead_k in [((), ()), ((2,), ()), ((2, 3), (3,)), ((2, 1), (1, 4)), ((1, 3), (2, 1))]:
        q, k = arrays(*lead_q, lead_k=lead_k)
        out, lse = projsym.project(q[..., ::-1, :], k, scale=0.25, return_lse=True, backend=backend)
        assert np.array_equal(out, q[..., ::-1, :] + 1000 * k[..., -1:, :]) and (lse == 0.25).all()


def test_statuses(folder: Path) -> None:
    q, k = arrays()
    give(folder, -1)
    with pytest.raises(MemoryError, match=r"project_dot: no memory .*float32 queries of shape \(3, 5\)"):
        projsym.project(q, k, backend="c")


def test_status_of_rows(folder: Path) -> None:
    q, k = arrays()
    give(folder, 3)
    with pytest.raises(OverflowError, match="float32"):
        projsym.project(q, k, backend="c")
    k[0, 0] = np.nan
    with pytest.raises(ValueError, match="k: given NaN"):
        projsym.project(q, k, backend="c")


def test_without_a_compiler_numpy_is_used_and_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROJSYM_CC", str(folder / "no-such-compiler"))
    q, k = arrays()
    with pytest.raises(CompilerError, match="no-such-compiler"):
        projsym.project(q, k, backend="c")
    with pytest.warns(
        BackendWarning, match="slower NumPy kernels: no C compiler: tried .*no-such-compiler"
    ) as w:
        out = projsym.project(q, k)
    assert w[0].filename == __file__
    assert np.array_equal(out, q + 1000 * k[-1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        projsym.project(q[:, :2], k[:, :2])


def test_a_compiler_that_fails_is_reported_with_its_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "stand_in.c").write_text("int project_dot(void) { return oops; }")
    q, k = arrays()
    with pytest.warns(BackendWarning, match=r"slower NumPy kernels: (?s:.)*command: (?s:.)*oops"):
        projsym.project(q, k)


def test_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "KERNELS", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="manifest"):
        projsym.project(*arrays())
