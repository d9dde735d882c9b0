"""Peers that a just-in-time compiler makes: loops by Numba, and JAX's own attention by XLA, on the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Call: TypeAlias = Callable[[], Array]


def numba_peer(q: Array, k: Array, v: Array, threads: int, is_causal: bool = False) -> Call:
    """A fused loop in Numba: a row of scores, their exponentials and the mean, never a matrix of weights.

    Rows in parallel on `threads` threads, inner loops vectorised by LLVM under ``fastmath=True``, which lets
    it reassociate sums; our kernels use no such flag. Causal loops end at the key of the query's number.
    """
    import numba

    mean, scale = _fused(), q.dtype.type(1 / math.sqrt(q.shape[-1]))

    def call() -> Array:
        before = numba.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        try:
            out: Array = mean(q, k, v, scale, is_causal)
        finally:
            numba.set_num_threads(before)
        return out

    return call


@functools.cache
def _fused() -> Callable[..., Array]:
    import numba

    def mean(q: Any, k: Any, v: Any, scale: Any, is_causal: bool) -> Any:
        heads, n, d = q.shape
        features = v.shape[2]
        out = np.zeros((heads, n, features), q.dtype)
        for row in numba.prange(heads * n):
            h, i = row // n, row % n
            m = min(i + 1, k.shape[1]) if is_causal else k.shape[1]
            scores = np.empty(m, q.dtype)
            for j in range(m):
                s = scale * 0
                for a in range(d):
                    s += q[h, i, a] * k[h, j, a]
                scores[j] = s * scale
            top = scores[0]
            for j in range(m):
                top = max(top, scores[j])
            total = scale * 0
            for j in range(m):
                scores[j] = np.exp(scores[j] - top)
                total += scores[j]
            for j in range(m):
                w = scores[j]
                for a in range(features):
                    out[h, i, a] += w * v[h, j, a]
            for a in range(features):
                out[h, i, a] /= total
        return out

    made: Callable[..., Array] = numba.njit(parallel=True, fastmath=True, nogil=True)(mean)
    return made


def jax_peer(q: Array, k: Array, v: Array, threads: int, is_causal: bool = False) -> Call:
    """`jax.nn.dot_product_attention` under `jax.jit`, its arrays on the device (1, n, H, d) before any call.

    It takes its softmax in single precision whatever the inputs, and values as wide as the keys alone:
    float64 and other values are the same function in three calls of `jax.numpy`. XLA's threads are as many as
    the process has CPUs and cannot be set for a call (`label` says so).
    """
    import jax

    with jax.enable_x64(True):
        inputs = [jax.device_put(np.ascontiguousarray(x.swapaxes(0, 1))[None]) for x in (q, k, v)]
        attend = jax.jit(_attention(q, v, is_causal))

    def call() -> Array:
        with jax.enable_x64(True):
            out: Array = np.asarray(attend(*inputs).block_until_ready())[0].swapaxes(0, 1)
        return out

    return call


def _attention(q: Array, v: Array, is_causal: bool = False) -> Callable[..., Any]:
    import jax

    if q.dtype == np.float32 and q.shape[-1] == v.shape[-1]:
        return functools.partial(jax.nn.dot_product_attention, is_causal=is_causal)

    def plain(q: Any, k: Any, v: Any) -> Any:
        scores = jax.numpy.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(q.shape[-1])
        if is_causal:
            scores = jax.numpy.where(jax.numpy.tri(*scores.shape[-2:], dtype=bool), scores, -math.inf)
        return jax.numpy.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores), v)

    return plain


def jax_gradients(g: Array, q: Array, k: Array, v: Array) -> Callable[[], tuple[Array, Array, Array]]:
    """The pullback of the attention of `jax_peer` under `jax.jit`, at g."""
    import jax

    def pull(g: Any, *given: Any) -> Any:
        return jax.vjp(_attention(q, v), *given)[1](g)

    with jax.enable_x64(True):
        inputs = [jax.device_put(np.ascontiguousarray(x.swapaxes(0, 1))[None]) for x in (g, q, k, v)]
        jitted = jax.jit(pull)

    def call() -> tuple[Array, Array, Array]:
        with jax.enable_x64(True):
            dq, dk, dv = (np.asarray(x.block_until_ready())[0].swapaxes(0, 1) for x in jitted(*inputs))
        return dq, dk, dv

    return call


def label(peer: str, threads: int, cpus: int) -> str:
    """What the rows of a peer are called: JAX uses all `cpus`, whatever the `threads` of the others."""
    return f"{peer} on {cpus} threads" if peer == "jax" and threads != cpus else peer
