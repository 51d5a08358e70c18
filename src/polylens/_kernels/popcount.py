"""Hamming distances on packed bits, compiled: matrices, histograms of all pairs, given pairs, nearest neighbours.

Rows are 64-bit words (n, words). A segment (first word, words in a plane, planes, group) says where a layer lies; two units
differ where any of their planes does. Distances are exact; memory is the answer's and a tile of columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._progress import progress
from .compiled import compiled, popcount

Array = np.ndarray[Any, Any]
_TILE = 1 << 18  # bytes of a tile of columns, which stay in the second-level cache
_ROWS = 512  # rows of a block: enough to make up for turning its columns
_BLOCK = 1 << 30  # words compared in a block, about a quarter of a second: an interrupt waits no longer
_STRIP = 32  # rows of which the matrix keeps a tile, so that its mirror image is written in runs


def matrix(a: Array, b: Array | None, segments: Array) -> Array:
    """Return the distances (n, m), int64, of all rows of `a` to all of `b`, over all segments; to one another when None."""
    out = np.empty((len(a), len(a if b is None else b)), np.int64)
    near = np.empty((_STRIP, _width(a)), np.int64)
    for rows, columns in _blocks(a, b, "distances"):
        _matrix(a, a if b is None else b, segments, *rows, *columns, b is None, *_scratch(a), near, out)
    return out


def histograms(a: Array, b: Array | None, segments: Array, longest: int, same: tuple[Array, Array] | None = None) -> Array:
    """Return how many pairs are at each distance: (2, segments + 2, longest + 1), the last two rows the sums
    of a group each.

    All pairs of a row of `a` and one of `b`, or all pairs of two rows of `a`. `same` holds labels of both sides, int64: pairs
    of equal labels, numbers from 0 on, count in the second table, all others in the first. Memory: the tables and a tile.
    """
    out = np.zeros((2, len(segments) + 2, longest + 1), np.int64)
    mine, theirs = same if same is not None else (np.zeros(0, np.int64),) * 2
    for rows, columns in _blocks(a, b, "distances of all pairs"):
        sums = np.empty((2, _width(a)), np.int64)
        other = a if b is None else b
        _histograms(a, other, segments, mine, theirs, *rows, *columns, b is None, *_scratch(a), sums, out)
    for group in (0, 1):
        members = np.flatnonzero(segments[:, 3] == group)
        if len(members) == 1:  # the kernel has counted them already
            out[:, len(segments) + group] = out[:, members[0]]
        if not len(members):
            out[:, len(segments) + group, 0] = _pairs(len(a), None if b is None else len(b), same)
    return out


def _pairs(n: int, m: int | None, same: tuple[Array, Array] | None) -> tuple[int, int]:
    """Return how many pairs there are of different labels, and of equal ones."""
    pairs = n * (n - 1) // 2 if m is None else n * m
    if same is None:
        return pairs, 0
    mine, theirs = (np.bincount(labels, minlength=1 + max(s.max() for s in same)) for labels in same)
    equal = int((mine * (mine - 1)).sum()) // 2 if m is None else int((mine * theirs).sum())
    return pairs - equal, equal


def of_pairs(a: Array, b: Array, segments: Array, left: Array, right: Array) -> Array:
    """Return the distances (segments, pairs), int64, of rows `left` of `a` to rows `right` of `b`."""
    out = np.empty((len(segments), len(left)), np.int64)
    _of_pairs(a, b, segments, left, right, out)
    return out


def nearest(a: Array, b: Array | None, segments: Array, count: int) -> tuple[Array, Array]:
    """Return the rows of `b` that are nearest to each row of `a`, and their distances: (n, count), int64, nearest first.

    Of rows at one distance the lowest comes first. Without `b` they are the other rows of `a`. There must be `count` of them.
    """
    index = np.full((len(a), count), -1, np.int64)
    distance = np.full((len(a), count), np.iinfo(np.int64).max)
    for rows, columns in _blocks(a, b, "nearest neighbours", triangle=False):
        _nearest(a, a if b is None else b, segments, *rows, *columns, b is None, *_scratch(a), index, distance)
    return index, distance


def _width(a: Array) -> int:
    """Return how many columns a tile has: a multiple of the eight words that fill the widest registers."""
    return min(256, max(16, _TILE // max(8, a.nbytes // max(1, len(a))) // 8 * 8))


def _scratch(a: Array) -> tuple[Array, Array, Array]:
    """Return the tile of columns, the distances of a row to them, and the words in which they differ."""
    width = _width(a)
    return np.empty((a.shape[1], width), np.uint64), np.empty(width, np.int64), np.empty(width, np.uint64)


def _blocks(a: Array, b: Array | None, label: str, triangle: bool = True) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the rows and columns of blocks that take about as long; without `b` those above the diagonal, if so wanted."""
    n, m = len(a), len(a if b is None else b)
    wide = max(_width(a), _BLOCK // (_ROWS * max(1, a.shape[1])))
    first = [(r, c) for r in range(0, n, _ROWS) for c in range(r if b is None and triangle else 0, m, wide)]
    for r, c in progress(first, len(first), label):
        yield (r, min(n, r + _ROWS)), (c, min(m, c + wide))


@compiled
def turn(b, first, count, tile):
    """Set tile[:, :count] to rows first, first + 1, ... of `b` as columns, so that one word of many rows is one vector."""
    for word in range(b.shape[1]):
        for j in range(count):
            tile[word, j] = b[first + j, word]


@compiled
def add_distances(a, i, tile, count, segments, s, differing, near):
    """Add to near[:count] the distances, on segment s, of row i of `a` to the columns of a tile."""
    start, words, planes = segments[s, 0], segments[s, 1], segments[s, 2]
    word, end = start, start + words
    if planes == 1:
        while word + 4 <= end:  # four words at once save three of four trips to `near`
            p, q, r, t = a[i, word], a[i, word + 1], a[i, word + 2], a[i, word + 3]
            for j in range(count):
                near[j] += (popcount(p ^ tile[word, j]) + popcount(q ^ tile[word + 1, j])) + (
                    popcount(r ^ tile[word + 2, j]) + popcount(t ^ tile[word + 3, j])
                )
            word += 4
        while word < end:
            p = a[i, word]
            for j in range(count):
                near[j] += popcount(p ^ tile[word, j])
            word += 1
        return
    while word < end:
        p = a[i, word]
        for j in range(count):
            differing[j] = p ^ tile[word, j]
        for plane in range(1, planes):
            q = a[i, word + plane * words]
            for j in range(count):
                differing[j] |= q ^ tile[word + plane * words, j]
        for j in range(count):
            near[j] += popcount(differing[j])
        word += 1


@compiled
def all_distances(a, i, tile, count, segments, differing, near):
    """Set near[:count] to the distances, over all segments, of row i of `a` to the columns of a tile."""
    for j in range(count):
        near[j] = 0
    for s in range(len(segments)):
        add_distances(a, i, tile, count, segments, s, differing, near)


@compiled
def _matrix(a, b, segments, top, bottom, left, right, mirrored, tile, near, differing, strip, out):
    width, high = len(near), len(strip)
    for first in range(left, right, width):
        count = min(width, right - first)
        turn(b, first, count, tile)
        for base in range(top, bottom, high):
            rows = min(high, bottom - base)
            for i in range(base, base + rows):
                all_distances(a, i, tile, count, segments, differing, near)
                for j in range(count):
                    strip[i - base, j] = near[j]
                    out[i, first + j] = near[j]
            if mirrored:
                for j in range(count):
                    for i in range(rows):
                        out[first + j, base + i] = strip[i, j]


@compiled
def _histograms(a, b, segments, mine, theirs, top, bottom, left, right, triangle, tile, near, differing, sums, out):
    width, layers, labelled = len(near), len(segments), len(mine) > 0
    second = 0
    for s in range(layers):
        second += segments[s, 3]
    for first in range(left, right, width):
        count = min(width, right - first)
        turn(b, first, count, tile)
        for i in range(top, min(bottom, first + count) if triangle else bottom):
            begin = max(0, i + 1 - first) if triangle else 0
            for j in range(count):
                sums[0, j] = 0
                sums[1, j] = 0
            for s in range(layers):
                for j in range(count):
                    near[j] = 0
                add_distances(a, i, tile, count, segments, s, differing, near)
                group = segments[s, 3]
                for j in range(count):
                    sums[group, j] += near[j]
                _tally(near, begin, count, labelled, i, first, mine, theirs, out, s)
            if layers - second > 1:
                _tally(sums[0], begin, count, labelled, i, first, mine, theirs, out, layers)
            if second > 1:
                _tally(sums[1], begin, count, labelled, i, first, mine, theirs, out, layers + 1)


@compiled
def _tally(near, begin, end, labelled, i, first, mine, theirs, out, line):
    if not labelled:
        for j in range(begin, end):
            out[0, line, near[j]] += 1
        return
    for j in range(begin, end):
        out[1 if mine[i] == theirs[first + j] else 0, line, near[j]] += 1


@compiled
def _of_pairs(a, b, segments, left, right, out):
    for s in range(len(segments)):
        start, words, planes = segments[s, 0], segments[s, 1], segments[s, 2]
        for pair in range(len(left)):
            i, j, total = left[pair], right[pair], 0
            for word in range(start, start + words):
                differing = a[i, word] ^ b[j, word]
                for plane in range(1, planes):
                    differing |= a[i, word + plane * words] ^ b[j, word + plane * words]
                total += popcount(differing)
            out[s, pair] = total


@compiled
def _nearest(a, b, segments, top, bottom, left, right, own, tile, near, differing, index, distance):
    width, k = len(near), index.shape[1]
    for first in range(left, right, width):
        count = min(width, right - first)
        turn(b, first, count, tile)
        for i in range(top, bottom):
            all_distances(a, i, tile, count, segments, differing, near)
            last = distance[i, k - 1]
            for j in range(count):
                if near[j] < last and not (own and first + j == i):
                    place = k - 1
                    while place > 0 and distance[i, place - 1] > near[j]:
                        distance[i, place] = distance[i, place - 1]
                        index[i, place] = index[i, place - 1]
                        place -= 1
                    distance[i, place] = near[j]
                    index[i, place] = first + j
                    last = distance[i, k - 1]
