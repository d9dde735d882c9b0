"""Checkpoints that are either the old one or the new one, whatever interrupts the writing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from projsym.errors import refused

__all__ = ["load", "save", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file, force it to the disk, and rename; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Save tensors and plain data, atomically."""
    import io

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None if there is no file. Loads tensors and plain data only.

    ValueError, with what differs, if it is of a run with other settings.
    """
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    found = state["settings"]
    if found != dict(settings):
        other = [k for k in {*found, *settings} if found.get(k) != settings.get(k)]
        described = ", ".join(f"{k} = {found.get(k)!r} there, {settings.get(k)!r} now" for k in sorted(other))
        raise ValueError(
            refused(str(path), f"a checkpoint with {described}", "the same settings, or a new folder")
        )
    return state
