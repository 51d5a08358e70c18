"""Singular values of the local maps of all layers."""
