"""Chapter I, second half: every head of a normalised transformer is a projection, and when W_V can go."""

from collections.abc import Iterator
from typing import Any

from flint import arb

from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.sets import KEYS, Singleton
from projsym.algebra.terms import E, LinearMap, Vector, VectorFamily, VectorSymbol, ZeroVector, identity_map
from projsym.proof.hypotheses import Equation, MapEquation, definition, equal_norms, multiply
from projsym.proof.instance import Instance
from projsym.proof.laws import (
    adjoint,
    arithmetic,
    bilinearity,
    disjoint_union,
    distributivity,
    linearity,
    polarization,
    shift_invariance,
    softmax_definition,
)
from projsym.proof.theorem import by, theorem

from .notation import W_K, W_O, W_Q, W_V, X, Y, b_K, b_O, b_Q, b_V, i, x, τ

A = W_Q @ W_K.T
a = b_Q @ W_K.T
B = W_V @ W_O
b = b_V @ W_O + b_O


def query(y: Vector) -> Vector:
    """``y W_Q + b_Q``."""
    return y @ W_Q + b_Q


class _Affine:
    """The family ``x_j W + b``."""

    def __init__(self, inputs: VectorFamily, weight: LinearMap, offset: Vector) -> None:
        self.inputs, self.weight, self.offset = inputs, weight, offset

    def __getitem__(self, index: Any) -> Vector:
        return self.inputs[index] @ self.weight + self.offset


keys, values = _Affine(x, W_K, b_K), _Affine(x, W_V, b_V)


def layer(y: Vector) -> Vector:
    """One head of standard attention with its output matrix, for the token `y` over the inputs `x`."""
    return attend(lambda j: inner(query(y), keys[j]) / τ, values) @ W_O + b_O


def _folding_chain(y: Vector) -> Iterator[Any]:
    yield layer(y)
    yield (
        by(bilinearity, adjoint),
        attend(lambda j: (inner(y @ A + a, x[j]) + inner(query(y), b_K)) / τ, values) @ W_O + b_O,
    )
    yield by(shift_invariance), attend(lambda j: inner(y @ A + a, x[j]) / τ, values) @ W_O + b_O
    yield (
        by(linearity, distributivity, softmax_definition),
        attend(lambda j: inner(y @ A + a, x[j]) / τ, x) @ B + b,
    )


@theorem("I.7", "Folding: the keys are the inputs, the values are linear in them")
def folding() -> Iterator[Any]:
    """Self-attention with A = W_Q W_Kᵀ, a = b_Q W_Kᵀ, B = W_V W_O, b = b_V W_O + b_O; b_K cancels."""
    yield from _folding_chain(x[i])


context = VectorSymbol("y", X)


@theorem("I.7x", "Folding of cross-attention")
def folding_cross() -> Iterator[Any]:
    """The query token `y` comes from elsewhere; keys and values are the encoder's inputs."""
    yield from _folding_chain(context)


SANGER = (
    "T. D. Sanger, Scaled dot-product attention implements projection of inputs onto a common surface (arXiv "
    "2602.02521), 2026",
)

x_hat = VectorFamily("x̂", X)
Γ = LinearMap("Γ", X, X)
β = VectorSymbol("β", X)
norm_output = definition(x, lambda j: x_hat[j] @ Γ + β, "x_j = x̂_j Γ + β, the norm's gain and shift")
normalised = equal_norms(x_hat)


class _Shifted:
    """The values of the normalised inputs before anything is folded."""

    def __getitem__(self, index: Any) -> Vector:
        return (x_hat[index] @ Γ + β) @ W_V + b_V


@theorem(
    "I.7n",
    "A normalised layer is a projection of its inputs",
    given=[norm_output, normalised],
    references=SANGER,
)
def normalised_layer_is_a_projection() -> Iterator[Any]:
    """LayerNorm or RMSNorm gives ‖x̂_j‖ = √D; gain and shift fold, and every head is P_σ(·; X̂) exactly."""
    A_ = Γ @ W_Q @ W_K.T @ Γ.T
    a_ = (β @ W_Q + b_Q) @ W_K.T @ Γ.T
    B_ = Γ @ W_V @ W_O
    b_ = β @ W_V @ W_O + b_V @ W_O + b_O
    y = x_hat[i] @ A_ + a_
    yield layer(x[i])
    yield (
        by(norm_output, bilinearity, adjoint),
        attend(
            lambda j: (inner(y, x_hat[j]) + inner(query(x_hat[i] @ Γ + β), β @ W_K + b_K)) / τ,
            _Shifted(),
        )
        @ W_O
        + b_O,
    )
    yield by(shift_invariance), attend(lambda j: inner(y, x_hat[j]) / τ, _Shifted()) @ W_O + b_O
    yield (
        by(linearity, distributivity, softmax_definition),
        attend(lambda j: inner(y, x_hat[j]) / τ, x_hat) @ B_ + b_,
    )
    yield (
        by(normalised, polarization, adjoint, shift_invariance),
        attend(lambda j: -norm2(y - x_hat[j]) / (2 * τ), x_hat) @ B_ + b_,
    )


M = LinearMap("M", E, Y)


def _factor(instance: Instance) -> None:
    """W_V = W_K M, W_O = identity: a pair with W_V W_O = W_K M."""
    n = instance.dimension("Y")
    instance.fixed_dimensions["F"] = n
    one = [[arb(int(p == r)) for r in range(n)] for p in range(n)]
    instance.maps["W_O"] = lambda: one
    instance.maps["W_V"] = lambda: multiply(instance.matrix("W_K", "X", "E"), instance.matrix("M", "E", "Y"))


class _Linear:
    """The family ``x_j W``."""

    def __init__(self, weight: LinearMap) -> None:
        self.weight = weight

    def __getitem__(self, index: Any) -> Vector:
        return x[index] @ self.weight


factors = MapEquation("W_V W_O factors through W_K", "W_V W_O = W_K M", W_V @ W_O, W_K @ M, _factor)


def tied(y: Vector, over: Any = KEYS, out: LinearMap = M) -> Vector:
    """The tied head: keys are the values, a free output matrix after them (no biases)."""
    return attend(lambda j: inner(y @ W_Q, x[j] @ W_K) / τ, _Linear(W_K), over) @ out


def untied(y: Vector, over: Any = KEYS) -> Vector:
    """The standard head without biases."""
    return attend(lambda j: inner(y @ W_Q, x[j] @ W_K) / τ, _Linear(W_V), over) @ W_O


@theorem("I.8", "The tied form loses nothing if W_V W_O = W_K M", given=[factors])
def tied_form() -> Iterator[Any]:
    """Then keys can serve as values, with M as the output matrix."""
    yield untied(x[i])
    yield (
        by(linearity),
        total(lambda j: softmax(lambda l: inner(x[i] @ W_Q, x[l] @ W_K) / τ)(j) * (x[j] @ (W_V @ W_O))),
    )
    yield (
        by(factors),
        total(lambda j: softmax(lambda l: inner(x[i] @ W_Q, x[l] @ W_K) / τ)(j) * (x[j] @ (W_K @ M))),
    )
    yield by(linearity), tied(x[i])


alone = Singleton(i)
same_for_one_token = Equation(
    "tied equals standard",
    "the two heads give the same output for every input, in particular for the single token x_i",
    untied(x[i], alone),
    tied(x[i], alone),
    _factor,
)


@theorem("I.8c", "Converse: if the tied form loses nothing then W_V W_O = W_K M", given=[same_for_one_token])
def tied_form_only_if() -> Iterator[Any]:
    """With one token its weight is 1, so equal outputs for every x_i say x_i W_V W_O = x_i W_K M."""
    yield x[i] @ (W_V @ W_O)
    yield by(softmax_definition, disjoint_union, linearity), untied(x[i], alone)
    yield by(same_for_one_token, softmax_definition, disjoint_union), tied(x[i], alone)
    yield by(softmax_definition, disjoint_union, linearity), x[i] @ (W_K @ M)


W_plus = LinearMap("W⁺", E, X)
u = VectorSymbol("u", X)
kernel_part = u - u @ (W_K @ W_plus)


def _projector(instance: Instance) -> None:
    """W_K = [1; 0] and W⁺ its transpose, in dimensions 1 < D: a rank-deficient example."""
    d = instance.dimension("E")
    n = d + instance.dimension("X")
    instance.fixed_dimensions["X"] = n
    tall = [[arb(int(p == r)) for r in range(d)] for p in range(n)]
    instance.maps["W_K"] = lambda: tall
    instance.maps["W⁺"] = lambda: [list(r) for r in zip(*tall, strict=True)]
    instance.maps["W_V"] = lambda: multiply(
        tall, [[arb(instance.rational()) for _ in range(instance.dimension("F"))] for _ in range(d)]
    )


inverse = MapEquation("generalised inverse", "W_K W⁺ W_K = W_K", W_K @ W_plus @ W_K, W_K, _projector)


@theorem("I.8k", "u − u W_K W⁺ is what the keys do not see", given=[inverse])
def kernel_of_keys() -> Iterator[Any]:
    """The premise of I.8n: this vector has the key 0."""
    yield kernel_part @ W_K
    yield by(linearity, inverse), u @ W_K - u @ W_K
    yield by(arithmetic), ZeroVector(E)


unseen_has_no_value = Equation(
    "what keys do not see has no value",
    "u W_K = 0 implies u W_V W_O = 0, here for u − u W_K W⁺ (see I.8k)",
    kernel_part @ (W_V @ W_O),
    ZeroVector(Y),
    _projector,
)


@theorem("I.8n", "If unseen directions have no value, M = W⁺ W_V W_O serves", given=[unseen_has_no_value])
def kernel_condition() -> Iterator[Any]:
    """So the tied form loses nothing exactly when the kernel of W_K lies in that of W_V W_O."""
    yield u @ (W_V @ W_O)
    yield by(linearity, unseen_has_no_value), u @ W_K @ (W_plus @ W_V @ W_O)


def _right_inverse(instance: Instance) -> None:
    """Square W_K with its exact inverse."""
    n = instance.dimension("X")
    instance.fixed_dimensions["E"] = n

    def lower() -> list[list[arb]]:
        return [[arb(instance.rational()) if r < p else arb(int(p == r)) for r in range(n)] for p in range(n)]

    w = lower()
    inv = [[arb(int(p == r)) for r in range(n)] for p in range(n)]
    for p in range(n):
        for r in range(p):
            inv[p] = [s - w[p][r] * t for s, t in zip(inv[p], inv[r], strict=True)]
    instance.maps["W_K"] = lambda: w
    instance.maps["W⁺"] = lambda: inv


full_rank = MapEquation(
    "W_K has rank D",
    "W_K W⁺ = 1 for some W⁺ (possible only if d_h ≥ D)",
    W_K @ W_plus,
    identity_map(X),
    _right_inverse,
)


@theorem("I.8r", "With rank D any W_V can be dropped: M = W⁺ W_V W_O", given=[full_rank])
def full_rank_keys() -> Iterator[Any]:
    """The case of d_h ≥ D, as in the Keras translation example."""
    yield untied(x[i])
    yield (
        by(linearity),
        total(lambda j: softmax(lambda l: inner(x[i] @ W_Q, x[l] @ W_K) / τ)(j) * (x[j] @ (W_V @ W_O))),
    )
    yield by(full_rank), tied(x[i], out=W_plus @ W_V @ W_O)
