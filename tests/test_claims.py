"""The claims table: every verdict is one that its theorems can carry."""

import re
from pathlib import Path

import pytest

from projsym.claims import ABSTRACT, CLAIMS, SECOND_HAND, Claim, ClaimVerdict, support
from projsym.proof.ledger import load
from projsym.proof.refusal import REFUSALS
from projsym.proof.theorem import REGISTRY

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


@pytest.fixture(scope="module")
def standing() -> dict[str, bool]:
    return support()


def test_everything_named_stands(standing: dict[str, bool]) -> None:
    assert standing
    assert [id for id, good in standing.items() if not good] == []


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.claim[:40])
def test_a_verdict_has_the_support_it_needs(claim: Claim) -> None:
    load()
    theorems = [t for t in claim.theorems if t in REGISTRY]
    refusals = [t for t in claim.theorems if t in REFUSALS]
    assert len(theorems) + len(refusals) == len(claim.theorems)
    match claim.verdict:
        case ClaimVerdict.PROVED:
            assert theorems
            assert not refusals
            assert not claim.hypotheses
        case ClaimVerdict.UNDER_HYPOTHESES:
            assert theorems
            assert claim.hypotheses
        case ClaimVerdict.FALSE:
            assert refusals
        case ClaimVerdict.MEASURED:
            number = re.search(r"\(notebook (\d+)\)", claim.note)
            assert number and not claim.hypotheses
            assert len(list(NOTEBOOKS.glob(f"{int(number[1]):02}_*.ipynb"))) == 1
        case ClaimVerdict.OPEN | ClaimVerdict.INTERPRETATION:
            assert claim.note and not claim.hypotheses


def test_each_claim_is_made_once() -> None:
    assert len({c.claim for c in CLAIMS}) == len(CLAIMS) == len(ABSTRACT) + len(SECOND_HAND)
    assert all(c.claim.endswith(".") for c in CLAIMS)


def test_the_share_that_the_reported_ratio_needs() -> None:
    """54 % [III.6s] for the forms and sizes that the note names."""
    from projsym.costs import FOLDED, STANDARD, D, H, batch, d_h, n

    at = {batch: 1, H: 1, D: 256, d_h: 256, n: 20}
    r, measured = float((STANDARD.forward / FOLDED.forward).subs(at)), 174 / 129
    assert round(100 * r * (measured - 1) / (measured * (r - 1))) == 54


def test_an_unknown_id_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Claim("", ClaimVerdict.OPEN, ("I.99",), "")
    monkeypatch.setattr("projsym.claims.CLAIMS", (fake,))
    with pytest.raises(KeyError, match=r"I\.99"):
        support()
