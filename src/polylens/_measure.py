"""Volumes of simple polytopes from their vertices and incidences, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._cut import compiled

Array = np.ndarray[Any, Any]


def volumes(points: Array, weight: Array, start: Array, vertex: Array, facets: Array) -> Array:
    """Return the volume of every cell, infinite where a vertex of a cell is a direction.

    Algorithm: a polytope is the union of the cones from its first vertex over the facets that do not hold it; applied to
    the facets in turn this ends in simplices, whose heights are found by orthogonalisation. All terms are positive. Cost:
    about dim^2 a simplex, of which there are 1 (segments), vertices - 2 (polygons), and more with every dimension.

    References: J. Cohen, T. Hickey, Two algorithms for determining volumes of convex polyhedra, J. ACM 26 (1979).
    """
    out = np.zeros(len(start) - 1)
    most, dim = int(np.diff(start).max(initial=0)), points.shape[1]
    levels = max(1, dim + 1)
    work = (
        np.zeros((levels, most), np.int64),
        np.zeros((levels, 4), np.int64),
        np.zeros((levels, max(1, dim))),
        np.zeros(levels),
    )
    _volumes(points, weight, start, vertex, facets, *work, out)
    return out


@compiled
def _volumes(points, weight, start, vertex, facets, subset, place, direction, height, out):
    for cell in range(len(start) - 1):
        bounded = True
        for i in range(start[cell], start[cell + 1]):
            bounded = bounded and weight[vertex[i]] > 0.0
        if bounded:
            out[cell] = _volume(points, weight, start[cell], start[cell + 1], vertex, facets, subset, place, direction, height)
        else:
            out[cell] = np.inf


# of a level in `place`: how many vertices the face has, its apex, the next facet to look at
_COUNT, _APEX, _NEXT = range(3)


@compiled
def _volume(points, weight, first, last, vertex, facets, subset, place, direction, height):
    """Return the volume of one cell, by a walk over its faces: level k holds a face of dimension dim - k."""
    dim, total, level = points.shape[1], 0.0, 0
    for i in range(last - first):
        subset[0, i] = first + i
    place[0, _COUNT], place[0, _APEX], place[0, _NEXT] = last - first, first, 0
    while level >= 0:
        if level == dim:
            product = 1.0
            for k in range(1, dim + 1):
                product *= height[k] / k
            total += product
            level -= 1
            continue
        facet = _next_facet(level, place, subset, facets)
        if facet < 0:
            level -= 1
            continue
        _descend(level, facet, place, subset, facets)
        level += 1
        _raise(level, points, weight, vertex, place, direction, height)
        if height[level] == 0.0:
            level -= 1
    return total


@compiled
def _next_facet(level, place, subset, facets):
    """Return the next facet that some vertex of the face lies on and its apex does not, -1 when there are no more."""
    apex, words = place[level, _APEX], facets.shape[1]
    bit = place[level, _NEXT]
    while bit < 64 * words:
        w, b = bit // 64, np.uint64(bit % 64)
        rest = np.uint64(0)
        for i in range(place[level, _COUNT]):
            rest |= facets[subset[level, i], w]
        rest = (rest & ~facets[apex, w]) >> b
        if rest:
            while not rest & np.uint64(1):
                rest >>= np.uint64(1)
                bit += 1
            place[level, _NEXT] = bit + 1
            return bit
        bit = (w + 1) * 64
    place[level, _NEXT] = bit
    return -1


@compiled
def _descend(level, facet, place, subset, facets):
    """Enter the part of a face that lies on one facet."""
    count, w, b = 0, facet // 64, np.uint64(facet % 64)
    for i in range(place[level, _COUNT]):
        if (facets[subset[level, i], w] >> b) & np.uint64(1):
            subset[level + 1, count] = subset[level, i]
            count += 1
    place[level + 1, _COUNT], place[level + 1, _APEX], place[level + 1, _NEXT] = count, subset[level + 1, 0], 0


@compiled
def _raise(level, points, weight, vertex, place, direction, height):
    """Orthogonalise the step from the first apex to this level's; its length is one factor of a simplex' volume."""
    dim = points.shape[1]
    v, origin = vertex[place[level, _APEX]], vertex[place[0, _APEX]]
    for c in range(dim):
        direction[level, c] = points[v, c] / weight[v] - points[origin, c] / weight[origin]
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
