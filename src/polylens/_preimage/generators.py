"""Convex sets by their generators: points, and directions of weight 0, in homogeneous coordinates.

Here cells are cut without a perturbation, so that faces, points and other flat intersections come out as what they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
COINCIDENT = 1e-9  # generators are one within that part of their spread along each axis; so is what is flat
# A spread below this part of the coordinates is compared as if it were that large: rounding is 1e-13 of the coordinates then.
_NEAR = 1e-4


class Generators(NamedTuple):
    """Generators (n, dim) with their weights (n,) and the facets of a cell that each lies on as bits (n, words)."""

    points: Array
    weight: Array
    facets: Array

    def select(self, chosen: Array) -> Generators:
        """Return some of the generators."""
        return Generators(*(a[chosen] for a in self))


def clipped(cell: Generators, values: Array, room: Array, equal: Array, size: Array) -> tuple[Generators, Array] | None:
    """Return what of a cell lies where all rows are at most 0, or are 0 where `equal` says so, and the rows' values there.

    The cell is simple: two generators span an edge iff all facets but one of the first are the second's too. `values`
    (n, rows) are those of the rows at the generators, and count as 0 within `room`. `size` is as for `labels`. None for an
    empty set.

    Algorithm: row by row, as the kernel does, but that a generator on the hyperplane keeps the cell alive: what is left of
    a cell that only touches is its face, many times over. In the end equal generators are merged and those kept that are
    extreme. Cost: the pairs of generators on both sides of a row.
    """
    sides = [(row, 1.0) for row in range(values.shape[1])] + [(row, -1.0) for row in np.flatnonzero(equal)]
    words = cell.facets.shape[1]
    new_bits = np.zeros((len(cell.weight), -(-len(sides) // 64)), np.uint64)
    found = cell._replace(facets=np.concatenate([cell.facets, new_bits], 1))
    for number, (row, sign) in enumerate(sides):
        above = sign * values[:, row] > room[:, row]
        if not above.any():
            continue
        if above.all():
            return None
        a, b = _edges(found.facets, above)
        up, down = values[a, row], np.where(np.abs(values[b, row]) <= room[b, row], 0.0, values[b, row])
        t = (up / (up - down))[:, None]
        between = (1 - t) * values[a] + t * values[b]
        between[:, row] = 0.0
        facets = found.facets[a] & found.facets[b]
        facets[:, words + number // 64] |= np.array(1 << number % 64, np.uint64)
        new = (
            (1 - t) * found.points[a] + t * found.points[b],
            (1 - t[:, 0]) * found.weight[a] + t[:, 0] * found.weight[b],
            facets,
        )
        found = Generators(*(np.concatenate([old[~above], more]) for old, more in zip(found, new, strict=True)))
        values = np.concatenate([values[~above], between])
        room = np.concatenate([room[~above], (1 - t) * room[a] + t * room[b]])
        if not (found.weight > 0).any():
            return None
    found, values = _distinct(found._replace(facets=found.facets[:, :words]), values, size)
    kept = extreme(found.points, found.weight, size)
    return found.select(kept), values[kept]


def _edges(facets: Array, above: Array) -> tuple[Array, Array]:
    """Return the edges between generators above and others, as positions of both ends."""
    a, b = np.flatnonzero(above), np.flatnonzero(~above)
    apart = np.bitwise_count(facets[a, None] & ~facets[None, b]).sum(2, dtype=np.int64)
    first, second = np.nonzero(apart == 1)
    return a[first], b[second]


def _distinct(found: Generators, values: Array, size: Array) -> tuple[Generators, Array]:
    """Merge generators that coincide; what is left lies on the facets of all of them."""
    label = labels(found.points, found.weight, size)
    first = np.unique(label, return_index=True)[1]
    if len(first) == len(label):
        return found, values
    facets = np.zeros((len(first), found.facets.shape[1]), np.uint64)
    np.bitwise_or.at(facets, label, found.facets)
    return Generators(found.points[first], found.weight[first], facets), values[first]


def normal(points: Array, weight: Array) -> Array:
    """Return generators (n, dim + 1) as places with a 1 behind, or as directions of largest entry 1 with a 0."""
    size = np.where(weight > 0, weight, np.maximum(np.abs(points).max(1, initial=0.0), np.finfo(float).tiny))
    return np.concatenate([points / size[:, None], (weight > 0)[:, None].astype(float)], 1)


def scaled(points: Array, weight: Array, size: Array) -> Array:
    """Return generators (n, dim + 1) around their mean place, each axis in units of their spread along it.

    `size` (dim,) says how large coordinates of the domain are along each axis, whose roundings are no spread; 0 where it has
    no end, and the generators' own are taken.
    """
    own = normal(points, weight)
    finite = own[:, -1] > 0
    if not finite.any():
        return own
    places = own[finite, :-1]
    largest = np.where(size > 0, size, np.abs(places).max(initial=0.0))
    unit = np.maximum(np.maximum(np.ptp(places, axis=0), _NEAR * largest), np.finfo(float).tiny)
    own[finite, :-1] = (places - places.mean(0)) / unit
    if not finite.all():
        ways = own[~finite, :-1] / unit
        own[~finite, :-1] = ways / np.maximum(np.abs(ways).max(1, keepdims=True), np.finfo(float).tiny)
    return own


def labels(points: Array, weight: Array, size: Array) -> Array:
    """Return a number for every generator; those that coincide share one, in the order of first appearance.

    `size` (dim,) is that of the domain's coordinates, as for `scaled`.
    """
    own = scaled(points, weight, size)
    apart = np.abs(own[:, None] - own[None]).max(2) > COINCIDENT
    nearest = np.argmin(apart, axis=1)  # the first that it coincides with, itself at the latest
    return np.unique(nearest[nearest], return_inverse=True)[1]


def extreme(points: Array, weight: Array, size: Array) -> Array:
    """Return which generators (a mask) the others do not make up with weights that are at least 0."""
    from scipy.optimize import nnls

    own = scaled(points, weight, size)
    kept = np.ones(len(own), dtype=bool)
    if len(own) <= 2:
        return kept
    for i in range(len(own)):
        kept[i] = False
        others = own[kept]
        if not len(others) or nnls(others.T, own[i])[1] > COINCIDENT * np.linalg.norm(own[i]):
            kept[i] = True
    return kept


def holds(points: Array, weight: Array, inner_points: Array, inner_weight: Array, size: Array) -> bool:
    """Say whether a set holds another one: whether its generators make up all of the other's."""
    from scipy.optimize import nnls

    both = scaled(np.concatenate([points, inner_points]), np.concatenate([weight, inner_weight]), size)
    own, others = both[: len(points)], both[len(points) :]
    return all(nnls(own.T, v)[1] <= 4 * COINCIDENT * np.linalg.norm(v) for v in others)


def dimension(points: Array, weight: Array, size: Array) -> int:
    """Return the dimension of the set that generators span, -1 for none; what is flat but for rounding is flat."""
    own = scaled(points, weight, size)
    finite = own[:, -1] > 0
    if not finite.any():
        return -1
    steps = np.concatenate([own[finite, :-1] - own[finite, :-1][0], own[~finite, :-1]])
    sizes = np.linalg.svd(steps, compute_uv=False) if steps.size else np.zeros(0)
    return int((sizes > COINCIDENT).sum())


def flat_volume(points: Array, weight: Array, dim: int) -> float:
    """Return the dim-dimensional volume of a set within its flat: 1 for a point, infinite where a direction is left."""
    if dim == 0:
        return 1.0
    if not (weight > 0).all():
        return float("inf")
    places = points / weight[:, None]
    places = places - places.mean(0)
    within = places @ np.linalg.svd(places, full_matrices=False)[2][:dim].T
    if dim == 1:
        return float(np.ptp(within))
    from .._hull import hull_size

    return hull_size(within).volume


def fan(points: Array, dim: int) -> Array:
    """Return simplices (simplices, dim + 1, coordinates): cones from the middle of points over their hull's surface."""
    if dim == 0:
        return points[None, :1]
    middle = points.mean(0)
    within = (points - middle) @ np.linalg.svd(points - middle, full_matrices=False)[2][:dim].T
    if dim == 1:
        return points[None, [int(within[:, 0].argmin()), int(within[:, 0].argmax())]]
    from .._hull import surface

    faces = surface(within)
    apex = np.broadcast_to(middle, (len(faces), 1, len(middle)))
    return np.concatenate([apex, points[faces]], 1)
