"""The compiled kernel that cuts cells by the hyperplanes of a gate's units, depth first.

It stops where an array is full and goes on when called again; nothing is lost on the way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .compiled import compiled
from .frames import (
    ARENA_FULL,
    BITS_FULL,
    CELL,
    COUNT,
    COUNTING,
    DEPTH,
    DONE,
    FRAGILE,
    FRAGILE_BELOW,
    FRAME_FULL,
    NEGATIVE_ONLY,
    OUT_FULL,
    POOL,
    POOL_FULL,
    columns,
    emit,
    find_edges,
    has_room,
    load_vertices,
    new_bit,
    note,
    outside,
    pop,
    push,
    tolerance_at,
    vertices,
)

Array = np.ndarray[Any, Any]


class Planes(NamedTuple):
    """The hyperplanes of a stage, number q = k * width + unit: flip[k] * (z[unit] - at[k, unit] * weight) = 0.

    A value counts as zero within `magnitude[q] * m + constant[q] * w + inherited[q] * e`, with m, w, e the vertex's own;
    `ceiling` is the largest of these tolerances over the chunk, `unit_roundoff` the part of the terms that they stand for.
    `uneven` hyperplanes have terms that are smaller than the tolerance alone.
    """

    at: Array
    flip: Array
    magnitude: Array
    constant: Array
    inherited: Array
    ceiling: Array
    uneven: Array
    unit_roundoff: float


@compiled
def classify(z, planes, pool, first, last, positive, negative, slack, state):
    """Write for every vertex from `first` to `last` which hyperplanes it is strictly on which side of, as bits."""
    count, units, width = planes.at.shape[0], z.shape[1], positive.shape[1] // planes.at.shape[0] * 64
    near = FRAGILE_BELOW / planes.unit_roundoff
    for v in range(first, last):
        for k in range(count):
            for word in range(width // 64):
                up, down = np.uint64(0), np.uint64(0)
                for bit in range(min(64, units - word * 64)):
                    unit = word * 64 + bit
                    q = k * width + unit
                    value = planes.flip[k] * (z[v, unit] - planes.at[k, unit] * pool.weight[v])
                    least = planes.ceiling[q]
                    if abs(value) <= least * near:
                        least = tolerance_at(planes, pool, v, q)
                        note(value, least, q, planes, slack, state)
                    up |= np.uint64(value > least) << np.uint64(bit)
                    down |= np.uint64(value < -least) << np.uint64(bit)
                positive[v, k * (width // 64) + word] = up
                negative[v, k * (width // 64) + word] = down


@compiled
def in_doubt(z, planes, weight):
    """Say whether some value may count as zero without being it."""
    width = len(planes.ceiling) // planes.at.shape[0]
    for v in range(len(z)):
        for k in range(planes.at.shape[0]):
            found = False
            for unit in range(z.shape[1]):
                value = abs(z[v, unit] - planes.at[k, unit] * weight[v])
                found |= (value != 0.0) & (value <= planes.ceiling[k * width + unit])
            if found:
                return True
    return False


@compiled
def load(cell, cells, z, planes, pool, positive, negative, frame):
    """Copy a cell into the frame with the hyperplanes that cross it; return whether the frame is large enough."""
    start, count = cells.start[cell], cells.start[cell + 1] - cells.start[cell]
    width = positive.shape[1] // planes.at.shape[0] * 64
    columns = 0
    for word in range(positive.shape[1]):
        up, down = np.uint64(0), np.uint64(0)
        for i in range(count):
            up |= positive[cells.vertex[start + i], word]
            down |= negative[cells.vertex[start + i], word]
        crossing = up & down
        frame.words[word] = up & ~crossing
        bit = 0
        while crossing:
            if crossing & np.uint64(1):
                if columns + 1 > len(frame.column) or (columns + 1) * count > len(frame.value):
                    return False
                q = word * 64 + bit
                k, unit = q // width, q % width
                for i in range(count):
                    v = cells.vertex[start + i]
                    frame.value[columns * count + i] = planes.flip[k] * (z[v, unit] - planes.at[k, unit] * pool.weight[v])
                frame.column[columns] = q
                columns += 1
            crossing >>= np.uint64(1)
            bit += 1
    frame.size[1] = columns
    return load_vertices(cell, cells, frame)


@compiled
def _cross(frame, q, planes, pool, pairs, slack, state):
    """Find on which side of the first column's hyperplane the vertices lie, and the edges that it crosses."""
    near = planes.ceiling[q] * (FRAGILE_BELOW / planes.unit_roundoff)
    for i in range(frame.size[0]):
        value = frame.value[i]
        least = planes.ceiling[q]
        if abs(value) <= near:
            least = tolerance_at(planes, pool, frame.vertex[i], q)
            note(value, least, q, planes, slack, state)
        pairs.value[i], pairs.least[i] = value, least
    return find_edges(frame, pairs)


@compiled
def _settle(frame, q, side, positive, pairs, planes, pool, child, slack, state):
    """Keep the columns whose hyperplanes still cross the child, and write the sides of the others into its pattern."""
    size, kept = child.size[0], 0
    for w in range(len(frame.words)):
        child.words[w] = frame.words[w]
    if positive:
        child.words[q >> 6] |= np.uint64(1) << np.uint64(q & 63)
    for c in range(child.size[1]):
        highest, lowest = -np.inf, np.inf
        for i in range(c * size, (c + 1) * size):
            highest, lowest = max(highest, child.value[i]), min(lowest, child.value[i])
        r = child.column[c]
        least = planes.ceiling[r]
        if planes.uneven[r]:
            for i in range(c * size, (c + 1) * size):
                state[FRAGILE] += abs(child.value[i]) <= least
        above, below = highest > least, lowest < -least
        if highest > 0.0 and (not above or (lowest < 0.0 and not below)):
            above, below = _look_closer(frame, c, r, side, pairs, planes, pool, child, slack, state)
        if above and below:
            if kept < c:
                for i in range(size):
                    child.value[kept * size + i] = child.value[c * size + i]
                child.column[kept] = r
            kept += 1
        elif above:
            child.words[r >> 6] |= np.uint64(1) << np.uint64(r & 63)
    child.size[1] = kept


@compiled
def _look_closer(frame, c, q, side, pairs, planes, pool, child, slack, state):
    """Return whether some vertex of the child is above and some below the hyperplane, by their own tolerances."""
    above, below, at = False, False, c * child.size[0]
    for i in side:
        least = tolerance_at(planes, pool, frame.vertex[i], q)
        note(child.value[at], least, q, planes, slack, state)
        above, below = above or child.value[at] > least, below or child.value[at] < -least
        at += 1
    for k in range(pairs.size[2]):
        t = pairs.between[k]
        a, b = frame.vertex[pairs.first[k]], frame.vertex[pairs.second[k]]
        least = (1.0 - t) * tolerance_at(planes, pool, a, q) + t * tolerance_at(planes, pool, b, q)
        note(child.value[at], least, q, planes, slack, state)
        above, below = above or child.value[at] > least, below or child.value[at] < -least
        at += 1
    return above, below


@compiled
def _finish(child, parent, out, arena, options, state):
    """Count, emit or push a child whose columns are settled; drop one that a clipping row leaves outside."""
    if options[NEGATIVE_ONLY] and outside(child.words):
        return
    if options[COUNTING] and child.size[1] <= 1:
        state[COUNT] += 1 if options[NEGATIVE_ONLY] else child.size[1] + 1
    elif child.size[1] or not emit(child, parent, out, state):
        push(arena, child, state)


@compiled
def _split(frame, parent, planes, pool, table, pairs, lower, upper, arena, out, options, slack, state):
    """Cut the frame by its first column's hyperplane and dispose of the sides; nothing is lost where there is no room."""
    q = frame.column[0]
    if options[COUNTING] and frame.size[1] == 2 and not options[NEGATIVE_ONLY] and _all_four(frame, planes, pool):
        state[COUNT] += 4
        return DONE
    if not _cross(frame, q, planes, pool, pairs, slack, state):
        return FRAME_FULL
    above, below = pairs.above[: pairs.size[0]], pairs.below[: pairs.size[1]]
    if not (columns(frame, 1, below, pairs, lower) and columns(frame, 1, above, pairs, upper)):
        return FRAME_FULL
    bit = new_bit(frame, options, q)
    if bit < 0:
        return BITS_FULL
    if state[POOL] + pairs.size[2] > len(pool.weight):
        return POOL_FULL
    _settle(frame, q, below, False, pairs, planes, pool, lower, slack, state)
    if not options[NEGATIVE_ONLY]:
        _settle(frame, q, above, True, pairs, planes, pool, upper, slack, state)
    if not has_room(arena, state[DEPTH], lower, upper):
        return ARENA_FULL
    if not (options[COUNTING] and lower.size[1] <= 1):
        vertices(frame, below, pairs, bit, q, pool, table, lower, options, state)
    _finish(lower, parent, out, arena, options, state)
    if not options[NEGATIVE_ONLY]:
        if not (options[COUNTING] and upper.size[1] <= 1):
            vertices(frame, above, pairs, bit, q, pool, table, upper, options, state)
        _finish(upper, parent, out, arena, options, state)
    return DONE


@compiled
def _all_four(frame, planes, pool):
    """Say whether two hyperplanes have vertices in all four of their quadrants: then they part the cell in four."""
    count, seen = frame.size[0], 0
    p, q = frame.column[0], frame.column[1]
    for i in range(count):
        a, b = frame.value[i], frame.value[count + i]
        if min(abs(a), abs(b)) <= max(planes.ceiling[p], planes.ceiling[q]):
            v = frame.vertex[i]
            if abs(a) <= tolerance_at(planes, pool, v, p) or abs(b) <= tolerance_at(planes, pool, v, q):
                continue
        seen |= 1 << (2 * (a > 0.0) + (b > 0.0))
    return seen == 15


@compiled
def cut(cells, z, planes, positive, negative, pool, floor, table, pairs, frames, arena, out, options, slack, state):
    """Cut all cells by the hyperplanes that cross them, depth first, until done or an array is full; say which."""
    frame, lower, upper = frames
    while True:
        if state[DEPTH]:
            if not pop(arena, frame, state):
                return FRAME_FULL
            if frame.size[1] == 0:
                if not emit(frame, state[CELL] - 1, out, state):
                    state[DEPTH] += 1
                    return OUT_FULL
                continue
            status = _split(frame, state[CELL] - 1, planes, pool, table, pairs, lower, upper, arena, out, options, slack, state)
            if status != DONE:
                state[DEPTH] += 1
                return status
            continue
        if options[COUNTING]:
            state[POOL] = floor
        cell = state[CELL]
        if cell == len(cells.start) - 1:
            return DONE
        if not load(cell, cells, z, planes, pool, positive, negative, frame):
            return FRAME_FULL
        if options[NEGATIVE_ONLY] and outside(frame.words):
            state[CELL] += 1
            continue
        if options[COUNTING] and frame.size[1] <= 1:
            state[COUNT] += 1 if options[NEGATIVE_ONLY] else frame.size[1] + 1
        elif frame.size[1] == 0:
            if not emit(frame, cell, out, state):
                return OUT_FULL
        else:
            status = _split(frame, cell, planes, pool, table, pairs, lower, upper, arena, out, options, slack, state)
            if status != DONE:
                return status
        state[CELL] += 1
