"""Compiled kernels on disk: found by the hash of everything that made them, written once, by one process."""

from __future__ import annotations

import atexit
import ctypes
import errno
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projsym.errors import BackendWarning, CompilerError
from projsym.runtime.compiler import Compiler, cpu_features


def user_cache() -> Path:
    """``$PROJSYM_CACHE_DIR``, else a folder of this package in the platform's cache folder of the user."""
    if chosen := os.environ.get("PROJSYM_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "projsym"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "projsym"


def cache_dir() -> Path:
    """`user_cache` if it can be written to; else a private temporary folder, said once by BackendWarning."""
    return _writable(user_cache())


@functools.cache
def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as e:
        return _instead(folder, e.strerror)


@functools.cache
def _instead(folder: Path, why: str) -> Path:
    """A private temporary folder in place of a cache that cannot be written to, said once by BackendWarning.

    Raises CompilerError if there is no room for one either.
    """
    try:
        instead = Path(tempfile.mkdtemp(prefix="projsym-"))
    except OSError as e:
        raise CompilerError(
            f"neither the kernel cache {folder} ({why}) nor a temporary folder ({e.strerror}) can be used"
        ) from e
    atexit.register(_remove, instead, os.getpid())
    warnings.warn(
        f"kernel cache {folder} cannot be written to ({why}); kernels of this process are kept in "
        f"{instead}. Set PROJSYM_CACHE_DIR to a writable folder to compile once for all processes",
        BackendWarning,
        stacklevel=2,
    )
    return instead


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; it ends with the process, however that ends."""
    import fcntl

    with open(path, "w", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(f, fcntl.LOCK_UN)


def key(source: str, flags: tuple[str, ...], compiler: Compiler) -> str:
    """The name of a compiled kernel: SHA-256 of source, flags and macros, compiler version, CPU features."""
    parts = [source, *flags, compiler.version, cpu_features()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def compiled(source: str, name: str, macros: tuple[str, ...], compiler: Compiler) -> Path:
    """The shared library of a C source, compiled now or before.

    macros: ``-D`` flags. A compiler that cannot do ``-fopenmp`` gives a library that uses one thread. Where
    the cache cannot be written to, a disk that fills up meanwhile included, the library is made in a
    temporary folder, said once by BackendWarning.
    Raises CompilerError with the command and the compiler's output.
    """
    folder = cache_dir()
    try:
        return _compiled(folder, source, name, macros, compiler)
    except OSError as e:
        why = e.strerror or str(e)
    try:
        return _compiled(_instead(folder, why), source, name, macros, compiler)
    except OSError as e:
        raise CompilerError(f"neither {folder} ({why}) nor a temporary folder ({e}) can hold {name}") from e


def _compiled(folder: Path, source: str, name: str, macros: tuple[str, ...], compiler: Compiler) -> Path:
    """As `compiled`, in one folder. Raises OSError if it cannot be written to."""
    failures: list[CompilerError] = []
    for openmp in (True, False):
        flags = (*compiler.flags(openmp), *macros)
        target = folder / f"{name}-{key(source, flags, compiler)[:32]}.so"
        if target.exists():
            return target
        try:
            with locked(target.with_suffix(".lock")):
                if not target.exists():
                    _compile(source, flags, compiler, target)
            return target
        except CompilerError as e:
            failures.append(e)
    raise failures[0]


def _compile(source: str, flags: tuple[str, ...], compiler: Compiler, target: Path) -> None:
    """Compile next to `target` and move the result there in one step. Raises OSError for a full disk."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as work:
        c, so = Path(work) / "kernel.c", Path(work) / "kernel.so"
        c.write_text(source, encoding="utf-8")
        command = [*compiler.command, *flags, str(c), "-o", str(so), "-lm"]
        try:
            english = os.environ | {"LC_ALL": "C", "TMPDIR": work}  # its own files on the same disk
            done = subprocess.run(command, capture_output=True, text=True, env=english)
        except OSError as e:
            raise CompilerError(f"cannot run the C compiler: {e}\ncommand: {shlex.join(command)}") from e
        full = os.strerror(errno.ENOSPC)
        if done.returncode and full in done.stderr:
            raise OSError(errno.ENOSPC, full, str(target.parent))
        if done.returncode or not so.exists():
            raise CompilerError(
                f"the C compiler failed with status {done.returncode}\ncommand: {shlex.join(command)}\n"
                f"output:\n{done.stdout}{done.stderr}"
            )
        try:
            # zig accepts -fopenmp but has no runtime library for it: only loading shows that.
            ctypes.CDLL(str(so))
        except OSError as e:
            raise CompilerError(
                f"the compiled kernel does not load: {e}\ncommand: {shlex.join(command)}"
            ) from e
        os.replace(so, target)
