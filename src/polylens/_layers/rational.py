"""Stiemke's alternative in rational arithmetic, for small matrices: floats are rationals, so nothing is rounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

Vector = list[Fraction]
Matrix = list[Vector]


def exact(rows: Iterable[Iterable[float]]) -> Matrix:
    """Return floats as the rationals that they are."""
    return [[Fraction(v) for v in row] for row in rows]


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """Return the inner product."""
    return sum((x * y for x, y in zip(a, b, strict=True) if x and y), Fraction(0))


def kernel(rows: Matrix, dim: int) -> Matrix:
    """Return a basis of {z in Q^dim : rows z = 0}, by elimination."""
    reduced, pivots = _reduced(rows, dim)
    free = [j for j in range(dim) if j not in pivots]
    basis = []
    for j in free:
        z = [Fraction(int(i == j)) for i in range(dim)]
        for row, pivot in zip(reduced, pivots, strict=True):
            z[pivot] = -row[j]
        basis.append(z)
    return basis


def solution(rows: Matrix, values: Vector, near: Vector) -> Vector | None:
    """Return x with rows x = values that differs from `near` in few entries, None where there is none."""
    dim = len(near)
    left = [[*row, value - dot(row, near)] for row, value in zip(rows, values, strict=True)]
    reduced, pivots = _reduced(left, dim + 1)
    if dim in pivots:
        return None
    x = list(near)
    for row, pivot in zip(reduced, pivots, strict=True):
        x[pivot] += row[-1]
    return x


def independent_columns(rows: Matrix, dim: int) -> list[int]:
    """Return the positions of columns that are a basis of all columns' span."""
    return _reduced(rows, dim)[1]


def alternative(rows: Matrix, dim: int) -> tuple[Vector | None, Vector | None]:
    """Return lambda >= 1 with M^T lambda = 0, for rows M of rank `dim`, or z != 0 with M z <= 0.

    Algorithm: a vector of the kernel is a ray. Otherwise the first phase of the simplex method, by Bland's rule, on
    M^T mu = -M^T 1, mu >= 0, whose multipliers are the ray when it ends above 0.
    """
    lines = kernel(rows, dim)
    if lines:
        return None, lines[0]
    tableau, signs, basic = _tableau(rows, dim)
    _minimise(tableau, basic, len(rows) + dim)
    if tableau[-1][-1] == 0:
        mu = [Fraction(0)] * (len(rows) + dim)
        for row, place in zip(tableau, basic, strict=False):
            mu[place] = row[-1]
        return [1 + v for v in mu[: len(rows)]], None
    return None, [sign * (1 - tableau[-1][len(rows) + k]) for k, sign in enumerate(signs)]


def _tableau(rows: Matrix, dim: int) -> tuple[Matrix, list[int], list[int]]:
    """Return the tableau with one artificial variable a row, the signs that made its last column >= 0, and the basis."""
    tableau, signs = [], []
    for k in range(dim):
        right = -sum((row[k] for row in rows), Fraction(0))
        sign = -1 if right < 0 else 1
        artificial = [Fraction(int(j == k)) for j in range(dim)]
        tableau.append([*(sign * row[k] for row in rows), *artificial, sign * right])
        signs.append(sign)
    sums = [sum(column, Fraction(0)) for column in zip(*tableau, strict=True)] if dim else []
    cost = [Fraction(0)] * len(rows) + [Fraction(1)] * dim + [Fraction(0)]
    tableau.append([c - s for c, s in zip(cost, sums, strict=True)] if dim else cost)
    return tableau, signs, [len(rows) + k for k in range(dim)]


def _minimise(tableau: Matrix, basic: list[int], columns: int) -> None:
    """Bring the tableau to its optimum; the last row holds reduced costs and minus the objective."""
    while (entering := next((j for j in range(columns) if tableau[-1][j] < 0), None)) is not None:
        ratios = [(row[-1] / row[entering], basic[i], i) for i, row in enumerate(tableau[:-1]) if row[entering] > 0]
        leaving = min(ratios)[2]  # the objective is bounded by 0, so there is one
        _pivot(tableau, leaving, entering)
        basic[leaving] = entering


def _pivot(rows: Matrix, leaving: int, entering: int) -> None:
    pivot = rows[leaving][entering]
    rows[leaving] = [v / pivot for v in rows[leaving]]
    for i, row in enumerate(rows):
        if i != leaving and (ratio := row[entering]):
            rows[i] = [v - ratio * w if w else v for v, w in zip(row, rows[leaving], strict=True)]


def _reduced(rows: Matrix, dim: int) -> tuple[Matrix, list[int]]:
    """Return the reduced row echelon form, without rows of zeros, and its pivots' columns."""
    left, pivots = [list(row) for row in rows], list[int]()
    for column in range(dim):
        start = len(pivots)
        place = next((i for i in range(start, len(left)) if left[i][column]), None)
        if place is None:
            continue
        left[start], left[place] = left[place], left[start]
        _pivot(left, start, column)
        pivots.append(column)
    return left[: len(pivots)], pivots
