"""The one door to Qhull: vertices and extreme rays of a polyhedron with a known interior point, volumes of hulls.

A vertex of {x : A x <= b} is a facet of the hull of its polar points a_i / (b_i - a_i x0) and 0; a facet through 0 is a ray.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import GeometryError

Array = NDArray[np.float64]


class Corners(NamedTuple):
    """The vertices (n, dim) and the unit directions of the extreme rays (k, dim)."""

    vertices: Array
    rays: Array


class Size(NamedTuple):
    """The volume of a hull and the area of its surface."""

    volume: float
    area: float


def corners(matrix: Array, bound: Array, interior: Array, accuracy: float) -> Corners:
    """Return the vertices and extreme rays of {x : matrix x <= bound}, whose `interior` point is strictly inside.

    The polyhedron is full-dimensional and contains no line. Corners closer than `accuracy`, relative to their
    coordinates, are one. Raises: GeometryError when Qhull gives up.
    """
    slack = bound - matrix @ interior
    if matrix.shape[1] == 1:
        return _on_the_line(matrix[:, 0], slack, interior)
    polar = matrix / slack[:, None]
    size = np.abs(polar).max()
    equations = _hull(np.vstack([polar / size, np.zeros(matrix.shape[1])])).equations
    normals, offsets = equations[:, :-1], equations[:, -1]
    far = -offsets <= accuracy
    # Qhull cuts facets with many vertices into simplices, which repeat their hyperplane
    rays = merged(normals[far], accuracy)
    vertices = merged(normals[~far] / -offsets[~far, None] / size, accuracy)
    return Corners(vertices + interior, rays)


def hull_size(points: Array) -> Size:
    """Return the volume and the surface of the hull of points (n, dim), dim >= 2, that do not lie in one hyperplane."""
    hull = _hull(points)
    return Size(float(hull.volume), float(hull.area))


def surface(points: Array) -> NDArray[np.int32]:
    """Return the simplices (simplices, dim) of the surface of the hull of points (n, dim), dim >= 2, by position."""
    found: NDArray[np.int32] = _hull(points).simplices
    return found


def cycle(points: Array) -> NDArray[np.int32]:
    """Return the corners of the hull of points (n, 2) in the plane, by position, counter-clockwise."""
    found: NDArray[np.int32] = _hull(points).vertices
    return found


def merged(points: Array, accuracy: float) -> Array:
    """Return one point of each cluster of points that are equal up to `accuracy` times the largest coordinate."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if len(points) < 2:
        return points
    apart = accuracy * float(np.abs(points).max())
    pairs = cKDTree(points).query_pairs(apart, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return points[np.sort(first)]


def _on_the_line(slopes: Array, slack: Array, interior: Array) -> Corners:
    """Return the ends of an interval: Qhull begins at dimension 2."""
    ends, rays = [], []
    for sign in (-1.0, 1.0):
        side = slopes * sign > 0
        if side.any():
            ends.append(interior + sign * (slack[side] / np.abs(slopes[side])).min())
        else:
            rays.append([sign])
    return Corners(np.array(ends).reshape(-1, 1), np.array(rays).reshape(-1, 1))


def _hull(points: Array) -> Any:
    from scipy.spatial import ConvexHull, QhullError

    try:
        return ConvexHull(points)
    except QhullError as error:
        reason = str(error).strip().splitlines()[0]
        raise GeometryError(
            f"hull of {len(points)} points in dimension {points.shape[1]}: Qhull gave up ({reason}); the polytope is too"
            " flat or too degenerate for floating-point hulls: scale its coordinates, or go to its affine hull first"
        ) from error
