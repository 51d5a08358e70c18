"""Proofs of which rows of a polytope are facets."""
