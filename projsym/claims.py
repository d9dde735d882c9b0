"""What the paper claims and what holds: each sentence that can be checked, with a verdict and its theorems.

The claims restate, in our words and in its order, every sentence of the abstract of T. D. Sanger, *Scaled
Dot-Product Attention implements projection of inputs onto a common surface* (arXiv 2602.02521), and after it
what is reported of the paper at second hand. A verdict stands only while the theorems and refusals it names
do: they are proved when the table is made. What only data can show is measured, on the data of the notebook
that the note names, or open; what is no statement of fact, an interpretation.
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
    INTERPRETATION = "interpretation"


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


_T, _F, _H = ClaimVerdict.PROVED, ClaimVerdict.FALSE, ClaimVerdict.UNDER_HYPOTHESES
_O, _I, _M = ClaimVerdict.OPEN, ClaimVerdict.INTERPRETATION, ClaimVerdict.MEASURED

ABSTRACT = (
    Claim(
        "Query, key and value are hard to reconcile with the standard methods of signal processing.",
        _I,
        ("I.13", "I.13n", "II.6"),
        "What they are there is proved: kernel regression of values on keys (Nadaraya–Watson), a mean-shift "
        "step for keys as values, the Wiener filter for Gaussian keys.",
    ),
    Claim(
        "Attention can be rewritten in an equivalent form with distances for dot products.",
        _H,
        ("I.3", "I.4", "I.7n", "I.9", "I.10"),
        "Exact with the bias ‖k‖²/2τ for any keys, without it for equal norms; after LayerNorm or RMSNorm "
        "that is so in the folded form, up to the norm's ε [I.7e].",
        "equal norms of the keys that a row sees, or the bias, or one more coordinate",
    ),
    Claim(
        "The same for any keys and values, without hypotheses.",
        _F,
        ("VI.1", "VI.v6", "I.5", "I.6c"),
        "Equal key norms and linear values are also necessary.",
    ),
    Claim(
        "It is a projection: what is projected twice stays where it is.",
        _F,
        ("VI.7", "VI.g1", "VI.g2", "II.7c", "II.7k"),
        "Not idempotent for finite bandwidth: keys ±1, σ² = ½ take 1 to .9640 and that to .9586.",
    ),
    Claim(
        "It is a projection in a precise sense.",
        _T,
        ("II.4p", "II.4m", "II.1", "II.3", "II.5"),
        "A proximal map: it minimises ½‖q − x‖² + R(x), R the soft distance to the keys; the metric "
        "projection onto the keys as σ → 0; a step of σ² times the score of the kernel density.",
    ),
    Claim(
        "The output is a projection of the inputs, values included.",
        _H,
        ("I.6", "I.6c", "I.7n", "VI.v6"),
        "Every head of a normalised layer is P_σ(x̂ A + a; X̂) B + b: projection of a transformed token, "
        "then a linear map.",
        "values linear in the keys; the folded form of a normalised layer has that",
    ),
    Claim(
        "The outputs lie on the surface on which the inputs lie.",
        _F,
        ("VI.g18", "II.8", "II.8h", "II.8n", "II.8s", "II.8c"),
        "They fill the interior of the keys' hull; from a sphere they are pulled inside by the weighted "
        "variance, from a circle by σ²/2ρ to first order.",
    ),
    Claim(
        "The surface is common: one for all queries and heads.",
        _T,
        ("I.7", "I.7n", "I.7x"),
        "In the folded form all heads have the (normalised) inputs as keys and differ in A and B only. In "
        "the standard form every head has keys of its own.",
    ),
    Claim(
        "The surface is determined by the inputs themselves.",
        _T,
        ("I.7", "I.7n", "I.11a"),
        "In the folded form the weights enter through the query and the output only.",
    ),
    Claim(
        "A surface in key space is a property of the layer.",
        _F,
        ("VI.8", "I.11", "I.11a"),
        "Attention is invariant under Q → QG, K → KG⁻ᵀ; distances and norms of keys are not.",
    ),
    Claim(
        "The map of a token depends on its context, and not linearly.",
        _T,
        ("II.2", "II.7", "II.5e"),
        "The Jacobian is the covariance of the keys under weights that depend on the token; for two keys the "
        "map is a hyperbolic tangent. It becomes affine as σ → ∞.",
    ),
    Claim(
        "Attention discovers nonlinear dependencies that vary with time and context.",
        _O,
        ("V.3", "V.4", "V.4p", "V.5"),
        "What a head can follow is proved: local fits, fading memory. What one discovers in data is measured "
        "on data.",
    ),
    Claim(
        "The rewritten form is faster because of the distances.",
        _F,
        ("VI.11", "III.6w"),
        "Computing distances adds work: 2/n + 1/d_h of the scores' operations.",
    ),
    Claim(
        "The rewritten form makes the forward pass faster.",
        _H,
        ("III.6t", "III.6r", "III.6f", "III.6g", "III.6h", "IV.3", "VI.f7"),
        "One product with weights of four is saved if W_V can be dropped (less than 4/3), up to half by "
        "folding with heads as wide as the input, and half of the cache's traffic in decoding. `projsym "
        "bench` times the kernels.",
        "W_V W_O = W_K M for tying; D (2 d_h − D) > n (D − d_h) for folding",
    ),
    Claim(
        "The rewritten form makes learning faster.",
        _H,
        ("III.5", "III.5w", "III.6b", "III.6c", "IV.6", "IV.3b"),
        "The same products are saved in the backward pass, twice. The gradient flow is another one [VI.10].",
        "as for the forward pass",
    ),
    Claim(
        "The rewritten form suggests extensions.",
        _T,
        ("V.1", "V.2", "V.3", "V.4", "V.4p", "V.5"),
        "Other kernels, bandwidths and metrics, fading and recursive forms, local-linear fits and iteration, "
        "each with its gradients or limits.",
    ),
    Claim(
        "In language attention finds a contextual meaning, given by the surface of the inputs.",
        _I,
        ("I.7n", "II.1"),
        "Proved is what is computed: the token's image moves towards the density of its context.",
    ),
    Claim(
        "Token embeddings are modified by the local context surface.",
        _H,
        ("I.7n", "II.1", "II.8b"),
        "A head adds P_σ(x̂_i A + a; X̂) B + b to the token. That denoises if the branch returns P(x) − x; "
        "adding P(x) itself gives 2x + σ² score.",
        "normalised inputs",
    ),
    Claim(
        "This differs from the concept of self-attention.",
        _I,
        ("I.7", "I.11"),
        "The function is the same; the reading of it is another.",
    ),
    Claim(
        "It justifies attention for time series with local nonlinear dependencies that vary with time.",
        _M,
        ("V.3", "V.3b", "V.3w", "V.4", "V.4b", "VI.f21"),
        "On three series, out of sample (notebook 9): a local-linear fit on the surface of the context beats "
        "a fixed surface, and a linear projection for VIX and four samples ahead of a heartbeat, elsewhere "
        "not; the kernel mean has a first-order bias and loses to the linear one where the dependence is "
        "nearly linear.",
    ),
)

SECOND_HAND = (
    Claim(
        "Normalised queries and keys are required for the distance form.",
        _F,
        ("VI.2", "I.3", "I.4"),
        "Only the keys' norms matter, and only that they are equal; the query's norm always cancels.",
    ),
    Claim(
        "Layer normalisation makes the vectors unit vectors.",
        _F,
        ("VI.3", "VI.4", "VI.f27", "I.7e"),
        "‖x̂‖² = D v/(v+ε), about D; equal norms do not survive W_K in general. Folding needs neither.",
    ),
    Claim(
        "For unit vectors ⟨q, k⟩ is 1 − ‖q − k‖²/2, so that the weights are Gaussian with σ² = √d.",
        _H,
        ("I.1", "I.4", "II.5u", "VI.9"),
        "True, and then they hardly differ: at most by exp(2/√d), 1.28 at d = 64.",
        "unit vectors",
    ),
    Claim(
        "The value matrix can be dropped: keys can serve as values.",
        _F,
        ("VI.5", "VI.6", "I.8", "I.8c", "I.8d", "I.8n", "I.8r"),
        "Exact if and only if W_V W_O = W_K M for some M; always so when W_K has rank D, in general not when "
        "d_h < D. `projsym audit` shows the defect on the heads of a real model.",
    ),
    Claim(
        "Ten epochs of Spanish–English training take 129 s instead of 174 s on an A100.",
        _O,
        ("III.6s", "III.6h"),
        "A measurement that is not ours. It needs a part that had 54 % of the time to lose two products of "
        "four (D = 256, n = 20). Measured in PyTorch at the same layer sizes (notebook 11): on a CPU no form "
        "reaches the ratio; on a GPU (H200) the folded form does once the launches of a step are replayed, "
        "and no form does when Python launches them one by one.",
    ),
    Claim(
        "That ratio of 1.35 is what dropping the value matrix saves.",
        _F,
        ("VI.f30", "III.6r", "III.6a", "III.6s"),
        "Tying every layer saves less than a quarter of the operations: below 1.33 for attention alone.",
    ),
    Claim(
        "The projection model is slightly less accurate and converges more slowly.",
        _M,
        ("I.8", "I.8c", "I.8r", "VI.10", "VI.f26"),
        "With five seeds (notebook 11). At a reduced size tied keys are behind at every epoch, by less than "
        "noise in the end if heads are as wide as the input, beyond noise if they share its width; at the "
        "Keras sizes they are not behind. Tied and normalised ones are worse in all of these; the folded "
        "form learns faster at first and does not end behind. With heads as wide as the input and W_K of "
        "full rank tying takes no function away, but descent differs.",
    ),
)

CLAIMS = (*ABSTRACT, *SECOND_HAND)


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
