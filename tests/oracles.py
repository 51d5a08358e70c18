"""Slow and obvious: the exact answers in rational arithmetic, to hold the fast ones against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

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


# The cells of small networks, by programs in rationals. A form is an affine function of the input: coefficients, constant.
# Nothing is cut here: a cell is its rows, and has an interior when a linear program in rationals finds a point of it.

Form = tuple[Vector, Fraction]
Forms = list[Form]
Piece = tuple[int, ...]


class Dense(NamedTuple):
    """weight @ value[source] + bias."""

    source: int
    weight: Sequence[Sequence[float]]
    bias: Sequence[float]


class Kink(NamedTuple):
    """An elementwise gate: piece p, where p breakpoints lie below, is slopes[p] z + intercepts[p]."""

    source: int
    breakpoints: Sequence[float]
    slopes: Sequence[float]
    intercepts: Sequence[float]
    inclusive: tuple[int, ...] = ()


class Winner(NamedTuple):
    """The largest (or smallest) entry of every window of `size` entries, `stride` apart; the lowest wins ties."""

    source: int
    size: int
    stride: int
    largest: bool = True


class Sum(NamedTuple):
    """value[first] + factor * value[second]."""

    first: int
    second: int
    factor: float = 1.0


class Join(NamedTuple):
    """The entries of value[first], then those of value[second]."""

    first: int
    second: int


Step = Dense | Kink | Winner | Sum | Join


class Cell(NamedTuple):
    """{x : matrix x <= bound} with a point strictly within, and the pieces of each gate or window so far."""

    matrix: Matrix
    bound: Vector
    point: Vector
    pieces: tuple[Piece, ...]


def interior(matrix: Matrix, bound: Vector, corner: Vector) -> Vector | None:
    """Return a point where all rows are strict, None where there is none; every point of the polytope is >= corner.

    The primal simplex method, by Bland's rule, for the largest t with matrix x + t <= bound; it stops at the first t > 0.
    """
    dim, slack = len(corner), [b - dot(row, corner) for row, b in zip(matrix, bound, strict=True)]
    least = min(Fraction(0), *slack)
    rows = [[*row, Fraction(1), s - least] for row, s in zip(matrix, slack, strict=True)]
    rows.append([*[Fraction(0)] * dim, Fraction(-1), least])  # t = its last entry, less its others times what is not basic
    free, basic = list(range(dim + 1)), list(range(dim + 1, dim + 1 + len(matrix)))
    while rows[-1][-1] <= 0:
        entering = min((c for c in range(dim + 1) if rows[-1][c] < 0), key=lambda c: free[c], default=None)
        if entering is None:
            return None
        limits = [(row[-1] / row[entering], basic[i], i) for i, row in enumerate(rows[:-1]) if row[entering] > 0]
        leaving = min(limits)[2]
        _pivot(rows, leaving, entering)
        free[entering], basic[leaving] = basic[leaving], free[entering]
    found = {name: row[-1] for name, row in zip(basic, rows, strict=False)}
    return [c + found.get(j, Fraction(0)) for j, c in enumerate(corner)]


def _pivot(rows: Matrix, leaving: int, entering: int) -> None:
    """Exchange a basic variable for a free one; `rows` say basic = last entry - the others times the free."""
    pivot = rows[leaving][entering]
    new = [v / pivot for v in rows[leaving]]
    new[entering] = 1 / pivot
    for i, row in enumerate(rows):
        if i != leaving and row[entering]:
            factor, row[entering] = row[entering], Fraction(0)
            rows[i] = [v - factor * w for v, w in zip(row, new, strict=True)]
    rows[leaving] = new


def box(low: Sequence[float], high: Sequence[float]) -> Cell:
    """Return the box as a cell without pieces; it has an interior."""
    a, b = ([Fraction(v) for v in side] for side in (low, high))
    unit = [[Fraction(int(i == j)) for j in range(len(a))] for i in range(len(a))]
    matrix = [*([-v for v in row] for row in unit), *unit]
    return Cell(matrix, [*(-v for v in a), *b], [(x + y) / 2 for x, y in zip(a, b, strict=True)], ())


def cells(steps: Sequence[Step], domain: Cell) -> list[Cell]:
    """Return the cells of a program over a box (or part of one), each with an interior: all cases of all units in turn."""
    return [cell for cell, _ in cells_with_outputs(steps, domain)]


def cells_with_outputs(steps: Sequence[Step], domain: Cell) -> list[tuple[Cell, Forms]]:
    """Return the cells of a program, each with the affine functions that the outputs are on it."""
    dim = len(domain.point)
    corner = [-b for b in domain.bound[:dim]]
    inputs: Forms = [([Fraction(int(i == j)) for j in range(dim)], Fraction(0)) for i in range(dim)]
    return [(cell, values[-1]) for cell, values in _cells(steps, [inputs], domain, corner)]


def _cells(steps: Sequence[Step], values: list[Forms], cell: Cell, corner: Vector) -> Iterator[tuple[Cell, list[Forms]]]:
    if not steps:
        yield cell, values
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Kink | Winner):
        choose = _kinked if isinstance(step, Kink) else _won
        start = cell._replace(pieces=(*cell.pieces, ()))
        for part, image in choose(step, values[step.source], start, [], corner):
            yield from _cells(rest, [*values, image], part, corner)
    else:
        yield from _cells(rest, [*values, _affine(step, values)], cell, corner)


def _affine(step: Dense | Sum | Join, values: list[Forms]) -> Forms:
    if isinstance(step, Join):
        return [*values[step.first], *values[step.second]]
    if isinstance(step, Sum):
        pairs = zip(values[step.first], values[step.second], strict=True)
        return [_combined([Fraction(1), Fraction(step.factor)], [x, y], Fraction(0)) for x, y in pairs]
    source, bias = values[step.source], [Fraction(v) for v in step.bias]
    return [_combined(row, source, b) for row, b in zip(exact(step.weight), bias, strict=True)]


def _combined(weights: Sequence[Fraction], forms: Forms, constant: Fraction) -> Form:
    rows = [form[0] for form in forms]
    row = [sum((w * r[j] for w, r in zip(weights, rows, strict=True)), Fraction(0)) for j in range(len(rows[0]))]
    return row, dot(weights, [form[1] for form in forms]) + constant


def _kinked(step: Kink, forms: Forms, cell: Cell, done: Forms, corner: Vector) -> Iterator[tuple[Cell, Forms]]:
    """Yield the cells by the pieces of the units that are not `done`, and what the gate is there."""
    if len(done) == len(forms):
        yield cell, done
        return
    (row, constant), at = forms[len(done)], [Fraction(b) for b in step.breakpoints]
    for piece in range(len(step.slopes)):
        if any(row):
            above = [([-v for v in row], constant - at[piece - 1])] if piece else []
            below = [(row, at[piece] - constant)] if piece < len(at) else []
            part = _clipped(cell, [*above, *below], corner)
        else:
            on = sum(constant >= b if k in step.inclusive else constant > b for k, b in enumerate(at))
            part = cell if piece == on else None
        if part is not None:
            slope, shift = Fraction(step.slopes[piece]), Fraction(step.intercepts[piece])
            image = [slope * v for v in row], slope * constant + shift
            yield from _kinked(step, forms, _chosen(part, piece), [*done, image], corner)


def _won(step: Winner, forms: Forms, cell: Cell, done: Forms, corner: Vector) -> Iterator[tuple[Cell, Forms]]:
    """Yield the cells by the winners of the windows that are not `done`, and who won."""
    first = len(done) * step.stride
    if first + step.size > len(forms):
        yield cell, done
        return
    sign = Fraction(1 if step.largest else -1)
    for piece, (row, constant) in enumerate(forms[first : first + step.size]):
        rows: list[Form] | None = []
        for rival, (other, level) in enumerate(forms[first : first + step.size]):
            difference, lead = [sign * (y - x) for x, y in zip(row, other, strict=True)], sign * (constant - level)
            if any(difference):
                rows = None if rows is None else [*rows, (difference, lead)]
            elif lead < 0 or (lead == 0 and rival < piece):
                rows = None
        part = None if rows is None else _clipped(cell, rows, corner)
        if part is not None:
            yield from _won(step, forms, _chosen(part, piece), [*done, (row, constant)], corner)


def _chosen(cell: Cell, piece: int) -> Cell:
    return cell._replace(pieces=(*cell.pieces[:-1], (*cell.pieces[-1], piece)))


def _clipped(cell: Cell, rows: list[Form], corner: Vector) -> Cell | None:
    """Return the part of a cell within some more rows, None when it has no interior."""
    matrix, bound = [*cell.matrix, *(r for r, _ in rows)], [*cell.bound, *(b for _, b in rows)]
    inside = all(dot(row, cell.point) < b for row, b in rows)
    point = cell.point if inside else interior(matrix, bound, corner)
    return None if point is None else Cell(matrix, bound, point, cell.pieces)


def cell_volume(cell: Cell) -> Fraction:
    """Return the volume of a cell from the rows that bound it: those whose violation alone leaves room."""
    dim, kept = len(cell.point), list(range(len(cell.matrix)))
    for i in range(len(cell.matrix) - 1, 2 * dim - 1, -1):  # the box's own rows stay, which keeps everything bounded
        others = [k for k in kept if k != i]
        matrix = [*(cell.matrix[k] for k in others), [-v for v in cell.matrix[i]]]
        bound = [*(cell.bound[k] for k in others), -cell.bound[i]]
        if interior(matrix, bound, [-b for b in cell.bound[:dim]]) is None:
            kept = others
    return polytope_volume([cell.matrix[k] for k in kept], [cell.bound[k] for k in kept])
