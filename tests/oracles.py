"""Slow and obvious: the exact answers in rational arithmetic, to hold the fast ones against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
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


def solve(rows: Matrix, values: Vector) -> Vector | None:
    """Return the solution of a square system by elimination, None when it is singular."""
    size = len(rows)
    system = [[*row, value] for row, value in zip(rows, values, strict=True)]
    for column in range(size):
        pivot = next((r for r in range(column, size) if system[r][column]), None)
        if pivot is None:
            return None
        system[column], system[pivot] = system[pivot], system[column]
        for r in range(size):
            if r != column and system[r][column]:
                ratio = system[r][column] / system[column][column]
                system[r] = [x - ratio * y for x, y in zip(system[r], system[column], strict=True)]
    return [system[r][size] / system[r][r] for r in range(size)]


def rank(rows: Matrix) -> int:
    """Return the rank by elimination."""
    left, found = [list(row) for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((row for row in left if row[column]), None)
        if pivot is None:
            continue
        left.remove(pivot)
        left = [[x - row[column] / pivot[column] * y for x, y in zip(row, pivot, strict=True)] for row in left]
        found += 1
    return found


def exact(rows: Sequence[Sequence[float]]) -> Matrix:
    """Return floats as the rationals that they are."""
    return [[Fraction(v) for v in row] for row in rows]


def polytope_vertices(matrix: Matrix, bound: Vector) -> list[tuple[Fraction, ...]]:
    """Return the vertices of {x : matrix x <= bound}: every solution of dim rows at once that violates no other."""
    dim, found = len(matrix[0]), set()
    for rows in itertools.combinations(range(len(matrix)), dim):
        point = solve([matrix[i] for i in rows], [bound[i] for i in rows])
        if point is not None and all(dot(row, point) <= b for row, b in zip(matrix, bound, strict=True)):
            found.add(tuple(point))
    return sorted(found)


def hull_dimension(points: Sequence[tuple[Fraction, ...]]) -> int:
    """Return the dimension of the hull of points, -1 of none."""
    return rank([[x - y for x, y in zip(p, points[0], strict=True)] for p in points[1:]]) if points else -1


def polytope_volume(matrix: Matrix, bound: Vector) -> Fraction:
    """Return the volume of a bounded polytope: pyramids from one vertex over the facets apart from it, face by face."""
    dim, corners = len(matrix[0]), polytope_vertices(matrix, bound)
    if hull_dimension(corners) < dim:
        return Fraction(0)
    faces = [frozenset(v for v in corners if dot(row, v) == b) for row, b in zip(matrix, bound, strict=True)]
    total = sum((abs(determinant(simplex)) for simplex in _simplices(frozenset(corners), dim, faces)), Fraction(0))
    return total / math.factorial(dim)


def determinant(simplex: Sequence[tuple[Fraction, ...]]) -> Fraction:
    """Return the determinant of the edges from the first corner, by expansion."""
    edges = [[x - y for x, y in zip(p, simplex[0], strict=True)] for p in simplex[1:]]
    return _expanded(edges)


def _expanded(rows: Matrix) -> Fraction:
    if not rows:
        return Fraction(1)
    minors = ([row[:j] + row[j + 1 :] for row in rows[1:]] for j in range(len(rows)))
    return sum(((-1) ** j * rows[0][j] * _expanded(minor) for j, minor in enumerate(minors) if rows[0][j]), Fraction(0))


def _simplices(
    face: frozenset[tuple[Fraction, ...]], dim: int, faces: Sequence[frozenset[tuple[Fraction, ...]]]
) -> Iterator[list[tuple[Fraction, ...]]]:
    apex = min(face)
    if dim == 0:
        yield [apex]
        return
    for facet in {face & other for other in faces}:
        if apex not in facet and hull_dimension(sorted(facet)) == dim - 1:
            for simplex in _simplices(facet, dim - 1, faces):
                yield [apex, *simplex]
