"""Chapter V, time: the sliding window as a recursion, and the bound on what first order loses."""

from collections.abc import Iterator
from typing import Any

import sympy as sp

from projsym.algebra.scalars import inner, norm2, softmax, total
from projsym.algebra.sets import DisjointUnion, IndexSet, Singleton
from projsym.proof.laws import bilinearity, disjoint_union, distributivity, exponential_law
from projsym.proof.theorem import at_least, by, theorem, therefore

from .extensions import LINEAR, PAST, first_order, memory, n, now, time, γ, δ
from .extensions import h as direction
from .identity import a
from .lemmas import taylor
from .notation import i, k, q, v, τ

KEPT = IndexSet("kept")


@theorem("V.3w", "A sliding window is recursive too: one outer product in, one out (FIR)")
def sliding_window() -> Iterator[Any]:
    """The window {i} ⊔ kept at time t becomes kept ⊔ {n} at time t + δ: fade, take the oldest pair away, add
    the new one. Exact in exact arithmetic; rounding accumulates, unlike in the fading sum."""

    def pair(index: Any, at: Any) -> Any:
        return (sp.exp(-γ * (at - time[index])) * inner(k[index], direction)) * v[index]

    yield memory(DisjointUnion(KEPT, Singleton(n)), now + δ)
    yield by(disjoint_union), memory(KEPT, now + δ) + pair(n, now + δ)
    yield (
        by(disjoint_union, exponential_law),
        sp.exp(-γ * δ) * (memory(DisjointUnion(Singleton(i), KEPT), now) - pair(i, now)) + pair(n, now + δ),
    )


def fade(l: Any) -> Any:
    """``exp(−γ (t − t_l))``."""
    return sp.exp(-γ * (now - time[l]))


def linear(l: Any) -> Any:
    """``fade_l (1 + ⟨q, k_l⟩/τ)``: the fading weight to first order in 1/τ."""
    return fade(l) * (1 + inner(q, k[l]) / τ)


@theorem("V.3s", "The output to first order is read out of four fading sums", references=LINEAR)
def state_output() -> Iterator[Any]:
    """Σ fade v_j, the matrix Σ fade k_j ⊗ v_j, Σ fade and Σ fade k_j: d d_v + d + d_v + 1 numbers in all,
    each of which fades and grows as in V.3r, whatever the length of the past."""
    yield total(lambda j: linear(j) * v[j], PAST) / total(linear, PAST)
    state = total(lambda j: (fade(j) * inner(k[j], q)) * v[j], PAST)
    keys = total(lambda j: fade(j) * k[j], PAST)
    yield (
        by(bilinearity, distributivity),
        (total(lambda j: fade(j) * v[j], PAST) + state / τ) / (total(fade, PAST) + inner(q, keys) / τ),
    )


w = softmax(lambda l: a[l])
first = total(lambda j: first_order(j) * v[j]) / total(first_order)


def lost(l: Any) -> Any:
    """``1 − (1 + a_l) exp(−a_l)``, of second order in a_l."""
    return 1 - first_order(l) * sp.exp(-a[l])


@theorem("V.3b", "First-order attention: the bound on its error")
def first_order_bound() -> Iterator[Any]:
    """‖Σ w_j e_j (v_j − o)‖² ≤ (Σ w_j e_j²)(Σ w_j ‖v_j − o‖²) for the error of V.3e, with o the
    first-order output and e_j = 1 − (1 + a_j) exp(−a_j)."""
    errors = total(lambda j: w(j) * lost(j) ** 2)
    spread = total(lambda j: w(j) * norm2(v[j] - first))
    moved = norm2(total(lambda j: (w(j) * lost(j)) * (v[j] - first)))
    yield errors * spread - moved
    yield (
        by(bilinearity, distributivity),
        total(
            lambda j: total(
                lambda l: w(j) * w(l) * norm2(lost(j) * (v[l] - first) - lost(l) * (v[j] - first))
            )
        )
        / 2,
    )
    yield at_least(errors * spread, moved)
    yield therefore(taylor, "for scores |a_j| ≤ A the error is at most ½ A² exp(A) times the spread about o")
