"""Chapter VI: claims that are false as stated, each with a witness and with what repairs it."""

from typing import Any

import sympy as sp
from flint import fmpq

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, norm2, softmax, total
from projsym.algebra.terms import LinearMap, VectorSymbol
from projsym.proof.refusal import At, refusal
from projsym.proof.theorem import shown

from .computation import IJ, I, J, a, accumulator, m1, m2, normaliser
from .folding import keys as layer_keys
from .folding import query, tied, untied
from .identity import keys_equal, values_linear
from .learning import H, P, g, gaussian
from .notation import W_K, W_Q, W_V, X, i, j, k, q, v, x, σ, τ

Sides = tuple[Any, Any]
TWO_KEYS = At(vectors={"q": (1,)}, families={"k": [(1,), (2,)]}, scalars={"τ": 1}, dimensions={"E": 1})
EQUAL_KEYS = At(
    vectors={"q": (1,)}, families={"k": [(1,), (-1,)]}, scalars={"τ": 2, "ρ": 1}, dimensions={"E": 1}
)


@refusal(
    "VI.1",
    "dot-product weights equal Gaussian weights for any keys",
    repair="equal key norms, or the key-norm bias",
    repaired_by=("I.3", "I.4", "I.5"),
    at=TWO_KEYS,
)
def any_keys() -> Sides:
    return softmax(lambda j: inner(q, k[j]) / τ)(j), softmax(lambda j: -norm2(q - k[j]) / (2 * τ))(j)


N = LinearMap("N", W_K.target, W_V.target)


@refusal(
    "VI.2",
    "queries must be normalised too: the weights are Gaussian around q/‖q‖",
    repair="never needed: the query norm cancels",
    repaired_by=("I.3", "I.4"),
    given=(keys_equal,),
    at=At(vectors={"q": (3,)}, families={"k": [(1,), (-1,)]}, scalars={"τ": 1, "ρ": 1}, dimensions={"E": 1}),
)
def query_norm_needed() -> Sides:
    """Equal key norms and a query of norm 3: I.4 holds for q as it is, and fails for the normalised query."""
    return (
        softmax(lambda j: inner(q, k[j]) / τ)(j),
        softmax(lambda j: -norm2(q / sp.sqrt(norm2(q)) - k[j]) / (2 * τ))(j),
    )


u = VectorSymbol("u", X)
D, ε = sp.Symbol("D", positive=True), sp.Symbol("ε", positive=True)


@refusal(
    "VI.3",
    "LayerNorm makes vectors unit norm",
    repair="‖x̂‖² = D v/(v + ε), about D",
    repaired_by=("I.7e", "I.7b"),
    at=At(vectors={"u": (1, -1)}, scalars={"D": 2, "ε": fmpq(1, 100)}, dimensions={"X": 2}),
)
def layer_norm_unit() -> Sides:
    """A centred vector with variance v = ‖u‖²/D, divided by √(v + ε)."""
    normed = u / sp.sqrt(norm2(u) / D + ε)
    return norm2(normed), sp.S.One


@refusal(
    "VI.4",
    "equal norms survive W_K",
    repair="normalise after W_K, or fold so that the inputs are the keys",
    repaired_by=("I.7n",),
    at=At(
        families={"x": [(1, 0), (0, 1)]},
        maps={"W_K": [(1, 0), (0, 2)]},
        dimensions={"X": 2, "E": 2},
    ),
)
def norms_survive() -> Sides:
    """‖x_i‖ = ‖x_j‖ = 1, and ‖x_i W_K‖² − ‖x_j W_K‖² is not ‖x_i‖² − ‖x_j‖²."""
    return norm2(x[i] @ W_K) - norm2(x[j] @ W_K), norm2(x[i]) - norm2(x[j])


BLIND_KEYS = At(
    families={"x": [(0, 1), (0, 2)]},
    maps={
        "W_Q": [(1,), (1,)],
        "W_K": [(1,), (0,)],
        "W_V": [(0,), (1,)],
        "W_O": [(1,)],
        "M": [(5,)],
        "N": [(5,)],
    },
    scalars={"τ": 1},
    dimensions={"X": 2, "E": 1, "F": 1, "Y": 1},
)


@refusal(
    "VI.5",
    "W_V can always be dropped",
    repair="W_V W_O = W_K M for some M; always so if W_K has rank D",
    repaired_by=("I.8", "I.8c", "I.8n", "I.8r"),
    at=BLIND_KEYS,
)
def value_matrix_dropped() -> Sides:
    """W_K = (1,0)ᵀ sees nothing of x = (0, x₂): every key is 0 and so is the tied output, for every M."""
    return untied(x[i]), tied(x[i])


@refusal(
    "VI.6",
    "with heads, each head's values are linear in its own keys",
    repair="only all heads' keys together determine the input, or d_h ≥ D",
    repaired_by=("I.8",),
    at=BLIND_KEYS,
)
def values_linear_in_own_keys() -> Sides:
    """Two different inputs with the same key and different values: no map takes key to value."""
    return x[i] @ W_V - x[j] @ W_V, (x[i] @ W_K - x[j] @ W_K) @ N


@refusal(
    "VI.v1",
    "the factor ½ may be dropped",
    repair="−‖q−k‖²/2τ",
    repaired_by=("I.4",),
    given=(keys_equal,),
    at=EQUAL_KEYS,
)
def half_dropped() -> Sides:
    return softmax(lambda j: inner(q, k[j]) / τ)(j), softmax(lambda j: -norm2(q - k[j]) / τ)(j)


@refusal(
    "VI.v2",
    "the bandwidth is τ, not √τ",
    repair="σ² = τ",
    repaired_by=("I.4",),
    given=(keys_equal,),
    at=EQUAL_KEYS,
)
def sigma_for_sigma_squared() -> Sides:
    return softmax(lambda j: inner(q, k[j]) / τ)(j), softmax(lambda j: -norm2(q - k[j]) / (2 * τ**2))(j)


@refusal(
    "VI.v3",
    "the weights grow with the distance",
    repair="the sign is minus",
    repaired_by=("I.4",),
    given=(keys_equal,),
    at=EQUAL_KEYS,
)
def sign_flipped() -> Sides:
    return softmax(lambda j: inner(q, k[j]) / τ)(j), softmax(lambda j: norm2(q - k[j]) / (2 * τ))(j)


@refusal("VI.v4", "the key-norm bias has no ½", repair="‖k‖²/2τ", repaired_by=("I.3",), at=TWO_KEYS)
def bias_without_half() -> Sides:
    return (
        softmax(lambda j: inner(q, k[j]) / τ)(j),
        softmax(lambda j: -norm2(q - k[j]) / (2 * τ) + norm2(k[j]) / τ)(j),
    )


@refusal(
    "VI.v5",
    "scaling all scores changes nothing",
    repair="adding a constant changes nothing",
    repaired_by=("I.2",),
)
def scale_is_a_symmetry() -> Sides:
    return softmax(lambda l: 2 * a[l])(j), softmax(lambda l: a[l])(j)


@refusal(
    "VI.v6",
    "attention with any values is a projection of the query",
    repair="values linear in the keys",
    repaired_by=("I.6", "I.6c"),
    given=(keys_equal,),
)
def any_values() -> Sides:
    M = values_linear.term(j).args[1]
    return attend(lambda j: inner(q, k[j]) / τ, v), attend(lambda j: -norm2(q - k[j]) / (2 * τ), k) @ M


@refusal("VI.v7", "the folded A is W_K W_Qᵀ", repair="A = W_Q W_Kᵀ", repaired_by=("I.7",))
def fold_transposed() -> Sides:
    left = softmax(lambda l: inner(x[i] @ W_Q, x[l] @ W_K) / τ)(j)
    return left, softmax(lambda l: inner(x[i] @ (W_K @ W_Q.T), x[l]) / τ)(j)


@refusal(
    "VI.v8",
    "the query bias may be dropped like the key bias",
    repair="a = b_Q W_Kᵀ stays",
    repaired_by=("I.7",),
)
def query_bias_dropped() -> Sides:
    left = softmax(lambda l: inner(query(x[i]), layer_keys[l]) / τ)(j)
    return left, softmax(lambda l: inner(x[i] @ (W_Q @ W_K.T), x[l]) / τ)(j)


@refusal("VI.v9", "blocks merge without rescaling", repair="factors exp(m_block − m)", repaired_by=("IV.1a",))
def merge_without_rescaling() -> Sides:
    m = sp.Symbol("m", real=True)
    return normaliser(IJ, m), normaliser(I, m1) + normaliser(J, m2)


@refusal(
    "VI.v10",
    "the output is the average of the blocks' outputs",
    repair="weighted by their normalisers",
    repaired_by=("IV.1",),
)
def averaged_blocks() -> Sides:
    average = (attend(lambda j: a[j], v, I) + attend(lambda j: a[j], v, J)) / 2
    return attend(lambda j: a[j], v, IJ), average


@refusal(
    "VI.v11", "accumulators merge by adding", repair="after rescaling to one shift", repaired_by=("IV.1b",)
)
def accumulators_added() -> Sides:
    m = sp.Symbol("m", real=True)
    return accumulator(IJ, m), accumulator(I, m1) + accumulator(J, m2)


MOVED_BY_KEYS = shown("D_k ⟨g, P⟩ [H]", directional(inner(g, P), {k: H}))


@refusal(
    "VI.v12", "the key gradient is w_j g", repair="plus the path through the weights", repaired_by=("III.2",)
)
def key_gradient_without_weights() -> Sides:
    return MOVED_BY_KEYS, total(lambda j: gaussian(j) * inner(g, H[j]))


@refusal("VI.v13", "the key gradient has r_j (k_j − q)/σ²", repair="q − k_j", repaired_by=("III.2",))
def key_gradient_sign() -> Sides:
    return (
        MOVED_BY_KEYS,
        total(lambda j: gaussian(j) * inner(g + (inner(k[j] - P, g) / σ**2) * (k[j] - q), H[j])),
    )


@refusal("VI.v14", "the bandwidth gradient has σ²", repair="σ³", repaired_by=("III.3",))
def bandwidth_power() -> Sides:
    return (
        shown("D_σ ⟨g, P⟩", directional(inner(g, P), {σ: sp.S.One})),
        total(lambda j: gaussian(j) * inner(k[j] - P, g) * norm2(q - k[j])) / σ**2,
    )
