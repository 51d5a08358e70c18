"""Slow and obvious: the inputs that a small network sends to {y : matrix y <= bound}, cell by cell in rational arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from oracles import (
    Cell,
    Dense,
    Join,
    Kink,
    Matrix,
    Piece,
    Step,
    Sum,
    Vector,
    Winner,
    cells_with_outputs,
    determinant,
    dot,
    exact,
    hull_dimension,
    polytope_vertices,
    polytope_volume,
    rank,
)

Point = tuple[Fraction, ...]


class Rows(NamedTuple):
    """{y : matrix y <= bound}."""

    matrix: Matrix
    bound: Vector


class Part(NamedTuple):
    """The closed part of one cell that meets the target, not empty: the sum of the hull of `vertices`, `rays` and `lines`.

    A polyhedron with lines has no vertices of its own: they and the rays are then those across the lines.
    """

    pieces: tuple[Piece, ...]
    rows: Rows
    vertices: list[Point]
    rays: list[Point]
    lines: list[Point]
    dimension: int


# -- the network at a point


def evaluate(steps: Sequence[Step], x: Sequence[float | Fraction]) -> Vector:
    """Return the outputs of a program at a point, without rounding."""
    values: list[Vector] = [[Fraction(v) for v in x]]
    for step in steps:
        values.append(_image(step, values))
    return values[-1]


def _image(step: Step, values: list[Vector]) -> Vector:
    if isinstance(step, Dense):
        return [dot(row, values[step.source]) + Fraction(b) for row, b in zip(exact(step.weight), step.bias, strict=True)]
    if isinstance(step, Kink):
        return [_bent(step, z) for z in values[step.source]]
    if isinstance(step, Winner):
        z, best = values[step.source], max if step.largest else min
        return [best(z[i : i + step.size]) for i in range(0, len(z) - step.size + 1, step.stride)]
    if isinstance(step, Sum):
        return [a + Fraction(step.factor) * b for a, b in zip(values[step.first], values[step.second], strict=True)]
    assert isinstance(step, Join)
    return [*values[step.first], *values[step.second]]


def _bent(step: Kink, z: Fraction) -> Fraction:
    piece = sum(z >= b if k in step.inclusive else z > b for k, b in enumerate(step.breakpoints))
    return Fraction(step.slopes[piece]) * z + Fraction(step.intercepts[piece])


def within(rows: Rows, point: Sequence[Fraction]) -> bool:
    """Return whether a point satisfies all rows."""
    return all(dot(row, point) <= b for row, b in zip(rows.matrix, rows.bound, strict=True))


def in_target(steps: Sequence[Step], x: Sequence[float | Fraction], target: Rows) -> bool:
    """Return whether a program sends a point into the target, without rounding."""
    return within(target, evaluate(steps, x))


# -- targets


def point_rows(y: Sequence[float | Fraction]) -> Rows:
    """Return {y}, twice as many rows as entries."""
    return box_rows(y, y)


def box_rows(low: Sequence[float | Fraction], high: Sequence[float | Fraction]) -> Rows:
    """Return {y : low <= y <= high}."""
    unit = [[Fraction(int(i == j)) for j in range(len(low))] for i in range(len(low))]
    return Rows([*unit, *([-v for v in row] for row in unit)], [*map(Fraction, high), *(-Fraction(v) for v in low)])


def halfspace_rows(matrix: Sequence[Sequence[float]], bound: Sequence[float]) -> Rows:
    """Return {y : matrix y <= bound}, floats as the rationals that they are."""
    return Rows(exact(matrix), [Fraction(b) for b in bound])


def argmax_rows(k: int, outputs: int) -> Rows:
    """Return {y : y_k >= y_j for all j}, with ties."""
    others = [j for j in range(outputs) if j != k]
    return Rows([[Fraction((i == j) - (i == k)) for i in range(outputs)] for j in others], [Fraction(0)] * len(others))


# -- preimages


def preimage_cells(steps: Sequence[Step], domain: Cell, target: Rows, *, endless: bool = False) -> list[Part]:
    """Return the parts of all cells of a domain, closed, that a program sends into a target; those that are empty are left out.

    `endless` drops the box of the domain, its first rows, once the cells are known: what a box that holds all crossings of
    hyperplanes has for cells are then those of the whole space. The program must have no jumps, for cells are closed.
    """
    kept = 2 * len(domain.point) if endless else 0
    parts = []
    for cell, outputs in cells_with_outputs(steps, domain):
        images = [_pulled(row, outputs) for row in target.matrix]
        matrix = [*cell.matrix[kept:], *(row for row, _ in images)]
        bound = [*cell.bound[kept:], *(b - c for b, (_, c) in zip(target.bound, images, strict=True))]
        part = _part(cell.pieces, Rows(matrix, bound), len(domain.point))
        if part is not None:
            parts.append(part)
    return parts


def _pulled(row: Vector, outputs: list[tuple[Vector, Fraction]]) -> tuple[Vector, Fraction]:
    """Return a linear form on the outputs as an affine function of the input."""
    columns = zip(*(coefficients for coefficients, _ in outputs), strict=True)
    return [dot(row, list(column)) for column in columns], dot(row, [constant for _, constant in outputs])


def _part(pieces: tuple[Piece, ...], rows: Rows, dim: int) -> Part | None:
    reduced = tightest(rows)
    if reduced is None:
        return None
    lines = kernel(reduced.matrix, dim)
    across = [row for line in lines for row in (list(line), [-v for v in line])]
    pointed = Rows([*reduced.matrix, *across], [*reduced.bound, *[Fraction(0)] * len(across)])
    vertices = polytope_vertices(*pointed)
    if not vertices:
        return None
    rays = extreme_rays(pointed.matrix)
    return Part(pieces, reduced, vertices, rays, lines, _spanned(vertices, rays, lines))


def tightest(rows: Rows) -> Rows | None:
    """Return the tightest of the rows of every direction, scaled alike; None when a row of zeros cannot be met."""
    found: dict[Point, Fraction] = {}
    for row, b in zip(rows.matrix, rows.bound, strict=True):
        size = max(map(abs, row), default=Fraction(0))
        if not size and b < 0:
            return None
        if size:
            way = tuple(v / size for v in row)
            found[way] = min(b / size, found.get(way, b / size))
    return Rows([list(way) for way in found], list(found.values()))


def echelon(matrix: Matrix, columns: Sequence[int]) -> dict[int, Vector]:
    """Return combinations of rows that are unit vectors in the columns of their pivots, by these."""
    left, found = [list(row) for row in matrix], {}
    for column in columns:
        row = next((r for r in left if r[column]), None)
        if row is not None:
            left.remove(row)
            lead = [v / row[column] for v in row]
            left = [_cleared(r, lead, column) for r in left]
            found = {c: _cleared(r, lead, column) for c, r in found.items()} | {column: lead}
    return found


def _cleared(row: Vector, lead: Vector, column: int) -> Vector:
    return [x - row[column] * y for x, y in zip(row, lead, strict=True)] if row[column] else row


def kernel(matrix: Matrix, dim: int) -> list[Point]:
    """Return a basis of {x : matrix x = 0}."""
    pivots = echelon(matrix, range(dim))
    free = [c for c in range(dim) if c not in pivots]
    return [tuple(-pivots[i][c] if i in pivots else Fraction(int(i == c)) for i in range(dim)) for c in free]


def extreme_rays(matrix: Matrix) -> list[Point]:
    """Return the extreme rays of the cone {r : matrix r <= 0}, which has no lines; their largest entry is 1 in size."""
    dim, found = len(matrix[0]), set()
    for chosen in itertools.combinations(matrix, dim - 1):
        ways = kernel(list(chosen), dim)
        if len(ways) > 1:
            continue
        size = max(map(abs, ways[0]))
        for sign in (1, -1):
            ray = tuple(sign * v / size for v in ways[0])
            if all(dot(row, ray) <= 0 for row in matrix):
                found.add(ray)
    return sorted(found)


def _spanned(vertices: list[Point], rays: list[Point], lines: list[Point]) -> int:
    return rank([*_edges(vertices), *map(list, rays), *map(list, lines)])


def _edges(vertices: list[Point]) -> Matrix:
    return [[x - y for x, y in zip(v, vertices[0], strict=True)] for v in vertices[1:]]


def maximal(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that lie in no other one; of equal ones the first."""
    kept: list[Part] = []
    for part in sorted(parts, key=lambda p: -p.dimension):
        if not any(_inside(part, other) for other in kept):
            kept.append(part)
    return kept


def _inside(part: Part, other: Part) -> bool:
    cone = Rows(other.rows.matrix, [Fraction(0)] * len(other.rows.bound))
    ways = [*part.rays, *part.lines, *(tuple(-v for v in line) for line in part.lines)]
    return all(within(other.rows, v) for v in part.vertices) and all(within(cone, r) for r in ways)


def measure(part: Part) -> float:
    """Return the volume of a part in its own dimension: exact in coordinates that see all of it, then scaled."""
    if part.rays or part.lines:
        return math.inf
    pivots = echelon(_edges(part.vertices), range(len(part.vertices[0])))
    if not pivots:
        return 1.0
    basis = list(pivots.values())  # x = base + (u - the same entries of base) @ basis, u the entries of the pivots
    base = _minus(part.vertices[0], basis, [part.vertices[0][i] for i in pivots])
    facets = [(row, b) for row, b in zip(*part.rows, strict=True) if _is_facet(part, row, b)]
    inner = [[dot(row, b) for b in basis] for row, _ in facets]
    bound = [b - dot(row, base) for row, b in facets]
    gram = [tuple(dot(a, b) for b in basis) for a in basis]
    return float(polytope_volume(inner, bound)) * math.sqrt(determinant([(Fraction(0),) * len(basis), *gram]))


def _is_facet(part: Part, row: Vector, bound: Fraction) -> bool:
    return hull_dimension([v for v in part.vertices if dot(row, v) == bound]) == part.dimension - 1


def _minus(point: Sequence[Fraction], basis: Matrix, weights: Sequence[Fraction]) -> Vector:
    return [x - dot(weights, column) for x, column in zip(point, map(list, zip(*basis, strict=True)), strict=True)]
