"""Theorems, laws, hypotheses and verdicts; the prover and its second opinion."""

from .hypotheses import (
    Agree,
    Defined,
    EqualNorms,
    Equation,
    Hypothesis,
    MapEquation,
    definition,
    equal_norms,
    linear_values,
)
from .laws import (
    LAWS,
    Law,
    adjoint,
    arithmetic,
    bilinearity,
    differentiation,
    disjoint_union,
    distributivity,
    exponential_law,
    linearity,
    polarization,
    shift_invariance,
    softmax_definition,
)
from .oracle import check, refute
from .prove import Proof, decide, prove, require
from .refusal import At, Refusal, refusal
from .show import explain, explain_refusal
from .text import latex, text
from .theorem import Lemma, Step, Theorem, by, shown, theorem, therefore
from .verdict import Checked, ProofError, Proved, Refuted, Unknown, Verdict, Witness

__all__ = [
    "LAWS", "Agree", "At", "Checked", "Defined", "EqualNorms", "Equation", "Hypothesis", "Law", "Lemma",
    "MapEquation", "Proof", "ProofError", "Proved", "Refusal", "Refuted", "Step", "Theorem", "Unknown",
    "Verdict", "Witness", "adjoint", "arithmetic", "bilinearity", "by", "check", "decide", "definition",
    "differentiation", "disjoint_union", "distributivity", "equal_norms", "explain", "explain_refusal",
    "exponential_law", "latex", "linear_values", "linearity", "polarization", "prove", "refusal", "refute",
    "require", "shift_invariance", "shown", "softmax_definition", "text", "theorem", "therefore",
]  # fmt: skip
