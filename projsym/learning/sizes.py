"""Sizes of the experiments, and what is varied in them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from projsym.errors import refused

__all__ = ["FORMS", "FULL", "QUICK", "REDUCED", "Form", "HeadWidth", "Sigma", "Sizes", "Variant"]

Form = Literal["standard", "tied", "folded", "tied-normalised"]
HeadWidth = Literal["input", "split"]
Sigma = Literal["fixed", "learned"]

FORMS: tuple[Form, ...] = ("standard", "tied", "folded", "tied-normalised")
_ALLOWED = {"form": FORMS, "head_width": ("input", "split"), "sigma": ("fixed", "learned")}


@dataclass(frozen=True)
class Sizes:
    """width: D, of the embedding. hidden: of the feed-forward layers. vocabulary: entries of each language's
    table. length: tokens of a sentence. batch: sentences of a step."""

    width: int
    hidden: int
    heads: int
    vocabulary: int
    length: int
    batch: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(refused(field.name, repr(value), "an integer of at least 1"))

    def head_width(self, kind: HeadWidth) -> int:
        """d_h: D, as in the Keras example, or D/H. ValueError if H does not divide D."""
        if kind == "input":
            return self.width
        if self.width % self.heads:
            raise ValueError(refused("heads", self.heads, f"a divisor of the width {self.width}"))
        return self.width // self.heads


@dataclass(frozen=True)
class Variant:
    """One model of the comparison.

    form: 'standard'; 'tied', no W_V [I.8]; 'folded', A and B for each head [I.7]; 'tied-normalised', keys
    brought to one norm after their projection, so that the weights are Gaussian ones [I.4].
    head_width: 'input' for d_h = D, 'split' for d_h = D/H.
    sigma: 'fixed' for the temperature σ² = τ = √d_h, 'learned' for a σ of each head that starts there.
    """

    form: Form
    head_width: HeadWidth = "input"
    sigma: Sigma = "fixed"

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(refused(name, repr(getattr(self, name)), f"one of {', '.join(allowed)}"))

    @property
    def name(self) -> str:
        """For files and tables: ``tied.input.fixed``."""
        return f"{self.form}.{self.head_width}.{self.sigma}"


FULL = Sizes(width=256, hidden=2048, heads=8, vocabulary=15_000, length=20, batch=64)
"""The layers of the Keras translation example that the paper is reported to have used."""

REDUCED = Sizes(width=64, hidden=512, heads=4, vocabulary=2_000, length=20, batch=64)
"""Small enough to train five seeds of every form for ten epochs on two cores."""

QUICK = Sizes(width=32, hidden=128, heads=4, vocabulary=1_000, length=20, batch=64)
"""For a run of two minutes from end to end."""
