"""Cells at work: simple polytopes as vertices, and for every vertex the facets that it lies on, with what cuts them.

The facets of a vertex are bits of machine words; two vertices span an edge iff all facets but one of the first are the
second's too. Compiled by numba on first use and kept in its cache; it holds no lock. Cells, frames and pools are structs of
arrays whose sizes are kept in `state`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .compiled import compiled

Array = np.ndarray[Any, Any]

# entries of `state`
CELL, DEPTH, POOL, OUT, INCIDENCES, COUNT, FRAGILE = range(7)
# entries of `slack`
DROPPED, KEPT = range(2)
# entries of `options`
COUNTING, NEGATIVE_ONLY, SHARING, FIRST_BIT, RESERVED = range(5)
# what a call ends with
DONE, OUT_FULL, POOL_FULL, ARENA_FULL, FRAME_FULL, BITS_FULL = range(6)

_NONE, _ONE = np.uint64(0), np.uint64(1)
FRAGILE_BELOW = 1e-9  # share of its terms: a decision on a smaller value is fragile
ROUNDING_BELOW = (
    1.0 / 16.0
)  # share of the tolerance: the rounding of a few terms stays below; what counts as 0 above is fragile


class Cells(NamedTuple):
    """Cells by their incidences: cell i has vertices vertex[start[i]:start[i+1]], with facets as rows of `mask`."""

    start: Array
    vertex: Array
    mask: Array


class Pool(NamedTuple):
    """The vertices of a chunk: size, weight and error of each, and for new ones from which two and where between."""

    magnitude: Array
    weight: Array
    error: Array
    positive: Array
    negative: Array
    between: Array


class Table(NamedTuple):
    """Which edge was cut by which hyperplane at which vertex; open addressing, `stamp` says in which round."""

    key: Array
    plane: Array
    vertex: Array
    stamp: Array


class Frame(NamedTuple):
    """One cell at work: vertices, facets, the hyperplanes that still cross it, their values column by column, the pattern."""

    size: Array  # vertices, columns
    vertex: Array
    mask: Array
    column: Array
    value: Array
    words: Array
    mark: Array


class Pairs(NamedTuple):
    """How a hyperplane cuts a frame: the vertices on either side by position, and the edges that it crosses.

    `value` holds the hyperplane's values at the vertices, `least` what counts as zero there. An edge has two ends by
    position, a place between them, and a vertex (-1 until it is needed).
    """

    size: Array  # vertices above, vertices below, edges
    value: Array
    least: Array
    above: Array
    below: Array
    facets: Array
    first: Array
    second: Array
    between: Array
    vertex: Array


class Arena(NamedTuple):
    """Frames as a stack: sizes and offsets of each, and their arrays one behind the other."""

    size: Array  # (depth, 3): vertices, columns, and how far the frame's window has come where it is one of a max-gate
    offset: Array  # (depth, 3): of vertices, columns, values
    vertex: Array
    mask: Array
    column: Array
    value: Array
    words: Array


class Out(NamedTuple):
    """Finished cells: incidences, the words of the stage's pattern and the cell that each came from."""

    start: Array
    vertex: Array
    mask: Array
    words: Array
    parent: Array


@compiled
def tolerance_at(planes, pool, vertex, q):
    """Return below what a value of hyperplane q counts as zero at a vertex."""
    own = planes.magnitude[q] * pool.magnitude[vertex] + planes.constant[q] * pool.weight[vertex]
    return own + planes.inherited[q] * pool.error[vertex]


@compiled
def note(value, tolerance, q, planes, slack, state):
    """Keep the largest value that counts as zero and the smallest that does not, as parts of their terms.

    A value that counts as zero is fragile where it is more than rounding, or where the terms of its hyperplane are uneven: the
    smaller ones are lost in it.
    """
    if tolerance == 0.0:
        return
    if abs(value) <= tolerance and (planes.uneven[q] or abs(value) > ROUNDING_BELOW * tolerance):
        state[FRAGILE] += 1
    if value == 0.0:
        return
    part = abs(value) / tolerance * planes.unit_roundoff
    if abs(value) <= tolerance:
        slack[DROPPED] = max(slack[DROPPED], part)
    else:
        slack[KEPT] = min(slack[KEPT], part)
        if part < FRAGILE_BELOW:
            state[FRAGILE] += 1


@compiled
def find_edges(frame, pairs):
    """Part the vertices by `pairs.value` and find the edges between the sides; return whether there was room.

    A negative end that is as good as zero is met: the new vertex is its copy.
    """
    up, down = 0, 0
    for i in range(frame.size[0]):
        if pairs.value[i] > pairs.least[i]:
            pairs.above[up] = i
            up += 1
        else:
            pairs.below[down] = i
            down += 1
    pairs.size[0], pairs.size[1] = up, down
    found = _edges(frame.mask, pairs) if frame.mask.shape[1] > 1 else _edges_of_one_word(frame.mask, pairs)
    pairs.size[2] = found
    for k in range(found):
        j = pairs.second[k]
        a, b = pairs.value[pairs.first[k]], pairs.value[j]
        pairs.between[k] = 1.0 if b >= -pairs.least[j] else a / (a - b)
        pairs.vertex[k] = -1
    return found >= 0


@compiled
def _edges_of_one_word(mask, pairs):
    """Pair the vertices of both sides that have all facets but one in common; return how many, or -1 without room.

    The edges of a vertex are counted first, which takes vector instructions, and looked up only where there are some.
    """
    found, room, down = 0, len(pairs.first), pairs.size[1]
    for k in range(down):
        pairs.facets[k] = ~mask[pairs.below[k], 0]
    facets = pairs.facets
    for i in pairs.above[: pairs.size[0]]:
        mine = mask[i, 0]
        hits = 0
        for k in range(down):
            other = mine & facets[k]
            hits += other & (other - _ONE) == _NONE
        k = 0
        while hits:
            other = mine & facets[k]
            if other & (other - _ONE) == _NONE:
                if found == room:
                    return -1
                pairs.first[found], pairs.second[found] = i, pairs.below[k]
                found += 1
                hits -= 1
            k += 1
    return found


@compiled
def _edges(mask, pairs):
    """Do as `_edges_of_one_word` where the facets take several words."""
    found = 0
    for i in pairs.above[: pairs.size[0]]:
        for j in pairs.below[: pairs.size[1]]:
            seen = 0
            for w in range(mask.shape[1]):
                other = mask[i, w] & ~mask[j, w]
                seen += 0 if other == 0 else (1 if other & (other - np.uint64(1)) == 0 else 2)
            if seen == 1:
                if found == len(pairs.first):
                    return -1
                pairs.first[found], pairs.second[found] = i, j
                found += 1
    return found


@compiled
def columns(frame, first, side, pairs, child):
    """Write the values that the columns from `first` on take on one side; return whether there was room."""
    count, columns, found = frame.size[0], frame.size[1], pairs.size[2]
    size = len(side) + found
    if size > len(child.vertex) or size * (columns - first) > len(child.value) or columns > len(child.column):
        return False
    at = 0
    for c in range(first, columns):
        base = c * count
        for i in side:
            child.value[at] = frame.value[base + i]
            at += 1
        for k in range(found):
            t = pairs.between[k]
            child.value[at] = (1.0 - t) * frame.value[base + pairs.first[k]] + t * frame.value[base + pairs.second[k]]
            at += 1
        child.column[c - first] = frame.column[c]
    child.size[0], child.size[1] = size, columns - first
    return True


@compiled
def new_bit(frame, options, plane):
    """Return a facet number that no vertex of the frame uses, -1 when all are taken."""
    if options[FIRST_BIT] >= 0:
        bit = options[FIRST_BIT] + plane
        return bit if bit < 64 * frame.mask.shape[1] else -1
    for w in range(frame.mask.shape[1]):
        used = np.uint64(0)
        for i in range(frame.size[0]):
            used |= frame.mask[i, w]
        for bit in range(64):
            if w * 64 + bit >= options[RESERVED] and not used & (np.uint64(1) << np.uint64(bit)):
                return w * 64 + bit
    return -1


@compiled
def _vertex(a, b, t, plane, pool, table, options, state):
    """Return the vertex at which a hyperplane cuts the edge a b: one that is known, or a new one.

    Slots of edges with near ends are near: what a better mixed table wins in probes it loses twice over in cache misses.
    """
    slots = len(table.key)
    key = (np.int64(a) << 32) | np.int64(b)
    slot = np.int64(((np.uint64(key) ^ (np.uint64(plane) << np.uint64(17))) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20))
    slot &= slots - 1
    if options[SHARING] > 0:
        while table.stamp[slot] == options[SHARING]:
            if table.key[slot] == key and table.plane[slot] == plane:
                return table.vertex[slot]
            slot = (slot + 1) & (slots - 1)
    new = state[POOL]
    state[POOL] += 1
    pool.positive[new], pool.negative[new], pool.between[new] = a, b, t
    pool.magnitude[new] = (1.0 - t) * pool.magnitude[a] + t * pool.magnitude[b]
    pool.weight[new] = (1.0 - t) * pool.weight[a] + t * pool.weight[b]
    pool.error[new] = (1.0 - t) * pool.error[a] + t * pool.error[b]
    if options[SHARING] > 0:
        table.key[slot], table.plane[slot], table.vertex[slot] = key, plane, new
        table.stamp[slot] = options[SHARING]
    return new


@compiled
def vertices(frame, side, pairs, bit, plane, pool, table, child, options, state):
    """Write the vertices of one side and the facets they lie on; those on the cut are made when first needed."""
    at, words = 0, frame.mask.shape[1]
    for i in side:
        child.vertex[at] = frame.vertex[i]
        for w in range(words):
            child.mask[at, w] = frame.mask[i, w]
        at += 1
    for k in range(pairs.size[2]):
        i, j = pairs.first[k], pairs.second[k]
        if pairs.vertex[k] < 0:
            a, b = frame.vertex[i], frame.vertex[j]
            pairs.vertex[k] = _vertex(a, b, pairs.between[k], plane, pool, table, options, state)
        child.vertex[at] = pairs.vertex[k]
        for w in range(words):
            child.mask[at, w] = frame.mask[i, w] & frame.mask[j, w]
        child.mask[at, bit // 64] |= np.uint64(1) << np.uint64(bit % 64)
        at += 1


@compiled
def load_vertices(cell, cells, frame):
    """Copy a cell's vertices and their facets into the frame; return whether there was room."""
    start, count = cells.start[cell], cells.start[cell + 1] - cells.start[cell]
    if count > len(frame.vertex):
        return False
    for i in range(count):
        frame.vertex[i] = cells.vertex[start + i]
        for w in range(cells.mask.shape[1]):
            frame.mask[i, w] = cells.mask[start + i, w]
    frame.size[0] = count
    return True


@compiled
def tops(arena, depth):
    """Return where the arrays of the next frame begin."""
    if depth == 0:
        return 0, 0, 0
    count, columns = arena.size[depth - 1, 0], arena.size[depth - 1, 1]
    v, c, f = arena.offset[depth - 1, 0], arena.offset[depth - 1, 1], arena.offset[depth - 1, 2]
    return v + count, c + columns, f + count * columns


@compiled
def push(arena, frame, state):
    """Copy the frame onto the stack."""
    depth = state[DEPTH]
    v, c, f = tops(arena, depth)
    count, columns = frame.size[0], frame.size[1]
    arena.size[depth, 0], arena.size[depth, 1], arena.size[depth, 2] = count, columns, 0
    arena.offset[depth, 0], arena.offset[depth, 1], arena.offset[depth, 2] = v, c, f
    for i in range(count):
        arena.vertex[v + i] = frame.vertex[i]
        for w in range(frame.mask.shape[1]):
            arena.mask[v + i, w] = frame.mask[i, w]
    for i in range(columns):
        arena.column[c + i] = frame.column[i]
    for i in range(count * columns):
        arena.value[f + i] = frame.value[i]
    for w in range(len(frame.words)):
        arena.words[depth, w] = frame.words[w]
    state[DEPTH] = depth + 1


@compiled
def pop(arena, frame, state):
    """Copy the frame on top of the stack out and take it off; return whether it fits."""
    depth = state[DEPTH] - 1
    v, c, f = arena.offset[depth, 0], arena.offset[depth, 1], arena.offset[depth, 2]
    count, columns = arena.size[depth, 0], arena.size[depth, 1]
    if count > len(frame.vertex) or columns > len(frame.column) or count * columns > len(frame.value):
        return False
    frame.size[0], frame.size[1] = count, columns
    for i in range(count):
        frame.vertex[i] = arena.vertex[v + i]
        for w in range(frame.mask.shape[1]):
            frame.mask[i, w] = arena.mask[v + i, w]
    for i in range(columns):
        frame.column[i] = arena.column[c + i]
    for i in range(count * columns):
        frame.value[i] = arena.value[f + i]
    for w in range(len(frame.words)):
        frame.words[w] = arena.words[depth, w]
    state[DEPTH] = depth
    return True


@compiled
def emit(frame, parent, out, state):
    """Append the frame to the finished cells; return whether there was room."""
    cell, at, count = state[OUT], state[INCIDENCES], frame.size[0]
    if cell == len(out.parent) or at + count > len(out.vertex):
        return False
    for i in range(count):
        out.vertex[at + i] = frame.vertex[i]
        for w in range(frame.mask.shape[1]):
            out.mask[at + i, w] = frame.mask[i, w]
    for w in range(len(frame.words)):
        out.words[cell, w] = frame.words[w]
    out.parent[cell] = parent
    out.start[cell + 1] = at + count
    state[OUT], state[INCIDENCES] = cell + 1, at + count
    return True


@compiled
def outside(words):
    """Say whether some bit is set."""
    for word in words:  # noqa: SIM110  # a generator is nothing that can be compiled
        if word:
            return True
    return False


@compiled
def has_room(arena, depth, a, b):
    """Say whether the stack can take two more frames."""
    if depth + 2 > len(arena.size):
        return False
    v, c, f = tops(arena, depth)
    room = v + a.size[0] + b.size[0] <= len(arena.vertex) and c + a.size[1] + b.size[1] <= len(arena.column)
    return room and f + a.size[0] * a.size[1] + b.size[0] * b.size[1] <= len(arena.value)


@compiled
def interpolate(rows, pool, first, last):
    """Fill the rows of new vertices from those of the ends of the edges that they cut."""
    for v in range(first, last):
        a, b, t = pool.positive[v], pool.negative[v], pool.between[v]
        for c in range(rows.shape[1]):
            rows[v, c] = (1.0 - t) * rows[a, c] + t * rows[b, c]


@compiled
def snap(z, at, ceiling, magnitude, constant, inherited, size, weight, error, low, high):
    """Move values to the breakpoint that they count as being on, as `tolerance_at` says from the vertices' own numbers.

    `low` and `high` (breakpoints, units) take the least and the largest of what values are above each breakpoint.
    """
    width, units = len(ceiling) // at.shape[0], z.shape[1]
    for v in range(len(z)):
        for k in range(at.shape[0]):
            near = False
            for unit in range(units):
                apart = z[v, unit] - at[k, unit] * weight[v]
                low[k, unit], high[k, unit] = min(low[k, unit], apart), max(high[k, unit], apart)
                near |= abs(apart) <= ceiling[k * width + unit]
            if not near:
                continue
            for unit in range(units):
                q, place = k * width + unit, at[k, unit] * weight[v]
                apart = abs(z[v, unit] - place)
                if apart <= ceiling[q] and apart <= magnitude[q] * size[v] + constant[q] * weight[v] + inherited[q] * error[v]:
                    z[v, unit] = place


@compiled
def widest(rows, out):
    """Raise `out` to the largest magnitude in every column."""
    for v in range(len(rows)):
        for c in range(rows.shape[1]):
            out[c] = max(out[c], abs(rows[v, c]))


@compiled
def sizes(rows, inverse, out):
    """Raise `out` to the largest entry of every row, each in parts of its own scale."""
    for v in range(len(rows)):
        for c in range(rows.shape[1]):
            out[v] = max(out[v], abs(rows[v, c]) * inverse[c])


@compiled
def renumber(vertex, count, floor, pool_size, place):
    """Number the vertices from `floor` on that are used upwards from `floor` and rename them; `place` says where they go."""
    place[:pool_size] = -1
    for i in range(count):
        place[vertex[i]] = 0
    top = floor
    for v in range(floor, pool_size):
        if place[v] == 0:
            place[v] = top
            top += 1
    for i in range(count):
        if vertex[i] >= floor:
            vertex[i] = place[vertex[i]]
    return top
