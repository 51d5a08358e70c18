"""Texts in VNN-LIB: their brackets and words, formulas, and the two versions of the format."""
