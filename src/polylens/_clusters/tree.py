"""The minimum spanning tree of packed bits under Hamming distance, in memory proportional to the bits, and what it tells:
single linkage, and how wide every cluster of it is. Works on words alone; where they come from is not known here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._kernels.compiled import compiled, popcount
from .._progress import progress
from ..errors import InputError
from .dendrogram import Dendrogram, Groups

Array = np.ndarray[Any, Any]
_TILE = 256  # rows of the tree's loops: their words stay in the caches
_MOST = 1 << 31  # rows whose number fits into half a word
_BUDGET = 1 << 28  # words compared between two looks at the keyboard: a fraction of a second


def spanning_tree(words: Array) -> Array:
    """Return the n - 1 edges of a minimum spanning tree of the rows of words (n, width), uint64: rows (from, to, distance).

    They come in the order in which the tree grows from row 0; of equal distances the lowest row joins first, at the row that
    came first into the tree. Algorithm: Prim's, one pass over the rows that are left for each edge, which measures, keeps
    the nearest and finds the next; n^2 / 2 distances, memory that of the words.
    """
    count, width = words.shape
    if count >= _MOST:
        raise InputError(f"single linkage: expected fewer than {_MOST:,} distinct patterns; got {count:,}")
    edges = np.zeros((max(0, count - 1), 3), np.int64)
    tiles = _tiled(words[1:])
    row_of, place_of = np.arange(1, len(tiles) * _TILE + 1).reshape(-1, _TILE), np.arange(-1, count - 1)
    key, parent = np.full(row_of.shape, np.iinfo(np.int64).max), np.zeros(row_of.shape, np.int64)
    current, near = np.array(words[:1].reshape(-1)), np.zeros(_TILE, np.int64)
    steps = max(1, _BUDGET // max(1, width * count))
    for start in progress(range(0, len(edges), steps), -(-len(edges) // steps), "spanning tree"):
        _grow(tiles, row_of, place_of, key, parent, current, near, edges, start, min(start + steps, len(edges)))
    return edges


def _tiled(words: Array) -> Array:
    """Return rows (n, width) as tiles of columns (tiles, width, 256), so that one word of many rows is one vector."""
    count, width = words.shape
    tiles = np.zeros((-(-count // _TILE), width, _TILE), np.uint64)
    for tile, start in zip(tiles, range(0, count, _TILE), strict=True):
        part = words[start : start + _TILE]
        tile[:, : len(part)] = part.T
    return tiles


def single_linkage(edges: Array) -> Dendrogram:
    """Return the hierarchy of single linkage from the edges (n - 1, 3) of a spanning tree; equal heights merge as they come.

    A cluster's part that holds its lowest element stands first.
    """
    ranked = edges[np.argsort(edges[:, 2], kind="stable")]
    return from_merges(ranked[:, :2], ranked[:, 2])


def from_merges(pairs: Array, heights: Array) -> Dendrogram:
    """Return the hierarchy that arises when the clusters of the elements pairs[k] (n - 1, 2) merge at ascending heights[k]."""
    count = len(heights) + 1
    order, place = np.zeros(count, np.int64), np.zeros(count - 1, np.int64)
    _arrange(np.ascontiguousarray(pairs, dtype=np.int64), order, place, *(np.zeros(count, np.int64) for _ in range(4)))
    gaps = np.zeros(count - 1, heights.dtype)
    gaps[place] = heights
    return Dendrogram(order, gaps)


def isolated_groups(words: Array, tree: Dendrogram) -> Groups:
    """Return the clusters of single linkage whose diameter is less than the distance to everything else, but for the whole.

    Words are (n, width), in the tree's own numbering; the tree has whole gaps. Algorithm: two elements are at last joined by
    one merge, so the diameters of all clusters take each pair once: n^2 / 2 distances at most. A cluster at least as wide as
    the tree's largest gap cannot be a group, nor can one that holds it; no pair of it is looked at again.
    """
    count, width = words.shape
    rows, merges = np.array(words[tree.order]), np.argsort(tree.gaps, kind="stable")
    ends = (np.arange(count), np.arange(count), np.zeros(count, np.int64), np.zeros(count, np.int64))
    found = np.zeros((max(0, count - 1), 5), np.int64)
    state = np.zeros(4, np.int64)  # merge, row, widest so far, number of groups
    pairs = max(1, _BUDGET // max(1, width))
    total = -(-count * count // (2 * pairs))

    def batches() -> Any:
        while state[0] < len(merges):
            _measure(rows, tree.gaps.astype(np.int64), merges, *ends, found, state, pairs)
            yield None

    for _ in progress(batches(), total, "diameters"):
        pass
    groups = found[: state[3]]
    return Groups(*(np.ascontiguousarray(column) for column in groups[np.lexsort((groups[:, 0], groups[:, 3]))].T))


@compiled
def _distance(a, b):
    total = np.int64(0)
    for k in range(len(a)):
        total += popcount(a[k] ^ b[k])
    return total


@compiled
def _grow(tiles, row_of, place_of, key, parent, current, near, edges, start, stop):
    """Take the steps start to stop of Prim's algorithm. The rows that are left fill the first places; of a row, `key` holds
    the distance to the tree in its upper half and the number of the row in its lower one, so that one least key is the next.
    """
    width, size = tiles.shape[1], tiles.shape[2]
    for step in range(start, stop):
        left = len(edges) - step
        origin = np.int64(0) if step == 0 else edges[step - 1, 1]
        best = np.iinfo(np.int64).max
        for tile in range((left + size - 1) // size):
            count = min(size, left - tile * size)
            _distances(tiles, tile, current, count, near)
            for j in range(count):
                new, old = (near[j] << 32) | row_of[tile, j], key[tile, j]
                parent[tile, j] = origin if new < old else parent[tile, j]
                key[tile, j] = min(new, old)
                best = min(best, new, old)
        row = best & 0xFFFFFFFF
        a, i = place_of[row] // size, place_of[row] % size
        b, j = (left - 1) // size, (left - 1) % size
        edges[step, 0], edges[step, 1], edges[step, 2] = parent[a, i], row, best >> 32
        for word in range(width):
            current[word] = tiles[a, word, i]
            tiles[a, word, i] = tiles[b, word, j]
        place_of[row_of[b, j]] = place_of[row]
        row_of[a, i], key[a, i], parent[a, i] = row_of[b, j], key[b, j], parent[b, j]


@compiled
def _distances(tiles, tile, current, count, near):
    """Set near[:count] to the distances of the columns of a tile to a row."""
    width, word = len(current), 0
    for j in range(count):
        near[j] = 0
    while word + 4 <= width:  # four words at once save three of four trips to `near`
        p, q, r, t = current[word], current[word + 1], current[word + 2], current[word + 3]
        for j in range(count):
            near[j] += (popcount(p ^ tiles[tile, word, j]) + popcount(q ^ tiles[tile, word + 1, j])) + (
                popcount(r ^ tiles[tile, word + 2, j]) + popcount(t ^ tiles[tile, word + 3, j])
            )
        word += 4
    while word < width:
        for j in range(count):
            near[j] += popcount(current[word] ^ tiles[tile, word, j])
        word += 1


@compiled
def _arrange(pairs, order, place, root, last, after, boundary):
    """Join lists of elements merge by merge; `place` becomes where in the order each merge's two parts meet."""
    for i in range(len(root)):
        root[i], last[i], after[i], boundary[i] = i, i, -1, -1
    for k in range(len(pairs)):
        a, b = _root(root, pairs[k, 0]), _root(root, pairs[k, 1])
        a, b = min(a, b), max(a, b)
        root[b] = a
        after[last[a]] = b
        boundary[b] = k
        last[a] = last[b]
    element = 0
    for position in range(len(order)):
        order[position] = element
        if position:
            place[boundary[element]] = position - 1
        element = after[element]


@compiled
def _root(root, i):
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


@compiled
def _measure(rows, gaps, merges, first, last, birth, diameter, found, state, budget):
    """Go on with merges until about `budget` pairs are measured. A cluster is a range, known at both of its ends:
    first[its end], last[its start]; its birth and diameter stand at its start.
    """
    largest = gaps[merges[-1]]
    while state[0] < len(merges) and budget > 0:
        cut = merges[state[0]]
        a, b, height = first[cut], cut + 1, gaps[cut]
        end = last[b] + 1
        wide = max(state[2], diameter[a], diameter[b])
        row = a + state[1]
        while row < b and wide < largest and height > 0 and budget > 0:
            for j in range(b, end):
                wide = max(wide, _distance(rows[row], rows[j]))
            budget -= end - b
            row += 1
        state[1], state[2] = row - a, wide
        if row < b and wide < largest and height > 0:
            return
        _record(a, b, birth, diameter, height, found, state)
        _record(b, end, birth, diameter, height, found, state)
        first[end - 1], last[a], birth[a], diameter[a] = a, end - 1, height, wide
        state[0], state[1], state[2] = state[0] + 1, 0, 0
        budget -= 1


@compiled
def _record(start, stop, birth, diameter, death, found, state):
    if stop - start > 1 and birth[start] < death and diameter[start] < death:
        k = state[3]
        found[k, 0], found[k, 1], found[k, 2], found[k, 3] = start, stop, birth[start], death
        found[k, 4] = diameter[start]
        state[3] += 1
