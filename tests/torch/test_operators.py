"""The operators by PyTorch's own tests: opcheck, gradcheck, torch.compile; one memory, the same threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import projsym
import projsym.torch as pt
from projsym.runtime import plan, threads
from projsym.torch.attention_op import attention as attention_op
from projsym.torch.attention_op import attention_backward
from projsym.torch.project_op import project as project_op
from projsym.torch.project_op import project_backward


def normal(*shape: int, dtype: torch.dtype = torch.float64, gradient: bool = True, seed: int = 0) -> Tensor:
    """Standard normal numbers that depend on the shape and the seed only."""
    made = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return torch.tensor(made, dtype=dtype, requires_grad=gradient)


def mask(key_bias: Tensor | None = None) -> tuple[Any, ...]:
    """The arguments of an operator that say which keys are seen: all, biased or not."""
    return None, key_bias, None, False, None


NEITHER = None, None, False  # past keys, past values, grouped heads


def parameter(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def given(gradient: bool, bias: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    q, k = normal(2, 3, 4, gradient=gradient), normal(2, 5, 4, gradient=gradient)
    return q, k, normal(2, 5, gradient=gradient) if bias else normal(2, 5, 3, gradient=gradient)


@pytest.mark.parametrize("gradient", [True, False])
def test_opcheck_attention(gradient: bool) -> None:
    torch.library.opcheck(attention_op, (*given(gradient), *mask(), *NEITHER, 0.7, None, True))
    torch.library.opcheck(attention_op, (*given(False), *mask(), *NEITHER, None, None, False))


def test_opcheck_masks() -> None:
    """Every optional argument at once."""
    q, k, v = normal(2, 4, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 3)
    past = normal(2, 2, 2, 4), normal(2, 2, 2, 3)
    pairs, bias = normal(4, 3, 7), normal(7)
    torch.library.opcheck(
        attention_op, (q, k, v, pairs, bias, None, True, [2, -1], *past, True, None, 2.0, True)
    )
    lengths = torch.tensor([3, 5])
    q, k = normal(2, 3, 4), normal(5, 4)
    seen = torch.ones(3, 5, dtype=torch.bool).tril(1)
    torch.library.opcheck(
        project_op, (q, k, seen, normal(5), lengths, False, [-1, 1], parameter(0.9), True, True)
    )


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_opcheck_project(gaussian: bool, bias: bool) -> None:
    q, k, b = given(True, bias=True)
    torch.library.opcheck(project_op, (q, k, *mask(b if bias else None), parameter(0.9), gaussian, True))


def test_opcheck_backward() -> None:
    q, k, v = given(False)
    out, lse = attention_op(q, k, v, *mask(), *NEITHER, None, None, True)
    torch.library.opcheck(
        attention_backward,
        (normal(2, 3, 3, gradient=False), q, k, v, out, lse, None, *mask(), *NEITHER, None, None),
    )
    torch.library.opcheck(attention_backward, (out, q, k, v, out, lse, lse, *mask(), *NEITHER, 0.3, None))
    one = torch.ones((), dtype=torch.float64)
    out, lse = project_op(q, k, *mask(), one, True, True)
    torch.library.opcheck(project_backward, (out, q, k, out, lse, lse, *mask(), one, True))
    torch.library.opcheck(
        project_backward,
        (out, q, k, out, lse, None, *mask(normal(2, 5, gradient=False)), one, False),
    )


def test_gradcheck_attention() -> None:
    """Leading axes that broadcast, and a scale that is learned."""
    given = normal(2, 3, 2, 4), normal(3, 5, 4), normal(2, 1, 5, 3)
    assert torch.autograd.gradcheck(lambda *a: pt.attention(*a, return_lse=True), given)
    assert torch.autograd.gradcheck(
        lambda q, k, v, s: pt.attention(q, k, v, scale=s), (*given, parameter(0.4))
    )


@pytest.mark.parametrize("name", ["sigma", "scale"])
def test_gradcheck_project(name: str) -> None:
    def call(q: Tensor, k: Tensor, b: Tensor, p: Tensor) -> Any:
        return pt.project(q, k, key_bias=b, return_lse=True, **{name: p})

    inputs = normal(2, 3, 2, 4), normal(3, 5, 4), normal(5), parameter(0.8)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradcheck(lambda q, k, p: pt.project(q, k, **{name: p}), (*inputs[:2], inputs[3]))


def widths(*shape: int) -> Tensor:
    """Numbers between a half and two."""
    return (normal(*shape, gradient=False).tanh() * 0.75 + 1.25).requires_grad_()


def test_bandwidths_of_keys() -> None:
    """opcheck and gradcheck, with every mask, leading axes that broadcast, and one graph."""
    q, k, bias, pairs, sigma = normal(2, 3, 4, 5), normal(3, 6, 5), normal(6), normal(4, 6), widths(2, 1, 6)
    torch.library.opcheck(project_op, (q, k, *mask(bias), sigma, True, True))
    bare = [x.detach() for x in (q, k, bias, sigma)]
    out, lse = project_op(*bare[:2], *mask(bare[2]), bare[3], True, True)
    torch.library.opcheck(project_backward, (out, *bare[:2], out, lse, lse, *mask(bare[2]), bare[3], True))

    def everything(*a: Tensor) -> Any:
        q, k, sigma, bias, pairs = a
        more = {"key_bias": bias, "attn_mask": pairs, "window": (2, 2), "return_lse": True}
        return pt.project(q, k, sigma=sigma, **more)

    inputs = q, k, sigma, bias, pairs
    assert torch.autograd.gradcheck(everything, inputs)
    assert torch.autograd.gradcheck(lambda q, k, s: pt.project(q, k, sigma=s), (q, k, sigma))
    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    results = [f(*inputs) for f in (everything, compiled)]
    for a, b in zip(
        *(torch.autograd.grad(out.sum() + lse.sum(), inputs) for out, lse in results), strict=True
    ):
        assert torch.equal(a, b)
    hidden = torch.where(torch.arange(6) < 4, 0.0, -torch.inf).double()
    poisoned = torch.where((torch.arange(6) < 4)[:, None], k, torch.nan)
    (grad,) = torch.autograd.grad(
        pt.project(q, poisoned, sigma=sigma, attn_mask=pairs, key_bias=hidden).sum(), pairs
    )
    assert grad.isfinite().all() and not grad[:, 4:].any()


MASKS: dict[str, dict[str, Any]] = {
    "causal": {"is_causal": True},
    "window": {"window": (1, 0)},
    "lengths": {"kv_lengths": torch.tensor([0, 4])},
    "booleans": {"attn_mask": torch.ones(3, 5, dtype=torch.bool).tril(-1)},
}


@pytest.mark.parametrize("name", MASKS)
def test_gradcheck_masks(name: str) -> None:
    """Rows that see nothing, too: row 0 of the booleans, and the first sequence of the lengths."""
    given = normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 3)
    assert torch.autograd.gradcheck(lambda *a: pt.attention(*a, **MASKS[name]), given)
    assert torch.autograd.gradcheck(lambda q, k: pt.project(q, k, sigma=0.9, **MASKS[name]), given[:2])


def test_gradcheck_biases_past_and_groups() -> None:
    """Masks that are learned, past keys, and grouped heads, with what restricts the rows beside them."""
    q, k, v = normal(2, 4, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 3)
    pairs, bias, past = normal(4, 3, 7), normal(2, 7), (normal(2, 2, 2, 4), normal(2, 2, 2, 3))

    def everything(*a: Tensor) -> Any:
        q, k, v, pairs, bias, *past = a
        more = {"past_key": past[0], "past_value": past[1], "window": (2, 1), "softcap": 1.5}
        return pt.attention(q, k, v, pairs, 0.0, True, None, True, key_bias=bias, return_lse=True, **more)

    assert torch.autograd.gradcheck(everything, (q, k, v, pairs, bias, *past))
    pairs, bias, lengths = normal(3, 5), normal(5), torch.tensor([[3, 5], [1, 0]])

    def projected(q: Tensor, k: Tensor, pairs: Tensor, bias: Tensor, sigma: Tensor) -> Any:
        more = {"kv_lengths": lengths, "key_bias": bias, "attn_mask": pairs}
        return pt.project(q[:, :2], k, sigma=sigma, window=(1, 1), **more)

    assert torch.autograd.gradcheck(projected, (q, k, pairs, bias, parameter(1.1)))


def test_hidden_nan_reaches_nothing() -> None:
    """Keys and values behind the length may be anything; the bits are those without them."""
    q, k, v = given(False)
    k[:, 3:], v[:, 3:] = torch.nan, torch.inf
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = pt.attention(q, k, v, kv_lengths=torch.tensor([3, 3]))
    assert torch.equal(out, pt.attention(q, k[:, :3], v[:, :3], window=None))
    for x in torch.autograd.grad(out.sum(), leaves):
        assert x.isfinite().all() and (x is None or not x[:, 3:].any())


def test_gradient_of_one_output_only() -> None:
    """With the log-sum-exp alone, and with the output alone: each is the part of the sum of both."""
    q, k, v = given(True)
    out, lse = pt.attention(q, k, v, return_lse=True)
    both = torch.autograd.grad(out.sum() + lse.sum(), q, retain_graph=True)[0]
    parts = [torch.autograd.grad(x.sum(), q, retain_graph=True)[0] for x in (out, lse)]
    # Sums of fewer than 100 products of numbers below 4 in magnitude, each rounded fewer than 100 times.
    assert (both - sum(parts)).abs().max() <= 100 * 100 * 4 * 2.0**-53


def test_second_gradient_is_refused() -> None:
    q, k, v = given(True)
    for out in (pt.attention(q, k, v), pt.project(q, k, sigma=2.0)):
        (first,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
        with pytest.raises(NotImplementedError, match="differentiated twice; allowed: once"):
            first.sum().backward()


def test_gradient_without_a_log_sum_exp_is_refused() -> None:
    q, k, v = given(True)
    for out, _ in (
        attention_op(q, k, v, *mask(), *NEITHER, None, None, False),
        project_op(q, k, *mask(), parameter(1.0), False, False),
    ):
        with pytest.raises(RuntimeError, match="with_lse is False"):
            out.sum().backward()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool) -> None:
    def call(q: Tensor, k: Tensor, v: Tensor, s: Tensor) -> Tensor:
        masked = pt.attention(q, k, v, is_causal=True, window=(1, 1), kv_lengths=torch.tensor([4, 3]))
        return (
            masked
            + pt.attention(q.sin(), k, v)
            + pt.project(q, k, sigma=s)[..., :3]
            + pt.project(v, v, scale=0.5).sum()
        )

    inputs = (*given(True), parameter(1.5))
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    expected, made = call(*inputs), compiled(*inputs)
    assert torch.equal(expected, made)
    for a, b in zip(*(torch.autograd.grad(x.sum(), inputs) for x in (expected, made)), strict=True):
        assert torch.equal(a, b)


def test_memory_is_shared_and_threads_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that the kernel reads and writes are those of the tensors, also of transposed heads."""
    seen: list[list[int]] = []
    used: list[int] = []
    real = plan.Plan.__call__

    def spy(self: plan.Plan, arrays: Any, parameters: Any) -> Any:
        made = real(self, arrays, parameters)
        assert all(plan._pointer(x, 2) is not plan._copied for x in arrays)
        seen.append([x.ctypes.data for x in (*arrays, *made[0]) if x is not None])
        used.append(threads.get_num_threads())
        return made

    monkeypatch.setattr(plan.Plan, "__call__", spy)
    q, k, v = (normal(7, 2, 4, gradient=False, seed=s).transpose(0, 1) for s in range(3))
    before, own = torch.get_num_threads(), threads.get_num_threads()
    try:
        torch.set_num_threads(1)
        out, lse = pt.attention(q, k, v, return_lse=True)
    finally:
        torch.set_num_threads(before)
    assert seen == [[x.data_ptr() for x in (q, k, v, out, lse)]]
    projsym.set_num_threads(1)
    try:
        pt.attention(q, k, v)
    finally:
        projsym.set_num_threads(None)
    assert used == [1, before] and threads.get_num_threads() == own


def test_same_bits_as_the_arrays() -> None:
    """What the operator returns is what `projsym` does, forward and backward."""
    q, k, v = given(True)
    arrays = [x.detach().numpy() for x in (q, k, v)]
    out, lse = projsym.attention(*arrays, return_lse=True)
    made = pt.attention(q, k, v)
    assert np.array_equal(made.detach().numpy(), out)
    g = normal(2, 3, 3, gradient=False)
    gradients = torch.autograd.grad(made, (q, k, v), g)
    for a, b in zip(gradients, projsym.attention_backward(g.numpy(), *arrays, out, lse), strict=True):
        assert np.array_equal(a.numpy(), b)


def test_tensors_on_the_meta_device() -> None:
    q = torch.empty(2, 3, 4, device="meta")
    assert pt.attention(q, q, q).shape == q.shape and pt.project(q, q).device.type == "meta"


@pytest.mark.parametrize("n, m, d, dv", [(0, 3, 4, 3), (3, 0, 4, 3), (3, 2, 0, 3), (3, 2, 4, 0)])
def test_empty_sizes(n: int, m: int, d: int, dv: int) -> None:
    """Shapes, and zeros where no key is seen; the gradients exist."""
    q, k, v = normal(2, n, d), normal(2, m, d), normal(2, m, dv)
    out, lse = pt.attention(q, k, v, return_lse=True)
    assert out.shape == (2, n, dv) and lse.shape == (2, n)
    if m == 0:
        assert not out.any() and (lse == -torch.inf).all()
    else:
        lse.sum().backward(retain_graph=True)
    out.sum().backward()
    assert q.grad.shape == q.shape and v.grad.shape == v.shape and not q.grad.isnan().any()
