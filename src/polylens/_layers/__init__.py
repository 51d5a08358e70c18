"""Preimages of one layer: systems of rows, multipliers or rays, in floats and in rationals."""
