"""Kernels that numba compiles, and the door to it."""
