"""What the error bounds are told: arguments checked, a kernel's constants, chunks of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from projsym import masks
from projsym.masks import Mask
from projsym.runtime import storage

Array: TypeAlias = NDArray[Any]
Doubles: TypeAlias = NDArray[np.float64]

LOG2E: Final = math.log2(math.e)
NARROW: Final = 2.0**-8  # unit roundoff of bfloat16
_PAIRS: Final = 1 << 18  # (query, key) pairs at a time: about 25 MB of temporaries


@dataclass(frozen=True)
class Kernel:
    """The constants of one kernel: its type's and those of the arguments that do not vary."""

    u: float
    least: float  # normal number
    largest: float
    floor: float
    lowest: int
    exp_error: float
    scale: float  # base 2, exact up to double rounding
    gaussian: bool
    widths: bool  # a bandwidth for each key; `scale` is then the largest
    biases: int  # how many numbers are added to a score
    block: int
    blocks: int
    depth: int
    sequential: bool
    cap: float | None  # base 2: soft-capped scores are ``cap * tanh(score / cap)``
    tanh_error: float  # absolute
    part: int  # keys in a part that has sums of its own, 0 without parts
    score_depth: int  # additions that a product of a score goes through at most, where the order is not known
    stored: bool = False  # whether results are rounded once more, to bfloat16
    weight_error: float = 0.0  # relative, of a weight when its vector is weighted

    @property
    def parts(self) -> int:
        """Parts of the keys, of whole blocks."""
        return -(-self.blocks // (self.part // self.block)) if self.part else 1

    @property
    def rescalings(self) -> int:
        """Blocks and merges that rescale a key's weight at most, where the order is not known."""
        if self.sequential or not self.part:
            return self.blocks
        return min(self.blocks, self.part // self.block + self.parts)

    @property
    def sum_is_positive(self) -> bool:
        """Whether the computed sum of weights is proven to be at least 1/2.

        The key that attains the maximum has weight ``exp2(0)``, and every later factor is ``exp2(0)`` too.
        """
        lost = self.gamma(self.depth + self.blocks)
        return lost < 0.5 and self.blocks * math.log1p(-self.exp_error) + math.log1p(-lost) > -math.log(2)

    def gamma(self, roundings: int) -> float:
        """``γ_r``; infinite when ``r u >= 1``."""
        x = roundings * self.u
        return x / (1 - x) if x < 1 else math.inf


def half_ulp(x: Doubles) -> Doubles:
    """Half a unit in the last place of bfloat16 numbers of at most that magnitude: what rounding to one may
    be off by. 8 digits; the least unit is that of the subnormal numbers, 2**-133."""
    exponent = np.maximum(np.frexp(x)[1], -125)
    found: Doubles = np.where(np.isfinite(x), np.ldexp(1.0, exponent - 9), math.inf)
    return found


def exact(
    dtype: DTypeLike | None, arrays: Mapping[str, Any]
) -> tuple[DTypeLike | None, bool, dict[str, Any]]:
    """The type that a kernel computes in, whether its results are stored as bfloat16, and the arrays with
    numbers of bfloat16 as float32."""
    kind: Any = arrays["q"].dtype if dtype is None else dtype
    narrow = kind == storage.BFLOAT16 if isinstance(kind, str) else storage.narrow(np.dtype(kind))
    return np.float32 if narrow else dtype, narrow, {x: storage.widened(a, x) for x, a in arrays.items()}


def arguments(
    q: Array,
    k: Array,
    v: Array,
    scale: float | None,
    sigma: float | Array | None,
    bias: Array | None,
    dtype: DTypeLike | None,
    block: int,
    depth: int | None,
    exp_error: float | None,
    sequential: bool,
    softcap: float | None = None,
    tanh_error: float | None = None,
    mask: Mapping[str, Any] | None = None,
    part: int | None = None,
    score_depth: int | None = None,
    stored: bool = False,
    weight_error: float | None = None,
) -> tuple[Kernel, tuple[int, ...], Mask | None]:
    """The kernel's constants, the broadcast leading shape and the mask, or the errors of `forward_bound`."""
    kind = np.dtype(q.dtype if dtype is None else dtype)
    wider = kind == np.dtype(np.longdouble) and exp_error is not None
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)) and not wider:
        raise TypeError(
            f"dtype: got {kind}, allowed are float32, float64 and bfloat16, longdouble with an exp_error"
        )
    arrays = {"q": (q, 2), "k": (k, 2), "v": (v, 2)} | ({} if bias is None else {"key_bias": (bias, 1)})
    if isinstance(sigma, np.ndarray):
        arrays["sigma"] = (sigma, 1)
    for name, (x, rank) in arrays.items():
        _checked(name, x, rank, kind)
    m, d = k.shape[-2:]
    if q.shape[-1] != d:
        raise ValueError(f"q, k: got {q.shape[-1]} and {d} features, they must be equal")
    if v.shape[-2] != m:
        raise ValueError(f"k, v: got {m} keys and {v.shape[-2]} values, they must be equal")
    if bias is not None and bias.shape[-1] != m:
        raise ValueError(f"key_bias: got {bias.shape[-1]} entries for {m} keys")
    if isinstance(sigma, np.ndarray):
        if sigma.shape[-1] != m:
            raise ValueError(f"sigma: got {sigma.shape[-1]} entries for {m} keys")
        exact = sigma.astype(np.float64)
        if not ((exact > 1e-150) & (exact < 1e150)).all():
            raise ValueError("sigma: allowed are numbers between 1e-150 and 1e150")
    for name, (x, _) in arrays.items():
        if not (np.isfinite(x) | (np.isneginf(x) & (name == "key_bias"))).all():
            allowed = "finite numbers and -inf" if name == "key_bias" else "finite numbers"
            raise ValueError(f"{name}: it holds NaN or infinity, allowed are {allowed}")
    try:
        lead = np.broadcast_shapes(*(x.shape[:-rank] for x, rank in arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {x.shape}" for name, (x, _) in arrays.items())
        raise ValueError(f"leading axes do not broadcast: {shapes}") from error
    found = masks.resolve(lead, q.shape[-2], m, kind, key_bias=bias, **(mask or {}))
    pairs = None if found is None else found.pairs
    if pairs is not None and not (pairs < math.inf).all():
        raise ValueError("attn_mask: it holds NaN or infinity, allowed are finite numbers and -inf")
    capped = _cap(softcap, tanh_error, sigma, kind)
    terms = (bias is not None) + (pairs is not None)
    one, widths = (float(sigma.min(initial=1.0)), True) if isinstance(sigma, np.ndarray) else (sigma, False)
    kernel = _kernel(d, m, scale, one, terms, kind, block, depth, exp_error, sequential, *capped)
    if part is not None and (part < 1 or part % block):
        raise ValueError(f"part: got {part}, allowed are multiples of block = {block}")
    if score_depth is not None and score_depth < 0:
        raise ValueError(f"score_depth: got {score_depth}, allowed are integers >= 0")
    most = max(0, d - 1) if score_depth is None else min(score_depth, max(0, d - 1))
    parted = part if part and m > part else 0
    narrow = (NARROW if stored else 0.0) if weight_error is None else weight_error
    if not 0 <= narrow < 0.5:
        raise ValueError(f"weight_error: got {weight_error}, allowed are numbers from 0 to below 1/2")
    kernel = replace(kernel, widths=widths, part=parted, score_depth=most, stored=stored, weight_error=narrow)
    return kernel, lead, found


def _cap(
    softcap: float | None, tanh_error: float | None, sigma: float | Array | None, dtype: np.dtype[Any]
) -> tuple[float | None, float]:
    """The bound of the scores in base 2, and the absolute error of the hyperbolic tangent."""
    if softcap is None:
        return None, 0.0
    if sigma is not None:
        raise ValueError("softcap: given with sigma, allowed is the dot product")
    if not (math.isfinite(softcap) and 1e-30 < softcap < 1e30):
        raise ValueError(f"softcap: got {softcap}, allowed are numbers between 1e-30 and 1e30")
    if tanh_error is None:
        from projsym.codegen.tanh2 import certificate

        tanh_error = certificate(dtype.name).error
    if not 0 <= tanh_error < 0.5:
        raise ValueError(f"tanh_error: got {tanh_error}, allowed are numbers from 0 to below 1/2")
    return softcap * LOG2E, tanh_error


def _kernel(
    d: int,
    m: int,
    scale: float | None,
    sigma: float | None,
    biases: int,
    dtype: np.dtype[Any],
    block: int,
    depth: int | None,
    exp_error: float | None,
    sequential: bool,
    cap: float | None = None,
    tanh_error: float = 0.0,
) -> Kernel:
    if scale is not None and sigma is not None:
        raise ValueError(f"scale, sigma: got {scale} and {sigma}, one of them at most is allowed")
    if sigma is not None and not (math.isfinite(sigma) and sigma > 0 and 1e-150 < sigma < 1e150):
        raise ValueError(f"sigma: got {sigma}, allowed are numbers between 1e-150 and 1e150")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: got {scale}, allowed are finite numbers")
    if scale is None and sigma is None and d == 0:
        scale = 1.0  # every score is 0 whatever it is
    if block < 1:
        raise ValueError(f"block: got {block}, allowed are integers >= 1")
    if depth is not None and depth < 0:
        raise ValueError(f"depth: got {depth}, allowed are integers >= 0")
    if exp_error is None:
        from projsym.codegen.exp2 import certificate  # generation-time packages, not needed otherwise

        exp_error = certificate(dtype.name).worst
    if not 0 <= exp_error < 0.5:
        raise ValueError(f"exp_error: got {exp_error}, allowed are numbers from 0 to below 1/2")
    natural = 1 / sigma**2 if sigma is not None else 1 / math.sqrt(d) if scale is None else scale
    info = np.finfo(dtype)
    if abs(natural) * LOG2E >= float(info.max):
        raise OverflowError(f"{'scale' if sigma is None else 'sigma'}: scale * log2(e) exceeds {dtype.name}")
    lowest = int(info.minexp) + 2
    return Kernel(
        u=float(info.eps) / 2,
        least=float(info.tiny),
        largest=float(info.max),
        floor=math.ldexp(1.0, lowest),
        lowest=lowest,
        exp_error=exp_error,
        scale=natural * LOG2E,
        gaussian=sigma is not None,
        widths=False,
        biases=biases,
        block=block,
        blocks=max(1, -(-m // block)),
        depth=m if depth is None else depth,
        sequential=sequential,
        cap=cap,
        tanh_error=tanh_error,
        part=0,
        score_depth=max(0, d - 1),
    )


def _checked(name: str, x: Array, rank: int, dtype: np.dtype[Any]) -> None:
    if x.dtype not in (np.dtype(np.float32), np.dtype(np.float64)) or x.dtype.itemsize > dtype.itemsize:
        raise TypeError(f"{name}: got {x.dtype}, a {dtype.name} kernel takes {dtype.name}")
    if x.ndim < rank:
        raise ValueError(f"{name}: got shape {x.shape}, at least {rank} axes are needed")


Chunk: TypeAlias = tuple[
    tuple[int, Any], Doubles, Doubles, Doubles, Doubles, NDArray[np.intp], Doubles | None, Doubles | None
]


def heads(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    lead: tuple[int, ...],
    mask: Mask | None = None,
    sigma: float | Array | None = None,
) -> Iterator[Chunk]:
    """Chunks of rows: where they go, queries, visible keys, their biases, values and places, what is added to
    each score (rows, keys), minus infinity for a hidden pair, or None if there is no such mask, and the keys'
    bandwidths, or None if they have none of their own."""
    n, m = q.shape[-2], k.shape[-2]
    for head, index in enumerate(np.ndindex(lead)):
        ks, vs = (np.broadcast_to(x, lead + x.shape[-2:])[index].astype(np.float64) for x in (k, v))
        qs = np.broadcast_to(q, lead + q.shape[-2:])[index].astype(np.float64)
        bs = np.zeros(m) if bias is None else np.broadcast_to(bias, (*lead, m))[index].astype(np.float64)
        ws = None
        if isinstance(sigma, np.ndarray):
            ws = np.broadcast_to(sigma, (*lead, m))[index].astype(np.float64)
        added = (
            None
            if mask is None or (mask.pairs is None and mask.ranges is None)
            else _added(mask, lead, index)
        )
        seen: NDArray[np.bool_] = bs > -math.inf
        sees: NDArray[np.bool_] = np.ones(n, bool)
        if added is not None:
            added = np.where(seen, added, -math.inf)
            seen, sees = np.isfinite(added.max(axis=0, initial=-math.inf)), np.isfinite(added.max(axis=1))
        if not seen.any():
            continue
        step, place, rows = max(1, _PAIRS // m), np.flatnonzero(seen), np.flatnonzero(sees)
        for i in range(0, len(rows), step):
            at = rows[i : i + step]
            part = None if added is None else added[np.ix_(at, place)]
            yield (
                (head, at),
                qs[at],
                ks[seen],
                bs[seen],
                vs[seen],
                place,
                part,
                None if ws is None else ws[seen],
            )


def added(mask: Mask | None, lead: tuple[int, ...], n: int, m: int) -> Doubles:
    """What a mask adds to the scores, (heads, n, m): numbers of pairs and keys, -inf for a hidden pair."""
    out = np.zeros((math.prod(lead), n, m))
    if mask is not None:
        for head, index in enumerate(np.ndindex(lead)):
            out[head] = _added(mask, lead, index)
            if mask.key_bias is not None:
                out[head] += np.broadcast_to(mask.key_bias, (*lead, m))[index]
    return out


def _added(mask: Mask, lead: tuple[int, ...], index: tuple[int, ...]) -> Doubles:
    """What a mask adds to the scores of one head, minus infinity where it hides a pair."""
    shape = (mask.n, mask.m)
    own = index[len(lead) - len(mask.leading) :]
    at = tuple(i if size > 1 else 0 for i, size in zip(own, mask.leading, strict=True))
    pairs = np.zeros(shape) if mask.pairs is None else np.broadcast_to(mask.pairs, (*lead, *shape))[index]
    return np.where(mask.seen(at), pairs.astype(np.float64), -math.inf)
