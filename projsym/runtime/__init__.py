"""Compiling, caching, loading and calling the committed kernels. Imports NumPy, never SymPy."""
