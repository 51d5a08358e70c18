"""Cells that share their vertices: coincident ones merged, facets matched by their vertices, faces told apart. Compiled.

A set of vertices goes by its fingerprint, a sum of 64-bit hashes of their numbers: two of 10^7 different sets share one with
odds of 3e-6. Facets that have one fingerprint are compared by their number of vertices as well.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from .compiled import compiled

Array = np.ndarray[Any, Any]
_ROOM = 1 << 18  # faces that are written before they are made unique


class Mesh(NamedTuple):
    """Cells by their incidences over merged vertices: the first `finite` rows of `points` are places, the others directions.

    `reach` (vertices,) says within what two places, or two directions, count as one, in units of the `axes`.
    """

    points: Array
    finite: int
    reach: Array
    start: Array
    vertex: Array
    facets: Array

    @property
    def dim(self) -> int:
        """How many coordinates a vertex has."""
        return int(self.points.shape[1])

    @property
    def axes(self) -> Array:
        """The unit of length along each axis (dim,): inputs in metres and in nanometres are measured each by its own."""
        return units_of(self.points[: self.finite], self.finite == len(self.points))

    @property
    def measured(self) -> Mesh:
        """The mesh with points in units of the axes."""
        return self._replace(points=self.points / self.axes)


# -- merging


def merged(points: Array, weight: Array, relative: float) -> tuple[Array, int, Array, Array]:
    """Return places and directions without repetition, how many places, the reach of each, and where every vertex went.

    Places count as one within `relative` of the size of the domain along each axis (`units_of`) or of their own, if that is
    larger; directions, whose largest entry is 1, within `relative`.

    Algorithm: vertices are sorted along a fixed direction that is no symmetry's, and compared with those next to them.
    """
    far = weight <= 0.0
    places = points[~far] / weight[~far, None]
    ways = points[far] / np.maximum(np.abs(points[far]).max(1, initial=0.0), 1e-300)[:, None]
    seen = places / units_of(places, not far.any())
    reach = relative * np.concatenate([np.maximum(np.abs(seen).max(1, initial=0.0), 1.0), np.ones(len(ways))])
    first, kept = _unique(seen, reach[: len(places)])
    second, kept_ways = _unique(ways, reach[len(places) :])
    where = np.empty(len(weight), np.int32)
    where[~far], where[far] = first, second + len(kept)
    chosen = np.concatenate([kept, kept_ways + len(places)])
    return np.concatenate([places[kept], ways[kept_ways]]), len(kept), reach[chosen], where


def units_of(places: Array, bounded: bool) -> Array:
    """Return the unit of length along each axis, a power of two: the largest coordinate's, or one for all axes.

    Directions of an unbounded domain lead along several axes, which share the unit of the median place.
    """
    sizes = np.abs(places)
    most = sizes.max(0, initial=0.0) if bounded else np.full(places.shape[1], np.median(sizes.max(1, initial=0.0)))
    return np.exp2(np.floor(np.log2(np.where(most > 0.0, most, 1.0))))


def _unique(points: Array, reach: Array) -> tuple[Array, Array]:
    """Return which of the distinct points each point is, and the positions of those."""
    slope = np.sqrt(np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0, 29.0, 31.0])[np.arange(points.shape[1]) % 11])
    place = points @ slope
    order = np.argsort(place)
    owner = np.full(len(points), -1, np.int64)
    _group(points, order, place[order], reach * slope.sum(), reach, owner)
    kept = np.flatnonzero(owner == np.arange(len(points)))
    number = np.empty(len(points), np.int64)
    number[kept] = np.arange(len(kept))
    return number[owner], kept


@compiled
def _group(points, order, place, window, reach, owner):
    """Write for every point the first one in order that it coincides with."""
    for i in range(len(order)):
        v = order[i]
        if owner[v] >= 0:
            continue
        owner[v] = v
        j = i + 1
        while j < len(order) and place[j] - place[i] <= window[v]:
            w = order[j]
            if owner[w] < 0:
                near = True
                for c in range(points.shape[1]):
                    near = near and abs(points[w, c] - points[v, c]) <= reach[v]
                if near:
                    owner[w] = v
            j += 1


# -- facets


class FacetList(NamedTuple):
    """The facets of all cells, cell by cell: whose, which bit, how many vertices, their fingerprint."""

    cell: Array
    bit: Array
    size: Array
    key: Array


def facets_of(mesh: Mesh) -> FacetList:
    """Return the facets of all cells that have not collapsed to a lower dimension."""
    room = int(_most_facets(mesh.start, mesh.facets)) if mesh.dim else 0
    found = FacetList(np.zeros(room, np.int32), np.zeros(room, np.int32), np.zeros(room, np.int32), np.zeros(room, np.uint64))
    count = _facets(*mesh.measured, *_work(mesh), *found) if room else 0
    return FacetList(*(a[:count].copy() for a in found))


def vertices_of(mesh: Mesh, cell: Array, bit: Array) -> tuple[Array, Array]:
    """Return the vertices of some facets as a ragged array: start (facets + 1,) and vertex."""
    members, count = _work(mesh)[0], np.zeros(len(cell), np.int64)
    _count(mesh.start, mesh.vertex, mesh.facets, cell, bit, members, count)
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
    vertex = np.zeros(int(start[-1]), np.int32)
    _write(mesh.start, mesh.vertex, mesh.facets, cell, bit, members, start, vertex)
    return start, vertex


def matched(mesh: Mesh, found: FacetList, inner: Array) -> Array:
    """Return for every facet the one of another cell with the same vertices, -1 for none; only `inner` ones are matched."""
    slots = np.full(1 << (2 * len(found.key) + 1).bit_length(), -1, np.int32)
    partner = np.full(len(found.key), -1, np.int64)
    _match(found.key, found.size, inner, slots, partner)
    left = np.flatnonzero(inner & (partner < 0))
    if len(left):
        _pair(mesh.measured, found, left, partner)
    return partner


def _pair(mesh: Mesh, found: FacetList, left: Array, partner: Array) -> None:
    """Pair facets of a measured mesh that have more vertices on one side than on the other, by what they have in common."""
    start, vertex = vertices_of(mesh, found.cell[left], found.bit[left])
    own = [frozenset(vertex[a:b].tolist()) for a, b in itertools.pairwise(start)]
    at: dict[int, list[int]] = {}
    for k, members in enumerate(own):
        for v in members:
            at.setdefault(v, []).append(k)
    for k, members in enumerate(own):
        if partner[left[k]] >= 0:
            continue
        for j in sorted({j for v in members for j in at[v]}):
            common = members & own[j]
            apart = found.cell[left[j]] != found.cell[left[k]] and partner[left[j]] < 0
            if apart and len(common) >= mesh.dim and spans(mesh, np.array(sorted(common))):
                partner[left[k]], partner[left[j]] = left[j], left[k]
                break


def spans(mesh: Mesh, vertices: Array) -> bool:
    """Say whether vertices of a measured mesh hold as many independent points as a facet has."""
    members = np.array(vertices, np.int64)
    return bool(_rank(members, len(members), mesh.points, mesh.finite, mesh.reach, _work(mesh)[1]) >= mesh.dim - 1)


def _work(mesh: Mesh) -> tuple[Array, Array]:
    """Return room for the vertices of a facet, and for an orthonormal basis."""
    return np.zeros(max(1, int(np.diff(mesh.start).max(initial=0))), np.int64), np.zeros((mesh.dim + 1, max(1, mesh.dim)))


@compiled
def _hash(vertex):
    x = np.uint64(vertex) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _most_facets(start, facets):
    total = 0
    for cell in range(len(start) - 1):
        for w in range(facets.shape[1]):
            rest = np.uint64(0)
            for i in range(start[cell], start[cell + 1]):
                rest |= facets[i, w]
            while rest:
                rest &= rest - np.uint64(1)
                total += 1
    return total


@compiled
def _members(first, last, vertex, facets, bit, members):
    """Write the distinct vertices of a cell that lie on one facet; return how many."""
    count, w, b = 0, bit // 64, np.uint64(bit % 64)
    for i in range(first, last):
        if (facets[i, w] >> b) & np.uint64(1):
            new, v = True, vertex[i]
            for k in range(count):
                if members[k] == v:
                    new = False
                    break
            if new:
                members[count] = v
                count += 1
    return count


@compiled
def _rank(members, count, points, finite, reach, basis):
    """Return the dimension of what vertices span: of the hull of places and directions, one less for directions alone.

    Algorithm: Gram and Schmidt with the longest remainder first; a remainder within the reach of its vertex is none.
    """
    dim, origin, rank = points.shape[1], -1, 0
    for k in range(count):
        if members[k] < finite:
            origin = members[k]
            break
    while rank < dim:
        best, longest = -1, 0.0
        for k in range(count):
            length = _remainder(members[k], origin, rank, points, finite, basis)
            if length > longest and length > 2.0 * reach[members[k]]:
                best, longest = members[k], length
        if best < 0:
            break
        _remainder(best, origin, rank, points, finite, basis)
        for c in range(dim):
            basis[rank, c] = basis[dim, c] / longest
        rank += 1
    return rank if origin >= 0 else rank - 1


@compiled
def _remainder(v, origin, rank, points, finite, basis):
    """Write what is left of the way from the origin to a vertex beside the basis; return its length."""
    dim, length = points.shape[1], 0.0
    for c in range(dim):
        basis[dim, c] = points[v, c] - (points[origin, c] if v < finite else 0.0)
    for k in range(rank):
        dot = 0.0
        for c in range(dim):
            dot += basis[k, c] * basis[dim, c]
        for c in range(dim):
            basis[dim, c] -= dot * basis[k, c]
    for c in range(dim):
        length += basis[dim, c] * basis[dim, c]
    return np.sqrt(length)


@compiled
def _facets(points, finite, reach, start, vertex, facets, members, basis, cell_of, bit_of, count_of, key_of):
    """Write the facets of all cells; return how many."""
    found, dim = 0, points.shape[1]
    for cell in range(len(start) - 1):
        for bit in range(64 * facets.shape[1]):
            count = _members(start[cell], start[cell + 1], vertex, facets, bit, members)
            if count < dim or (dim > 2 and _rank(members, count, points, finite, reach, basis) < dim - 1):
                continue
            key = np.uint64(0)
            for k in range(count):
                key += _hash(members[k])
            cell_of[found], bit_of[found], count_of[found], key_of[found] = cell, bit, count, key
            found += 1
    return found


@compiled
def _count(start, vertex, facets, cell, bit, members, count):
    for k in range(len(cell)):
        count[k] = _members(start[cell[k]], start[cell[k] + 1], vertex, facets, bit[k], members)


@compiled
def _write(start, vertex, facets, cell, bit, members, first, out):
    for k in range(len(cell)):
        count = _members(start[cell[k]], start[cell[k] + 1], vertex, facets, bit[k], members)
        for i in range(count):
            out[first[k] + i] = members[i]


@compiled
def _match(key, count, inner, slots, partner):
    """Pair facets of one fingerprint, by a table with open addressing."""
    mask = len(slots) - 1
    for f in range(len(key)):
        if not inner[f]:
            continue
        slot = np.int64(key[f] >> np.uint64(1)) & mask
        while slots[slot] >= 0:
            other = slots[slot]
            if key[other] == key[f] and count[other] == count[f] and partner[other] < 0:
                partner[other], partner[f] = f, other
                break
            slot = (slot + 1) & mask
        if partner[f] < 0:
            slots[slot] = f


# -- faces of all dimensions


def face_numbers(mesh: Mesh, found: FacetList) -> Array:
    """Return how many faces of each dimension the cells have together, those at infinity left out: (dim + 1,).

    Algorithm: the faces of a cell are what its vertices have in common; shared ones are found by their fingerprints.
    Cost: the faces of all cells, times their vertices; 3^dim faces for a cell that is a cube.
    """
    most, words = int(np.diff(mesh.start).max(initial=0)), mesh.facets.shape[1]
    allowed = np.zeros((len(mesh.start) - 1, words), np.uint64)
    np.bitwise_or.at(allowed, (found.cell, found.bit // 64), np.uint64(1) << (found.bit % 64).astype(np.uint64))
    measured = mesh.measured
    key, dims, state = np.zeros(_ROOM, np.uint64), np.zeros(_ROOM, np.int8), np.zeros(2, np.int64)
    parts: list[list[Array]] = [[] for _ in range(mesh.dim + 1)]
    room = 1 << 10
    while state[0] < len(mesh.start) - 1:
        masks = np.zeros((room, words), np.uint64)
        table = np.zeros(2 * room, np.int64)
        corners = np.zeros(most, np.int64), np.zeros((most, words), np.uint64)
        state[1] = 0
        enough = _faces(*measured, *_work(mesh), allowed, *corners, masks, table, key, dims, state)
        room *= 1 if enough else 2
        for k in range(mesh.dim + 1):
            parts[k].append(np.unique(key[: state[1]][dims[: state[1]] == k]))
    return np.array([len(np.unique(np.concatenate(p))) for p in parts])


@compiled
def _faces(points, finite, reach, start, vertex, facets, members, basis, allowed, corner, own, masks, table, key, dims, state):
    """Write fingerprints and dimensions of the faces of cells; stop where `key` is full or, with False, `masks` is small."""
    while state[0] < len(start) - 1:
        cell = state[0]
        corners = _corners(start[cell], start[cell + 1], vertex, facets, allowed, cell, corner, own)
        count = _closure(corners, own, masks, table)
        if count < 0:
            return False
        if state[1] + count > len(key):
            return True
        for f in range(count):
            size, seen, mark = 0, False, np.uint64(0)
            for k in range(corners):
                if _holds(own, k, masks, f):
                    members[size] = corner[k]
                    size += 1
                    seen = seen or corner[k] < finite
                    mark += _hash(corner[k])
            if seen:
                key[state[1]] = mark
                sides = _simple(own, corners, masks, f, points.shape[1])
                rank = points.shape[1] - sides if sides >= 0 else _rank(members, size, points, finite, reach, basis)
                dims[state[1]] = rank
                state[1] += 1
        state[0] += 1
    return True


@compiled
def _simple(own, corners, masks, f, dim):
    """Return how many facets a face lies on if it has a corner on dim facets only, for then they are independent; else -1."""
    for k in range(corners):
        if _holds(own, k, masks, f):
            count = 0
            for w in range(own.shape[1]):
                count += _bits(own[k, w])
            if count == dim:
                sides = 0
                for w in range(own.shape[1]):
                    sides += _bits(masks[f, w])
                return sides
    return -1


@compiled
def _bits(word):
    count = 0
    while word:
        word &= word - np.uint64(1)
        count += 1
    return count


@compiled
def _corners(first, last, vertex, facets, allowed, cell, corner, own):
    """Write the corners of a cell and the facets that each lies on: distinct vertices that no other one's facets hold."""
    count, words = 0, facets.shape[1]
    for i in range(first, last):
        k = 0
        while k < count and corner[k] != vertex[i]:
            k += 1
        if k == count:
            corner[k] = vertex[i]
            for w in range(words):
                own[k, w] = 0
            count += 1
        for w in range(words):
            own[k, w] |= facets[i, w] & allowed[cell, w]
    kept = 0
    for k in range(count):
        extreme = True
        for j in range(count):
            extreme = extreme and not (j != k and corner[j] >= 0 and _within(own, k, j))
        if not extreme:
            corner[k] = -1
    for k in range(count):
        if corner[k] >= 0:
            corner[kept] = corner[k]
            for w in range(words):
                own[kept, w] = own[k, w]
            kept += 1
    return kept


@compiled
def _within(own, k, j):
    """Say whether all facets of corner k are corner j's too."""
    apart = np.uint64(0)
    for w in range(own.shape[1]):
        apart |= own[k, w] & ~own[j, w]
    return apart == 0


@compiled
def _holds(own, k, masks, f):
    """Say whether corner k lies on face f."""
    apart = np.uint64(0)
    for w in range(own.shape[1]):
        apart |= masks[f, w] & ~own[k, w]
    return apart == 0


@compiled
def _closure(corners, own, masks, table):
    """Write the facets common to any corners, each set once; return how many sets, -1 without room."""
    words, count, at = own.shape[1], 0, -1
    for s in range(len(table)):
        table[s] = -1
    while at < count:
        for k in range(corners):
            if count == len(masks):
                return -1
            mark = np.uint64(0)
            for w in range(words):
                masks[count, w] = own[k, w] & (masks[at, w] if at >= 0 else ~np.uint64(0))
                mark ^= _hash(masks[count, w]) + np.uint64(w)
            slot, known = np.int64(mark >> np.uint64(1)) % len(table), False
            while table[slot] >= 0 and not known:
                known = True
                for w in range(words):
                    known = known and masks[table[slot], w] == masks[count, w]
                slot = (slot + 1) % len(table)
            if not known:
                table[slot] = count
                count += 1
        at += 1
    return count


# -- components


def components(pairs: Array, count: int) -> tuple[Array, int]:
    """Return the component of each of `count` things that are joined in pairs, numbered as they appear, and how many."""
    root = np.arange(count)
    _join(pairs, root)
    kept = np.flatnonzero(root == np.arange(count))
    number = np.empty(count, np.int64)
    number[kept] = np.arange(len(kept))
    return number[root], len(kept)


@compiled
def _join(pairs, root):
    """Write for every thing the least one that it is connected to."""
    for k in range(len(pairs)):
        a, b = pairs[k, 0], pairs[k, 1]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        root[max(a, b)] = min(a, b)
    for a in range(len(root)):
        root[a] = root[root[a]]
