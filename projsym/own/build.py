"""From a weight to a proved and compiled attention."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from projsym.algebra.terms import VectorFamily
from projsym.codegen.kernel import required
from projsym.derivations.notation import k, v
from projsym.errors import refused
from projsym.masks import Window
from projsym.masks import _window as check_window

from .attention import OwnAttention
from .form import read
from .kernels import kernels
from .positive import positivity
from .theorems import backward, forward


def compile(
    weight: Any = None,
    *,
    score: Any = None,
    value: VectorFamily = v,
    mask: str | Window | None = None,
    fixed: Collection[str] = (),
    name: str = "own",
) -> OwnAttention:
    """Attention with a weight of your own: proved, differentiated, compiled to C and NumPy.

    >>> import numpy as np
    >>> import projsym
    >>> import sympy as sp
    >>> from projsym.own import i, inner, j, k, q
    >>> slope, scale = sp.symbols("slope scale")
    >>> alibi = projsym.compile(sp.exp(scale * inner(q, k[j]) - slope * (i - j)))
    >>> query, key, value = np.random.default_rng(0).standard_normal((3, 2, 5, 4))
    >>> alibi(query, key, value, slope=0.5, scale=0.125).shape
    (2, 5, 4)

    weight: a SymPy expression, the weight of a pair, a function of q and ``k[j]`` through inner products and
    norms of their combinations, of the positions i and j, of numbers of a query ``a[i]`` and a key ``b[j]``
    (each a `ScalarFamily`), and of parameters (any other symbols; one declared positive must be). See
    `projsym.own`.
    score: in place of `weight`, its logarithm. value: ``v``, or ``k`` where the keys are the values.
    mask: "causal", or a window ``(left, right)``: the keys that a query sees, as in `projsym.masks`; the
    kernels look at no others.
    fixed: names of arguments that get no gradient, which saves its pass over all pairs.
    name: of the kernels, an identifier.

    A weight that is one exponential is normalised with a running maximum (or none, where norms bound the
    scores) and saves the log-sum-exp of a query; any other must be non-negative, is summed plainly and saves
    the sum.

    Proved here, or refused: that no weight is negative; that the mean may be computed in blocks from the
    saved number; all gradients; the algebra of the programs of both. Raises TypeError for other than an
    expression; LoweringError (a ValueError) naming the term that no kernel computes; ProofError with a
    witness for a weight that can be negative, and for anything that is not proved.
    """
    if (weight is None) == (score is None):
        raise TypeError(refused("weight, score", "both" if score is not None else "neither", "one of them"))
    if value not in (k, v):
        raise ValueError(refused("value", repr(value), "projsym.own.v, or projsym.own.k"))
    if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
        raise ValueError(refused("name", repr(name), "an ASCII identifier"))
    if mask is not None and mask != "causal":
        check_window(mask)
    form = read("score", score, value) if weight is None else read("weight", weight, value)
    known = {x.name for x in (*form.parameters, *form.query_scalars, *form.key_scalars)}
    if unknown := sorted(set(fixed) - known):
        raise ValueError(
            refused("fixed", unknown, f"names in the weight: {', '.join(sorted(known)) or 'none'}")
        )
    sign = positivity(form)
    theorems = forward(name, form), backward(name, form, fixed)
    proofs = required(theorems[0]), required(theorems[1])
    rows = tuple(b.name for b in form.query_scalars)
    made = kernels(*theorems, name, rows)
    for sources in made:
        sources.text("c/float32")
    return OwnAttention(form, mask, sign, proofs, *made)
