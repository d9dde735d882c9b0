"""What the paper claims and what holds: each sentence that can be checked, with a verdict and its theorems.

The claims restate, in our words, the abstract of T. D. Sanger, *Scaled Dot-Product Attention implements
projection of inputs onto a common surface* (arXiv 2602.02521), and figures that are reported of the paper at
second hand. A verdict stands only while the theorems and refusals it names do: they are proved when the table
is made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class ClaimVerdict(StrEnum):
    """How a claim stands."""

    PROVED = "proved"
    UNDER_HYPOTHESES = "true under hypotheses"
    FALSE = "false as stated"
    MEASURED = "measured"
    OPEN = "open"


@dataclass(frozen=True)
class Claim:
    """A claim. `theorems` lists ids of theorems and refusals; `hypotheses` names what makes it true."""

    claim: str
    verdict: ClaimVerdict
    theorems: tuple[str, ...]
    note: str
    hypotheses: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": str(self.verdict), "theorems": list(self.theorems)}


_T, _F, _H, _O = ClaimVerdict.PROVED, ClaimVerdict.FALSE, ClaimVerdict.UNDER_HYPOTHESES, ClaimVerdict.OPEN

CLAIMS = (
    Claim(
        "Attention can be rewritten, equivalently, as a projection of its inputs onto a common surface.",
        _H,
        ("I.3", "I.4", "I.6", "I.7n"),
        "Exact for every head after LayerNorm or RMSNorm, in the folded form. “Projection” means the "
        "Gaussian-weighted mean P_σ; in which sense that is a projection is chapter II.",
        "equal key norms and values linear in the keys; the folded form of a normalised layer meets both",
    ),
    Claim(
        "The same for any keys and values, without hypotheses.",
        _F,
        ("VI.1", "VI.v6", "I.5", "I.6c"),
        "Equal key norms and linear values are also necessary.",
    ),
    Claim(
        "The surface is determined by the inputs themselves.",
        _T,
        ("I.7", "I.7n", "I.7x"),
        "In the folded form the keys are the (normalised) inputs; weights enter through the query and the "
        "output only.",
    ),
    Claim(
        "Normalised queries and keys are required for the distance form.",
        _F,
        ("VI.2", "I.3", "I.4"),
        "Only the keys' norms matter, and only that they are equal; the query's norm always cancels.",
    ),
    Claim(
        "Layer normalisation makes the vectors unit vectors.",
        _F,
        ("VI.3", "VI.4"),
        "‖x̂‖² = D v/(v+ε), about D; equal norms do not survive W_K in general. Folding needs neither.",
    ),
    Claim(
        "The value matrix can be dropped: keys can serve as values.",
        _F,
        ("VI.5", "VI.6", "I.8", "I.8c", "I.8n", "I.8r"),
        "Exact if and only if W_V W_O = W_K M for some M; always so when W_K has rank D, in general not when "
        "d_h < D. `projsym audit` shows the defect on the heads of a real model.",
    ),
    Claim(
        "The rewritten form is faster, forward and in learning.",
        _O,
        ("I.8", "III.1", "III.2", "IV.1"),
        "A product with weights is saved when W_V can be dropped. Computing distances saves nothing. "
        "`projsym bench` times the kernels; whole layers and training are not timed yet.",
    ),
    Claim(
        "Ten epochs of Spanish–English training take 129 s instead of 174 s on an A100.",
        _O,
        (),
        "Reported at second hand; the experiment is not repeated here yet.",
    ),
    Claim(
        "The projection model is slightly less accurate and converges more slowly.",
        _O,
        ("I.8", "I.8c"),
        "Reported at second hand. A tied model is another function class unless [I.8] holds.",
    ),
    Claim(
        "Attention finds nonlinear dependencies that vary with time and context.",
        _O,
        (),
        "An interpretation; a test on data is not made here yet.",
    ),
    Claim(
        "Token embeddings are modified by the local context surface.",
        _H,
        ("I.7n",),
        "A head adds P_σ(x̂_i A + a; X̂) B + b: the projection of a transformed token onto the surface of its "
        "context. What that means for language is an interpretation.",
        "normalised inputs",
    ),
)


def support() -> dict[str, bool]:
    """Every id that a claim names, and whether it stands now: a theorem proved, a refusal refuted.

    KeyError for an id that is unknown.
    """
    from projsym.proof.ledger import load
    from projsym.proof.prove import prove
    from projsym.proof.refusal import REFUSALS
    from projsym.proof.theorem import REGISTRY
    from projsym.proof.verdict import Proved, Refuted

    load()
    out = {}
    for id in sorted({t for c in CLAIMS for t in c.theorems}):
        if id in REFUSALS:
            out[id] = isinstance(REFUSALS[id].refute(), Refuted)
        else:
            out[id] = isinstance(prove(REGISTRY[id]).verdict, Proved)
    return out
