"""The committed tables say what the claims and the how-to say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from projsym.claims import SECOND_HAND
from projsym.learning.results import Results, dates, load
from projsym.learning.sizes import FORMS, FULL, REDUCED, Variant

TABLES = Path(__file__).parents[2] / "benchmarks" / "learning"
EPOCHS = range(1, 11)


def note(beginning: str) -> str:
    (found,) = [c.note for c in SECOND_HAND if c.claim.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def reduced() -> Results:
    return load(TABLES, "translate")


@pytest.fixture(scope="module")
def split() -> Results:
    return load(TABLES, "translate-split-cuda")


@pytest.fixture(scope="module")
def full() -> Results:
    return load(TABLES, "translate-full-cuda-high")


def test_every_table_can_be_read_and_is_complete() -> None:
    names = {p.name[11:-5] for p in TABLES.glob("*.json")}
    assert {"translate", "translate-full", "translate-full-cuda", "series"} < names
    for name in names:
        found = load(TABLES, name, dates(TABLES, name)[-1])
        plan = found.tables.about["plan"]
        if found.tables.about.get("timing_only"):
            assert found.tables.timing and not found.tables.runs
            continue
        assert {v.name for v in found.variants} == set(plan["variants"])
        for task in found.tasks:
            for variant in found.variants:
                assert set(found.final("parameters", variant, task=task)) == set(range(plan["seeds"]))
                curves = found.curve("validation_loss", variant, task=task)
                assert all(set(curve) == set(range(plan["epochs"] + 1)) for curve in curves.values())


def test_which_form_reaches_the_reported_ratio_where() -> None:
    text = note("Ten epochs")
    assert "on a CPU no form" in text and "replayed, and no form does" in text and "H200" in text
    for name in ("translate", "translate-full"):
        assert not any(speed.reached for speed in load(TABLES, name).speeds())
    for name in ("translate-full-cuda", "translate-full-cuda-high"):
        found = load(TABLES, name)
        assert found.tables.about["plan"]["tasks"] == [["translation", FULL.__dict__]]
        assert "H200" in found.tables.about["environment"]["gpu"]
        reached = {(s.core, s.variant) for s in found.speeds() if s.reached}
        assert reached == {("torch graph", Variant("folded").name)}


def test_what_the_claim_says_of_tied_keys(reduced: Results, split: Results, full: Results) -> None:
    text = note("The projection model")
    assert "behind at every epoch, by less than noise in the end" in text
    assert "beyond noise if they share its width; at the Keras sizes they are not behind" in text
    gaps = [reduced.difference("validation_loss", Variant("tied"), epoch=e) for e in EPOCHS]
    assert all(g.mean > 0 for g in gaps) and not gaps[-1].beyond_noise
    narrow = split.difference("test_accuracy", Variant("tied", "split"))
    assert narrow.mean < 0 and narrow.beyond_noise
    assert full.difference("test_accuracy", Variant("tied")).mean >= 0


def test_what_the_claim_says_of_the_other_forms(reduced: Results, split: Results, full: Results) -> None:
    text = note("The projection model")
    assert "normalised ones are worse in all of these; the folded form learns faster at first" in text
    for found, width in ((reduced, "input"), (split, "split"), (full, "input")):
        assert found.tables.about["plan"]["seeds"] == 5
        worse = found.difference("test_accuracy", Variant("tied-normalised", width))  # type: ignore[arg-type]
        assert worse.mean < 0 and worse.beyond_noise
        folded = Variant("folded", width)  # type: ignore[arg-type]
        first = [found.difference("validation_loss", folded, epoch=e) for e in (1, 2, 3)]
        assert all(g.mean < 0 and g.beyond_noise for g in first)
        end = found.difference("test_accuracy", folded)
        assert end.mean > 0 or not end.beyond_noise


def test_the_settings_of_the_tables_are_the_plans(reduced: Results, split: Results) -> None:
    for found in (reduced, split):
        assert found.tables.about["plan"]["tasks"] == [["translation", REDUCED.__dict__]]
        assert [v.form for v in found.variants] == list(FORMS)
