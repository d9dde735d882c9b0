"""What `projsym.compile` returns: forward and backward of one weight, with their proof and sources."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from projsym.attention import Backend
from projsym.errors import refused
from projsym.masks import Mask
from projsym.proof.prove import Proof
from projsym.runtime import arguments as check
from projsym.runtime.dispatch import Kernel, make
from projsym.runtime.layout import Array

from .arguments import Arguments
from .form import Form
from .kernels import OwnEntry, Sources
from .positive import Positivity

Sizes = tuple[tuple[str, int], ...]


class OwnAttention:
    """Attention with one weight; made by :func:`projsym.compile`, never by hand.

    form: what was read. mask: which keys a query sees. positivity: the sign of the weight. proofs: of the
    forward and the backward theorem.
    """

    def __init__(
        self,
        form: Form,
        mask: Any,
        positivity: Positivity,
        proofs: tuple[Proof, Proof],
        forward: Sources,
        backward: Sources,
    ) -> None:
        self.form, self.mask, self.positivity, self.proofs = form, mask, positivity, proofs
        self.sources = {"forward": forward, "backward": backward}
        self._entries = {x: s.entry() for x, s in self.sources.items()}
        self._kernels: dict[tuple[Any, ...], Kernel] = {}
        self._arguments = Arguments(form, mask)

    @property
    def saves(self) -> str:
        """What the forward pass saves of each query: "lse", the logarithm of the sum of its weights, or
        "mass", the sum itself."""
        return "lse" if self.form.exponential else "mass"

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike | None = None,
        *,
        return_saved: bool = False,
        past: int = 0,
        backend: Backend = None,
        **given: Any,
    ) -> Any:
        """The mean of the values by the weights of each query.

        query (..., n, d), key (..., m, d), value (..., m, dv), left out where the keys are the values;
        float32 or float64, one dtype; leading axes broadcast without a copy. given: parameters as real
        numbers; numbers of a key as arrays (..., m), of a query (..., n) or (..., 1), of the dtype of the
        query; positions are optional (`query_position`, `key_position`, by default 0, 1, …).
        return_saved: also return `saves`, shape (..., n), which `backward` needs.
        past: how many keys came before the first query: positions of queries, and the mask, start there.

        A query without keys, or that has no key with a positive weight, gets 0, and saves what an empty sum
        is: mass 0, lse -inf. Raises TypeError or ValueError naming the argument; ValueError for NaN or
        infinity in it; OverflowError if a row cannot be normalised in the range of the dtype; CompilerError
        for backend "c" without a compiler.
        """
        arrays, parameters, lead = self._arguments.forward(query, key, value, given, past)
        mask = self._arguments.masked(arrays, lead, past)
        (out, saved), status = self._run("forward", arrays, parameters, lead, backend, mask)
        if status and not self._normalised(out, saved, arrays, mask):
            self._explain(arrays)
        return (out, saved) if return_saved else out

    def backward(
        self,
        g: ArrayLike,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike | None,
        out: ArrayLike,
        saved: ArrayLike,
        *,
        g_saved: ArrayLike | None = None,
        past: int = 0,
        backend: Backend = None,
        **given: Any,
    ) -> dict[str, Array]:
        """Gradients of a loss with respect to every argument, by name: "query", "key", "value", and those of
        the weight that were not fixed.

        >>> import sympy as sp
        >>> import projsym
        >>> from projsym.own import inner, j, k, q
        >>> f = projsym.compile(sp.exp(sp.Symbol("scale") * inner(q, k[j])))
        >>> query, key, value, g = np.random.default_rng(0).standard_normal((4, 2, 5, 4))
        >>> out, saved = f(query, key, value, return_saved=True, scale=0.5)
        >>> made = f.backward(g, query, key, value, out, saved, scale=0.5)    # of sum(g * out)
        >>> made["scale"].shape             # one number a head
        (2,)

        g (..., n, dv): gradient with respect to `out`; g_saved (..., n): with respect to `saved`, None where
        the loss does not use it. Other arguments are those of the forward pass, but leading axes do not
        broadcast. A gradient has the shape of its argument; that of a parameter is one number a head, shape
        (...). A positive part ``Max(0, x)`` counts with the derivative of the side that rounding puts x on.

        Raises as the forward pass; OverflowError also for gradients outside the range of the dtype, and where
        a weight has no derivative (a root of zero).
        """
        arrays, parameters, lead = self._arguments.backward(
            g, query, key, value, out, saved, g_saved, given, self.saves, past
        )
        mask = self._arguments.masked(arrays, lead, past)
        outputs, bad = self._run("backward", arrays, parameters, lead, backend, mask)
        if bad:
            self._explain(arrays)
        made: dict[str, Array] = {}
        entry = self._entries["backward"]
        for (name, _), axes, a in zip(entry.outputs, entry.output_axes, outputs, strict=True):
            made[self._arguments.gradient(name)] = self._arguments.shaped(name, axes, a, arrays, given)
        return made

    def _run(
        self,
        which: str,
        arrays: dict[str, Array],
        parameters: dict[str, float],
        lead: tuple[int, ...],
        backend: Any,
        mask: Mask | None,
    ) -> tuple[list[Array], int]:
        entry: OwnEntry = self._entries[which]
        widths = {x.feature: arrays[x.name].shape[-1] for x in entry.vectors}
        narrow = {f for f, n in widths.items() if n == 0}
        if narrow:
            # A kernel has at least one feature: vectors of length 0 become one zero, read for all rows.
            zero = np.zeros(1, arrays["q"].dtype)
            flat = {x.name for x in entry.vectors if x.feature in narrow}
            arrays = {
                x: np.broadcast_to(zero, (*a.shape[:-1], 1)) if x in flat else a for x, a in arrays.items()
            }
        sizes: Sizes = tuple(sorted((f, n or 1) for f, n in widths.items()))
        dtype = "float32" if arrays["q"].dtype == check.FLOAT32 else "float64"
        key = (which, dtype, sizes, backend)
        if key not in self._kernels:
            self._kernels[key] = make(entry, dtype, sizes, backend)
        wanted = {x.name: arrays[x.name] for x in entry.inputs if x.axes}
        values = [parameters[x.name] for x in entry.parameters]
        ranges = None if mask is None else mask.ranges
        outputs, status = self._kernels[key](lead, wanted, values, ranges=ranges)
        if status < 0:
            raise MemoryError(f"{entry.name}: no memory for queries of shape {arrays['q'].shape}")
        whole = [a for a in outputs if a is not None]
        return [
            a[..., :0] if f in narrow else a for (_, f), a in zip(entry.outputs, whole, strict=True)
        ], status

    def _normalised(self, out: Array, saved: Array, arrays: dict[str, Array], mask: Mask | None) -> bool:
        """Whether every row could be normalised: none without weight that sees a key with a positive one."""
        if np.isnan(saved).any() or (saved == math.inf).any() or not np.isfinite(out).all():
            return False
        empty = saved == (-math.inf if self.form.exponential else 0.0)
        if mask is not None:
            empty = empty & ~np.broadcast_to(mask.blind(), empty.shape)
        return not (self.positivity.strict and arrays["k"].shape[-2] and empty.any())

    def _explain(self, arrays: dict[str, Array]) -> None:
        """Raise the error behind numbers that are not finite."""
        for x, a in arrays.items():
            if x not in ("lse", "mass") and not np.isfinite(a).all():
                raise ValueError(
                    refused(self._arguments.public(x), "NaN or infinite entries", "finite numbers")
                )
        dtype = arrays["q"].dtype
        advice = "use float64, or smaller inputs" if dtype == np.float32 else "use smaller inputs"
        raise OverflowError(
            f"a weight, a sum of weights or a gradient is outside the range of {dtype} "
            f"({np.finfo(dtype).tiny:.2e} to {np.finfo(dtype).max:.2e}): {advice} or parameters"
        )

    # what is known

    @property
    def proof(self) -> tuple[Proof, Proof]:
        """The proofs of the forward and of the backward theorem."""
        return self.proofs

    @property
    def source(self) -> dict[str, str]:
        """The text of every source, by ``"forward/c/float32"``, …, ``"backward/numpy"``."""
        targets = ("c/float32", "c/float64", "numpy")
        return {f"{x}/{t}": s.text(t) for x, s in self.sources.items() for t in targets}

    def explain(self) -> str:
        """What was proved and how the kernels compute it, as text."""
        from .explain import explained

        return explained(self)

    def __repr__(self) -> str:
        return f"<attention with the weight {self.positivity.weight}>"
