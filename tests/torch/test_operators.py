"""The operators by PyTorch's own tests: opcheck, gradcheck, torch.compile; one memory, the same threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import projsym
import projsym.torch as pt
from projsym.runtime import c_kernel, threads
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


def parameter(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def given(gradient: bool, bias: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    q, k = normal(2, 3, 4, gradient=gradient), normal(2, 5, 4, gradient=gradient)
    return q, k, normal(2, 5, gradient=gradient) if bias else normal(2, 5, 3, gradient=gradient)


@pytest.mark.parametrize("gradient", [True, False])
def test_opcheck_attention(gradient: bool) -> None:
    torch.library.opcheck(attention_op, (*given(gradient), *mask(), 0.7, True))
    torch.library.opcheck(attention_op, (*given(False), *mask(), None, False))


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_opcheck_project(gaussian: bool, bias: bool) -> None:
    q, k, b = given(True, bias=True)
    torch.library.opcheck(project_op, (q, k, *mask(b if bias else None), parameter(0.9), gaussian, True))


def test_opcheck_backward() -> None:
    q, k, v = given(False)
    out, lse = attention_op(q, k, v, *mask(), None, True)
    torch.library.opcheck(
        attention_backward, (normal(2, 3, 3, gradient=False), q, k, v, out, lse, None, *mask(), None)
    )
    torch.library.opcheck(attention_backward, (out, q, k, v, out, lse, lse, *mask(), 0.3))
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
        attention_op(q, k, v, *mask(), None, False),
        project_op(q, k, *mask(), parameter(1.0), False, False),
    ):
        with pytest.raises(RuntimeError, match="with_lse is False"):
            out.sum().backward()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool) -> None:
    def call(q: Tensor, k: Tensor, v: Tensor, s: Tensor) -> Tensor:
        return (
            pt.attention(q.sin(), k, v)
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
    seen: list[tuple[int, ...]] = []
    used: list[int] = []
    spied, counted = c_kernel.address, c_kernel.threads_for_call
    monkeypatch.setattr(c_kernel, "address", lambda x: seen.append((spied(x),)) or spied(x))
    monkeypatch.setattr(
        c_kernel, "threads_for_call", lambda work: used.append(threads.get_num_threads()) or counted(work)
    )
    q, k, v = (normal(7, 2, 4, gradient=False, seed=s).transpose(0, 1) for s in range(3))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        out, lse = pt.attention(q, k, v, return_lse=True)
    finally:
        torch.set_num_threads(before)
    assert [x for (x,) in seen] == [x.data_ptr() for x in (q, k, v, out, lse)]
    assert used == [1]
    with_torch = threads.get_num_threads()
    projsym.set_num_threads(1)
    try:
        pt.attention(q, k, v)
    finally:
        projsym.set_num_threads(None)
    assert used[-1] == before and threads.get_num_threads() == with_torch


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
