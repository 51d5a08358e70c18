"""The pieces of a preimage as a struct of arrays.

Pieces are maximal: a flat one that lies in another is left out, and parts of one region on either side of a wall between an
unbounded domain's cones are one piece.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cells import taken
from ..domain import Domain
from .findings import Flat, Solid
from .generators import COINCIDENT, Generators, extreme, fan, flat_volume, holds, labels, normal

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """Convex pieces by their generators: piece i has the rows start[i]:start[i+1] of `points` (generators, dim), `weight`.

    Places have weight 1, directions 0. `words` (pieces, words) are the patterns, `part` (pieces,) the convex part of the
    target, `dimension` and `volume` (pieces,) the size, in units of the input within each piece's flat. Where `simple` is
    set, a piece is a simple polytope, some of whose generators may coincide, and `facets` has those that each lies on.
    `size` (dim,) is how large the domain's coordinates are, 0 where it has no end.
    """

    points: Array
    weight: Array
    start: Array
    words: Array
    part: Array
    dimension: Array
    volume: Array
    facets: Array
    simple: Array
    level: tuple[Array, ...]
    size: Array

    def __len__(self) -> int:
        return len(self.part)

    def generators(self, index: int) -> tuple[Array, Array]:
        """Return the generators of one piece and their weights, each once."""
        rows = slice(int(self.start[index]), int(self.start[index + 1]))
        points, weight = self.points[rows], self.weight[rows]
        first = np.unique(labels(points, weight, self.size), return_index=True)[1]
        return points[first], weight[first]

    def select(self, chosen: Array) -> Pieces:
        """Return some pieces, by position."""
        ends, rows = taken(self.start, chosen)
        own = (self.words[chosen], self.part[chosen], self.dimension[chosen], self.volume[chosen])
        shape = (self.facets[rows], self.simple[chosen])
        return Pieces(
            self.points[rows], self.weight[rows], ends, *own, *shape, tuple(self.level[int(i)] for i in chosen), self.size
        )

    def simplices(self, index: int) -> tuple[Array, Array]:
        """Return simplices (simplices, dimension + 1, dim) that make up one bounded piece, and the share of each in it."""
        from .._kernels.measure import simplices

        rows = slice(int(self.start[index]), int(self.start[index + 1]))
        points = np.ascontiguousarray(self.points[rows])
        if not self.simple[index]:
            corners = fan(self.generators(index)[0], int(self.dimension[index]))
            sizes = np.linalg.svd(corners[:, 1:] - corners[:, :1], compute_uv=False).prod(1)
            return corners, sizes / sizes.sum()
        facets = np.ascontiguousarray(self.facets[rows])
        corner, _, sizes = simplices(points, np.array([0, len(points)]), np.arange(len(points)), facets)
        return points[corner], sizes / sizes.sum()

    @classmethod
    def none(cls, size: Array, words: int) -> Pieces:
        """Return no pieces."""
        none, whole = np.zeros(0), np.zeros(0, np.int64)
        own = (
            np.zeros((0, words), np.uint64),
            whole,
            whole,
            none,
            np.zeros((0, 1), np.uint64),
            np.zeros(0, dtype=bool),
            (),
            size,
        )
        return cls(np.zeros((0, len(size))), none, np.zeros(1, np.int64), *own)

    @classmethod
    def joined(cls, parts: list[Pieces]) -> Pieces:
        """Return all pieces, in order."""
        shifts = np.cumsum([0, *(len(p.weight) for p in parts)])
        start = np.concatenate([p.start[:-1] + s for p, s in zip(parts, shifts[:-1], strict=True)] + [shifts[-1:]])
        names = ("points", "weight", "words", "part", "dimension", "volume", "simple")
        points, weight, words, part, dimension, volume, simple = (np.concatenate([getattr(p, n) for p in parts]) for n in names)
        facets = np.zeros((len(weight), max(p.facets.shape[1] for p in parts)), np.uint64)
        for p, first in zip(parts, shifts[:-1], strict=True):
            facets[first : first + len(p.facets), : p.facets.shape[1]] = p.facets
        level = tuple(v for p in parts for v in p.level)
        return cls(points, weight, start, words, part, dimension, volume, facets, simple, level, parts[0].size)


def size_of(domain: Domain) -> Array:
    """Return how large the coordinates of a domain are along each axis, 0 where it has no end."""
    if not domain.is_bounded:
        return np.zeros(domain.dim)
    found: Array = np.abs(domain.start().points).max(0)
    return found


def solid_pieces(solid: Solid, domain: Domain) -> Pieces:
    """Return full-dimensional cells as pieces."""
    cells, count = solid.cells, len(solid.cells)
    own = normal(cells.points[cells.vertex], cells.weight[cells.vertex])
    sizes = (solid.part, np.full(count, domain.dim), cells.volumes() * domain.scale)
    simple, level = np.ones(count, dtype=bool), tuple(solid.level)
    where = (own[:, :-1], own[:, -1], cells.start, cells.words)
    return Pieces(*where, *sizes, cells.facets, simple, level, size_of(domain))


def flat_pieces(flats: list[Flat], domain: Domain) -> Pieces:
    """Return flat pieces, measured in units of the input."""
    basis, size, parts = domain.basis.numpy(), size_of(domain), []
    for f in flats:
        own = normal(f.generators.points, f.generators.weight)
        volume = flat_volume(own[:, :-1] @ basis.T, own[:, -1], f.dimension)
        parts.append(_one(own, f.words, (f.part, f.dimension, volume), f.level, size))
    return Pieces.joined(parts)


def _one(own: Array, words: Array, sizes: tuple[int, int, float], level: Array, size: Array) -> Pieces:
    """Return one piece by its generators, as they are."""
    part, dimension, volume = (np.array([v]) for v in sizes)
    shape = (np.zeros((len(own), 1), np.uint64), np.zeros(1, dtype=bool), (level,), size)
    return Pieces(own[:, :-1], own[:, -1], np.array([0, len(own)]), words[None], part, dimension, volume, *shape)


def maximal(solid: Pieces, flats: list[Flat], several: bool) -> list[Flat]:
    """Return the flat pieces that lie in no other piece; of equal ones the first.

    Only a piece on the boundary of its cell can lie in another cell's; where the target has `several` parts, it can lie in
    another one of its own cell's, too. Cost: for each of those, the pieces whose bounding
    boxes hold its own, by least squares with weights of at least 0.
    """
    order = sorted(range(len(flats)), key=lambda i: -flats[i].dimension)
    kept: list[Flat] = []
    low, high = _boxes(solid)
    for i in order:
        flat = flats[i]
        exposed = several or np.bitwise_and.reduce(flat.generators.facets, axis=0).any()
        if not exposed or not (_in_solid(solid, low, high, flat) or _in_flat(kept, flat, solid.size)):
            kept.append(flat)
    return kept


def rejoined(flats: list[Flat], walls: int, size: Array) -> list[Flat]:
    """Return flat pieces of which those of one region, part and dimension are one where they touch a wall between cones."""
    wall, groups = np.uint64((1 << walls) - 1), defaultdict[Any, list[Flat]](list)
    for i, flat in enumerate(flats):
        touching = bool((flat.generators.facets[:, 0] & wall).any())
        groups[(flat.words.tobytes(), flat.part, flat.dimension) if touching else i].append(flat)
    return [group[0] if len(group) == 1 else _one_flat(group, size) for group in groups.values()]


def _one_flat(group: list[Flat], size: Array) -> Flat:
    """Return the hull of flat pieces; as they come from several cells, it may lie on the boundary of any."""
    points, weight = (np.concatenate([getattr(f.generators, n) for f in group]) for n in ("points", "weight"))
    first = np.unique(labels(points, weight, size), return_index=True)[1]
    kept = first[extreme(points[first], weight[first], size)]
    facets = np.full((len(kept), group[0].generators.facets.shape[1]), ~np.uint64(0))
    return group[0]._replace(generators=Generators(points[kept], weight[kept], facets))


def united(pieces: Pieces, walls: int, touching: Array) -> Pieces:
    """Return pieces of which those of one region, part and dimension are one where they touch a wall between cones."""
    if not walls or not touching.any():
        return pieces
    groups: dict[tuple[bytes, int, int], list[int]] = defaultdict(list)
    for i in np.flatnonzero(touching):
        key = (pieces.words[i].tobytes(), int(pieces.part[i]), int(pieces.dimension[i]))
        groups[key].append(int(i))
    parts = [pieces.select(np.flatnonzero(~touching))]
    for members in groups.values():
        group = pieces.select(np.array(members))
        if len(members) == 1:
            parts.append(group)
            continue
        points, weight = group.points, group.weight
        first = np.unique(labels(points, weight, pieces.size), return_index=True)[1]
        own = normal(points[first], weight[first])[extreme(points[first], weight[first], pieces.size)]
        sizes = (int(group.part[0]), int(group.dimension[0]), float(group.volume.sum()))
        parts.append(_one(own, group.words[0], sizes, group.level[0], pieces.size))
    return Pieces.joined(parts)


def _boxes(pieces: Pieces) -> tuple[Array, Array]:
    """Return the bounding boxes (pieces, dim) of pieces; they reach to infinity in the directions of a piece."""
    if not len(pieces):
        empty = np.zeros((0, pieces.points.shape[1]))
        return empty, empty
    at, ray = pieces.points, pieces.weight[:, None] == 0
    low = np.where(ray, np.where(at < 0, -np.inf, np.inf), at)
    high = np.where(ray, np.where(at > 0, np.inf, -np.inf), at)
    start = pieces.start[:-1]
    return np.minimum.reduceat(low, start), np.maximum.reduceat(high, start)


def _in_solid(solid: Pieces, low: Array, high: Array, flat: Flat) -> bool:
    own = normal(flat.generators.points, flat.generators.weight)
    places, room = own[own[:, -1] > 0, :-1], _room(own, solid.size)
    near = np.flatnonzero((low <= places.min(0) + room).all(1) & (high >= places.max(0) - room).all(1))
    return any(holds(*solid.generators(int(i)), *flat.generators[:2], solid.size) for i in near)


def _in_flat(kept: list[Flat], flat: Flat, size: Array) -> bool:
    own = flat.generators[:2]
    return any(
        other.dimension >= flat.dimension and holds(*other.generators[:2], *own, size)
        for other in kept
        if _close(other.generators, flat.generators, size)
    )


def _close(outer: Generators, inner: Generators, size: Array) -> bool:
    """Say whether a bounded set could hold another one, by their bounding boxes."""
    if not (outer.weight > 0).all():
        return True
    a, b = (normal(g.points, g.weight) for g in (outer, inner))
    room, (a, b) = _room(a, size), (a[:, :-1], b[:, :-1])
    return bool((a.min(0) <= b.min(0) + room).all() and (a.max(0) >= b.max(0) - room).all())


def _room(own: Array, size: Array) -> Array:
    """Return how far generators may be off along each axis, and some more."""
    largest = np.abs(own[own[:, -1] > 0, :-1]).max(0)
    found: Array = COINCIDENT * np.maximum(largest, np.where(size > 0, size, largest.max(initial=0.0)))
    return found
