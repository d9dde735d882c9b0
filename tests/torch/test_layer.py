"""The operator of whole layers by PyTorch's own tests, and where the module uses it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _layer_ball import layer_ball, layer_balls
from torch import Tensor, nn

import projsym.torch as pt
from projsym import Folded, Tied, layer_backward
from projsym.layers import layer as arrays_layer
from projsym.runtime import layer_kernel, threads
from projsym.torch import module
from projsym.torch.layer_op import layer as layer_op
from projsym.torch.layer_op import layer_backward as backward_op

FORMS = ("folded", "tied")
HEADS, WIDTH, INNER, OUT = 2, 4, 3, 5


def normal(*shape: int, gradient: bool = True, seed: int = 0) -> Tensor:
    made = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return torch.tensor(made, requires_grad=gradient)


def weights(form: str, gradient: bool = True, context: int = WIDTH) -> tuple[Tensor | None, ...]:
    """w_q, w_k, w_o, b_q, b_k, b_o as the operator takes them, one a head."""
    d = context if form == "folded" else INNER
    w_k = None if form == "folded" else normal(HEADS, context, d, gradient=gradient)
    b_k = None if form == "folded" else normal(HEADS, d, gradient=gradient, seed=1)
    w_q, w_o = normal(HEADS, WIDTH, d, gradient=gradient, seed=2), normal(HEADS, d, OUT, gradient=gradient)
    return w_q, w_k, w_o, normal(HEADS, d, gradient=gradient), b_k, normal(OUT, gradient=gradient)


def flat(form: str, context: int = WIDTH) -> dict[str, Tensor]:
    """The arguments of `projsym.torch.layer`, those that are tensors."""
    d = context if form == "folded" else INNER
    sizes = {"w_q": (WIDTH, HEADS * d), "w_o": (HEADS * d, OUT), "b_q": (HEADS * d,), "b_o": (OUT,)}
    sizes |= {} if form == "folded" else {"w_k": (context, HEADS * d), "b_k": (HEADS * d,)}
    return {name: normal(*shape, seed=len(name)) for name, shape in sizes.items()}


def call(form: str, x: Tensor, given: dict[str, Tensor], **more: Any) -> Tensor:
    given = {"w_k": None} | given  # type: ignore[dict-item]
    return pt.layer(x, **given, heads=HEADS, scale=0.7, **more)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_opcheck(form: str, context: bool) -> None:
    seen = normal(2, 6, 3) if context else None
    given = weights(form, context=3 if context else WIDTH)
    torch.library.opcheck(layer_op, (normal(2, 5, WIDTH), seen, *given, 0.7, True))
    bare = tuple(None if t is None else t.detach() for t in (normal(2, 5, WIDTH), seen, *given))
    torch.library.opcheck(layer_op, (*bare, 0.7, False))
    out, *saved = layer_op(*bare, 0.7, True)
    torch.library.opcheck(backward_op, (torch.ones_like(out), *bare, 0.7, *saved))


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form: str) -> None:
    """By every tensor; with a context whose leading axes broadcast too."""
    given = flat(form)
    names = tuple(given)
    assert torch.autograd.gradcheck(
        lambda x, *w: call(form, x, dict(zip(names, w, strict=True))), (normal(2, 5, WIDTH), *given.values())
    )
    wide = flat(form, 3)
    assert torch.autograd.gradcheck(
        lambda x, y, *w: call(form, x, dict(zip(names, w, strict=True)), context=y),
        (normal(3, 1, 5, WIDTH), normal(2, 2, 3), *wide.values()),
    )


@pytest.mark.parametrize("form", FORMS)
def test_second_gradient_and_one_without_saved_values_are_refused(form: str) -> None:
    x = normal(2, 5, WIDTH)
    (first,) = torch.autograd.grad(call(form, x, flat(form)).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="layer_backward: differentiated twice; allowed: once"):
        first.sum().backward()
    with pytest.raises(RuntimeError, match="with_saved is False"):
        layer_op(x, None, *weights(form), 0.7, False)[0].sum().backward()


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_compiles_as_one_graph(form: str, dynamic: bool) -> None:
    given, x = flat(form), normal(2, 5, WIDTH)
    inputs = (x, *given.values())

    def run(x: Tensor, *w: Tensor) -> Tensor:
        return call(form, x.sin(), dict(zip(given, w, strict=True))).cos()

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    want, made = run(*inputs), compiled(*inputs)
    assert torch.equal(want, made)
    for a, b in zip(*(torch.autograd.grad(t.sum(), inputs) for t in (want, made)), strict=True):
        assert torch.equal(a, b)


def as_arrays(form: str, given: dict[str, Tensor]) -> Folded | Tied:
    """The layer of `projsym` with the same weights."""

    def columns(name: str) -> np.ndarray:
        w = given[name].detach().numpy()
        return w.reshape(*w.shape[:-1], HEADS, -1).swapaxes(0, -2) if w.ndim == 2 else w.reshape(HEADS, -1)

    w_o = given["w_o"].detach().numpy().reshape(HEADS, -1, OUT)
    b_o = given["b_o"].detach().numpy()
    if form == "folded":
        return Folded(columns("w_q"), columns("b_q"), w_o, np.zeros((HEADS, OUT)), b_o, 0.7)
    return Tied(columns("w_q"), columns("w_k"), w_o, columns("b_q"), columns("b_k"), b_o, 0.7)


@pytest.mark.parametrize("form", FORMS)
def test_same_bits_as_the_arrays(form: str) -> None:
    """Output, and gradients of tokens and weights, are those of `projsym.layer` and its backward pass."""
    given, x, g = flat(form), normal(2, 5, WIDTH), normal(2, 5, OUT, gradient=False)
    theirs = as_arrays(form, given)
    out = call(form, x, given)
    assert np.array_equal(out.detach().numpy(), arrays_layer(x.detach().numpy(), theirs))
    out.backward(g)
    want = layer_backward(g.numpy(), x.detach().numpy(), theirs)
    assert np.array_equal(x.grad.numpy(), want.x)
    fields = {"w_q": "A", "w_o": "B", "b_q": "a", "b_o": "b"} if form == "folded" else {}
    tied = {"w_q": "W_Q", "w_k": "W_K", "w_o": "W_O", "b_q": "b_Q", "b_k": "b_K", "b_o": "b"}
    for name, field in (fields or tied).items():
        a = want.weights[field]
        a = (
            a.swapaxes(0, 1).reshape(given[name].shape)
            if name in ("w_q", "w_k")
            else a.reshape(given[name].shape)
        )
        assert np.array_equal(given[name].grad.numpy(), a), name


def test_memory_is_shared_and_threads_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights as `torch.nn.Linear` holds them are read in place; outputs are where PyTorch allocated them."""
    made: list[Any] = []
    real, read = layer_kernel.CLayer.__call__, layer_kernel._matrices

    def spy(self: Any, lead: Any, arrays: Any, *more: Any) -> Any:
        result = real(self, lead, arrays, *more)
        made.append(({a.ctypes.data for a in arrays.values()}, result[0], threads.get_num_threads()))
        return result

    def uncopied(a: np.ndarray) -> Any:
        found = read(a)
        assert found[0] is a
        return found

    monkeypatch.setattr(layer_kernel.CLayer, "__call__", spy)
    monkeypatch.setattr(layer_kernel, "_matrices", uncopied)
    layer = pt.ProjectionAttention(8, 2, mode="tied").requires_grad_(False)
    x = torch.randn(2, 5, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        out = layer(x)
    finally:
        torch.set_num_threads(before)
    ((addresses, array, used),) = made
    assert addresses == {x.data_ptr(), *(p.data_ptr() for p in layer.parameters())}
    assert array.ctypes.data == out.data_ptr() and used == 1


@pytest.mark.parametrize("form", FORMS)
def test_meta_tensors_and_empty_sizes(form: str) -> None:
    given = {n: t.detach().to("meta") for n, t in flat(form).items()}
    assert call(form, torch.empty(3, 2, WIDTH, device="meta", dtype=torch.float64), given).shape == (
        3,
        2,
        OUT,
    )
    given = flat(form)
    x = normal(2, 5, WIDTH)
    out = call(form, x, given, context=x.detach()[:, :0])
    assert torch.equal(out, given["b_o"].expand(2, 5, OUT))
    out.sum().backward()
    assert not x.grad.any() and (given["b_o"].grad == 10).all()
    assert call(form, x[:0], given).shape == (0, 5, OUT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", FORMS)
def test_module_by_the_kernel_and_without_it(
    mode: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are within the bound of the exact layer, so within twice the bound of one another."""
    taken: list[Tensor] = []
    real = module.whole_layer
    monkeypatch.setattr(module, "whole_layer", lambda x, *a, **k: taken.append(x) or real(x, *a, **k))
    torch.manual_seed(3)
    layer = pt.ProjectionAttention(24, 3, mode=mode).to(dtype)
    x = torch.randn(2, 33, 24, dtype=dtype)
    slow = layer(x).detach()
    assert not taken
    with torch.no_grad():
        fast = layer(x)
    assert len(taken) == 1
    bound = layer_ball(layer_balls(layer), x.numpy(), 3, layer.scale).rad
    difference = (fast.double() - slow.double()).abs().numpy()
    assert (difference <= 2 * bound).all() and difference.max() > 0
    assert bound.max() < 1e4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("mode", FORMS)
def test_module_does_without_the_kernel_where_it_does_not_apply(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks, another context, long sequences, hooks, maps of another class, a gradient; and it comes back."""

    def refuse(*a: Any, **k: Any) -> Any:
        raise AssertionError("the kernel was called")

    monkeypatch.setattr(module, "whole_layer", refuse)
    layer = pt.ProjectionAttention(8, 2, mode=mode)
    x = torch.randn(2, 5, 8)
    layer(x).sum().backward()
    layer.requires_grad_(False)
    layer(x, is_causal=True)
    layer(x, x[:, :3])
    layer(x, attn_mask=torch.ones(5, 5, dtype=torch.bool))
    layer(torch.randn(module.SHORT + 1, 8))
    seen: list[Any] = []
    hook = layer.query.register_forward_hook(lambda *a: seen.append(a))
    layer(x)
    hook.remove()
    assert len(seen) == 1
    nn.utils.parametrizations.orthogonal(layer.output)
    layer(x)
    layer = pt.ProjectionAttention(8, 2, mode=mode).requires_grad_(False)
    with pytest.raises(AssertionError, match="the kernel was called"):
        layer(x)
