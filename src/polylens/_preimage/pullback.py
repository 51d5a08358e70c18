"""Preimages on the engine: the rows of a target as one more gate, behind which only what meets the target is kept.

In front of every gate, cells from which the network cannot reach the target are dropped whole. What is left of a cell is
full-dimensional and cut by the kernel, or flat and cut by its generators.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from .._kernels.cut import Planes
from .._kernels.frames import FRAGILE_BELOW, ROUNDING_BELOW
from .._kernels.frames import Cells as Incidences
from .._subdivision.engine import Chunk, Engine, blinded
from .._subdivision.fronts import Front
from .._subdivision.tasks import Job, Task, alone, in_parallel, tasks
from .._subdivision.workspace import Sweep, Tally, Workspace
from ..cells import Cells, taken
from ..gates import relu
from ..network import Network, Node
from ..steps import Fixed, Linear, reshape
from ..target import OutputSet
from .findings import Fate, Flat, Found, Solid
from .generators import Generators, clipped, dimension
from .pieces import size_of
from .reach import Cover, Reach

Array = np.ndarray[Any, Any]
_PARTS = 32
_TRIED, _WORTH = 1024, 0.02  # so many cells are tried at a gate; then only where at least this share of them was dropped


@dataclass(frozen=True, eq=False, slots=True)
class Search:
    """A job whose network ends in the rows of a target."""

    job: Job
    target: OutputSet

    def found(self, n_jobs: int) -> Generator[tuple[Found, Fate], None, None]:
        """Yield what the chunks hold, each with what became of its cells."""
        if not self.target.parts:
            return
        if n_jobs == 1:
            yield from alone(_Pullback(self).run())
            return
        plain = self.job.engine()
        todo = tasks(plain, _PARTS) if plain.levels else [Task(0, 0, c) for c in plain.first()]
        yield from in_parallel(functools.partial(_found, self), todo, self.job, n_jobs, held=2)


_local = threading.local()


def _found(search: Search, task: Task) -> Iterator[tuple[Found, Fate]]:
    if getattr(_local, "key", None) != search.job.key:
        _local.key, _local.pullback = search.job.key, _Pullback(search)
    pullback: _Pullback = _local.pullback
    for found in alone(pullback.descend(task.level, task.chunk)):
        yield found
        if search.job.is_over():
            return


def with_rows(net: Network, target: OutputSet) -> Network:
    """Return the network with the rows of all parts of a target behind it, in a gate that is on below each."""
    matrix = torch.cat([torch.zeros(1, target.dim, dtype=torch.float64), *(p.matrix for p in target.parts)])
    bound = torch.cat([torch.ones(1, dtype=torch.float64), *(p.bound for p in target.parts)])  # one row that always holds
    count, nodes = len(net.nodes), list(net.nodes)
    if len(net.output_shape) != 1:
        nodes.append(Node("target.flat", Fixed("reshape", reshape, {"shape": (target.dim,)}), (count,), (target.dim,)))
    step = Linear(matrix, -bound).converted(lambda t: t.to(net.device))
    nodes.append(Node("target.rows", step, (len(nodes),), (len(bound),)))
    nodes.append(Node("target", relu().converted(lambda t: t.to(net.device)), (len(nodes),), (len(bound),)))
    return Network(tuple(nodes), net.input_shape, net.dtype, net.device, net.source, net.inputs)


class _Pullback:
    """One run over the cells of a domain that meet a target."""

    def __init__(self, search: Search) -> None:
        job, self.target = search.job, search.target
        self.network = job.network
        self.engine = Engine(with_rows(job.network, search.target), job.domain, job.tolerance)
        self.last = len(self.engine.levels) - 1
        sizes = [len(p.bound) for p in self.target.parts]
        ends = np.cumsum([1, *sizes])
        self.rows = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
        self.equal = [p.equal.numpy() for p in self.target.parts]
        self.strict = [p.strict.numpy() for p in self.target.parts]
        self.reach = Reach(self.engine.network, self.engine.levels[-1].source, job.tolerance.relative)
        self.tried, self.lost = np.zeros(self.last), np.zeros(self.last)
        self.fate, self.fragile = Fate([0] * self.last), 0
        self.workspace: Workspace | None = None
        self.size = size_of(job.domain)

    def run(self) -> Iterator[tuple[Found, Fate]]:
        """Yield what all chunks hold."""
        for chunk in self.engine.first():
            yield from self.descend(0, chunk)

    def descend(self, level: int, chunk: Chunk) -> Iterator[tuple[Found, Fate]]:
        """Yield what a chunk in front of a gate holds."""
        if level == self.last:
            yield self._leaves(chunk), self._new_fate()
            return
        chunk = self._reaching(level, chunk)
        if not len(chunk):
            yield Found([], []), self._new_fate()  # the caller learns that there is news
            return
        for child in self.engine.children(level, chunk):
            yield from self.descend(level + 1, child)

    def _new_fate(self) -> Fate:
        """Return what became of the cells since the last time."""
        fate, self.fate = self.fate, Fate([0] * self.last)
        fate.fragile += self.engine.record.tally.fragile - self.fragile
        self.fragile = self.engine.record.tally.fragile
        return fate

    # -- what cannot reach the target

    def _reaching(self, level: int, chunk: Chunk) -> Chunk:
        """Return the cells of a chunk from which some part of the target may be reached."""
        if self.tried[level] >= _TRIED and self.lost[level] < _WORTH * self.tried[level]:
            return chunk
        front = self.engine.front(level, chunk)
        at = (chunk.points, chunk.weight, self.engine.errors(front.vertices))
        cover = Cover(chunk.cells.start, chunk.cells.vertex, *at, front.before, front.gains.profile)
        low = self.reach.lowest(cover).numpy()
        kept = np.zeros(len(chunk), dtype=bool)
        for rows in self.rows:
            kept |= ~(low[:, rows] > 0).any(1)
        lost = len(chunk) - int(kept.sum())
        self.tried[level] += len(chunk)
        self.lost[level] += lost
        self.fate.dropped[level] += lost
        return chunk if not lost else chunk.select(np.flatnonzero(kept))

    # -- what meets it

    def _leaves(self, chunk: Chunk) -> Found:
        found = Found([], [])
        for part, front in self.engine.fronts(self.last, chunk):
            self._meeting(part, front, found)
        return found

    def _meeting(self, chunk: Chunk, front: Front, found: Found) -> None:
        """Add what the cells of a chunk hold of all parts of the target."""
        planes = cast(Planes, front.planes)
        count, (largest, weight, error) = front.z.shape[1], front.vertices
        room = np.outer(largest, planes.magnitude[:count]) + np.outer(weight, planes.constant[:count])
        room += np.outer(error, planes.inherited[:count])
        side = (front.z > room).astype(np.int8) - (front.z < -room)
        near = np.abs(front.z) <= room * (FRAGILE_BELOW / planes.unit_roundoff)
        rounding = (np.abs(front.z) <= room * ROUNDING_BELOW) & ~planes.uneven[:count]
        self.fate.fragile += int((near & ~rounding & (room > 0.0)).sum())
        here, start = side[chunk.cells.vertex], chunk.cells.start[:-1]
        high, low = np.maximum.reduceat(here, start), np.minimum.reduceat(here, start)
        used = np.zeros((3, len(chunk)), dtype=bool)
        for part, rows in enumerate(self.rows):
            self._part(part, chunk, high[:, rows], low[:, rows], (front, room), found, used)
        self.fate.inside += int(used[0].sum())
        self.fate.cut += int((used[1] & ~used[0]).sum())
        self.fate.outside += int((~used[0] & ~used[1]).sum())

    def _part(self, part: int, chunk: Chunk, high: Array, low: Array, at: tuple[Any, ...], found: Found, used: Array) -> None:
        """Add what the cells hold of one part of the target."""
        equal = self.equal[part]
        out = ((low > 0) | (equal & (high < 0))).any(1)
        level = (high == 0) & (low == 0)
        inside = ~out & (np.where(equal, level, high <= 0)).all(1)
        solid = ~out & ~inside & (level | ~equal).all(1) & ((high <= 0) | (low < 0)).all(1)
        flat = ~out & ~inside & ~solid
        if inside.any():
            chosen = np.flatnonzero(inside)
            found.solid.append(self._solid(chunk.select(chosen), part, level[chosen]))
        if solid.any():
            chosen = np.flatnonzero(solid)
            empty = self._cut(part, chunk, chosen, level, at, found)
            flat[chosen[empty]] = True
        met = inside | solid
        for cell in np.flatnonzero(flat).tolist():
            piece = self._flat(part, chunk, cell, at)
            if piece is not None:
                found.flat.append(piece)
                met[cell] = True
        used[0] |= inside
        used[1] |= met

    def _solid(self, chunk: Chunk, part: int, level: Array) -> Solid:
        own = (chunk.points, chunk.weight, *chunk.cells, chunk.words)
        cells = Cells(*own, self.engine.sides, self.network.gates)
        return Solid(cells, np.full(len(chunk), part), level)

    def _cut(self, part: int, chunk: Chunk, chosen: Array, level: Array, at: tuple[Any, ...], found: Found) -> Array:
        """Add the cells cut along the rows of a part; return which of the chosen ones left nothing."""
        front = at[0]
        blind = np.ones(len(front.planes.magnitude), dtype=bool)
        blind[self.rows[part][~self.equal[part]]] = False
        front = front._replace(planes=blinded(front.planes, blind))
        ends, index = taken(chunk.cells.start, chosen)
        cells = Incidences(ends, chunk.cells.vertex[index], chunk.cells.mask[index])
        job = Sweep.of(cells, front, {-1: chunk.points}, clipping=True, reserved=self.engine.sides)
        if self.workspace is None or self.workspace.bits < cells.mask.shape[1]:
            self.workspace = Workspace(cells.mask.shape[1], front.words, self.engine.chunk)
        empty = np.ones(len(chosen), dtype=bool)
        for done in self.workspace.sweep(job, Tally()):
            empty[done.parent] = False
            parents = chosen[done.parent]
            pieces = Chunk(done.cells, chunk.words[parents], done.rows[-1], done.weight, done.error, {})
            found.solid.append(self._solid(pieces.select(np.arange(len(pieces))), part, level[parents]))
        return empty

    def _flat(self, part: int, chunk: Chunk, cell: int, at: tuple[Any, ...]) -> Flat | None:
        """Return what a cell holds of a part where that has no interior, None for nothing."""
        z, room = at[0].z, at[1]
        first, last = chunk.cells.start[cell : cell + 2]
        vertex, rows = chunk.cells.vertex[first:last], self.rows[part]
        generators = Generators(chunk.points[vertex], chunk.weight[vertex], chunk.cells.mask[first:last])
        values = z[np.ix_(vertex, rows)]
        near = room[np.ix_(vertex, rows)]
        left = clipped(generators, values, near, self.equal[part], self.size)
        if left is None:
            return None
        level = (np.abs(left[1]) <= near.max(0)).all(0)
        if (level & self.strict[part]).any():
            return None
        own = left[0]
        return Flat(own, dimension(own.points, own.weight, self.size), chunk.words[cell], part, level)
