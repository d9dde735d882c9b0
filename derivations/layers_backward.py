"""Chapter IV, whole layers backward: gradients of inputs and weights from those of the attention inside.

With ``d_i`` the gradient of a query's mean, ``g_i Wᵀ`` for the last map W, the attention's own gradients are
those of IV.6b; what a layer adds to them is one product with each map, transposed, and one sum of outer
products for each.
"""

from collections.abc import Callable, Iterator
from typing import Any

import sympy as sp

from projsym.algebra.derivative import directional
from projsym.algebra.scalars import attend, inner, softmax, total
from projsym.algebra.substitute import substitute
from projsym.algebra.terms import LinearMap, Vector, VectorFamily, VectorSymbol
from projsym.proof.laws import adjoint, bilinearity, differentiation, distributivity, fubini, linearity
from projsym.proof.theorem import REGISTRY as _REGISTRY
from projsym.proof.theorem import Theorem, build, by, shown

from .backward import QUERIES
from .layers import W_K, W_O, W_Q, A, B, Z, a, b_K, b_Q, y
from .notation import X, Y, scale, x

LAYER_BACKWARD_PREFIX = "IV.6lb/"

tokens = VectorFamily("z", Z)
gradient = VectorFamily("g", Y)
t = sp.Symbol("t", real=True)

Moved = tuple[LinearMap, VectorSymbol]
"""A map and the offset after it."""


def _direction(name: str, like: LinearMap) -> LinearMap:
    return LinearMap("D" + name, like.source, like.target)


def layer_backward_theorem(
    name: str, title: str, query: Moved, key: Moved | None, out: LinearMap, register: bool = True
) -> Theorem:
    """[IV.6lb] for one form: all gradients of ``Σ_i ⟨g_i, out_i⟩`` for the layer [IV.6l] of that name.

    query: map and offset of the queries. key: those of the keys, which are the values; None: the inputs
    themselves. out: the last map. With ``w_ij`` the weights, ``p_i`` the means, ``d_i = g_i outᵀ`` and
    ``r_ij = ⟨d_i, k_j − p_i⟩`` the gradients of queries and keys are ``dq_i = scale Σ_j w_ij r_ij k_j`` and
    ``dk_j = Σ_i w_ij (d_i + scale r_ij q_i)``; of a map, the sum of its inputs' products with these. The
    offset of the keys is in every score of a query alike and cancels there, so its gradient is ``Σ_i d_i``.
    """
    maps = {m: _direction(m.word[0][0], m) for m in (query[0], out, *((key[0],) if key else ()))}
    offsets = [query[1], *([key[1]] if key else [])]
    along: dict[Any, Any] = {o: VectorSymbol(f"D{o.name}", o.space) for o in (*offsets, y)}
    along |= {tokens: VectorFamily("Dz", Z), x: VectorFamily("Dx", X)}
    along[scale] = sp.Symbol(f"D{scale.name}", real=True)

    def image(v: Vector, moved: Moved, step: Any) -> Vector:
        straight = v @ moved[0] + moved[1]
        return straight if step == 0 else straight + step * (v @ maps[moved[0]])

    def queries(i: Any, step: Any = 0) -> Vector:
        return image(tokens[i], query, step)

    class Keys:
        def __init__(self, step: Any = 0) -> None:
            self.step = step

        def __getitem__(self, j: Any) -> Vector:
            return x[j] if key is None else image(x[j], key, self.step)

    keys = Keys()

    def mean(i: Any, step: Any = 0) -> Vector:
        ks = Keys(step)
        return attend(lambda j: scale * inner(queries(i, step), ks[j]), ks)

    def after(i: Any) -> Vector:
        m = mean(i, t)
        return y + m @ out + t * (m @ maps[out])

    def weight(i: Any, j: Any) -> Any:
        return softmax(lambda l: scale * inner(queries(i), keys[l]))(j)

    def d(i: Any) -> Vector:
        return gradient[i] @ out.T

    def through(i: Any, j: Any) -> Any:
        return weight(i, j) * inner(d(i), keys[j] - mean(i))

    def dq(i: Any) -> Vector:
        return total(lambda j: scale * through(i, j) * keys[j])

    def dk(j: Any) -> Vector:
        return total(lambda i: weight(i, j) * d(i) + scale * through(i, j) * queries(i), QUERIES)

    def over_queries(body: Callable[[Any], Any]) -> Any:
        return total(body, QUERIES)

    def chain() -> Iterator[Any]:
        loss = over_queries(lambda i: inner(gradient[i], after(i)))
        names = ", ".join(n.name for n in along)
        moved = substitute(directional(loss, along | {t: sp.S.One}), {t: sp.S.Zero})
        yield shown(f"D_({names}, {', '.join(m.word[0][0] for m in maps)}) Σ_i ⟨g_i, out_i⟩", moved)
        line = over_queries(lambda i: inner(dq(i) @ query[0].T, along[tokens][i]))
        line += over_queries(lambda i: inner(tokens[i] @ maps[query[0]], dq(i)))
        line += over_queries(lambda i: inner(dq(i), along[query[1]]))
        if key is None:
            line += total(lambda j: inner(dk(j), along[x][j]))
        else:
            line += total(lambda j: inner(dk(j) @ key[0].T, along[x][j]))
            line += total(lambda j: inner(x[j] @ maps[key[0]], dk(j)))
            line += over_queries(lambda i: inner(d(i), along[key[1]]))
        line += over_queries(lambda i: inner(mean(i) @ maps[out], gradient[i]))
        line += over_queries(lambda i: inner(gradient[i], along[y]))
        line += along[scale] * over_queries(
            lambda i: total(lambda j: through(i, j) * inner(queries(i), keys[j]))
        )
        yield by(differentiation, fubini, bilinearity, adjoint, linearity, distributivity), line

    made = build(LAYER_BACKWARD_PREFIX + name, title, (), chain)
    return _REGISTRY.setdefault(made.id, made) if register else made


layer_folded_backward = layer_backward_theorem(
    "layer_folded_backward", "Backward of a head of a folded layer", (A, a), None, B
)
layer_tied_backward = layer_backward_theorem(
    "layer_tied_backward", "Backward of a head of a tied layer", (W_Q, b_Q), (W_K, b_K), W_O
)
