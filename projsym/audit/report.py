"""What an audit returns: plain frozen records, their JSON form and their tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from projsym.folding import Form

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["AuditReport", "EndToEnd", "HeadReport", "LayerReport", "head_table", "main_table"]


@dataclass(frozen=True)
class HeadReport:
    """One head. Errors are largest absolute differences of head outputs (n, D) over all tokens.

    fold_*: standard attention against the folded form with dot-product weights [I.7]; distance_*: against the
    projection P_σ(x̂A + a; x̂)B, weights by distance [I.4]. Each bound is proven and entrywise (see
    `projsym.audit.heads`); `within_bound` says that both hold in every entry. unfolded_distance_err is the
    error of distance weights on the unfolded keys, where [I.4] fails. Spreads are std/mean of key norms.
    effective_keys: mean over queries of exp(entropy of the weights); keys_seen: mean number of keys.
    effective_bandwidth: mean of `projsym.audit.heads.bandwidth`, None
    if not finite (one key, or a zero query). value_rank_condition: [I.8], None = undecided;
    value_defect lies between value_defect_lower and value_defect_upper.
    """

    head: int
    fold_max_abs_err: float
    err_bound: float
    distance_max_abs_err: float
    distance_err_bound: float
    within_bound: bool
    unfolded_distance_err: float
    output_max_abs: float
    weights_max_abs_err: float
    key_norm_spread: float
    key_norm_spread_folded: float
    value_rank_condition: bool | None
    value_defect: float
    value_defect_lower: float
    value_defect_upper: float
    effective_keys: float
    keys_seen: float
    effective_bandwidth: float | None


@dataclass(frozen=True)
class LayerReport:
    """The heads of layer `layer` (from 0)."""

    layer: int
    heads: tuple[HeadReport, ...]


@dataclass(frozen=True)
class EndToEnd:
    """Sentence embeddings (length 1) with every attention replaced by its projection.

    max_abs_diff_*: largest difference of an entry from the standard model in the same dtype, over all
    backends, with weights by distance; max_abs_diff_dot_*: the same with dot-product weights, which need no
    hypothesis. The former holds the effect of LayerNorm's ε on the key norms as well as rounding. by_backend
    holds each: backend, form, dtype. rounding_float32: what float32 itself does to the standard model (the
    largest difference of an entry from float64), a yardstick for float32. Measured, not bounded.
    """

    sentences: int
    tokens: int
    max_abs_diff_float64: float
    max_abs_diff_float32: float
    max_abs_diff_dot_float64: float
    max_abs_diff_dot_float32: float
    rounding_float32: float
    by_backend: dict[str, dict[Form, dict[str, float]]]


@dataclass(frozen=True)
class AuditReport:
    """The audit of one model: JSON contract of `projsym audit --json` through `to_dict`."""

    model: str
    sha256: str
    dtype: str
    layers: tuple[LayerReport, ...]
    end_to_end: EndToEnd

    @property
    def heads(self) -> tuple[HeadReport, ...]:
        return tuple(head for layer in self.layers for head in layer.heads)

    @property
    def ok(self) -> bool:
        """Every head's two differences lie within their proven bounds, entry by entry."""
        return all(head.within_bound for head in self.heads)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


LEGEND = """\
dot err, bound   standard head against its folded form, weights from dot products: largest error, proven bound
P_σ err, bound   the same with weights from distances: P_σ of the normalised inputs (the norm's ε included)
unfolded         error of distance weights on the keys x W_K as they are: what unequal norms cost
norms ±, folded  spread (standard deviation over mean) of the key norms before and after folding
W_V is, defect   whether W_V W_O = W_K M is solvable, and min over M of ‖W_K M − W_V W_O‖ / ‖W_V W_O‖
keys, σ/dist     effective number of keys (exp of the weights' entropy); bandwidth over mean key distance"""

_COLUMNS = (
    "dot err", "bound", "P_σ err", "bound", "unfolded", "norms ±", "folded ±", "W_V is", "defect",
    "keys", "σ/dist",
)  # fmt: skip


def _range(values: Iterable[float], form: str = ".2f") -> str:
    items = list(values)
    if not items:
        return "–"
    low, high = format(min(items), form), format(max(items), form)
    return low if low == high else f"{low}–{high}"


def _verdict(heads: Iterable[HeadReport]) -> str:
    words = {True: "droppable", False: "needed", None: "undecided"}
    return ", ".join(sorted({words[head.value_rank_condition] for head in heads}))


def _cells(heads: tuple[HeadReport, ...]) -> list[str]:
    return [
        f"{max(h.fold_max_abs_err for h in heads):.1e}",
        f"{max(h.err_bound for h in heads):.1e}",
        f"{max(h.distance_max_abs_err for h in heads):.1e}",
        f"{max(h.distance_err_bound for h in heads):.1e}",
        f"{max(h.unfolded_distance_err for h in heads):.1e}",
        _range(h.key_norm_spread for h in heads),
        f"{max(h.key_norm_spread_folded for h in heads):.0e}",
        _verdict(heads),
        _range(h.value_defect for h in heads),
        _range((h.effective_keys for h in heads), ".1f"),
        _range(h.effective_bandwidth for h in heads if h.effective_bandwidth is not None),
    ]


def _table(title: str, caption: str, first: tuple[str, ...]) -> Table:
    from rich.table import Table

    table = Table(title=title, caption=caption)
    for name in (*first, *_COLUMNS):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def main_table(report: AuditReport) -> Table:
    """One line a layer: worst head for errors and bounds, range over heads for the rest."""
    end = report.end_to_end
    dot64, dot32 = end.max_abs_diff_dot_float64, end.max_abs_diff_dot_float32
    caption = (
        f"{end.sentences} sentences, {end.tokens} tokens. Whole model as projections, largest change of a "
        f"sentence embedding:\n"
        f"float64 {end.max_abs_diff_float64:.1e} by distance, {dot64:.1e} by dot product; "
        f"float32 {end.max_abs_diff_float32:.1e}, {dot32:.1e} "
        f"(float32 rounding of the standard model: {end.rounding_float32:.1e})"
    )
    table = _table(f"{report.model}: heads against their folded projection", caption, ("layer",))
    for layer in report.layers:
        table.add_row(str(layer.layer), *_cells(layer.heads))
    return table


def head_table(report: AuditReport) -> Table:
    """One line a head."""
    table = _table(f"{report.model}: every head", f"dtype {report.dtype}", ("layer", "head"))
    for layer in report.layers:
        for head in layer.heads:
            table.add_row(str(layer.layer), str(head.head), *_cells((head,)))
    return table
