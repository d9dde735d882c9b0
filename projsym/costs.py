"""Symbolic counts of operations, parameters and memory traffic, and score ranges that need no running
maximum.

Everything is a SymPy expression in `batch`, `n` (tokens), `D` (width of the input), `H` (heads) and `d_h`
(width of a head); substitute numbers with ``.subs``. Counts of products say what is executed, not how fast
it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nextafter
from typing import Any

import numpy as np
import sympy as sp
from flint import arb, ctx

batch, n, D, H, d_h = sp.symbols("batch n D H d_h", positive=True)
blocks = sp.Symbol("blocks", positive=True)
"""How many blocks of queries stream over all keys; in the backward pass, of keys over all queries."""


@dataclass(frozen=True)
class Product:
    """`times` matrix products of shapes (rows, inner) and (inner, columns).

    weights: whether the second factor is a parameter (dropped where the product is folded away).
    """

    name: str
    times: sp.Expr
    rows: sp.Expr
    inner: sp.Expr
    columns: sp.Expr
    weights: bool = False

    @property
    def flops(self) -> sp.Expr:
        """Multiplications and additions, ``2 · rows · inner · columns`` each time."""
        return 2 * self.times * self.rows * self.inner * self.columns


@dataclass(frozen=True)
class Form:
    """One way to compute attention with its output matrix, forward and backward.

    products: what the forward pass multiplies. parameters: numbers in weight matrices (biases apart:
    `biases`). cache: numbers kept for each token of context when tokens come one by one (one sequence).
    width, arrays: numbers in a row of keys, and how many such arrays a fused kernel streams for each head.
    """

    name: str
    products: tuple[Product, ...]
    parameters: sp.Expr
    biases: sp.Expr
    cache: sp.Expr
    width: sp.Expr
    arrays: int

    @property
    def forward(self) -> sp.Expr:
        """Floating-point operations of the products of one forward pass."""
        return sp.Add(*[p.flops for p in self.products])

    @property
    def backward(self) -> sp.Expr:
        """Operations of the products of one backward pass with stored weights: two for each forward
        product."""
        return 2 * self.forward

    @property
    def backward_recomputed(self) -> sp.Expr:
        """As `backward`, with the scores computed again instead of stored [IV.6]."""
        return self.backward + sp.Add(*[p.flops for p in self.products if p.name == "scores"])

    @property
    def weight_gradients(self) -> sp.Expr:
        """Operations of the gradients of weight matrices: one product for each product with a weight."""
        return sp.Add(*[p.flops for p in self.products if p.weights])

    @property
    def exponentials(self) -> sp.Expr:
        """Exponentials of one forward pass: the same for every form."""
        return batch * H * n**2

    def prefill_traffic(self, itemsize: int | sp.Expr = 1) -> sp.Expr:
        """Bytes that a fused kernel moves: queries and outputs once, keys (and values) once for each
        block."""
        return itemsize * batch * H * n * self.width * (2 + blocks * self.arrays)

    def backward_traffic(self, itemsize: int | sp.Expr = 1) -> sp.Expr:
        """Bytes of a fused backward pass over blocks of keys, with the sum of each row known [III.4d].

        Once: keys (and values) read and their gradients written, outputs and upstream gradients read for the
        row sums. For each block: queries and upstream gradients read, gradients of queries read and written.
        """
        return itemsize * batch * H * n * self.width * (2 * self.arrays + 2 + 4 * blocks)

    def decode_traffic(self, itemsize: int | sp.Expr = 1) -> sp.Expr:
        """Bytes to attend from one new token to `n` cached ones: the cache once, H queries and outputs."""
        return itemsize * batch * (n * self.cache + 2 * H * self.width)


def _heads(*names: str) -> tuple[Product, ...]:
    """The projections of the input, the products with each head's (n, n) matrix, and the output matrix."""
    into = tuple(Product(x, batch, n, D, H * d_h, True) for x in names)
    scores = Product("scores", batch * H, n, d_h, n)
    mean = Product("mean", batch * H, n, n, d_h)
    return (*into, scores, mean, Product("output", batch, n, H * d_h, D, True))


STANDARD = Form(
    "standard", _heads("queries", "keys", "values"), 4 * D * H * d_h, 3 * H * d_h + D, 2 * H * d_h, d_h, 2
)
"""W_Q, W_K, W_V and W_O."""

TIED = Form("tied", _heads("queries", "keys"), 3 * D * H * d_h, 2 * H * d_h + D, H * d_h, d_h, 1)
"""Keys are the values [I.8]: W_V is dropped; a function of the same class only under its condition."""

FOLDED = Form(
    "folded",
    (
        Product("queries", batch * H, n, D, D, True),
        Product("scores", batch * H, n, D, n),
        Product("mean", batch * H, n, n, D),
        Product("output", batch * H, n, D, D, True),
    ),
    2 * H * D**2,
    H * D + D,
    D,
    D,
    1,
)
"""A = W_Q W_Kᵀ and B = W_V W_O for every head [I.7]: the inputs are keys and values of all heads, one cache
for all. Counted with A and B as full matrices; they have rank d_h, and factored they are the standard form
again."""

FORMS = (STANDARD, TIED, FOLDED)


def distance_extra(direct: bool = True) -> sp.Expr:
    """Operations that scores −‖q − k‖²/2τ cost beyond those of ⟨q, k⟩/τ, for all heads.

    direct: differences squared and summed, 3 d_h for each pair instead of 2 d_h. Otherwise from the product
    and norms that are computed once: 2 d_h for each query and key, two operations for each pair.
    """
    return batch * H * (n**2 * d_h if direct else 2 * n * 2 * d_h + 2 * n**2)


def crossover(
    first: Form,
    second: Form,
    unknown: sp.Symbol = n,
    count: Callable[[Form], sp.Expr] = lambda form: form.forward,
) -> tuple[sp.Expr, ...]:
    """The positive value of `unknown` at which two forms cost the same, if there is one.

    count: what is compared, by default the operations of the forward products. Solved, not searched: empty
    if the difference has no root that is not identically zero or `unknown` cancels.
    """
    roots = sp.solve(sp.Eq(sp.expand(count(first) - count(second)), 0), unknown)
    return tuple(sp.factor(r) for r in roots if r != 0)


@dataclass(frozen=True)
class ScoreRange:
    """Bounds `B` on |score| for which no running maximum is needed, for one dtype and number of keys.

    static: with every score shifted by −B. plain: with no shift at all. Within them every exponential is a
    normal number at least twice the smallest one, and the sum over all keys is at most half the largest:
    neither overflow nor a lost term, with a factor 2 to spare for the error of the exponential and of the
    additions. Values multiply: the sum of ``exp · v`` needs that room divided by max |v| (plain form only).
    """

    static: float
    plain: float


def score_range(dtype: Any, keys: int) -> ScoreRange:
    """The range for `dtype` (float32 or float64) and at most `keys` keys. |⟨q, k⟩|/τ ≤ ‖q‖‖k‖/τ bounds
    scores.

    The ends are balls of 128 bits rounded down to float64. TypeError for another dtype, ValueError unless
    0 < keys < 2¹⁰⁰.
    """
    kind = np.dtype(dtype)
    if kind not in (np.dtype("float32"), np.dtype("float64")):
        raise TypeError(f"dtype {kind}: score_range knows float32 and float64")
    if not 0 < keys < 2**100:
        raise ValueError(f"keys = {keys}: must be at least 1 and less than 2**100")
    info = np.finfo(kind)
    before = ctx.prec
    ctx.prec = 128
    try:
        low = -(2 * arb(float(info.tiny))).log()
        high = (arb(float(info.max)) / 2 / keys).log()
        return ScoreRange(_down(low / 2), _down(min(low, high, key=float)))
    finally:
        ctx.prec = before


def _down(x: arb) -> float:
    """A float that is not above the ball."""
    y = float(x.lower())
    return y if arb(y) <= x.lower() else nextafter(y, float("-inf"))
