"""Terms, derivatives and the normal form. Nothing here knows about attention."""

from .decide import equal, residual
from .derivative import directional
from .scalars import (
    FiniteSum,
    Inner,
    ScalarFamily,
    Softmax,
    attend,
    exp2,
    inner,
    norm2,
    softmax,
    step,
    tanh2,
    total,
)
from .sets import EMPTY, KEYS, DisjointUnion, IndexSet, Singleton, index
from .substitute import substitute
from .terms import (
    E,
    LinearMap,
    Space,
    Vector,
    VectorFamily,
    VectorSymbol,
    ZeroVector,
    identity_map,
)
from .theory import ALGEBRA, Ability, Theory

__all__ = [
    "ALGEBRA", "EMPTY", "KEYS", "Ability", "DisjointUnion", "E", "FiniteSum", "IndexSet", "Inner",
    "LinearMap", "ScalarFamily", "Singleton", "Softmax", "Space", "Theory", "Vector", "VectorFamily",
    "VectorSymbol", "ZeroVector", "attend", "directional", "equal", "exp2", "identity_map", "index", "inner",
    "norm2", "residual", "softmax", "step", "substitute", "tanh2", "total",
]  # fmt: skip
