"""The projection, attention and whole layers as PyTorch operators, a module, and the conversion of a model.

Importing this imports PyTorch and registers ``torch.ops.projsym``. The kernels are those of
`projsym.attention` and `projsym.backward`; they read and write the memory of the tensors themselves and use
as many threads as PyTorch.
"""

from __future__ import annotations

from projsym.torch.convert import convert
from projsym.torch.functional import attention, project
from projsym.torch.layer import layer
from projsym.torch.module import ProjectionAttention

__all__ = ["ProjectionAttention", "attention", "convert", "layer", "project"]
