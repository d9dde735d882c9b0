"""Chapter VI: false claims about the dictionary, other kernels, bandwidths, time and local fits."""

from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.sets import DisjointUnion, Singleton
from projsym.proof.refusal import At, refusal
from projsym.proof.theorem import shown

from . import dictionary, extensions, radial, streams, surfaces, tied
from .identity import a, keys_equal
from .notation import i, j, k, q, v, σ, τ

Sides = tuple[Any, Any]


@refusal(
    "VI.f15",
    "a Hopfield update is the projection for any patterns",
    repair="equal pattern norms",
    repaired_by=("I.13p", "I.13h"),
    at=At(vectors={"ξ": (1,)}, families={"k": [(1,), (2,)]}, scalars={"β": 1}, dimensions={"E": 1}),
)
def hopfield_any_patterns() -> Sides:
    β, ξ = dictionary.inverse_temperature, dictionary.ξ
    return attend(lambda l: β * inner(ξ, k[l]), k), attend(lambda l: -β * norm2(ξ - k[l]) / 2, k)


@refusal(
    "VI.f16",
    "the decoupled rotary score of latent attention cancels",
    repair="it depends on the key: an exact bias",
    repaired_by=("I.13l", "I.13k"),
)
def rope_cancels() -> Sides:
    query, latent = q @ dictionary.W_UK.T, dictionary.latent
    return (
        softmax(lambda l: (inner(query, latent[l]) + dictionary.position[l]) / τ)(j),
        softmax(lambda l: inner(query, latent[l]) / τ)(j),
    )


@refusal(
    "VI.f17",
    "forgetting multiplies the values only",
    repair="an additive bias of the scores: the normaliser forgets too",
    repaired_by=("V.3",),
)
def forget_values_only() -> Sides:
    γ, now, time = extensions.γ, extensions.now, extensions.time
    w = softmax(lambda l: a[l])
    return (
        total(lambda j: (sp.exp(-γ * (now - time[j])) * w(j)) * v[j]),
        attend(lambda l: a[l] - γ * (now - time[l]), v),
    )


@refusal(
    "VI.f18",
    "per-key bandwidths need no bias for their normalisers",
    repair="−d log width_j",
    repaired_by=("V.2a",),
)
def bandwidth_without_normaliser() -> Sides:
    width = extensions.width
    return softmax(extensions.spread)(j), softmax(lambda l: -norm2(q - k[l]) / (2 * width[l] ** 2))(j)


@refusal(
    "VI.f19",
    "with per-key bandwidths the query's norm cancels",
    repair="it stays, against −1/2 width_j²",
    repaired_by=("V.2a", "V.2q"),
)
def bandwidth_query_norm() -> Sides:
    width = extensions.width
    return (
        softmax(lambda l: -norm2(q - k[l]) / (2 * width[l] ** 2))(j),
        softmax(lambda l: (inner(q, k[l]) - norm2(k[l]) / 2) / width[l] ** 2)(j),
    )


@refusal(
    "VI.f20",
    "equal key norms remove the bias in any metric",
    repair="equal ‖k_j L‖: norms in that metric",
    repaired_by=("V.2m",),
    given=(keys_equal,),
)
def metric_key_norms() -> Sides:
    L = extensions.L
    return (
        softmax(lambda l: -norm2((q - k[l]) @ L) / 2)(j),
        softmax(lambda l: inner(q @ (L @ L.T), k[l]))(j),
    )


@refusal(
    "VI.f21",
    "a kernel mean reproduces affine functions",
    repair="it is off by (k̄ − q) M; the local-linear fit does",
    repaired_by=("V.4", "V.4b"),
    given=(extensions.affine,),
)
def kernel_mean_is_affine() -> Sides:
    return attend(lambda l: a[l], v), q @ extensions.M + extensions.offset


@refusal(
    "VI.f22",
    "the gradient of an Epanechnikov density weights the neighbours by the kernel",
    repair="the plain mean of the neighbours: the derivative of the kernel weights",
    repaired_by=("V.1m", "V.1e"),
)
def epanechnikov_weighted() -> Sides:
    parabola, near, h = radial.parabola, radial.NEAR, radial.h
    return (
        shown("(σ²/2) D_q Σ_near g [h]", σ**2 / 2 * directional(total(parabola, near), {q: h})),
        inner(total(lambda j: parabola(j) * (k[j] - q), near), h),
    )


@refusal(
    "VI.f23",
    "dot-product attention is von Mises–Fisher with concentration 1/τ, whatever the query's norm",
    repair="κ = ‖q‖/τ",
    repaired_by=("V.1f",),
    given=(keys_equal,),
    at=At(vectors={"q": (2,)}, families={"k": [(1,), (-1,)]}, scalars={"τ": 1, "ρ": 1}, dimensions={"E": 1}),
)
def concentration_without_norm() -> Sides:
    return (
        softmax(lambda l: inner(q, k[l]) / τ)(j),
        softmax(lambda l: inner(q / sp.sqrt(norm2(q)), k[l]) / τ)(j),
    )


@refusal(
    "VI.f24",
    "first-order (linear) attention is attention",
    repair="up to a remainder of second order, given exactly",
    repaired_by=("V.3e",),
)
def linear_is_exact() -> Sides:
    w = extensions.first_order
    return attend(lambda l: a[l], v), total(lambda j: w(j) * v[j]) / total(w)


@refusal(
    "VI.f25",
    "a mean-shift step adds the projection to the query",
    repair="it replaces the query by the projection",
    repaired_by=("I.13m",),
    at=At(vectors={"q": (1,)}, families={"k": [(1,), (1,)]}, scalars={"sigma": 1}, dimensions={"E": 1}),
)
def shift_adds_projection() -> Sides:
    """Both keys at the query: the step stays at 1 and does not go to 2."""
    kernel, step = dictionary.kernel, dictionary.mean_shift_step
    return step.first, q + total(lambda j: (kernel(j) / total(kernel)) * k[j])


@refusal(
    "VI.f27",
    "LayerNorm makes all norms exactly √D",
    repair="‖x̂‖² = D v/(v + ε): less for a small variance v",
    repaired_by=("I.7e", "I.7b"),
    at=At(vectors={"u": (1, -1)}, scalars={"D": 2, "ε": 1}, dimensions={"X": 2}),
)
def exactly_root_width() -> Sides:
    """The centred vector (1, −1) has the variance 1, as large as ε here: its squared norm is halved."""
    return norm2(tied.u / sp.sqrt(norm2(tied.u) / tied.D + tied.ε)), tied.D


@refusal(
    "VI.f28",
    "for keys in a plane the kernel mean is the nearest point of the plane",
    repair="it slides along the plane; the moving least-squares projection is",
    repaired_by=("V.4p", "V.4b"),
    given=(surfaces.orthonormal, surfaces.flat),
    at=At(
        vectors={"q": (0, 5), "c": (0, 0)},
        families={"t": [(0,), (1,)], "k": [(0, 0), (1, 0)]},
        maps={"T": [(1, 0)]},
        dimensions={"E": 2, "U": 1},
    ),
)
def mean_is_nearest() -> Sides:
    """Keys (0, 0) and (1, 0) on a line, seen from (0, 5): the nearest point is (0, 0)."""
    return surfaces.centre, surfaces.onto_plane


@refusal(
    "VI.f29",
    "a sliding window forgets by fading alone",
    repair="the oldest pair is taken away too",
    repaired_by=("V.3w",),
)
def window_without_removal() -> Sides:
    kept, new = streams.KEPT, extensions.n
    now, γ, δ = extensions.now, extensions.γ, extensions.δ
    latest = (sp.exp(-γ * (now + δ - extensions.time[new])) * inner(k[new], extensions.h)) * v[new]
    return (
        extensions.memory(DisjointUnion(kept, Singleton(new)), now + δ),
        sp.exp(-γ * δ) * extensions.memory(DisjointUnion(Singleton(i), kept), now) + latest,
    )
