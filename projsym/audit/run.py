"""The audit: load, read text, compare every head, replace every attention, report."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path

import numpy as np

from projsym.audit.bert import load_bert
from projsym.audit.forward import fold_layer, projection, run, sentence_embeddings, standard
from projsym.audit.heads import compare_layer
from projsym.audit.package import DEFAULT_SHA256, MODEL_NAME, default_model_folder
from projsym.audit.report import AuditReport, EndToEnd, LayerReport
from projsym.audit.text import default_sentences, read_sentences, tokenise
from projsym.folding import Backend, Form

__all__ = ["audit"]

FORMS: tuple[Form, ...] = ("distance", "dot")


def audit(
    model: str | Path | None = None,
    text: str | Path | Sequence[str] | None = None,
    dtype: str = "float64",
    *,
    heads: int | None = None,
    backends: Sequence[Backend] = (None,),
) -> AuditReport:
    """Audit a BERT-layout model on real text.

    model: a .safetensors file or its folder (tokenizer.json and config.json beside it; heads= if no
    config.json), or None for all-MiniLM-L6-v2 from the `audit` extra, whose SHA-256 is checked. text: a file
    of one sentence a line, a list of sentences, or None for the shipped passage. dtype: in which the heads
    are compared; the whole model is run in float64 and float32 in any case, for each of `backends` (as in
    `projsym.project`). Raises what `load_bert` and `tokenise` raise.
    """
    folder = default_model_folder() if model is None else Path(model)
    file = folder / "model.safetensors" if folder.is_dir() else folder
    expected = DEFAULT_SHA256 if model is None else None
    bert = load_bert(file, dtype=dtype, heads=heads, sha256=expected)
    other = load_bert(file, dtype="float32" if dtype == "float64" else "float64", heads=heads)
    if text is None:
        sentences = default_sentences()
    elif isinstance(text, str | Path):
        sentences = read_sentences(text)
    else:
        sentences = list(text)
    if not sentences:
        raise ValueError("text: got no sentence; allowed is at least one")
    tokens = tokenise(sentences, file.with_name("tokenizer.json"), positions=bert.config.positions)
    cuts = np.cumsum([len(ids) for ids in tokens])[:-1].tolist()

    layers: list[LayerReport] = []
    hidden = run(
        bert,
        tokens,
        standard(bert),
        lambda index, x_hat: layers.append(compare_layer(bert, index, x_hat, cuts)),
    )
    by_dtype = {m.dtype.name: m for m in (bert, other)}
    plain = {
        bert.dtype.name: sentence_embeddings(hidden),
        other.dtype.name: sentence_embeddings(run(other, tokens, standard(other))),
    }
    labels = [backend or "default" for backend in backends]
    changes: dict[str, dict[Form, dict[str, float]]] = {b: {form: {} for form in FORMS} for b in labels}
    for name, reference in plain.items():
        network = by_dtype[name]
        folded = [fold_layer(network, index) for index in range(network.config.layers)]
        for label, backend in zip(labels, backends, strict=True):
            for form in FORMS:
                projected = run(network, tokens, projection(folded, form=form, backend=backend))
                change = np.abs(sentence_embeddings(projected) - reference).max()
                changes[label][form][name] = float(change)

    def worst(form: Form, name: str) -> float:
        return max(change[form][name] for change in changes.values())

    end = EndToEnd(
        sentences=len(tokens),
        tokens=sum(map(len, tokens)),
        max_abs_diff_float64=worst("distance", "float64"),
        max_abs_diff_float32=worst("distance", "float32"),
        max_abs_diff_dot_float64=worst("dot", "float64"),
        max_abs_diff_dot_float32=worst("dot", "float32"),
        rounding_float32=float(np.abs(plain["float32"] - plain["float64"]).max()),
        by_backend=changes,
    )
    with file.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    name = MODEL_NAME if model is None else folder.name
    return AuditReport(name, digest, dtype, tuple(layers), end)
