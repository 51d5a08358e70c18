"""Searches from many starts along affine pieces."""
