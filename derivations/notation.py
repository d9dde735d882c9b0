"""The letters that every chapter uses."""

import sympy as sp

from projsym.algebra.scalars import ScalarFamily
from projsym.algebra.sets import index
from projsym.algebra.terms import LinearMap, Space, VectorFamily, VectorSymbol

q = VectorSymbol("q")
k = VectorFamily("k")
F = Space("F")
"""The space of values, where it is not that of the keys."""
v = VectorFamily("v", F)

τ = sp.Symbol("τ", positive=True)
σ = sp.Symbol("sigma", positive=True)
scale = sp.Symbol("scale", real=True)
cap = sp.Symbol("cap", positive=True)
"""The bound of soft-capped scores."""
bias = ScalarFamily("key_bias")
σ_j = ScalarFamily("sigma", positive=True)
"""A bandwidth for each key, in the place of σ."""

i, j = index("i"), index("j")

Z = Space("Z")
"""The space with one coordinate for each key: a row of a matrix of numbers, one for each pair, is in it."""
unit = VectorFamily("unit", Z)
"""Its unit vectors: ``⟨b_i, unit_j⟩`` is the entry ``b_ij``. Theorems hold for any vectors in their place."""

X = Space("X")
"""The space of layer inputs, of dimension D."""
Y = Space("Y")
"""The space of layer outputs."""
x = VectorFamily("x", X)

W_Q, W_K = LinearMap("W_Q", X), LinearMap("W_K", X)
W_V, W_O = LinearMap("W_V", X, F), LinearMap("W_O", F, Y)
b_Q, b_K = VectorSymbol("b_Q"), VectorSymbol("b_K")
b_V, b_O = VectorSymbol("b_V", F), VectorSymbol("b_O", Y)
