"""The gradient of a gradient: refused, with a reason."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["refuse_double_backward"]


def refuse_double_backward(operator: str) -> None:
    """Make a backward operator raise NotImplementedError when its own gradient is asked for."""

    def refuse(ctx: Any, *gradients: Any) -> None:
        raise NotImplementedError(
            f"{operator}: differentiated twice; allowed: once, for there is no generated kernel of "
            "second derivatives. Where they are needed, use the definition: softmax(scale q kᵀ) v"
        )

    torch.library.register_autograd(operator, refuse)
