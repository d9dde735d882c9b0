"""The backward pass: gradients of the projection and of attention, from what the forward pass saved.

The weights are computed again from the log-sum-exp, theorem IV.6b, so nothing of size n times m is stored.
Arrays are as in `projsym.attention`, but leading axes do not broadcast: all arrays have those of the query,
since a gradient by an array that several heads share would be a sum over them. Results do not depend on the
number of threads, bit by bit: every sum is in one order, whoever computes it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from projsym.attention import Backend, default_scale
from projsym.errors import refused
from projsym.runtime import arguments as check
from projsym.runtime import manifest
from projsym.runtime.dispatch import run
from projsym.runtime.layout import Array

Given = dict[str, tuple[str, Array]]
"""By the kernel's name for it: an argument's public name and its array."""


def attention_backward(
    g: ArrayLike,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    out: ArrayLike,
    lse: ArrayLike,
    *,
    scale: float | None = None,
    g_lse: ArrayLike | None = None,
    backend: Backend = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`projsym.attention` with respect to query, key and value.

    >>> out, lse = attention(q, k, v, return_lse=True)
    >>> dq, dk, dv = attention_backward(g, q, k, v, out, lse)    # of sum(g * out)

    g: gradient of a loss with respect to `out`, (..., n, dv). query (..., n, d), key (..., m, d), value
    (..., m, dv), `scale`: what `out` (..., n, dv) and `lse` (..., n) were computed from.
    g_lse: gradient with respect to `lse`, (..., n), natural logarithm; None: the loss does not use it.

    Returns arrays of the shapes and the dtype of query, key and value. A query that saw no key (``lse`` =
    -inf) gives and gets 0. Source: theorem IV.6b/attention_backward.
    Raises TypeError or ValueError naming the argument, also where it holds NaN or infinity; OverflowError if
    a gradient is outside the range of the dtype, or the weights are, because scores are so large that `lse`
    rounded to the dtype does not normalise them; CompilerError for backend "c" without a working compiler.
    """
    q = check.array("query", query, 2)
    given: Given = {"q": ("query", q)}
    n, d = q.shape[-2:]
    k = _like(given, "k", "key", key, "(..., m, d)", (None, d))
    v = _like(given, "v", "value", value, "(..., m, dv)", (k.shape[-2], None))
    dv = v.shape[-1]
    _saved(given, g, out, lse, g_lse, n, dv)
    parameter = default_scale(scale, d)
    made = _run("attention_backward", given, parameter, (("d", d), ("dv", dv)), backend)
    return made["dq"], made["dk"], made["dv"]


def project_backward(
    g: ArrayLike,
    q: ArrayLike,
    k: ArrayLike,
    out: ArrayLike,
    lse: ArrayLike,
    *,
    scale: float | None = None,
    sigma: float | None = None,
    key_bias: ArrayLike | None = None,
    g_lse: ArrayLike | None = None,
    backend: Backend = None,
) -> tuple[Array, Array, Array] | tuple[Array, Array, Array, Array]:
    """Gradients of :func:`projsym.project` with respect to queries, keys, and `scale` or `sigma`.

    >>> out, lse = project(q, k, sigma=1.5, return_lse=True)
    >>> dq, dk, dsigma = project_backward(g, q, k, out, lse, sigma=1.5)
    >>> dq, dk, dscale, dbias = project_backward(g, q, k, out, lse, key_bias=b)

    g: gradient of a loss with respect to `out`, (..., n, d). q (..., n, d), k (..., m, d), `scale` or
    `sigma`, key_bias (..., m): what `out` (..., n, d) and `lse` (..., n) were computed from.
    g_lse: gradient with respect to `lse`, (..., n); None: the loss does not use it.

    Returns gradients of the shapes of q and k, then that of `scale` (of `sigma` where it is given), one
    number a head, shape (...): the parameter is one for all heads, so its gradient is their sum; then, with a
    key bias, its gradient (..., m). All are of the inputs' dtype. The gradient of the keys is both through
    the values and through the weights. A query that saw no key, and a key with bias -inf, give and get 0.
    Source: theorems ``IV.6b/project_…``. Errors as in :func:`attention_backward`.
    """
    a = check.array("q", q, 2)
    given: Given = {"q": ("q", a)}
    n, d = a.shape[-2:]
    b = _like(given, "k", "k", k, "(..., m, d)", (None, d))
    if sigma is not None:
        if scale is not None:
            raise ValueError(refused("scale, sigma", f"{scale!r} and {sigma!r}", "one of them"))
        name, by = "project_gaussian", "dsigma"
        parameter = check.real("sigma", sigma, positive=True)
    else:
        name, by, parameter = "project_dot", "dscale", default_scale(scale, d)
    if key_bias is not None:
        check.bias(_like(given, "key_bias", "key_bias", key_bias, "(..., m)", (b.shape[-2],)))
        name += "_biased"
    _saved(given, g, out, lse, g_lse, n, d)
    made = _run(f"{name}_backward", given, parameter, (("d", d),), backend)
    # The part of each query is of the inputs' dtype; they are added in double and rounded once.
    whole = np.asarray(made[by].sum(axis=-1, dtype=np.float64)).astype(a.dtype)
    first = (made["dq"], made["dk"], whole)
    return first if key_bias is None else (*first, made["dkey_bias"])


def _like(
    given: Given, name: str, public: str, value: Any, pattern: str, core: tuple[int | None, ...]
) -> Array:
    """An argument with the query's dtype and leading axes, and the sizes that are fixed; added to `given`."""
    x = check.array(public, value, len(core))
    first, q = given["q"]
    check.same_dtype(first, q, public, x)
    lead = q.shape[:-2]
    wanted = [y if y is not None else x.shape[axis - len(core)] for axis, y in enumerate(core)]
    if x.shape != (*lead, *wanted):
        told = pattern if None in core else str(tuple(wanted))
        allowed = f"{pattern} with the leading axes {lead} of {first} (they do not broadcast here)"
        if list(x.shape[x.ndim - len(core) :]) != wanted:
            allowed = f"{told} after the leading axes, to match {first}"
        raise ValueError(refused(public, f"shape {x.shape}", allowed))
    given[name] = (public, x)
    return x


def _saved(given: Given, g: Any, out: Any, lse: Any, g_lse: Any, n: int, features: int) -> None:
    """The upstream gradients and what the forward pass saved, checked and added to `given`."""
    _like(given, "g", "g", g, "(..., n, features)", (n, features))
    _like(given, "out", "out", out, "(..., n, features)", (n, features))
    saved = _like(given, "lse", "lse", lse, "(..., n)", (n,))
    if saved.size and not saved.max() < math.inf:
        raise ValueError(refused("lse", "NaN or +inf", "finite numbers, and -inf for a query without keys"))
    if saved.size and saved.min() == -math.inf:
        # exp(score - lse) is then 0 for every key: such a query has no gradient.
        given["lse"] = ("lse", np.where(np.isneginf(saved), np.array(np.inf, saved.dtype), saved))
    if g_lse is not None:
        _like(given, "g_lse", "g_lse", g_lse, "(..., n)", (n,))
    else:
        given["g_lse"] = ("g_lse", np.broadcast_to(np.zeros(n, saved.dtype), saved.shape))


def _run(
    name: str, given: Given, parameter: float, sizes: tuple[tuple[str, int], ...], backend: str | None
) -> dict[str, Array]:
    """The outputs of a backward kernel by name, or the error that they mean."""
    arrays = {x: a for x, (_, a) in given.items()}
    q = arrays["q"]
    lead, dtype = q.shape[:-2], q.dtype
    narrow = {feature for feature, size in sizes if size == 0}
    scalars = {"lse", "g_lse", "key_bias"}
    if narrow:
        # A kernel has at least one feature: vectors of length 0 become one zero, read for all rows.
        zero = np.zeros(1, dtype)
        arrays = {
            x: a if x in scalars or a.shape[-1] else np.broadcast_to(zero, (*a.shape[:-1], 1))
            for x, a in arrays.items()
        }
        sizes = tuple((feature, size or 1) for feature, size in sizes)
    kind = "float32" if dtype == check.FLOAT32 else "float64"
    outputs, status = run(name, lead, arrays, (parameter,), kind, sizes, backend)
    if status < 0:
        raise MemoryError(f"{name}: no memory for the work space of {dtype} queries of shape {q.shape}")
    made: dict[str, Array] = {}
    for (x, feature), a in zip(manifest.load(manifest.KERNELS)[name].outputs, outputs, strict=True):
        assert a is not None  # none is skipped
        # A sum is NaN or infinite if an addend is; only then does one look closer.
        if a.size and not math.isfinite(a.sum()) and not np.isfinite(a).all():
            _explain(given, dtype)
        made[x] = a[..., :0] if feature in narrow else a
    return made


def _explain(given: Given, dtype: np.dtype[Any]) -> None:
    """Raise the error behind gradients that are not finite."""
    for x, (name, a) in given.items():
        if x not in ("lse", "key_bias") and not np.isfinite(a).all():
            raise ValueError(refused(name, "NaN or infinite entries", "finite numbers"))
    advice = "use float64, or smaller inputs" if dtype == np.float32 else "use smaller inputs"
    limit = f"{np.finfo(dtype).max:.2e}"
    raise OverflowError(
        f"a gradient or a weight is outside the range of {dtype} (up to {limit}): {advice} or scale"
    )
