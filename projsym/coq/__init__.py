"""Theorems for a second proof checker: their terms as Coq statements, with proofs that Coq checks itself."""
