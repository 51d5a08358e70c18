"""The points nearest to 0 of a hull and of a polyhedron, with lower bounds of the distance that plain products prove."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ITERATIONS = 10  # of least squares, a row, as for cones


class Nearest(NamedTuple):
    """A point (dim,), None where no solver found one, and a distance that no point of the set falls short of."""

    point: Array | None
    least: float


def of_hull(points: Array) -> Nearest:
    """Return the point nearest to 0 of the convex hull of points (n, dim), which may be repeated and may hold 0.

    Algorithm: nonnegative least squares on |P^T u|^2 + (sum u - 1)^2, whose minimum is a multiple of the nearest point's
    weights. For p in the hull no point is nearer to 0 than min_i p.p_i / |p|.
    """
    size = float(np.linalg.norm(points, axis=1).max())
    if size == 0:
        return Nearest(points[0], 0.0)
    u = _nnls(np.vstack([points.T / size, np.ones(len(points))]), np.append(np.zeros(points.shape[1]), 1.0))
    if u is None:
        return Nearest(None, 0.0)
    p = points.T @ (u / u.sum())
    length = float(np.linalg.norm(p))
    return Nearest(p, max(0.0, float((points @ p).min()) / length) if length else 0.0)


def of_polyhedron(matrix: Array, bound: Array) -> Nearest:
    """Return the point nearest to 0 of {x : A x <= b}, with a `least` of infinity where there is none.

    Algorithm: Lawson and Hanson's least distance programming, nonnegative least squares on [A^T; b^T] u = (0, -1). For any
    u >= 0 points of the set have (A^T u).x <= b.u, so their distance is at least -b.u / |A^T u|.
    """
    dim = matrix.shape[1]
    stacked = np.vstack([matrix.T, bound])
    goal = np.append(np.zeros(dim), -1.0)
    u = _nnls(stacked, goal)
    if u is None:
        return Nearest(None, 0.0)
    residual = stacked @ u - goal
    down, up = float(np.linalg.norm(matrix.T @ u)), -float(bound @ u)
    least = 0.0 if up <= 0 else up / down if down > 0 else np.inf
    point = residual[:dim] / -residual[dim] if residual[dim] != 0 else None
    return Nearest(point, least)


def _nnls(matrix: Array, goal: Array) -> Array | None:
    from scipy.optimize import nnls

    try:
        found: Any = nnls(matrix, goal, maxiter=ITERATIONS * matrix.shape[1])[0]
    except RuntimeError:  # its iterations are used up
        return None
    return np.asarray(found, dtype=np.float64)
