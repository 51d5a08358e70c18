"""The kernel for max-gates: a cell is clipped once for each candidate that wins somewhere in it.

Of candidates that tie the lowest wins. Cutting by a running maximum instead would leave cells with walls inside. A frame's
columns are the candidates of its undecided windows, window by window; the frame stays on the stack until the first of
them has seen all its candidates.
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
    pop,
    push,
    tolerance_at,
    vertices,
)

Array = np.ndarray[Any, Any]


class Windows(NamedTuple):
    """The windows of a stage: `table` (windows, candidates) of positions in z, -1 for none; `sign` -1 for the smallest.

    The tolerances are those of `Planes`, by position; `planes` is how many words of a pattern one bit plane takes.
    """

    table: Array
    sign: float
    magnitude: Array
    constant: Array
    inherited: Array
    ceiling: Array
    uneven: Array
    unit_roundoff: float


@compiled
def classify_max(z, windows, pool, first, last, leading, state):
    """Write for every vertex and window which candidates no other is ahead of by more than both tolerances, as bits."""
    count, candidates = windows.table.shape
    words = leading.shape[2]
    for v in range(first, last):
        for u in range(count):
            best = -np.inf
            for c in range(candidates):
                q = windows.table[u, c]
                if q >= 0:
                    best = max(best, windows.sign * z[v, q] - tolerance_at(windows, pool, v, q))
            for w in range(words):
                leading[v, u, w] = 0
            ahead, uneven = 0, False
            for c in range(candidates):
                q = windows.table[u, c]
                if q >= 0 and windows.sign * z[v, q] + tolerance_at(windows, pool, v, q) >= best:
                    leading[v, u, c // 64] |= np.uint64(1) << np.uint64(c % 64)
                    ahead, uneven = ahead + 1, uneven or windows.uneven[q]
            state[FRAGILE] += ahead > 1 and uneven


@compiled
def in_doubt_max(z, windows):
    """Say whether two candidates of some window may count as one where neither is ahead by rounding alone."""
    for v in range(len(z)):
        for u in range(len(windows.table)):
            best = -np.inf
            for q in windows.table[u]:
                if q >= 0:
                    best = max(best, windows.sign * z[v, q])
            for q in windows.table[u]:
                if q >= 0 and windows.sign * z[v, q] < best and windows.sign * z[v, q] + 2.0 * windows.ceiling[q] >= best:
                    return True
    return False


@compiled
def _load(cell, cells, z, windows, pool, leading, frame, state):
    """Copy a cell into the frame with the candidates of its undecided windows; return whether there was room."""
    start, count = cells.start[cell], cells.start[cell + 1] - cells.start[cell]
    if not load_vertices(cell, cells, frame):
        return False
    for w in range(len(frame.words)):
        frame.words[w] = 0
    found, candidates = 0, windows.table.shape[1]
    for u in range(len(windows.table)):
        winner = _winner(start, count, cells, leading, u)
        if winner >= 0:
            _write(frame.words, u, winner, len(windows.table))
            continue
        for c in range(candidates):
            q = windows.table[u, c]
            if q < 0:
                continue
            if found == len(frame.column) or (found + 1) * count > len(frame.value):
                return False
            for i in range(count):
                frame.value[found * count + i] = windows.sign * z[frame.vertex[i], q]
            frame.column[found] = u * candidates + c
            found += 1
    frame.size[1] = found
    _settle(frame, windows, pool, state)
    return True


@compiled
def _winner(start, count, cells, leading, window):
    """Return the lowest candidate that leads at all vertices of a cell, -1 for none."""
    for w in range(leading.shape[2]):
        common = ~np.uint64(0)
        for i in range(start, start + count):
            common &= leading[cells.vertex[i], window, w]
        if common:
            bit = 0
            while not common & np.uint64(1):
                common >>= np.uint64(1)
                bit += 1
            return w * 64 + bit
    return -1


@compiled
def _write(words, unit, piece, count):
    """Write the piece of a unit into bit planes."""
    per_plane, plane = (count + 63) // 64, 0
    while piece:
        if piece & 1:
            words[plane * per_plane + unit // 64] |= np.uint64(1) << np.uint64(unit % 64)
        piece >>= 1
        plane += 1


@compiled
def _place(frame, column, windows):
    """Return where the candidate of a column stands in z."""
    candidates = windows.table.shape[1]
    return windows.table[frame.column[column] // candidates, frame.column[column] % candidates]


@compiled
def _compare(frame, a, b, windows, pool, pairs, state):
    """Write the lead of column a over column b at all vertices; return whether it leads, and trails, anywhere."""
    count, p, q = frame.size[0], _place(frame, a, windows), _place(frame, b, windows)
    ahead, behind, uneven = False, False, windows.uneven[p] or windows.uneven[q]
    for i in range(count):
        lead = frame.value[a * count + i] - frame.value[b * count + i]
        least = tolerance_at(windows, pool, frame.vertex[i], p) + tolerance_at(windows, pool, frame.vertex[i], q)
        pairs.value[i], pairs.least[i] = lead, least
        ahead, behind = ahead or lead > least, behind or lead < -least
        state[FRAGILE] += uneven and abs(lead) <= least
    return ahead, behind


@compiled
def _beats(frame, a, b, windows, pool, state):
    """Say whether column a is nowhere behind column b, and ahead somewhere or the lower of the two."""
    count, p, q = frame.size[0], _place(frame, a, windows), _place(frame, b, windows)
    ahead, uneven = a < b, windows.uneven[p] or windows.uneven[q]
    for i in range(count):
        lead = frame.value[a * count + i] - frame.value[b * count + i]
        least = tolerance_at(windows, pool, frame.vertex[i], p) + tolerance_at(windows, pool, frame.vertex[i], q)
        state[FRAGILE] += uneven and abs(lead) <= least
        if lead < -least:
            return False
        ahead = ahead or lead > least
    return ahead


@compiled
def _group(frame, first, candidates):
    """Return the end of the columns that belong to the window of column `first`."""
    last = first
    while last < frame.size[1] and frame.column[last] // candidates == frame.column[first] // candidates:
        last += 1
    return last


@compiled
def _settle(frame, windows, pool, state):
    """Drop candidates that another beats on the whole cell, and windows of which one is left: their pieces are decided."""
    candidates, count = windows.table.shape[1], frame.size[0]
    kept, first = 0, 0
    while first < frame.size[1]:
        last, begin = _group(frame, first, candidates), kept
        for a in range(first, last):
            beaten = False
            for b in range(first, last):
                beaten = beaten or (b != a and _beats(frame, b, a, windows, pool, state))
            if not beaten:
                frame.mark[kept] = a
                kept += 1
        if kept == begin + 1:
            code = frame.column[frame.mark[begin]]
            _write(frame.words, code // candidates, code % candidates, len(windows.table))
            kept = begin
        first = last
    for k in range(kept):
        a = frame.mark[k]
        frame.column[k] = frame.column[a]
        for i in range(count):
            frame.value[k * count + i] = frame.value[a * count + i]
    frame.size[1] = kept


@compiled
def _copy(source, first, target):
    """Copy a frame without its first columns; return whether there was room."""
    count, kept = source.size[0], source.size[1] - first
    if count > len(target.vertex) or kept > len(target.column) or count * kept > len(target.value):
        return False
    target.size[0], target.size[1] = count, kept
    for i in range(count):
        target.vertex[i] = source.vertex[i]
        for w in range(source.mask.shape[1]):
            target.mask[i, w] = source.mask[i, w]
    for c in range(kept):
        target.column[c] = source.column[first + c]
    for i in range(count * kept):
        target.value[i] = source.value[first * count + i]
    for w in range(len(source.words)):
        target.words[w] = source.words[w]
    return True


@compiled
def _clip(frames, a, windows, pool, table, pairs, options, slack, state):
    """Clip frames[0] to where candidate a of its first window wins; return a status and which frame holds what is left.

    -1 for the frame says that the candidate wins nowhere.
    """
    candidates, current = windows.table.shape[1], 0
    group = _group(frames[0], 0, candidates)
    for b in range(group):
        if b == a:
            continue
        frame = frames[0] if current == 0 else (frames[1] if current == 1 else frames[2])
        low, high = min(a, b), max(a, b)
        ahead, behind = _compare(frame, low, high, windows, pool, pairs, state)
        if (a == low and not ahead and behind) or (a == high and not behind):
            return DONE, -1
        if not (ahead and behind):
            continue
        for i in range(frame.size[0]):
            if abs(pairs.value[i]) <= pairs.least[i] * (FRAGILE_BELOW / windows.unit_roundoff):
                note(pairs.value[i], pairs.least[i], _place(frame, low, windows), windows, slack, state)
        target = 2 if current == 1 else 1
        child = frames[1] if target == 1 else frames[2]
        if not find_edges(frame, pairs):
            return FRAME_FULL, -1
        side = pairs.above[: pairs.size[0]] if a == low else pairs.below[: pairs.size[1]]
        if not columns(frame, 0, side, pairs, child):
            return FRAME_FULL, -1
        if state[POOL] + pairs.size[2] > len(pool.weight):
            return POOL_FULL, -1
        code = frame.column[low] * candidates + frame.column[high] % candidates
        bit = new_bit(frame, options, code)
        if bit < 0:
            return BITS_FULL, -1
        vertices(frame, side, pairs, bit, code, pool, table, child, options, state)
        for w in range(len(frame.words)):
            child.words[w] = frame.words[w]
        current = target
    return DONE, current


@compiled
def _candidate(frames, windows, pool, table, pairs, arena, out, options, slack, state):
    """Treat the next candidate of the frame on top of the stack, or take the frame off when it has none left."""
    top = state[DEPTH] - 1
    if not pop(arena, frames[0], state):
        return FRAME_FULL
    candidates = windows.table.shape[1]
    a, group = arena.size[top, 2], _group(frames[0], 0, windows.table.shape[1])
    if a == group:
        return DONE
    state[DEPTH] = top + 1
    status, at = _clip(frames, a, windows, pool, table, pairs, options, slack, state)
    if status != DONE:
        return status
    if at >= 0:
        winner = frames[0] if at == 0 else (frames[1] if at == 1 else frames[2])
        child = frames[2] if at == 1 else frames[1]
        if not _copy(winner, group, child):
            return FRAME_FULL
        code = frames[0].column[a]
        _write(child.words, code // candidates, code % candidates, len(windows.table))
        _settle(child, windows, pool, state)
        if child.size[1] == 0 and options[COUNTING]:
            state[COUNT] += 1
        elif child.size[1] == 0:
            if not emit(child, state[CELL] - 1, out, state):
                return OUT_FULL
        elif has_room(arena, state[DEPTH], child, child):
            push(arena, child, state)
        else:
            return ARENA_FULL
    arena.size[top, 2] = a + 1
    return DONE


@compiled
def cut_max(cells, z, windows, leading, pool, floor, table, pairs, frames, arena, out, options, slack, state):
    """Clip all cells by the winners of their windows, depth first, until done or an array is full; say which."""
    while True:
        if state[DEPTH]:
            status = _candidate(frames, windows, pool, table, pairs, arena, out, options, slack, state)
            if status != DONE:
                return status
            continue
        if options[COUNTING]:
            state[POOL] = floor
        cell = state[CELL]
        if cell == len(cells.start) - 1:
            return DONE
        if not _load(cell, cells, z, windows, pool, leading, frames[0], state):
            return FRAME_FULL
        if frames[0].size[1] == 0:
            if options[COUNTING]:
                state[COUNT] += 1
            elif not emit(frames[0], cell, out, state):
                return OUT_FULL
        elif has_room(arena, 0, frames[0], frames[0]):
            push(arena, frames[0], state)
        else:
            return ARENA_FULL
        state[CELL] += 1
