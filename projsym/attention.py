"""The public functions: projection onto the keys, and attention with separate values.

Both take arrays whose last two axes are rows and features; all axes before them are heads, and broadcast as
in NumPy without a copy. An argument is read in place, whatever its leading strides, and copied only if its
features are not contiguous, or its rows run backwards or are not aligned. Dtypes are float32 or float64, the
same for all arrays, and are never converted. Anything that `numpy.asarray` gives as such an array is accepted
(CPU tensors of PyTorch without a gradient too); results are NumPy arrays.

Queries, keys and values may be bfloat16: arrays of the NumPy extension type of that name, or tensors of
PyTorch, which make a tensor of the output. All is computed in float32 and the output rounded once, to
nearest; the log-sum-exp is float32. But a CPU with instructions for pairs of bfloat16 numbers (AVX-512 with
bf16) rounds weights to bfloat16 before they multiply values, as PyTorch does, except for few queries; who
wants them as they are gives float32, or sets ``PROJSYM_ISA``. Numbers of keys and pairs are then bfloat16 or
float32; the former are copied. With the kernels of NumPy, and options other than is_causal, window,
kv_lengths and enable_gqa, so are the vectors, and no weight is rounded.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from projsym import masked, narrow
from projsym.errors import refused
from projsym.masked import Call
from projsym.masks import Window
from projsym.runtime import arguments as check
from projsym.runtime import plan as plans
from projsym.runtime import storage
from projsym.runtime.dispatch import run
from projsym.runtime.layout import Array

Backend = Literal["c", "numpy"] | None


@overload
def project(
    q: ArrayLike,
    k: ArrayLike,
    *,
    scale: float | None = ...,
    sigma: ArrayLike | None = ...,
    key_bias: ArrayLike | None = ...,
    attn_mask: ArrayLike | None = ...,
    is_causal: bool = ...,
    window: Window | None = ...,
    kv_lengths: ArrayLike | None = ...,
    return_lse: Literal[False] = ...,
    backend: Backend = ...,
) -> Array: ...
@overload
def project(
    q: ArrayLike,
    k: ArrayLike,
    *,
    scale: float | None = ...,
    sigma: ArrayLike | None = ...,
    key_bias: ArrayLike | None = ...,
    attn_mask: ArrayLike | None = ...,
    is_causal: bool = ...,
    window: Window | None = ...,
    kv_lengths: ArrayLike | None = ...,
    return_lse: Literal[True],
    backend: Backend = ...,
) -> tuple[Array, Array]: ...
def project(
    q: ArrayLike,
    k: ArrayLike,
    *,
    scale: float | None = None,
    sigma: ArrayLike | None = None,
    key_bias: ArrayLike | None = None,
    attn_mask: ArrayLike | None = None,
    is_causal: bool = False,
    window: Window | None = None,
    kv_lengths: ArrayLike | None = None,
    return_lse: bool = False,
    backend: Backend = None,
) -> Array | tuple[Array, Array]:
    """Project queries onto the surface of the keys: the mean of the keys by the weights of each query.

    >>> q, k = np.random.default_rng(0).standard_normal((2, 8, 50, 16))
    >>> b = np.where(np.arange(50) < 40, 0.0, -np.inf)
    >>> project(q, k).shape               # softmax(q @ k.T / sqrt(d)) @ k
    (8, 50, 16)
    >>> p = project(q, k, sigma=1.5)      # weights exp(-|q - k|^2 / (2 sigma^2)), normalised
    >>> p = project(q, k, sigma=np.linspace(1, 2, 50))    # a bandwidth for each key
    >>> p = project(q, k, key_bias=b)     # scores + b, one number a key; -inf excludes a key
    >>> p = project(q, k, is_causal=True)    # the mean of the keys so far; other masks as in attention
    >>> bool((p[:, 0] == k[:, 0]).all())     # the first query sees one key
    True

    By theorem I.3 the two forms are one: ``sigma`` is ``scale = 1/sigma**2`` with the key bias
    ``-|k|^2 / (2 sigma^2)``; by I.4 they are equal without a bias if all keys have one norm.

    q: queries (..., n, d). k: keys (..., m, d). key_bias: (..., m), finite or -inf.
    scale: any finite real number; default 1/sqrt(d) (1 if d = 0).
    sigma: bandwidth, > 0; selects the Gaussian form. An array (..., m), of the dtype of q, gives every key a
    bandwidth of its own, weights exp(-|q - k_j|^2 / (2 sigma_j^2)); the query's norm does not cancel [V.2].
    attn_mask, is_causal, window, kv_lengths: as in :func:`attention`.
    return_lse: also return the natural log of the sum of exp(score), shape (..., n), where the score is
    ``scale <q, k> + key_bias`` or ``-|q - k|^2 / (2 sigma^2) + key_bias``.
    backend: "c", "numpy", or None (C if a compiler works, else NumPy, said once by BackendWarning).

    Returns (..., n, d), and (..., n) with ``return_lse``, of the inputs' dtype (the lse of bfloat16:
    float32). A query that sees no key (m = 0, or all biases -inf) gets 0 and lse = -inf: the unit of the
    merge, theorem IV.1. With d = 0 all scores are 0 before the bias.
    Raises TypeError or ValueError naming the argument; ValueError if q or k hold NaN or infinity;
    OverflowError if a row cannot be normalised because scores are outside the range of the dtype, or if its
    lse is; CompilerError for backend "c" without a working compiler. With a mask q and k are asked to be
    finite only where a query sees a key. What no error tells: a single score whose partial sums pass below
    that range counts as -inf, its key as excluded; :func:`projsym.bounds.forward_bound` is infinite where
    that can happen.
    """
    given: tuple[Any, ...] = (q, k) if key_bias is None else (q, k, key_bias)
    causal = is_causal is True and key_bias is None
    options = ("project", sigma is None or scale is None, sigma is None, return_lse, backend, causal)
    layout, plan, made = None, None, None
    widths = sigma is not None and type(sigma) is not float and check.per_key(sigma)
    plain = attn_mask is None and window is None and kv_lengths is None and not widths
    if plain and (causal or is_causal is False):
        layout, plan = plans.recall(given, options)
    if plan is not None:  # all that shapes and dtypes decide was checked when they were met first
        if key_bias is not None:
            check.bias(given[2])
        if sigma is None:
            parameter = plan.scale if scale is None else check.real("scale", scale)
        elif type(sigma) is float and 0 < sigma < math.inf:
            parameter = sigma
        else:
            parameter = check.bandwidth(sigma)
        (out, lse), status = made = plan(given, (parameter,))
        if not status and not (causal and masked.doubtful(out, lse)):
            return (out, lse) if return_lse else out  # type: ignore[return-value]
    a, b = check.array("q", q, 2, narrow=True), check.array("k", k, 2, narrow=True)
    check.same_dtype("q", a, "k", b)
    d = a.shape[-1]
    check.length("q", "k", b, -1, d, f"(..., m, {d})")
    name, parameters, each = projection(a, b, scale, sigma)
    call = Call.projecting(a, b, attn_mask, is_causal, window, key_bias, kv_lengths, each)
    names = {"q": "q", "k": "k"}
    out, lse = _call(name, names, call, parameters, (("d", d),), backend, return_lse, layout, made)
    out = storage.tensor(out) if storage.is_tensor(q) else out
    return (out, lse) if return_lse else out


@overload
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    *,
    softcap: float | None = ...,
    window: Window | None = ...,
    key_bias: ArrayLike | None = ...,
    past_key: ArrayLike | None = ...,
    past_value: ArrayLike | None = ...,
    kv_lengths: ArrayLike | None = ...,
    return_lse: Literal[False] = ...,
    backend: Backend = ...,
) -> Array: ...
@overload
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = ...,
    dropout_p: float = ...,
    is_causal: bool = ...,
    scale: float | None = ...,
    enable_gqa: bool = ...,
    *,
    softcap: float | None = ...,
    window: Window | None = ...,
    key_bias: ArrayLike | None = ...,
    past_key: ArrayLike | None = ...,
    past_value: ArrayLike | None = ...,
    kv_lengths: ArrayLike | None = ...,
    return_lse: Literal[True],
    backend: Backend = ...,
) -> tuple[Array, Array]: ...
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    softcap: float | None = None,
    window: Window | None = None,
    key_bias: ArrayLike | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    kv_lengths: ArrayLike | None = None,
    return_lse: bool = False,
    backend: Backend = None,
) -> Array | tuple[Array, Array]:
    """Scaled dot-product attention: ``softmax(scale * query @ key.T + mask) @ value``.

    The arguments up to `enable_gqa` mean what they mean in
    ``torch.nn.functional.scaled_dot_product_attention``, the others what they mean in ONNX ``Attention``.

    >>> rng = np.random.default_rng(0)
    >>> q, k, v = (rng.standard_normal(s) for s in ((8, 100, 16), (8, 50, 16), (8, 50, 16)))
    >>> attention(q, k, v).shape
    (8, 100, 16)
    >>> out = attention(q, k[:1], v[:1])        # one key head for all query heads, read in place
    >>> out = attention(q, k, v, is_causal=True)              # query i sees the keys j <= i
    >>> out = attention(q, k, v, window=(15, 0))              # itself and the 15 before it
    >>> out = attention(q, k, v, rng.random((100, 50)) < 0.5)    # bool: True takes part; or numbers to add
    >>> out = attention(q, k, v, kv_lengths=[50, 40, 7, 0, 1, 2, 3, 50])
    >>> bool(out[3].any())                      # no key, no output
    False
    >>> attention(q, k[:2], v[:2], enable_gqa=True).shape     # 4 query heads read each key head
    (8, 100, 16)

    query (..., n, d), key (..., m, d), value (..., m, dv); leading axes broadcast. The result is (..., n,
    dv).
    attn_mask: booleans or numbers of the query's dtype that broadcast to (..., n, m), with any number of
    axes. True, and 0, leaves a pair as it is, False, and -inf, hides it. Read in place where its last axis is
    m.
    dropout_p: 0. Anything else is refused: dropout is for training and its random mask is not the mean that
    is proved here.
    is_causal, window ``(left, right)``, kv_lengths: the keys that a query sees, by its position
    (`projsym.masks`): up to its own; from ``left`` before to ``right`` after, None for no limit; the first so
    many. kv_lengths: integers of a shape that the leading axes begin with, (batch,) for (batch, heads, n, d).
    Restrictions may be combined.
    softcap: a number > 0; scores s become ``softcap * tanh(s / softcap)`` before anything is added.
    enable_gqa: axis -3 is that of heads; each of `key` and `value` is read by a group of those of `query`.
    key_bias: (..., m), added to the scores of a key; -inf hides it.
    past_key (..., p, d), past_value (..., p, dv): keys and values before those given (joined by a copy); then
    query i stands at position p + i.
    `scale`, `return_lse`, `backend`, empty sizes and errors are as in :func:`project`.

    A query that sees no key gets 0 and lse = -inf. What is hidden from all queries may be NaN or infinite:
    the result is bit for bit that without it. Values that are NaN or infinite reach the queries that see
    them; no error is raised for them. A key that one query sees must be finite.
    """
    given: tuple[Any, ...] = (query, key, value)
    layout, plan, made = None, None, None
    if (
        attn_mask is key_bias is past_key is past_value is kv_lengths is None
        and softcap is None
        and window is None
        and (is_causal is True or is_causal is False)
        and enable_gqa is False
        and type(dropout_p) is float
        and not dropout_p
    ):
        layout, plan = plans.recall(given, ("attention", return_lse, backend, is_causal))
    if plan is not None:
        made = plan(given, (plan.scale if scale is None else check.real("scale", scale),))
        (out, lse), status = made
        if not status and not (is_causal and masked.doubtful(out, lse)):
            return (out, lse) if return_lse else out  # type: ignore[return-value]
    a, b = check.array("query", query, 2, narrow=True), check.array("key", key, 2, narrow=True)
    c = check.array("value", value, 2, narrow=True)
    check.same_dtype("query", a, "key", b)
    check.same_dtype("query", a, "value", c)
    d, dv = a.shape[-1], c.shape[-1]
    check.length("query", "key", b, -1, d, f"(..., m, {d})")
    check.length("key", "value", c, -2, b.shape[-2], f"(..., {b.shape[-2]}, dv)")
    check.no_dropout(dropout_p)
    name, parameters = capped("attention", softcap, default_scale(scale, d))
    sizes = (("d", d), ("dv", dv))
    call = Call.of(
        a, b, c, attn_mask, is_causal, enable_gqa, window, key_bias, past_key, past_value, kv_lengths
    )
    names = {"q": "query", "k": "key", "v": "value"}
    out, lse = _call(name, names, call, parameters, sizes, backend, return_lse, layout, made)
    if call.groups is not None:
        out, lse = call.groups.join(out, 2), call.groups.join(lse, 1) if return_lse else lse
    out = storage.tensor(out) if storage.is_tensor(query) else out
    return (out, lse) if return_lse else out


def default_scale(scale: Any, d: int) -> float:
    """The scale of dot products: `scale`, checked, or ``1/sqrt(d)`` (1 if d = 0)."""
    if scale is None:
        return 1 / math.sqrt(d) if d else 1.0
    return check.real("scale", scale)


def projection(q: Array, k: Array, scale: Any, sigma: Any) -> tuple[str, tuple[float, ...], Array | None]:
    """The kernel of a projection, its parameters, and bandwidths (..., m) where every key has its own."""
    if sigma is None:
        return "project_dot", (default_scale(scale, q.shape[-1]),), None
    if scale is not None:
        raise ValueError(refused("scale, sigma", f"{scale!r} and {sigma!r}", "one of them"))
    if check.per_key(sigma):
        return "project_bandwidths", (), check.bandwidths(sigma, q, k.shape[-2])
    return "project_gaussian", (check.bandwidth(sigma),), None


def capped(name: str, softcap: Any, scale: float) -> tuple[str, tuple[float, ...]]:
    """The kernel of `name` with a soft cap or without, and its parameters."""
    if softcap is None:
        return name, (scale,)
    return f"{name}_softcap", (check.real("softcap", softcap, positive=True), scale)


def _call(
    name: str,
    public: dict[str, str],
    call: Call,
    parameters: tuple[float, ...],
    sizes: masked.Sizes,
    backend: str | None,
    return_lse: bool,
    layout: plans.Key | None,
    made: plans.Result | None,
) -> tuple[Array, Array]:
    """`(out, lse)` of a kernel under the call's mask; arguments as in `masked.forward` and `_run`."""
    if storage.narrow(call.arrays["q"].dtype):

        def compute(arrays: dict[str, Array]) -> tuple[Array, Array]:
            wide = replace(call, arrays=arrays)
            return _call(name, public, wide, parameters, sizes, backend, return_lse, None, None)

        return narrow.forward(name, call, parameters, sizes, backend, return_lse, layout, made, compute)
    arrays, lead, mask = call.arrays, call.lead, call.mask
    projects = "v" not in arrays
    if mask is not None and not (projects and mask.ranges is None and mask.pairs is None):
        if layout is not None and not made and all(size for _, size in sizes):
            found = masked.remembered(
                name, arrays, parameters, sizes, lead, backend, mask, return_lse, layout
            )
            if found is not None:
                return found
        return masked.forward(name, public, arrays, parameters, sizes, lead, backend, mask)
    if mask is not None and mask.key_bias is not None:
        name, arrays = f"{name}_biased", arrays | {"key_bias": mask.key_bias}
    return _run(name, arrays, parameters, sizes, lead, backend, return_lse, layout, made)


def _run(
    name: str,
    arrays: dict[str, Array],
    parameters: tuple[float, ...],
    sizes: tuple[tuple[str, int], ...],
    lead: tuple[int, ...],
    backend: str | None,
    return_lse: bool,
    layout: plans.Key | None,
    made: plans.Result | None,
) -> tuple[Array, Array]:
    """`(out, lse)` of a kernel, or the error that its status means; lse may be empty unless asked for.

    made: what a plan gave already, to be looked at; else the kernel is run, and its plan kept for `layout`.
    """
    dtype = arrays["q"].dtype
    narrow = {feature for feature, size in sizes if size == 0}
    given = arrays
    arrays, sizes = masked.widened(arrays, sizes)
    kind = "float32" if dtype == check.FLOAT32 else "float64"
    call = (name, lead, arrays, parameters, kind, sizes, backend)
    skip = () if return_lse else ("lse",)
    (out, lse), status = made or run(*call, skip=skip, key=None if narrow else layout)
    if lse is None and status > 0:
        (out, lse), status = run(*call)  # the log tells rows without keys from rows out of range
    assert out is not None
    lse = np.empty(0, dtype) if lse is None else lse
    if status < 0:
        raise MemoryError(
            f"{name}: no memory for the work space of {dtype} queries of shape {given['q'].shape}"
        )
    doubtful = lse.size - np.count_nonzero(np.isfinite(lse))
    unseen = "v" not in arrays and out.size and math.isnan(out.max())
    if status > doubtful or unseen or (doubtful and not _excluded(lse, arrays, lead)):
        _explain(given, dtype)
    return (out[..., :0] if sizes[-1][0] in narrow else out), lse


def _excluded(lse: Array, arrays: dict[str, Array], lead: tuple[int, ...]) -> bool:
    """Whether every row whose lse is not finite has no key to see, rather than scores out of range."""
    if not arrays["k"].shape[-2]:
        return True
    if "key_bias" not in arrays:
        return False
    blind = np.broadcast_to(np.isneginf(arrays["key_bias"]).all(axis=-1), lead)[..., None]
    return bool((np.isfinite(lse) | (np.isneginf(lse) & blind)).all())


def _explain(arrays: dict[str, Array], dtype: np.dtype[Any]) -> None:
    """Raise the error behind rows that could not be normalised."""
    public = {"q": "query", "k": "key"} if "v" in arrays else {"q": "q", "k": "k"}
    masked.explain({x: (name, arrays[x]) for x, name in public.items()}, None, dtype)
