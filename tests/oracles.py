"""Slow and obvious: the exact answers in rational arithmetic, to hold the fast ones against."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Vector = list[Fraction]
Matrix = list[Vector]
Layers = Sequence[tuple[Sequence[Sequence[float]], Sequence[float]]]


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """Return the inner product."""
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def relu_network(layers: Layers, point: Sequence[float]) -> tuple[list[list[int]], Matrix, Vector]:
    """Return the pattern, and the matrix and offset of the affine map, of a dense ReLU network at a point.

    Floats are rationals, so nothing is rounded; a unit is on when its pre-activation is above 0.
    """
    x = [Fraction(v) for v in point]
    a: Matrix = [[Fraction(int(i == j)) for j in range(len(x))] for i in range(len(x))]
    b: Vector = [Fraction(0)] * len(x)
    pattern = []
    for depth, (weight, bias) in enumerate(layers, 1):
        w = [[Fraction(v) for v in row] for row in weight]
        columns = [list(c) for c in zip(*a, strict=True)]
        a = [[dot(row, column) for column in columns] for row in w]
        b = [dot(row, b) + Fraction(c) for row, c in zip(w, bias, strict=True)]
        if depth < len(layers):
            on = [int(dot(row, x) + c > 0) for row, c in zip(a, b, strict=True)]
            a = [[v * bit for v in row] for row, bit in zip(a, on, strict=True)]
            b = [c * bit for c, bit in zip(b, on, strict=True)]
            pattern.append(on)
    return pattern, a, b
