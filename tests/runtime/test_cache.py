"""Compiling and caching: once between processes, damaged or unwritable caches, compilers that fail."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projsym.errors import BackendWarning, CompilerError
from projsym.runtime import c_kernel, cache, compiler

SOURCE = "int answer(void) { return WORTH; }\n"
MACROS = ("-DWORTH=42",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROJSYM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wrapper(path: Path, body: str) -> Path:
    """A compiler that runs `body` first; `$REAL` is the one that was there."""
    real = compiler.find().command[0]
    path.write_text(f'#!/bin/sh\nREAL={real}\n{body}\nexec "$REAL" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def answer(path: Path) -> int:
    return int(ctypes.CDLL(str(path)).answer())


def test_compiles_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("PROJSYM_CC", str(wrapper(tmp_path / "cc", f'echo "$@" >> {log}')))
    tools = compiler.find()
    first = cache.compiled(SOURCE, "answer", MACROS, tools)
    assert answer(first) == 42 and cache.compiled(SOURCE, "answer", MACROS, tools) == first
    calls = [line for line in log.read_text().splitlines() if "WORTH" in line]
    assert len(calls) == 1 and first.parent == folder
    assert [p.suffix for p in sorted(folder.iterdir())] == [".lock", ".so"]


def test_two_processes_at_once_compile_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    slow = f'case "$*" in *WORTH*) echo x >> {log}; sleep 1;; esac'
    monkeypatch.setenv("PROJSYM_CC", str(wrapper(tmp_path / "cc", slow)))
    code = (
        "import ctypes; from projsym.runtime import cache, compiler\n"
        f"p = cache.compiled({SOURCE!r}, 'answer', {MACROS!r}, compiler.find())\n"
        "print(ctypes.CDLL(str(p)).answer())"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    assert [p.communicate(timeout=60)[0].strip() for p in running] == [b"42", b"42"]
    assert log.read_text() == "x\n"


def test_the_key_covers_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = compiler.Compiler(("cc",), "cc 1")
    keys = {
        cache.key("a", ("-O3",), tools),
        cache.key("b", ("-O3",), tools),
        cache.key("a", ("-O2",), tools),
        cache.key("a", ("-O3", "-DD_d=4"), tools),
        cache.key("a", ("-O3",), compiler.Compiler(("cc",), "cc 2")),
    }
    monkeypatch.setattr(cache, "cpu_features", lambda: "another CPU")
    assert len(keys | {cache.key("a", ("-O3",), tools)}) == 6


def test_a_damaged_file_is_compiled_again(folder: Path) -> None:
    path = cache.compiled(SOURCE, "answer", MACROS, compiler.find())
    path.write_bytes(b"not a library")
    assert c_kernel._open(SOURCE, "answer", MACROS, compiler.find()).answer() == 42


def test_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("PROJSYM_CACHE_DIR", str(blocked / "cache"))
    with pytest.warns(
        BackendWarning, match=r"kernel cache .*file/cache cannot be written to .*PROJSYM_CACHE_DIR"
    ):
        path = cache.compiled(SOURCE, "answer", MACROS, compiler.find())
    assert answer(path) == 42 and path.parent != blocked
    assert cache.compiled(SOURCE, "answer", MACROS, compiler.find()) == path  # and no second warning


def test_bad_flags_show_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJSYM_CFLAGS", "-fno-such-option")
    with pytest.raises(CompilerError) as e:
        cache.compiled(SOURCE, "answer", MACROS, compiler.find())
    text = str(e.value)
    assert (
        "-O3" in text and "-DWORTH=42" in text and "output:" in text and text.count("-fno-such-option") >= 2
    )
    assert [p for p in folder.iterdir() if p.suffix != ".lock"] == []


def test_a_compiler_without_openmp_gives_one_thread(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = 'case "$*" in *-fopenmp*) echo no openmp >&2; exit 1;; esac'
    monkeypatch.setenv("PROJSYM_CC", str(wrapper(tmp_path / "cc", refuses)))
    assert answer(cache.compiled(SOURCE, "answer", MACROS, compiler.find())) == 42


def test_a_library_that_does_not_load_is_refused(folder: Path) -> None:
    with pytest.raises(CompilerError, match=r"does not load: .*undefined symbol: missing\ncommand: .*-O3"):
        cache.compiled("int missing(void); int answer(void) { return missing(); }", "a", (), compiler.find())
    assert [p for p in folder.iterdir() if p.suffix != ".lock"] == []


def test_openmp_without_a_runtime_gives_one_thread(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As zig: ``-fopenmp`` compiles, but what it calls is nowhere."""
    monkeypatch.setenv("PROJSYM_CC", str(wrapper(tmp_path / "cc", "")))
    source = (
        "#ifdef _OPENMP\nint missing(void);\nint answer(void) { return missing(); }\n#else\n"
        + SOURCE
        + "#endif\n"
    )
    assert answer(cache.compiled(source, "answer", MACROS, compiler.find())) == 42


def test_a_compiler_that_vanishes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = wrapper(tmp_path / "cc", "")
    monkeypatch.setenv("PROJSYM_CC", str(script))
    tools = compiler.find()
    script.unlink()
    with pytest.raises(CompilerError, match=r"cannot run the C compiler: .*\ncommand: .*-DWORTH=42"):
        cache.compiled(SOURCE, "answer", MACROS, tools)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJSYM_CC", str(tmp_path / "none") + " -m64")
    with pytest.raises(CompilerError, match=r"tried .*none -m64\. Install gcc or clang, .*PROJSYM_CC"):
        compiler.find()


def test_order_of_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROJSYM_CC", raising=False)
    monkeypatch.setenv("CC", "mycc -m64")
    assert compiler.candidates()[:4] == [("mycc", "-m64"), ("cc",), ("gcc",), ("clang",)]
    monkeypatch.setenv("PROJSYM_CC", "only")
    assert compiler.candidates() == [("only",)]


def test_cpu_features_name_the_instruction_sets() -> None:
    assert len(compiler.cpu_features()) > len("x86_64")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds 40 kB: enough for a folder and a source, too little for a library."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        # The tests after this one meet a full disk without that right, but not a real one.
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJSYM_CACHE_DIR", str(small_disk / "cache"))
    large = f"char room[100000] = {{1}};\n{SOURCE}"
    with pytest.warns(BackendWarning, match="cannot be written to \\(No space left on device\\)"):
        path = cache.compiled(large, "answer", MACROS, compiler.find())
    assert answer(path) == 42 and small_disk not in path.parents
    assert [p.suffix for p in (small_disk / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize("broken", ["write_text", "replace"])
def test_a_disk_that_fills_up_while_writing(
    folder: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source does not fit, or the library cannot be moved into place."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    owner = Path if broken == "write_text" else cache.os
    real = getattr(owner, broken)

    def write(first: Path, *rest: Any, **named: Any) -> Any:
        if folder in (Path(first).parents if broken == "write_text" else Path(rest[0]).parents):
            raise full
        return real(first, *rest, **named)

    monkeypatch.setattr(owner, broken, write)
    with pytest.warns(BackendWarning, match="No space left on device"):
        path = cache.compiled(SOURCE, "answer", MACROS, compiler.find())
    assert answer(path) == 42 and path.parent != folder
    assert [p for p in folder.iterdir() if p.suffix != ".lock"] == []


def test_nowhere_to_write(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(
        CompilerError, match=r"neither the kernel cache .*cache \(.*\) nor a temporary folder .* can be used"
    ):
        cache.compiled(SOURCE, "answer", MACROS, compiler.find())
