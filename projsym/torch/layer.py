"""A whole layer as a function: arguments checked, the operator called. It traces under torch.compile."""

from __future__ import annotations

import torch
from torch import Tensor

from projsym.errors import refused
from projsym.torch import arguments as check
from projsym.torch.functional import recording
from projsym.torch.layer_op import layer as layer_op

__all__ = ["layer"]


def layer(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor | None,
    w_o: Tensor,
    *,
    b_q: Tensor | None = None,
    b_k: Tensor | None = None,
    b_o: Tensor | None = None,
    heads: int = 1,
    scale: float,
    context: Tensor | None = None,
) -> Tensor:
    """A whole layer in tied or folded form as one operator of PyTorch; see :func:`projsym.layer`.

    >>> import torch
    >>> x, w_q, w_k, w_o = torch.randn(4, 8, 8)
    >>> layer(x, w_q, w_k, w_o, heads=2, scale=0.5).shape       # Σ_h P(x W_Q; x W_K) W_O, keys as values
    torch.Size([8, 8])
    >>> a, b = torch.randn(8, 16, requires_grad=True), torch.randn(16, 8)
    >>> out = layer(x, a, None, b, heads=2, scale=0.5)          # Σ_h P(x A; x) B, the tokens as keys
    >>> out.sum().backward()
    >>> a.grad.shape
    torch.Size([8, 16])

    x: tokens (..., n, D). w_q (D, H·d), w_k (C, H·d), w_o (H·d, O) act on rows from the right, heads = H side
    by side; of a `torch.nn.Linear` it is `weight.T`, read in place. w_k None: the folded form, d = C. b_q and
    b_k (H·d,), b_o (O,): zero where not given. scale: a finite number that multiplies the scores; one that
    is learned goes into `w_q` and `b_q`. context: (..., m, C), x itself by default; leading axes broadcast.

    Everything but the scale has a gradient, that of :func:`projsym.layer_backward`, and can be differentiated
    once. Masks, and the log-sum-exp as an output, are not part of the kernel.

    Returns (..., n, O), of the dtype of x. Raises TypeError or ValueError naming the argument, also for NaN
    and infinity, OverflowError as :func:`projsym.layer`, NotImplementedError where a gradient is
    differentiated again.
    """
    seen = x if context is None else context
    named = {"x": x, "w_q": w_q, "w_o": w_o}
    named |= {n: t for n, t in {"context": context, "w_k": w_k}.items() if t is not None}
    check.vectors(named)
    scale = check.real("scale", scale, tensors=False)
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
        raise ValueError(refused("heads", repr(heads), "an integer of at least 1"))
    width, wide = x.shape[-1], seen.shape[-1]
    inner, out = w_o.shape[0], w_o.shape[-1]
    if w_k is None and inner != heads * wide:
        told = f"({heads * wide}, O): without w_k every head has the {wide} features of the keys"
        raise ValueError(refused("w_o", f"shape {tuple(w_o.shape)}", f"shape {told}"))
    if inner % heads:
        raise ValueError(refused("heads", heads, f"a divisor of {inner}, the number of rows of w_o"))
    shapes: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "w_q": (w_q, (width, inner)),
        "w_k": (w_k, (wide, inner)),
        "w_o": (w_o, (inner, out)),
        "b_q": (b_q, (inner,)),
        "b_k": (b_k, (inner,)),
        "b_o": (b_o, (out,)),
    }
    for name, (t, shape) in shapes.items():
        if t is not None:
            check.weight(name, t, x, shape)
    if b_k is not None and w_k is None:
        raise ValueError(refused("b_k", "a tensor", "None without w_k: it cancels [I.7]"))
    if context is not None and context.shape[:-2] != x.shape[:-2]:
        check.leading({"x": x, "context": context})
        lead = torch.broadcast_shapes(x.shape[:-2], context.shape[:-2])
        x, context = (t.expand(*lead, *t.shape[-2:]) for t in (x, context))
    given = (w_q, w_k, w_o, b_q, b_k, b_o)
    needed = recording(x, context, *given)
    b_q = w_o.new_zeros(inner) if b_q is None else b_q
    b_k = w_o.new_zeros(inner) if b_k is None and w_k is not None else b_k
    b_o = w_o.new_zeros(out) if b_o is None else b_o
    return layer_op(
        x,
        context,
        _columns(w_q, heads),
        None if w_k is None else _columns(w_k, heads),
        w_o.unflatten(0, (heads, -1)),
        b_q.unflatten(0, (heads, -1)),
        None if b_k is None else b_k.unflatten(0, (heads, -1)),
        b_o,
        scale,
        needed,
    )[0]


def _columns(w: Tensor, heads: int) -> Tensor:
    """(D, H·d) -> (H, D, d), a view."""
    return w.unflatten(1, (heads, -1)).transpose(0, 1)
