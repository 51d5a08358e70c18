"""Volumes of simple polytopes from their vertices and incidences, and their simplices, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import compiled

Array = np.ndarray[Any, Any]
_NONE, _ONE = np.uint64(0), np.uint64(1)


def volumes(points: Array, weight: Array, start: Array, vertex: Array, facets: Array) -> Array:
    """Return the volume of every cell, infinite where a vertex of a cell is a direction.

    Algorithm: a polytope is the union of the cones from its first vertex over the facets that do not hold it; applied to
    the facets in turn this ends in simplices, whose heights are found by orthogonalisation. All terms are positive. Cost:
    about dim^2 a simplex, of which there are 1 (segments), vertices - 2 (polygons), and more with every dimension.

    References: J. Cohen, T. Hickey, Two algorithms for determining volumes of convex polyhedra, J. ACM 26 (1979).
    """
    out, (points, unit) = np.zeros(len(start) - 1), _measured(points, weight)
    _volumes(points, weight, start, vertex, facets, *_work(points, start, facets), np.zeros((0, 0), np.int64), np.zeros(0), out)
    return out * unit


def _measured(points: Array, weight: Array) -> tuple[Array, float]:
    """Return points in units of their own along each axis, powers of two, and what a unit of volume is.

    Steps along axes of very different length are told apart by their digits only where each is measured by its own.
    """
    most = np.abs(points[weight > 0.0]).max(0, initial=0.0)
    units = np.exp2(np.floor(np.log2(np.where(most > 0.0, most, 1.0))))
    return points / units, float(np.prod(units))


def _work(points: Array, start: Array, facets: Array) -> tuple[Array, ...]:
    most, dim = int(np.diff(start).max(initial=0)), points.shape[1]
    levels = dim + 2
    subset, place = np.zeros((levels, most + 1), np.int64), np.zeros((levels, 2), np.int64)
    left, direction = np.zeros((levels, facets.shape[1]), np.uint64), np.zeros((levels, max(1, dim)))
    return subset, place, left, direction, np.zeros(levels)


def simplices(points: Array, start: Array, vertex: Array, facets: Array) -> tuple[Array, Array, Array]:
    """Return simplices that make up bounded cells: corners (simplices, dim + 1) as rows of `points`, cell, and volume.

    They are those whose volumes `volumes` adds up; those without a volume are left out.
    """
    dim, room = points.shape[1], 64 * len(start)
    points, unit = _measured(points, np.ones(len(points)))
    while True:
        corners, sizes, ends = np.zeros((room, dim + 1), np.int64), np.zeros(room), np.zeros(len(start) - 1)
        weight = np.ones(len(points))
        count = _volumes(points, weight, start, vertex, facets, *_work(points, start, facets), corners, sizes, ends)
        if count <= room:
            owner = np.searchsorted(ends, np.arange(count), side="right")
            return corners[:count], owner, sizes[:count] * unit
        room = count


@compiled
def _volumes(points, weight, start, vertex, facets, subset, place, left, direction, height, corners, sizes, out):
    count = 0
    for cell in range(len(start) - 1):
        bounded = True
        for i in range(start[cell], start[cell + 1]):
            bounded = bounded and weight[vertex[i]] > 0.0
        if not bounded:
            out[cell] = np.inf
            continue
        first, last = start[cell], start[cell + 1]
        work = (subset, place, left, direction, height)
        total, count = _volume(points, weight, first, last, vertex, facets, *work, corners, sizes, count)
        out[cell] = count if corners.shape[1] else total
    return count


# of a level in `place`: how many vertices the face has, and its apex
_COUNT, _APEX = range(2)


@compiled
def _volume(points, weight, first, last, vertex, facets, subset, place, left, direction, height, corners, sizes, count):
    """Return the volume of one cell, by a walk over its faces: level k holds a face of dimension dim - k.

    Where `corners` has columns, simplices are written there from row `count` on, as far as there is room; the second number
    returned is where they end.
    """
    dim, total, level = points.shape[1], 0.0, 0
    for i in range(last - first):
        subset[0, i] = first + i
    place[0, _COUNT], place[0, _APEX] = last - first, first
    if dim == 0:
        if count < len(sizes):
            corners[count, 0], sizes[count] = vertex[first], 1.0
        return 1.0, count + 1
    _open(0, place, subset, facets, left)
    while level >= 0:
        if level == dim - 1:
            size = _edge(level, points, weight, vertex, subset, place, direction, height)
            total += size
            if size > 0.0:
                if count < len(sizes):
                    _write(level, vertex, subset, place, corners, count)
                    sizes[count] = size
                count += 1
            level -= 1
        elif _enter(level, place, subset, facets, left):
            level += 1
            if _raise(level, points, weight, vertex, place[level, _APEX], place[0, _APEX], direction, height):
                _open(level, place, subset, facets, left)
            else:
                level -= 1
        else:
            level -= 1
    return total, count


@compiled
def _write(level, vertex, subset, place, corners, row):
    """Write the corners of the simplex that an edge closes."""
    for k in range(level + 1):
        corners[row, k] = vertex[place[k, _APEX]]
    corners[row, level + 1] = vertex[subset[level, place[level, _COUNT] - 1]]


@compiled
def _open(level, place, subset, facets, left):
    """Note the facets that some vertex of a face lies on and its apex does not."""
    apex = place[level, _APEX]
    for w in range(facets.shape[1]):
        found = np.uint64(0)
        for i in range(place[level, _COUNT]):
            found |= facets[subset[level, i], w]
        left[level, w] = found & ~facets[apex, w]


@compiled
def _enter(level, place, subset, facets, left):
    """Go from a face to its part on the next facet that is left; return whether there was one."""
    for w in range(facets.shape[1]):
        if left[level, w] != _NONE:
            facet = left[level, w] & (~left[level, w] + _ONE)
            left[level, w] ^= facet
            count = 0
            for i in range(place[level, _COUNT]):
                k = subset[level, i]
                subset[level + 1, count] = k
                count += np.int64((facets[k, w] & facet) != _NONE)
            place[level + 1, _COUNT], place[level + 1, _APEX] = count, subset[level + 1, 0]
            return True
    return False


@compiled
def _edge(level, points, weight, vertex, subset, place, direction, height):
    """Return the volume of the simplex that an edge closes: its apex is one end, the other is the last vertex."""
    other = subset[level, place[level, _COUNT] - 1]
    if not _raise(level + 1, points, weight, vertex, other, place[0, _APEX], direction, height):
        return 0.0
    product = 1.0
    for k in range(1, level + 2):
        product *= height[k] / k
    return product


@compiled
def _raise(level, points, weight, vertex, tip, origin, direction, height):
    """Orthogonalise the step from the first apex to another vertex; its length is one factor of a simplex' volume."""
    dim, v, o = points.shape[1], vertex[tip], vertex[origin]
    for c in range(dim):
        direction[level, c] = points[v, c] / weight[v] - points[o, c] / weight[o]
    for k in range(1, level):
        dot = 0.0
        for c in range(dim):
            dot += direction[k, c] * direction[level, c]
        for c in range(dim):
            direction[level, c] -= dot * direction[k, c]
    length = 0.0
    for c in range(dim):
        length += direction[level, c] * direction[level, c]
    height[level] = np.sqrt(length)
    if length > 0.0:
        for c in range(dim):
            direction[level, c] /= height[level]
    return length > 0.0
