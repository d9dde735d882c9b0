"""Your own attention: a weight written in SymPy, proved, differentiated and compiled.

The letters of a weight are those of the theorems: the query `q`, the keys ``k[j]``, inner products and
squared norms of their linear combinations; the positions `i` of the query and `j` of the key as numbers;
families ``ScalarFamily("width")[j]`` of one number a key and ``ScalarFamily("slope")[i]`` of one a query; any
other symbol is a parameter, one number a call.
"""

from projsym.algebra.scalars import ScalarFamily, inner, norm2
from projsym.derivations.notation import i, j, k, q, v

from .attention import OwnAttention
from .build import compile

__all__ = ["OwnAttention", "ScalarFamily", "compile", "i", "inner", "j", "k", "norm2", "q", "v"]
