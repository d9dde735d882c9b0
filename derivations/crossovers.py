"""Chapter III, costs compared: backward passes, one folded head, bytes, what a measured ratio asks for."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.costs import FOLDED, STANDARD, TIED, D, H, batch, blocks, d_h, n
from projsym.proof.laws import arithmetic
from projsym.proof.theorem import at_least, by, theorem

from .costs import factored, size


@theorem("III.5w", "Gradients of weights: folding saves work if and only if d_h > D/2")
def weight_gradients() -> Iterator[Any]:
    """Four products of the tokens with gradients against two of width D for each head: what the folded form
    pays for A and B instead of W_Q, W_K, W_V and W_O."""
    yield factored(STANDARD.weight_gradients) - factored(FOLDED.weight_gradients)
    yield by(arithmetic), 4 * batch * n * D * H * (2 * d_h - D)


@theorem(
    "III.6b", "Backward with recomputed scores: folding wins if and only if 4 D (2 d_h − D) > 5 n (D − d_h)"
)
def count_backward() -> Iterator[Any]:
    """Always if d_h ≥ D; never if d_h ≤ D/2; between, for n < 4 D (2 d_h − D)/5 (D − d_h). With stored
    weights the backward pass costs twice the forward one, so that III.6f decides."""
    yield factored(STANDARD.backward_recomputed) - factored(FOLDED.backward_recomputed)
    yield by(arithmetic), 2 * batch * n * H * (4 * D * (2 * d_h - D) - 5 * n * (D - d_h))


@theorem("III.6c", "Backward: the tied form saves two products with weights of eight")
def count_backward_tied() -> Iterator[Any]:
    """With stored and with recomputed scores alike, whatever the sizes."""
    yield factored(STANDARD.backward_recomputed) - factored(TIED.backward_recomputed)
    yield by(arithmetic), 4 * batch * n * D * H * d_h


@theorem("III.6o", "One folded head against H heads of width D/H: two products with weights fewer")
def count_one_head() -> Iterator[Any]:
    """Always less work, but another class of functions: one pattern of weights instead of H."""
    yield factored(STANDARD.forward).subs(d_h, D / H) - factored(FOLDED.forward).subs(H, 1)
    yield by(arithmetic), 4 * batch * n * D**2


@theorem("III.6q", "Parameters: the folded form has fewer than the tied one if and only if d_h > 2D/3")
def count_tied_parameters() -> Iterator[Any]:
    """Biases apart; the tied form has 3 D H d_h, one matrix of the standard form's four less."""
    yield factored(TIED.parameters) - factored(FOLDED.parameters)
    yield by(arithmetic), D * H * (3 * d_h - 2 * D)


@theorem("IV.3g", "Prefill of the folded form reads less if and only if D (2 + blocks) < 2 d_h (1 + blocks)")
def folded_prefill_bytes() -> Iterator[Any]:
    """Fewer bytes for heads as wide as the input, more for heads of width D/2 or less."""
    yield factored(STANDARD.prefill_traffic(size)) - factored(FOLDED.prefill_traffic(size))
    yield by(arithmetic), size * batch * H * n * (2 * d_h * (1 + blocks) - D * (2 + blocks))


@theorem("IV.3h", "Decoding with the folded form: one cache for all heads, wider queries and outputs")
def folded_decode_bytes() -> Iterator[Any]:
    """Fewer bytes if and only if n (2 H d_h − D) > 2 H (D − d_h): for H d_h = D if n > 2 (H − 1)."""
    yield factored(STANDARD.decode_traffic(size)) - factored(FOLDED.decode_traffic(size))
    yield by(arithmetic), size * batch * (n * (2 * H * d_h - D) - 2 * H * (D - d_h))


@theorem("IV.3i", "The backward pass of the folded form moves less if d_h (3 + 2 blocks) > D (2 + 2 blocks)")
def folded_backward_bytes() -> Iterator[Any]:
    """And only then."""
    yield factored(STANDARD.backward_traffic(size)) - factored(FOLDED.backward_traffic(size))
    yield by(arithmetic), 2 * size * batch * H * n * (d_h * (3 + 2 * blocks) - D * (2 + 2 * blocks))


gain, rest = sp.symbols("gain rest", positive=True)
AMDAHL = ("G. M. Amdahl, Validity of the single processor approach, AFIPS Spring Joint Conf. 30 (1967)",)


@theorem("III.6a", "A model gains no more than the part of it that got faster", references=AMDAHL)
def whole_model() -> Iterator[Any]:
    """A part that takes 1/(1 + rest) of the time gets faster by the factor r = 1 + gain. With III.6r: tying
    every layer speeds a model up by less than 4/3, forward and backward, so its saved operations alone do not
    explain a measured 174 s → 129 s (1.35)."""
    share = 1 / (1 + rest)
    ratio = 1 / (1 - share + share / (1 + gain))
    yield 1 + gain - ratio
    yield by(arithmetic), gain * (1 + gain) * rest / ((1 + gain) * rest + 1)
    yield at_least(1 + gain, ratio)


r, speedup = sp.symbols("r R", positive=True)


@theorem("III.6s", "The share of the time that a part must have had for a model to get faster by R")
def needed_share() -> Iterator[Any]:
    """f = r (R − 1)/R (r − 1) if the part got faster by r. Dropping two of four products (folding with
    d_h = D, III.6h) gives r = 1.93 at D = 256 and n = 20; R = 1.35 then asks for a little more than half."""
    f = r * (speedup - 1) / (speedup * (r - 1))
    yield 1 / (1 - f + f / r)
    yield by(arithmetic), speedup
