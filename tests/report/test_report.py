"""The report: one self-contained page, everything escaped, nothing bad shown as good."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from projsym.report import write_report
from projsym.report.html import details, number, seconds, spread, tag, verdict

VOID = {"meta"}
HOSTILE = "<script>alert('&')</script>"


def head(**changes: Any) -> dict[str, Any]:
    return {
        "head": 0,
        "fold_max_abs_err": 1e-15,
        "err_bound": 1e-12,
        "key_norm_spread": 0.2,
        "key_norm_spread_folded": 1e-13,
        "value_rank_condition": False,
        "value_defect": 0.9,
        "effective_bandwidth": None,
    } | changes


SAMPLE: dict[str, Any] = {
    "summary": [{"stage": "derive", "verdict": "proved", "detail": "2 theorems", "seconds": 1.5}],
    "claims": [{"claim": "a < b", "verdict": "open", "theorems": ["I.1", "I.2"], "note": "later"}],
    "derive": [
        {
            "kind": "theorem",
            "id": "I.4",
            "title": "Equal key norms are enough",
            "verdict": "proved",
            "hypotheses": ["‖k_j‖ = ρ for all j"],
            "steps": [
                {"law": "polarization", "before": "A", "after": "B", "verdict": "proved", "ms": 1.0},
                {"law": "shift invariance", "before": "B", "after": "C", "verdict": "proved", "ms": 2.0},
            ],
            "oracle": {"instances": 5, "worst_radius": 1.5e-75},
        },
        {"kind": "refusal", "id": "VI.1", "title": "no", "witness": "k = (1), (2)", "verdict": "refuted"},
    ],
    "kernels": [
        {
            "name": "project_dot",
            "dtype": "float32",
            "file": "project_dot_float32.c",
            "validated": True,
            "theorems": ["I.6"],
            "exp_error": 6.9e-8,
            "compile_s": 0.8,
            "max_abs_err": 4e-7,
            "err_bound": 2e-4,
        }
    ],
    "audit": {
        "model": "m",
        "layers": [{"layer": 0, "heads": [head(), head(head=1)]}],
        "end_to_end": {"sentences": 3, "max_abs_diff_float64": 1e-15},
    },
    "bench": [
        {
            "kernel": "project",
            "shape": [8, 1024, 1024, 64],
            "dtype": "float32",
            "threads": 2,
            "peer": "torch",
            "ours_min_s": 0.01,
            "peer_min_s": 0.025,
            "ratio_min": 2.5,
            "ratio_median": 2.4,
            "peak_fraction": 0.8,
            "max_abs_err": 1e-6,
            "err_bound": 1e-4,
        }
    ],
    "environment": {"cpu": "x", "packages": {"numpy": "2"}, "notes": ["a note"]},
}


class Page(HTMLParser):
    """Elements in order; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


def write(data: dict[str, Any], folder: Path) -> str:
    write_report(data, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def sample(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(SAMPLE) | changes


def test_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    text = write(SAMPLE, tmp_path / "new" / "folder")
    page = Page(text)
    names = [name for name, _ in page.elements]
    assert not {"script", "link", "img", "iframe", "object"} & set(names)
    for _, attributes in page.elements:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", text)
    anchors = {a["href"] for name, a in page.elements if name == "a"}
    assert anchors == {f"#{a['id']}" for name, a in page.elements if name == "section"}


def test_json_is_the_data(tmp_path: Path) -> None:
    write(SAMPLE, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == SAMPLE


@pytest.mark.parametrize("word", ["nan", "inf"])
def test_number_that_is_not_finite(word: str, tmp_path: Path) -> None:
    data = sample()
    data["kernels"][0]["max_abs_err"] = float(word)
    assert f">{word}<" in write(data, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["kernels"][0]["max_abs_err"] is None


def test_same_data_same_bytes(tmp_path: Path) -> None:
    assert write(SAMPLE, tmp_path) == write(SAMPLE, tmp_path)


def hostile(x: Any) -> Any:
    """Every string that is shown as it is, replaced; verdicts and kinds stay."""
    if isinstance(x, dict):
        return {k: v if k in ("verdict", "kind") else hostile(v) for k, v in x.items()}
    if isinstance(x, list):
        return [hostile(v) for v in x]
    return HOSTILE if isinstance(x, str) else x


def test_everything_is_escaped(tmp_path: Path) -> None:
    data = hostile(copy.deepcopy(SAMPLE))
    data["claims"][0]["verdict"] = HOSTILE
    text = write(data, tmp_path)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 15
    Page(text)
    assert 'a="&quot;&lt;' in tag("p", a='"<')


def test_proved_is_folded_away_and_unproved_is_open(tmp_path: Path) -> None:
    assert "<details open>" not in write(SAMPLE, tmp_path)
    for n in range(2):
        data = sample()
        data["derive"][n]["verdict"] = "unknown"
        text = write(data, tmp_path)
        assert text.count("<details open>") == 1 and "! unknown" in text


def test_chain_shows_each_line_once(tmp_path: Path) -> None:
    text = write(SAMPLE, tmp_path)
    assert re.findall(r'<li class="math">(.)</li>', text) == ["A", "B", "C"]
    broken = sample()
    broken["derive"][0]["steps"][1]["before"] = "X"
    assert re.findall(r'<li class="math">(.)</li>', write(broken, tmp_path)) == ["A", "B", "X", "C"]


def test_head_beyond_its_bound_is_bad(tmp_path: Path) -> None:
    assert "in 2 of 2 heads" in write(SAMPLE, tmp_path)
    data = sample()
    data["audit"]["layers"][0]["heads"][1] = head(head=1, fold_max_abs_err=1e-11)
    text = write(data, tmp_path)
    assert "in 1 of 2 heads" in text and '<span class="v bad">! beyond the bound</span>' in text


def test_refused_row_has_no_times(tmp_path: Path) -> None:
    data = sample()
    times = ("ours_min_s", "peer_min_s", "ratio_min", "ratio_median", "peak_fraction")
    data["bench"][0] |= dict.fromkeys(times) | {"verdict": "refused: torch beyond the error bound"}
    text = write(data, tmp_path)
    assert (
        '<span class="v bad">! refused: torch beyond the error bound</span>' in text and "2.50×" not in text
    )


@pytest.mark.parametrize("key", sorted(SAMPLE))
def test_part_that_was_not_run_says_so(key: str, tmp_path: Path) -> None:
    assert "• not run" in write(sample(**{key: None}), tmp_path)


@pytest.mark.parametrize(
    ("word", "expected", "kind"),
    [
        ("proved", False, "good"),
        ("measured", False, "plain"),
        ("false as stated", False, "plain"),
        ("unknown", False, "bad"),
        ("refuted", False, "bad"),
        ("refuted", True, "good"),
        ("unknown", True, "bad"),
        ("anything else", False, "bad"),
    ],
)
def test_verdict(word: str, expected: bool, kind: str) -> None:
    shown = verdict(word, expected=expected)
    assert f'class="v {kind}"' in shown and word in shown


def test_numbers() -> None:
    assert [number(x) for x in (None, 0.0, 3, 1.5e-75, 0.83, 10.4, 12345.6, -2e-9, "x")] == [
        "–", "0", "3", "1.5·10⁻⁷⁵", "0.83", "10.4", "12346", "-2.0·10⁻⁹", "x",
    ]  # fmt: skip
    assert [seconds(x) for x in (None, 2.0, 0.0125, 3e-6, 0.0)] == ["–", "2 s", "12.5 ms", "3 µs", "0 µs"]
    assert spread([0.25, None, 0.5]) == "0.25 – 0.5" and spread([1.0]) == "1" and spread([None]) == "–"
    assert details("a<", "b", is_open=True) == "<details open><summary>a&lt;</summary>b</details>"


def test_bad_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys bench are missing"):
        write({k: v for k, v in SAMPLE.items() if k != "bench"}, tmp_path)
    with pytest.raises(ValueError, match="unknown keys extra"):
        write(sample(extra=1), tmp_path)
    with pytest.raises(TypeError, match=r"data\['environment'\]\['x'\]: got set"):
        write(sample(environment={"x": set()}), tmp_path)
    assert not list(tmp_path.iterdir())
