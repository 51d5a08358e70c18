"""Hierarchies of clusters, and statistics of pairs of distances."""
