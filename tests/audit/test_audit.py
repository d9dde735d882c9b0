"""The audit end to end: on a tiny model, with sabotage that it must see, and on all-MiniLM-L6-v2."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from projsym.audit import AuditReport, audit, head_table, main_table
from projsym.audit import heads as heads_module
from projsym.audit import run as run_module
from projsym.audit.bert import load_bert
from projsym.audit.package import DEFAULT_SHA256, default_model_folder
from projsym.folding import fold_formula

Array = np.ndarray[Any, Any]
Write = Callable[..., Path]
TEXT = ["a b c d e", "h", "f g"]


@pytest.fixture(scope="module")
def real() -> AuditReport:
    return audit()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_head_of_a_small_model_is_within_its_bounds(write_model: Write, dtype: str) -> None:
    report = audit(write_model(), TEXT, dtype=dtype)
    assert report.ok and report.dtype == dtype
    assert len(report.heads) == 6
    for head in report.heads:
        assert head.fold_max_abs_err <= head.err_bound
        assert head.distance_max_abs_err <= head.distance_err_bound
        assert head.value_rank_condition is False


Formula = tuple[Any, Any, Any, Any]


def transposed(*args: Any) -> Formula:
    a_matrix, a_vector, b_matrix, constant = fold_formula(*args)
    return a_matrix.mT, a_vector, b_matrix, constant


def without_gain(*args: Any) -> Formula:
    one = type(args[6]).exact(np.ones_like(args[6].mid))
    return fold_formula(*args[:6], one, args[7], one, args[9])


def without_shift(*args: Any) -> Formula:
    zero = type(args[7]).exact(np.zeros_like(args[7].mid))
    return fold_formula(*args[:7], zero, args[8], zero)


def without_query_bias(*args: Any) -> Formula:
    zero = type(args[4]).exact(np.zeros_like(args[4].mid))
    return fold_formula(*args[:4], zero, *args[5:])


@pytest.mark.parametrize("sabotage", [transposed, without_gain, without_shift, without_query_bias])
def test_a_wrong_fold_is_seen_in_every_layer(
    write_model: Write, monkeypatch: pytest.MonkeyPatch, sabotage: Callable[..., Formula]
) -> None:
    monkeypatch.setattr(heads_module, "fold_formula", sabotage)
    report = audit(write_model(), TEXT)
    assert not report.ok
    assert not any(head.within_bound for layer in report.layers for head in layer.heads)


def test_weights_of_another_checksum_are_refused(write_model: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model()
    monkeypatch.setattr(run_module, "default_model_folder", lambda: folder)
    with pytest.raises(ValueError, match=f"allowed is {DEFAULT_SHA256}: not the audited weights"):
        audit()


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'projsym\[audit\]'"):
        default_model_folder()


def test_text_from_a_file_or_a_list_and_none_refused(write_model: Write, tmp_path: Path) -> None:
    folder = write_model()
    (tmp_path / "text").write_text("\n".join(TEXT))
    assert audit(folder, tmp_path / "text") == audit(folder, TEXT)
    with pytest.raises(ValueError, match="text: got no sentence"):
        audit(folder, [])


def test_a_single_token_has_no_bandwidth(write_model: Write) -> None:
    report = audit(write_model(), ["h"])
    assert report.ok and all(head.effective_bandwidth is None for head in report.heads)
    json.dumps(report.to_dict(), allow_nan=False)
    Console(file=io.StringIO()).print(main_table(report))


def test_real_model_every_head_is_a_projection(real: AuditReport) -> None:
    assert real.ok and real.sha256 == DEFAULT_SHA256
    assert [len(layer.heads) for layer in real.layers] == [12] * 6
    for head in real.heads:
        assert head.fold_max_abs_err <= head.err_bound < 1e-6 * head.output_max_abs
        assert head.distance_max_abs_err <= head.distance_err_bound


def test_real_model_needs_the_fold(real: AuditReport) -> None:
    """Unfolded key norms differ, so distance weights on them are wrong; x̂ has one norm up to ε."""
    for head in real.heads:
        assert head.key_norm_spread > 1e6 * head.key_norm_spread_folded
        assert head.unfolded_distance_err > 1e3 * head.distance_err_bound


def test_real_model_needs_its_values(real: AuditReport) -> None:
    """The defect by another route, QR, lies within the proven bounds; no head may drop W_V."""
    model = load_bert(default_model_folder())
    for layer, weights in zip(real.layers, model.layers, strict=True):
        for head in layer.heads:
            at = slice(head.head * 32, head.head * 32 + 32)
            basis, _ = np.linalg.qr(weights.w_k[:, at])
            target = weights.w_v[:, at] @ weights.w_o[at]
            by_qr = np.linalg.norm(target - basis @ (basis.T @ target)) / np.linalg.norm(target)
            assert 0 < head.value_defect_lower <= by_qr <= head.value_defect_upper
            assert head.value_rank_condition is False
            assert head.value_defect_lower <= head.value_defect <= head.value_defect_upper
            # An order of magnitude: half or more of W_V W_O is out of reach of W_K.
            assert head.value_defect > 0.5


def test_real_model_gives_the_same_embeddings(real: AuditReport) -> None:
    """Stated bounds: float64 rounds 2⁻²⁹ of float32; a projection may round a hundred times worse."""
    end = real.end_to_end
    assert end.sentences == 20
    assert end.max_abs_diff_dot_float64 <= 100 * end.rounding_float32 * 2.0**-29
    assert end.max_abs_diff_dot_float32 <= 100 * end.rounding_float32
    # By distance, ε moves each head too; stated: no further than the worst head's own bound.
    assert end.max_abs_diff_float64 <= max(head.distance_err_bound for head in real.heads)
    assert end.max_abs_diff_float32 <= 100 * end.rounding_float32


def test_json_contract_and_tables(real: AuditReport) -> None:
    data = json.loads(json.dumps(real.to_dict(), allow_nan=False))
    assert {"model", "layers", "end_to_end"} <= data.keys()
    assert {"max_abs_diff_float64", "max_abs_diff_float32", "sentences"} <= data["end_to_end"].keys()
    head = data["layers"][5]["heads"][11]
    assert {"fold_max_abs_err", "err_bound", "key_norm_spread", "value_defect"} <= head.keys()
    assert (data["layers"][5]["layer"], head["head"]) == (5, 11)
    for table, rows in ((main_table(real), 6), (head_table(real), 72)):
        out = io.StringIO()
        Console(file=out, width=200).print(table)
        assert table.row_count == rows and "all-MiniLM-L6-v2" in out.getvalue()
