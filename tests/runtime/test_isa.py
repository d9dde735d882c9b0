"""Which instruction set kernels are compiled for, and tiles of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from projsym import schedules
from projsym.bounds import forward_bound
from projsym.errors import BackendWarning
from projsym.runtime import compiler, isa, manifest, tuned
from projsym.runtime.c_kernel import CKernel

Q, K = np.random.default_rng(0).standard_normal((2, 1, 50, 24)).astype(np.float32)
BOUND = forward_bound(Q, K, K, scale=0.2)[..., None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJSYM_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(isa.VARIABLE, raising=False)


def outputs() -> tuple[CKernel, list[np.ndarray | None]]:
    kernel = CKernel(manifest.load()["project_dot"], "float32", {"d": 24})
    made, status = kernel((1,), {"q": Q, "k": K}, (0.2,))
    assert status == 0
    return kernel, made


def test_every_available_set_gives_the_same_up_to_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own file; two outputs within the proven bound differ by twice the bound."""
    results = []
    for name in isa.available():
        monkeypatch.setenv(isa.VARIABLE, name)
        assert isa.chosen() == name
        results.append(outputs()[1][0])
    assert len(list(tmp_path.glob("*.so"))) == len(isa.available())
    for other in results[1:]:
        assert (np.abs(results[0] - other) <= 2 * BOUND).all()


@pytest.mark.parametrize("name", ["sse", "AVX2", "neon"])
def test_a_set_that_this_cpu_lacks_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in isa.available():
        # Of the three only "neon" can be there, on ARM; the other two name no set anywhere.
        pytest.skip("this CPU has it")
    monkeypatch.setenv(isa.VARIABLE, name)
    with pytest.raises(
        ValueError, match=rf"PROJSYM_ISA: given '{name}', which .*; allowed: {isa.available()[0]}"
    ):
        compiler.find().flags(True)


def test_a_cpu_with_fewer_instructions_gets_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, want in [
        ({"avx512f", "avx2", "fma"}, ("avx512", "avx2", "c")),
        ({"avx2", "fma"}, ("avx2", "c")),
        ({"avx2"}, ("c",)),
    ]:
        monkeypatch.setattr(isa, "_flags", lambda flags=flags: frozenset(flags))
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        assert isa.available() == want and isa.flags() == ("-march=native",)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert isa.available() == ("neon",) and isa.flags() == ("-mcpu=native",)


def test_tiles_of_ones_own_are_compiled(tmp_path: Path) -> None:
    """Another tile is another file; its text reaches the compiler; the values stay within rounding."""
    _, first = outputs()
    entry, here = manifest.load()["project_dot"], isa.chosen()
    assert tuned.macros(entry, "float32", 24) == ()
    table = {("forward", here, "float32"): schedules.Tiles(((0, 1, 2, 2, 1), (32, 1, 4, 2, 1)), "measured")}
    tuned.table_file().write_text(schedules.text(table))
    want = ("-DTILE_QUERY_VECTORS=1", "-DTILE_KEYS=2", "-DTILE_ROWS=2", "-DTILE_FEATURES=1")
    assert tuned.macros(entry, "float32", 24) == want
    assert tuned.macros(entry, "float32", 33)[1] == "-DTILE_KEYS=4"
    assert tuned.macros(entry, "float64", 24) == ()
    assert tuned.macros(manifest.load()["project_dot_backward"], "float32", 24) == ()
    before = len(list(tmp_path.glob("*.so")))
    _, second = outputs()
    assert len(list(tmp_path.glob("*.so"))) == before + 1
    assert (np.abs(first[0] - second[0]) <= 2 * BOUND).all()


def test_a_damaged_table_is_said_and_not_used() -> None:
    tuned.table_file().write_text("[forward.avx2.float32]\ntiles = 3\n")
    with pytest.warns(BackendWarning, match="the committed tiles are used: .*schedules.toml.*given 3"):
        assert tuned.macros(manifest.load()["project_dot"], "float32", 24) == ()


def test_few_queries_get_narrower_vectors_where_these_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function for them is compiled when it is needed, and not for numbers that fill wide vectors."""
    if isa.available()[0] != "avx512":
        pytest.skip("this CPU has no wider vectors")
    monkeypatch.setattr(isa, "_model", lambda: isa.ZEN_4)
    kernel, (whole, *_) = outputs()
    assert len(list(tmp_path.glob("*.so"))) == 1
    made, status = kernel((1,), {"q": Q[:, :20], "k": K}, (0.2,))
    assert status == 0 and len(list(tmp_path.glob("*.so"))) == 2
    assert (np.abs(made[0] - whole[:, :20]) <= 2 * BOUND[:, :20]).all()
    monkeypatch.setattr(isa, "_model", lambda: ("GenuineIntel", "6"))
    assert isa.narrower() is None
    monkeypatch.setattr(isa, "_model", lambda: isa.ZEN_4)
    monkeypatch.setenv(isa.VARIABLE, "avx512")
    assert isa.narrower() is None
