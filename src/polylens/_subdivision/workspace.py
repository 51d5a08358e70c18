"""The arrays that the cutting kernels work in, kept from chunk to chunk, and made larger where a cell needs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .._kernels import cut, frames
from .._kernels.cut_max import Windows, classify_max, cut_max
from .fronts import Front

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Tally:
    """What a run decided on the way: cells counted, decisions counted as fragile, the slacks on either side of zero."""

    count: int = 0
    fragile: int = 0
    slack: Array = field(default_factory=lambda: np.array([0.0, np.inf]))


class Sweep(NamedTuple):
    """One stage of one chunk: its cells, the values of its hyperplanes at their vertices, and how to cut.

    `rows` are the arrays that new vertices get a row in; `first_bit` numbers the new facets by hyperplane when it is not
    negative, `reserved` keeps lower facets for the domain.
    """

    cells: frames.Cells
    z: Array
    planes: cut.Planes | Windows
    magnitude: Array
    weight: Array
    error: Array
    rows: dict[int, Array]
    words: int
    counting: bool = False
    clipping: bool = False
    first_bit: int = -1
    reserved: int = 0

    @classmethod
    def of(cls, cells: frames.Cells, front: Front, rows: dict[int, Array], **options: Any) -> Sweep:
        """Return the stage of a chunk in front of a gate."""
        return cls(cells, front.z, front.planes, *front.vertices, rows, front.words, **options)


class Cut(NamedTuple):
    """Finished cells of a sweep: their incidences, words and parents, and the pool; views that hold until the next ones."""

    cells: frames.Cells
    words: Array
    parent: Array
    magnitude: Array
    weight: Array
    error: Array
    rows: dict[int, Array]


class Workspace:
    """The arrays of one level of the recursion."""

    def __init__(self, bits: int, words: int, chunk: int) -> None:
        self.bits, self.words, self.chunk = bits, words, chunk
        self.round = 0
        self._new_pool(4 * chunk)
        self._new_frames(256, 64, 1 << 14)
        self.arena = self._arena(256, 1 << 12, 1 << 12, 1 << 15)
        cells = 2 * chunk
        self.out = self._out(cells, 16 * cells)

    # -- the arrays

    def _new_pool(self, room: int) -> None:
        self.room = room
        slots = 1 << (2 * room - 1).bit_length()
        self.table = frames.Table(*(np.zeros(slots, t) for t in (np.int64, np.int64, np.int32, np.int64)))

    def _new_frames(self, vertices: int, columns: int, values: int) -> None:
        self.frames = tuple(
            frames.Frame(
                np.zeros(2, np.int64),
                np.zeros(vertices, np.int32),
                np.zeros((vertices, self.bits), np.uint64),
                np.zeros(columns, np.int64),
                np.zeros(values),
                np.zeros(self.words, np.uint64),
                np.zeros(columns, np.int64),
            )
            for _ in range(3)
        )
        sizes = (3, *(vertices,) * 2, *(vertices,) * 3, *(8 * vertices,) * 4)
        kinds = ("i8", "f8", "f8", "i8", "i8", "u8", "i8", "i8", "f8", "i8")
        self.pairs = frames.Pairs(*(np.zeros(n, k) for n, k in zip(sizes, kinds, strict=True)))

    def _arena(self, depth: int, vertices: int, columns: int, values: int) -> frames.Arena:
        return frames.Arena(
            np.zeros((depth, 3), np.int64),
            np.zeros((depth, 3), np.int64),
            np.zeros(vertices, np.int32),
            np.zeros((vertices, self.bits), np.uint64),
            np.zeros(columns, np.int64),
            np.zeros(values),
            np.zeros((depth, self.words), np.uint64),
        )

    def _out(self, cells: int, incidences: int) -> frames.Out:
        return frames.Out(
            np.zeros(cells + 1, np.int64),
            np.zeros(incidences, np.int32),
            np.zeros((incidences, self.bits), np.uint64),
            np.zeros((cells, self.words), np.uint64),
            np.zeros(cells, np.int64),
        )

    # -- growth

    def _grow(self, status: int) -> None:
        frame, arena = self.frames[0], self.arena
        if status == frames.FRAME_FULL:
            self._new_frames(2 * len(frame.vertex), 2 * len(frame.column), 4 * len(frame.value))
        elif status == frames.ARENA_FULL:
            sizes = (len(arena.size), len(arena.vertex), len(arena.column), len(arena.value))
            self.arena = _filled(self._arena(*(2 * n for n in sizes)), arena)
        elif status == frames.BITS_FULL:
            self.bits += 1
            self._new_frames(len(frame.vertex), len(frame.column), len(frame.value))
            sizes = (len(arena.size), len(arena.vertex), len(arena.column), len(arena.value))
            self.arena = _filled(self._arena(*sizes), arena)
            self.out = _filled(self._out(len(self.out.parent), len(self.out.vertex)), self.out)

    # -- work

    def sweep(self, job: Sweep, tally: Tally) -> Iterator[Cut]:
        """Yield the finished cells of a chunk, a bounded number at a time; cells that are only counted go to the tally."""
        initial, state, options = len(job.z), np.zeros(7, np.int64), np.zeros(5, np.int64)
        state[frames.POOL] = floor = initial
        options[:] = job.counting, job.clipping, 0, job.first_bit, job.reserved
        cells = self._fitted(job.cells)
        pool, rows = self._pool(job)
        signs = self._classify(job, pool, tally, state)
        self._new_round(options)
        while True:
            work = (job.planes, *signs, pool, initial, self.table, self.pairs, self.frames, self.arena, self.out, options)
            kernel = cut_max if isinstance(job.planes, Windows) else cut.cut
            status = kernel(cells, job.z, *work, tally.slack, state)
            if status in (frames.FRAME_FULL, frames.ARENA_FULL, frames.BITS_FULL):
                self._grow(status)
                cells = self._fitted(job.cells)
                continue
            top = int(state[frames.POOL])
            for array in rows.values():
                frames.interpolate(array, pool, floor, top)
            self._settle(tally, state)
            if state[frames.OUT]:
                yield self._finished(state, pool, rows)
            if status == frames.DONE:
                break
            if status == frames.OUT_FULL and not state[frames.OUT]:
                self.out = self._out(len(self.out.parent), 2 * len(self.out.vertex))
            state[frames.OUT] = state[frames.INCIDENCES] = 0
            floor = self._compact(initial, state, pool, rows)
            self._new_round(options)
            if 2 * (floor - initial) > self.room:
                self._new_pool(2 * self.room)
                pool, rows = self._larger(pool, rows, initial)
                self._new_round(options)

    def _settle(self, tally: Tally, state: Array) -> None:
        """Move what was counted to the tally."""
        tally.count += int(state[frames.COUNT])
        tally.fragile += int(state[frames.FRAGILE])
        state[frames.COUNT] = state[frames.FRAGILE] = 0

    def _new_round(self, options: Array) -> None:
        self.round += 1
        options[frames.SHARING] = 0 if options[frames.COUNTING] else self.round

    def _fitted(self, cells: frames.Cells) -> frames.Cells:
        """Return the cells with facets in as many words as the workspace has."""
        if cells.mask.shape[1] > self.bits:
            self.bits = cells.mask.shape[1] - 1
            self._grow(frames.BITS_FULL)
        if cells.mask.shape[1] == self.bits:
            return cells
        mask = np.zeros((len(cells.mask), self.bits), np.uint64)
        mask[:, : cells.mask.shape[1]] = cells.mask
        return cells._replace(mask=mask)

    def _pool(self, job: Sweep) -> tuple[frames.Pool, dict[int, Array]]:
        count = len(job.z) + self.room
        own = [_room(v, count) for v in (job.magnitude, job.weight, job.error)]
        ends = [np.empty(count, np.int32) for _ in range(2)]
        pool = frames.Pool(own[0], own[1], own[2], ends[0], ends[1], np.empty(count))
        return pool, {k: _room(v, count) for k, v in job.rows.items()}

    def _larger(self, pool: frames.Pool, rows: dict[int, Array], initial: int) -> tuple[frames.Pool, dict[int, Array]]:
        count = initial + self.room
        return frames.Pool(*(_room(v, count) for v in pool)), {k: _room(v, count) for k, v in rows.items()}

    def _classify(self, job: Sweep, pool: frames.Pool, tally: Tally, state: Array) -> tuple[Array, ...]:
        if isinstance(job.planes, Windows):
            windows, candidates = job.planes.table.shape
            leading = np.empty((len(job.z), windows, -(-candidates // 64)), np.uint64)
            classify_max(job.z, job.planes, pool, 0, len(job.z), leading, state)
            return (leading,)
        positive = np.empty((len(job.z), job.words), np.uint64)
        negative = np.empty_like(positive)
        cut.classify(job.z, job.planes, pool, 0, len(job.z), positive, negative, tally.slack, state)
        return positive, negative

    def _finished(self, state: Array, pool: frames.Pool, rows: dict[int, Array]) -> Cut:
        count, incidences, top = (int(state[i]) for i in (frames.OUT, frames.INCIDENCES, frames.POOL))
        out = self.out
        cells = frames.Cells(out.start[: count + 1], out.vertex[:incidences], out.mask[:incidences])
        own = (pool.magnitude[:top], pool.weight[:top], pool.error[:top])
        return Cut(cells, out.words[:count], out.parent[:count], *own, {k: v[:top] for k, v in rows.items()})

    def _compact(self, initial: int, state: Array, pool: frames.Pool, rows: dict[int, Array]) -> int:
        """Forget the new vertices that no frame on the stack uses; return how many are left in all."""
        depth, top = int(state[frames.DEPTH]), int(state[frames.POOL])
        held = int(self.arena.offset[depth - 1, 0] + self.arena.size[depth - 1, 0]) if depth else 0
        place = np.empty(top, np.int32)
        floor = int(frames.renumber(self.arena.vertex, held, initial, top, place))
        kept = np.flatnonzero(place[initial:] >= 0) + initial
        for array in (*rows.values(), pool.magnitude, pool.weight, pool.error):
            array[initial:floor] = array[kept]
        state[frames.POOL] = floor
        return floor


def _room(values: Array, count: int) -> Array:
    """Return the values with room for more of them behind."""
    out = np.empty((count, *values.shape[1:]), values.dtype)
    out[: min(count, len(values))] = values[:count]
    return out


def _filled(larger: Any, smaller: Any) -> Any:
    """Return the larger arrays with the smaller ones' content in front."""
    for new, old in zip(larger, smaller, strict=True):
        new[tuple(slice(n) for n in old.shape)] = old
    return larger
