"""The backward pass: gradients of the projection and of attention, from what the forward pass saved.

The weights are computed again from the log-sum-exp, theorem IV.6b, so nothing of size n times m is stored.
Arrays and masks are as in `projsym.attention`. Leading axes broadcast; the gradient by an array that several
heads share is the sum over them, added in double in the order of the heads. Results do not depend on the
number of threads, bit by bit: every sum is in one order, whoever computes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from projsym import masked
from projsym.attention import Backend, capped, default_scale, projection
from projsym.errors import refused
from projsym.masked import Call
from projsym.masks import Window
from projsym.runtime import arguments as check
from projsym.runtime import manifest
from projsym.runtime import plan as plans
from projsym.runtime.dispatch import run
from projsym.runtime.layout import Array


def attention_backward(
    g: ArrayLike,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    out: ArrayLike,
    lse: ArrayLike,
    *,
    attn_mask: ArrayLike | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    softcap: float | None = None,
    window: Window | None = None,
    key_bias: ArrayLike | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    kv_lengths: ArrayLike | None = None,
    g_lse: ArrayLike | None = None,
    backend: Backend = None,
) -> tuple[Array, ...]:
    """Gradients of :func:`projsym.attention` with respect to query, key and value.

    >>> from projsym import attention
    >>> g, q, k, v = np.random.default_rng(0).standard_normal((4, 8, 50, 16))
    >>> b = np.zeros(50)
    >>> out, lse = attention(q, k, v, return_lse=True)
    >>> dq, dk, dv = attention_backward(g, q, k, v, out, lse)    # of sum(g * out)
    >>> out, lse = attention(q, k, v, key_bias=b, is_causal=True, return_lse=True)
    >>> dq, dk, dv, db = attention_backward(g, q, k, v, out, lse, key_bias=b, is_causal=True)
    >>> db.shape
    (50,)

    g: gradient of a loss with respect to `out`, (..., n, dv). query (..., n, d), key (..., m, d), value
    (..., m, dv) and the arguments of the mask: what `out` (..., n, dv) and `lse` (..., n) were computed from.
    g_lse: gradient with respect to `lse`, (..., n), natural logarithm; None: the loss does not use it.

    Returns arrays of the shapes and the dtype of query, key and value, then, where they are given, of
    key_bias, and of past_key and past_value. A query that saw no key (``lse`` = -inf) and a key that no query
    sees give and get 0; what is hidden from all queries may be NaN or infinite. Source: theorems
    ``IV.6b/attention_backward`` and ``IV.6b/attention_masked_backward``.
    Raises TypeError or ValueError naming the argument, also where it holds NaN or infinity; OverflowError if
    a gradient is outside the range of the dtype, or the weights are, because scores are so large that `lse`
    rounded to the dtype does not normalise them; CompilerError for backend "c" without a working compiler.
    """
    layout, plan = None, None
    if (
        attn_mask is None
        and key_bias is None
        and past_key is None
        and past_value is None
        and kv_lengths is None
        and softcap is None
        and window is None
        and g_lse is None
        and is_causal is False
        and enable_gqa is False
    ):
        layout, plan = plans.recall((g, query, key, value, out, lse), ("attention_backward", backend))
    # All that shapes and dtypes decide was checked when they were met first.
    if plan is not None and math.isfinite(lse.sum()):  # type: ignore[union-attr]
        parameter = plan.scale if scale is None else check.real("scale", scale)
        given: tuple[Any, ...] = (query, key, value, g, out, lse, *plan.constants)
        found, status = plan(given, (parameter,))
        if not status:
            return tuple(found)  # type: ignore[arg-type]
    q, k, v = check.array("query", query, 2), check.array("key", key, 2), check.array("value", value, 2)
    check.same_dtype("query", q, "key", k)
    check.same_dtype("query", q, "value", v)
    d, dv = q.shape[-1], v.shape[-1]
    check.length("query", "key", k, -1, d, f"(..., m, {d})")
    check.length("key", "value", v, -2, k.shape[-2], f"(..., {k.shape[-2]}, dv)")
    call = Call.of(
        q, k, v, attn_mask, is_causal, enable_gqa, window, key_bias, past_key, past_value, kv_lengths
    )
    saved = _saved(call, g, out, lse, g_lse, dv)
    name, parameters = capped("attention", softcap, default_scale(scale, d))
    public = {"q": "query", "k": "key", "v": "value"}
    made = _run(name, public, call, saved, parameters, (("d", d), ("dv", dv)), backend, layout)
    grads = [_shared(call, made["dq"], "q"), _shared(call, made["dk"], "k"), _shared(call, made["dv"], "v")]
    past = call.past or 0
    wanted = [grads[0], *(x[..., past:, :] if past else x for x in grads[1:])]
    if key_bias is not None:
        wanted.append(_shared(call, made["dkey_bias"], "key_bias"))
    if call.past is not None:
        wanted += [x[..., :past, :] for x in grads[1:]]
    return tuple(wanted)


def project_backward(
    g: ArrayLike,
    q: ArrayLike,
    k: ArrayLike,
    out: ArrayLike,
    lse: ArrayLike,
    *,
    scale: float | None = None,
    sigma: ArrayLike | None = None,
    key_bias: ArrayLike | None = None,
    attn_mask: ArrayLike | None = None,
    is_causal: bool = False,
    window: Window | None = None,
    kv_lengths: ArrayLike | None = None,
    g_lse: ArrayLike | None = None,
    backend: Backend = None,
) -> tuple[Array, Array, Array] | tuple[Array, Array, Array, Array]:
    """Gradients of :func:`projsym.project` with respect to queries, keys, and `scale` or `sigma`.

    >>> from projsym import project
    >>> g, q, k = np.random.default_rng(0).standard_normal((3, 8, 50, 16))
    >>> out, lse = project(q, k, sigma=1.5, return_lse=True)
    >>> dq, dk, dsigma = project_backward(g, q, k, out, lse, sigma=1.5)
    >>> dsigma.shape                            # one a head
    (8,)
    >>> out, lse = project(q, k, key_bias=np.zeros(50), return_lse=True)
    >>> dq, dk, dscale, dbias = project_backward(g, q, k, out, lse, key_bias=np.zeros(50))

    g: gradient of a loss with respect to `out`, (..., n, d). q (..., n, d), k (..., m, d), `scale` or
    `sigma`, key_bias (..., m) and the other arguments of the mask: what `out` (..., n, d) and `lse` (..., n)
    were computed from. g_lse: gradient with respect to `lse`, (..., n); None: the loss does not use it.

    Returns gradients of the shapes of q and k, then that of `scale` (of `sigma` where it is given), one
    number a head, of the leading shape (...): the parameter is one for all heads, so its gradient is their
    sum. Of bandwidths of keys the gradient has the shape of `sigma`. Then, with a key bias, its gradient
    (..., m). All are of the inputs' dtype. The gradient of the keys is both through the values and through
    the weights. `projsym.bounds_backward` bounds their errors, but for bandwidths of keys. A query that saw
    no key, and a key that no query sees, give and get 0. Source: theorems ``IV.6b/project_…``. Errors as in
    :func:`attention_backward`.
    """
    a, b = check.array("q", q, 2), check.array("k", k, 2)
    check.same_dtype("q", a, "k", b)
    d = a.shape[-1]
    check.length("q", "k", b, -1, d, f"(..., m, {d})")
    name, parameters, each = projection(a, b, scale, sigma)
    call = Call.projecting(a, b, attn_mask, is_causal, window, key_bias, kv_lengths, each)
    saved = _saved(call, g, out, lse, g_lse, d)
    made = _run(name, {"q": "q", "k": "k"}, call, saved, parameters, (("d", d),), backend)
    if each is not None:
        whole = _shared(call, made["dsigma"], "sigma")
    else:
        # The part of each query is of the inputs' dtype; they are added in double and rounded once.
        parts = made["dscale" if sigma is None else "dsigma"]
        whole = np.asarray(parts.sum(axis=-1, dtype=np.float64)).astype(a.dtype)
    first = (_shared(call, made["dq"], "q"), _shared(call, made["dk"], "k"), whole)
    return first if key_bias is None else (*first, _shared(call, made["dkey_bias"], "key_bias"))


def _saved(call: Call, g: Any, out: Any, lse: Any, g_lse: Any, features: int) -> dict[str, Array]:
    """The upstream gradients and what the forward pass saved, checked, by the kernel's names."""
    q, n = call.arrays["q"], call.arrays["q"].shape[-2]
    lead = call.lead if call.groups is None else (*call.lead[:-2], call.groups.heads * call.groups.size)
    found: dict[str, Array] = {}
    for name, value, core in (("g", g, 2), ("out", out, 2), ("lse", lse, 1), ("g_lse", g_lse, 1)):
        if value is None and name == "g_lse":
            found[name] = np.broadcast_to(np.zeros(n, q.dtype), (*call.lead, n))
            continue
        x = check.array(name, value, core)
        check.same_dtype(call.names[0], q, name, x)
        wanted = (*lead, n, features) if core == 2 else (*lead, n)
        if x.shape != wanted:
            raise ValueError(refused(name, f"shape {x.shape}", f"{wanted}, the shape of the forward result"))
        found[name] = x if call.groups is None else call.groups.query(x, core)
    saved = found["lse"]
    if saved.size and not saved.max() < math.inf:
        raise ValueError(refused("lse", "NaN or +inf", "finite numbers, and -inf for a query without keys"))
    if saved.size and saved.min() == -math.inf:
        # exp(score - lse) is then 0 for every key: such a query has no gradient.
        found["lse"] = np.where(np.isneginf(saved), np.array(np.inf, saved.dtype), saved)
    return found


def _run(
    name: str,
    public: dict[str, str],
    call: Call,
    saved: dict[str, Array],
    parameters: tuple[float, ...],
    sizes: masked.Sizes,
    backend: str | None,
    layout: plans.Key | None = None,
) -> dict[str, Array]:
    """The outputs of a backward kernel by name, or the error that they mean; a plan is kept for `layout`."""
    made, bad = _outputs(name, call.arrays, call, saved, parameters, sizes, backend, layout)
    if not bad:
        return made
    arrays = call.arrays if call.mask is None else masked.cleaned(call.arrays, call.lead, call.mask)
    if arrays is not call.arrays:
        made, bad = _outputs(name, arrays, call, saved, parameters, sizes, backend)
        if not bad:
            return made
    given = {x: (public.get(x, x), a) for x, a in (arrays | saved).items() if x != "lse"}
    masked.explain(given, call.mask, arrays["q"].dtype, "gradient or a weight")
    raise AssertionError("unreachable")


def _outputs(
    name: str,
    arrays: dict[str, Array],
    call: Call,
    saved: dict[str, Array],
    parameters: tuple[float, ...],
    sizes: masked.Sizes,
    backend: str | None,
    layout: plans.Key | None = None,
) -> tuple[dict[str, Array], int]:
    """What the kernel gives, with features of length 0 as they were asked for, and its status."""
    q = arrays["q"]
    kernel, given = (name, arrays) if call.mask is None else masked.choose(name, arrays, call.mask)
    wide, wider = masked.widened(given | saved, sizes)
    ranges = call.mask.ranges if call.mask else None
    kernel += "_backward"
    outputs: Sequence[Array | None]
    key, plan, options = None, None, (kernel, *wide, call.lead, backend)
    if ranges is None:
        key, plan = plans.recall(tuple(wide.values()), options)
    if plan is not None:
        outputs, status = plan(tuple(wide.values()), parameters)
    else:
        outputs, status = run(
            kernel, call.lead, wide, parameters, q.dtype.name, wider, backend, ranges=ranges, key=key
        )
    if status < 0:
        raise MemoryError(f"{kernel}: no memory for the work space of {q.dtype} queries of shape {q.shape}")
    narrow = {feature for feature, size in sizes if size == 0}
    made: dict[str, Array] = {}
    for (x, feature), a in zip(manifest.load(manifest.KERNELS)[kernel].outputs, outputs, strict=True):
        assert a is not None  # none is skipped
        made[x] = a[..., :0] if feature in narrow else a
    if layout is not None and not narrow:
        _remember(layout, plans.recall(tuple(wide.values()), options)[1], call, wide)
    return made, status


def _remember(layout: plans.Key, plan: plans.Plan | None, call: Call, wide: dict[str, Array]) -> None:
    """Keep a plan of the kernel's arrays for the caller's, if these are the same and no head is shared."""
    vectors = (wide[x] for x in ("q", "k", "v"))
    if plan is not None and call.groups is None and all(x.shape[:-2] == call.lead for x in vectors):
        plan.constants = (wide["g_lse"],)
        plans.remember(layout, plan)


def _shared(call: Call, gradient: Array, name: str) -> Array:
    """A gradient in the shape of its argument: summed over the heads that share it [I.10g]."""
    core = 1 if name in ("key_bias", "sigma") else 2
    like = call.mask.key_bias if name == "key_bias" and call.mask else call.arrays[name]
    assert like is not None
    lead, own = gradient.shape[:-core], like.shape[:-core]
    more = len(lead) - len(own)
    axes = tuple(range(more)) + tuple(
        more + n for n, (size, all_) in enumerate(zip(own, lead[more:], strict=True)) if size == 1 != all_
    )
    if axes:
        gradient = gradient.sum(axis=axes, dtype=np.float64, keepdims=True).astype(gradient.dtype)
        gradient = gradient.reshape(gradient.shape[more:])
    if call.groups is None:
        return gradient
    if name == "q":
        return call.groups.join(gradient, core)
    at = gradient.ndim - core - 1
    return (
        gradient
        if gradient.ndim == core
        else gradient.reshape(*gradient.shape[:at], *gradient.shape[at + 1 :])
    )
