"""Peers: other implementations of softmax(q kᵀ / sqrt(d)) v, each as it is called by its users."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from projsym.bench.gate import softmax_mean
from projsym.bench.jitted import jax_peer, numba_peer
from projsym.runtime import storage

Array: TypeAlias = NDArray[Any]
Call: TypeAlias = Callable[[], Array]


class Prepare(Protocol):
    """What readies a peer for inputs and a number of threads; causal: query i sees the keys j <= i."""

    def __call__(self, q: Array, k: Array, v: Array, threads: int, is_causal: bool = False) -> Call: ...


def available(dtype: str = "float32") -> tuple[dict[str, Prepare], dict[str, str]]:
    """The peers that can run here on arrays of a dtype, by name, and for each of the others what it lacks."""
    peers: dict[str, Prepare] = {}
    missing: dict[str, str] = {}
    for name, (prepare, needs) in _PEERS.items():
        if dtype == storage.BFLOAT16 and name not in NARROW:
            missing[name] = f"called with no {dtype} here"
            continue
        absent = [module for module in needs if importlib.util.find_spec(module) is None]
        if absent:
            missing[name] = f"not installed: {', '.join(absent)} (pip install projsym[compare])"
        else:
            peers[name] = prepare
    return peers, missing


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limit NumPy's BLAS and, where it is installed, PyTorch to `threads` threads, and restore them."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(threadpool_limits(threads, user_api="blas"))
        if importlib.util.find_spec("torch"):
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield


def numpy_peer(q: Array, k: Array, v: Array, threads: int, is_causal: bool = False) -> Call:
    """Whole arrays in NumPy; its BLAS uses the threads of `limited`, the rest of it one.

    A causal mask is an array that is added to the scores, made before any call is timed.
    """
    sizes = (q.shape[-2], k.shape[-2])
    mask = np.triu(np.full(sizes, -np.inf, q.dtype), 1) if is_causal else None
    return lambda: softmax_mean(q, k, v, mask)


def torch_peer(q: Array, k: Array, v: Array, threads: int, is_causal: bool = False) -> Call:
    """`torch.nn.functional.scaled_dot_product_attention` on (1, H, n, d), as installed, no gradient."""
    import torch

    inputs = [storage.tensor(x)[None] for x in (q, k, v)]
    narrow = storage.narrow(q.dtype)

    def call() -> Array:
        with torch.inference_mode():
            made = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=is_causal)[0]
            out: Array = made.view(torch.int16).numpy().view(storage.BITS) if narrow else made.numpy()
        return out

    return call


def onnxruntime_peer(q: Array, k: Array, v: Array, threads: int, is_causal: bool = False) -> Call:
    """ONNX Runtime on the CPU, by the fastest operator that it has for the dtype.

    In float32 that is its own fused MultiHeadAttention on (1, n, H d), into which the inputs are brought
    before any call is timed. It has no double, so float64 is the graph MatMul, Mul, Softmax, MatMul on
    (1, H, n, d). (The standard Attention operator is not used: in double its error is that of float32.)
    Causal attention, in float32 alone, is its GroupQueryAttention on the same arrays, n = m.
    """
    import onnxruntime as ort

    fused = q.dtype == np.float32
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads of its pool that spin after a call would take the cores from the next function's sample.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    arrays = {"q": q, "k": k, "v": v}
    feed = {name: _packed(x) if fused else x[None] for name, x in arrays.items()}
    model = onnx_model({name: x.shape for name, x in feed.items()}, len(q), q.shape[-1], q.dtype, is_causal)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    features = v.shape[-1]

    def call() -> Array:
        out: Array = session.run(None, feed)[0][0]
        return out.reshape(len(out), -1, features).swapaxes(0, 1) if fused else out

    return call


def _packed(x: Array) -> Array:
    """(H, n, d) as (1, n, H d)."""
    return np.ascontiguousarray(x.swapaxes(0, 1)).reshape(1, x.shape[1], -1)


def onnx_model(
    shapes: dict[str, tuple[int, ...]],
    heads: int,
    features: int,
    dtype: np.dtype[Any],
    is_causal: bool = False,
) -> bytes:
    """The serialised graph for inputs q, k, v: a fused operator in float32, five in float64."""
    from onnx import TensorProto, helper

    fused = dtype == np.float32
    kind = TensorProto.FLOAT if fused else TensorProto.DOUBLE
    info = {x: helper.make_tensor_value_info(x, kind, shape) for x, shape in shapes.items()}
    shape = [*shapes["q"][:-1], shapes["v"][-1]]
    scale = helper.make_tensor("scale", kind, [], [1 / math.sqrt(features)])
    constants = [] if fused else [scale]
    if is_causal:
        # The number of keys less one, for each sequence, and the number.
        numbers = {"last": shape[1] - 1, "keys": shape[1]}
        constants = [helper.make_tensor(x, TensorProto.INT32, [1], [i]) for x, i in numbers.items()]
        given, counts = ["q", "k", "v", "", "", *numbers], {"num_heads": heads, "kv_num_heads": heads}
        nodes = [helper.make_node("GroupQueryAttention", given, ["out"], domain=_CONTRIB, **counts)]
    elif fused:
        nodes = [
            helper.make_node("MultiHeadAttention", list("qkv"), ["out"], domain=_CONTRIB, num_heads=heads)
        ]
    else:
        nodes = [
            helper.make_node("Transpose", ["k"], ["k_t"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["q", "k_t"], ["products"]),
            helper.make_node("Mul", ["products", "scale"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
            helper.make_node("MatMul", ["weights", "v"], ["out"]),
        ]
    out = helper.make_tensor_value_info("out", kind, shape)
    graph = helper.make_graph(nodes, "attention", list(info.values()), [out], constants)
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(_CONTRIB, 1)]
    serialised: bytes = helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString()
    return serialised


_CONTRIB = "com.microsoft"

_PEERS: dict[str, tuple[Prepare, tuple[str, ...]]] = {
    "numpy": (numpy_peer, ()),
    "torch": (torch_peer, ("torch",)),
    "onnxruntime": (onnxruntime_peer, ("onnxruntime", "onnx")),
    "jax": (jax_peer, ("jax",)),
    "numba": (numba_peer, ("numba",)),
}

NARROW = ("torch",)
"""Those that are called with bfloat16."""

FEW = ("numpy", "torch", "onnxruntime")
"""Those that need no compilation for each shape or dtype: what a short benchmark compares with."""
