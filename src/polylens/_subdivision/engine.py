"""The engine: all cells of a domain, streamed depth first through the gates of a network.

A cell is a simple polytope held by its vertices; vertices are shared within a chunk, and the network's values at them are
carried along: computed by one product for a chunk, interpolated where an edge is cut. Memory is bounded by the number of
gates times the chunk, and not by the number of cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .._kernels import cut, frames
from .._kernels.cut_max import Windows
from .._types import Tolerance
from ..cells import Cells, taken
from ..domain import Domain
from ..errors import ShapeError
from ..gates import Choice, Gate, MaxGate
from ..germ import exact
from ..network import Network
from ..pattern import UnitLayer
from .fronts import Front, Vertices, error_mask, groups_of_like_size, in_doubt, planes_of, snapped
from .stages import Stage, Values, advance, gains, gated, jumps, padded, stages, stretched, words_of
from .workspace import Cut, Sweep, Tally, Workspace

Array = np.ndarray[Any, Any]
_CELLS = 8192  # of a chunk, at most: enough for full products, few enough to stay near the caches
_VALUES = 1 << 23  # carried at the vertices of as many as that: 64 MB
_INPUT = -1  # the number under which rows hold a gate's input, on the way through it


@dataclass(eq=False, slots=True)
class Chunk:
    """Cells on their way: incidences, words so far, and at the vertices coordinates, weight, error and carried values."""

    cells: frames.Cells
    words: Array
    points: Array
    weight: Array
    error: Array
    carried: dict[int, Array]
    profile: Values = field(default_factory=dict)  # of the errors of carried values; `error` is theirs in parts of it

    def __len__(self) -> int:
        return len(self.words)

    def select(self, chosen: Array) -> Chunk:
        """Return some cells, by position, with the vertices that they have."""
        ends, rows = taken(self.cells.start, chosen)
        used, vertex = np.unique(self.cells.vertex[rows], return_inverse=True)
        cells = frames.Cells(ends, vertex.astype(np.int32), self.cells.mask[rows])
        carried = {v: values[used] for v, values in self.carried.items()}
        own = (self.points[used], self.weight[used], self.error[used])
        return Chunk(cells, self.words[chosen], *own, carried, self.profile)

    def kept(self) -> Chunk:
        """Return the chunk with carried values of its own: they are views into a sweep that has not gone on."""
        return replace(self, carried={v: rows.copy() for v, rows in self.carried.items()})


@dataclass(eq=False, slots=True)
class Record:
    """What a run has met so far, gate by gate; records of tasks add up.

    `inner` counts the cells that touch no wall between cones of an unbounded domain; `across` holds the patterns of those
    that do, because parts of one region on either side of a wall share theirs.
    """

    inner: list[int]
    across: list[set[bytes]]
    tally: Tally = field(default_factory=Tally)
    volume: float = 0.0
    complete: bool = False

    @property
    def count(self) -> int:
        """How many patterns were found; a network without gates has one."""
        return self.counts[-1] if self.inner else 1

    @property
    def counts(self) -> list[int]:
        """How many patterns the units of the first gates take, for each gate with those before it."""
        return [n + len(patterns) for n, patterns in zip(self.inner, self.across, strict=True)]

    def add(self, other: Record) -> None:
        """Take in what another task has met."""
        self.inner = [a + b for a, b in zip(self.inner, other.inner, strict=True)]
        for mine, theirs in zip(self.across, other.across, strict=True):
            mine |= theirs
        self.tally.count += other.tally.count
        self.tally.fragile += other.tally.fragile
        self.tally.slack[0] = max(self.tally.slack[0], other.tally.slack[0])
        self.tally.slack[1] = min(self.tally.slack[1], other.tally.slack[1])
        self.volume += other.volume


class Engine:
    """One run over the cells of a domain.

    With `counting`, cells behind the last gate are counted and not made, which needs a bounded domain.
    """

    def __init__(self, net: Network, domain: Domain, tolerance: Tolerance, *, counting: bool = False, chunk: int = 0) -> None:
        self.network, self.domain, self.tolerance = exact(net), domain, tolerance
        if domain.num_inputs != math.prod(net.input_shape):
            raise ShapeError(
                f"domain: expected one of inputs with {math.prod(net.input_shape)} entries (shape {net.input_shape});"
                f" got {domain.num_inputs}"
            )
        self.start = domain.start()
        self.counting = counting and domain.is_bounded
        self.levels = stages(self.network, len(self.network.nodes))
        self.chunk = chunk or self._affordable()
        self.sides = self.start.sides + len(self.start.bound)
        self.record = self.new_record()
        self._workspaces: dict[int, Workspace] = {}

    def _affordable(self) -> int:
        """Return how many cells a chunk may have so that what its vertices carry stays bounded."""
        shapes = [[self.network.shape_of(v) for v in stage.before] for stage in self.levels]
        most = max((sum(math.prod(shape) for shape in alive) for alive in shapes), default=1)
        return max(256, min(_CELLS, _VALUES // max(1, most)))

    def new_record(self) -> Record:
        """Return a record of nothing; it is what the run writes to from now on."""
        self.record, self._reported = Record([0] * len(self.levels), [set() for _ in self.levels]), 0
        return self.record

    # -- the run

    def run(self) -> Iterator[Cells]:
        """Yield all cells, some thousand at a time."""
        for chunk in self.first():
            yield from self.cells(0, chunk)

    def cells(self, level: int, chunk: Chunk) -> Iterator[Cells]:
        """Yield the cells that a chunk in front of the given gate falls into, with all fragile decisions on the way."""
        yield from self.descend(level, chunk)
        late = self._fragile()
        if late:
            yield Cells.none(self.domain.dim, self.sides, self.network.gates, late)

    def descend(self, level: int, chunk: Chunk) -> Iterator[Cells]:
        """Yield the same cells as `cells`; fragile decisions made after the last of them are not reported."""
        if level == len(self.levels):
            yield self._leaves(chunk)
            return
        for child in self.children(level, chunk):
            yield from self.descend(level + 1, child)
        if self.counting and level == len(self.levels) - 1:
            yield self._leaves(chunk).select(0)  # none, but the caller learns that there is news

    def _leaves(self, chunk: Chunk) -> Cells:
        own = (chunk.points, chunk.weight, *chunk.cells, chunk.words)
        return Cells(*own, self.sides, self.network.gates, self._fragile())

    def _fragile(self) -> int:
        """Return how many fragile decisions there were since the last time."""
        before, self._reported = self._reported, self.record.tally.fragile
        return self._reported - before

    def _note(self, level: int, chunk: Chunk) -> None:
        """Count the cells behind a gate."""
        walls = np.uint64((1 << self.start.walls) - 1)
        touching = np.bitwise_or.reduceat(chunk.cells.mask[:, 0], chunk.cells.start[:-1]) & walls != 0
        self.record.inner[level] += int((~touching).sum())
        self.record.across[level].update(w.tobytes() for w in chunk.words[touching])

    # -- the first cells

    def first(self) -> Iterator[Chunk]:
        """Yield the domain's cells, clipped by its rows where it has any."""
        start = self.start
        bits = max(1, -(-(self.sides + 1) // 64))
        mask = np.zeros((len(start.vertex), bits), np.uint64)
        for column in start.facets.T:
            mask[np.arange(len(column)), column // 64] |= np.uint64(1) << (column % 64).astype(np.uint64)
        cells = frames.Cells(start.start.astype(np.int64), start.vertex.astype(np.int32), mask)
        count = len(start.weight)
        words = np.zeros((len(start.start) - 1, 0), np.uint64)
        chunk = Chunk(cells, words, start.points.astype(float), start.weight.astype(float), np.zeros(count), {})
        for part in self._clipped(chunk, start.matrix, start.bound, start.sides) if len(start.bound) else [chunk]:
            part.carried = {0: self._embedded(part)}
            yield part

    def _embedded(self, chunk: Chunk) -> Array:
        origin, basis = self.domain.origin.numpy(), self.domain.basis.numpy()
        return chunk.weight[:, None] * origin + chunk.points @ basis.T

    def _clipped(self, chunk: Chunk, matrix: Array, bound: Array, first_bit: int) -> Iterator[Chunk]:
        """Yield what of a chunk lies within rows in the domain's coordinates."""
        z = chunk.points @ matrix.T - chunk.weight[:, None] * bound
        width, unit = 64 * words_of(len(bound)), self.tolerance.relative
        scale = _scale(chunk.points)
        magnitude = padded(np.abs(matrix) @ scale * unit, width)
        constant = padded(np.abs(bound) * unit, width)
        largest = np.abs(chunk.points * _inverse(scale)).max(1, initial=0.0)
        ceiling = magnitude * largest.max() + constant * chunk.weight.max()
        flat = np.zeros((1, width))
        planes = cut.Planes(flat, np.ones(1), magnitude, constant, flat[0], ceiling, np.zeros(width, dtype=bool), unit)
        rows, words = {-1: chunk.points}, width // 64
        own = (chunk.cells, z, planes, largest, chunk.weight, chunk.error, rows, words)
        job = Sweep(*own, clipping=True, first_bit=first_bit)
        for done in Workspace(chunk.cells.mask.shape[1], words, self.chunk).sweep(job, self.record.tally):
            none = np.zeros((len(done.parent), 0), np.uint64)
            yield Chunk(_copied(done.cells), none, done.rows[-1].copy(), done.weight.copy(), np.zeros(len(done.weight)), {})

    # -- one gate

    def children(self, level: int, chunk: Chunk) -> Iterator[Chunk]:
        """Yield the cells that one gate cuts a chunk into; the last gate's are counted where that is all that is asked.

        Carried values are views that hold until the next chunk is asked for.
        """
        for part, front in self.fronts(level, chunk):
            yield from self._children(level, part, front)

    def _children(self, level: int, chunk: Chunk, front: Front) -> Iterator[Chunk]:
        stage, final_level = self.levels[level], level == len(self.levels) - 1
        rows = {-1: chunk.points}
        if not final_level:
            rows |= {v: t.reshape(len(t), -1).cpu().numpy() for v, t in front.before.items()}
        counted = self.counting and final_level
        job = Sweep.of(chunk.cells, front, {} if counted else rows, counting=counted, reserved=self.sides)
        counted_before = self.record.tally.count
        for done in self._workspace(level, chunk, front.words).sweep(job, self.record.tally):
            child = self._next(stage, front, chunk, done, final_level)
            self._note(level, child)
            yield child
        self.record.inner[level] += self.record.tally.count - counted_before if counted else 0

    def fronts(self, level: int, chunk: Chunk) -> Iterator[tuple[Chunk, Front]]:
        """Yield a chunk in front of a gate with the gate's hyperplanes, in parts where cells need tolerances of their own."""
        front = self.front(level, chunk)
        if not in_doubt(front):
            yield chunk, front
            return
        for group in groups_of_like_size(self.network, self.levels[level], chunk, front, self.tolerance.relative):
            part = chunk.select(group) if len(group) < len(chunk) else chunk
            errors = {}
            for v, error in front.errors.items():
                errors[v] = error * error_mask(self.network, v, part.words).amax(0, keepdim=True)
            yield part, self.front(level, part, errors)

    def units(self, level: int) -> int:
        """Return how many units, or windows, a gate has."""
        return math.prod(self.network.shape_of(self.levels[level].value))

    def parted(self, level: int, chunk: Chunk, units: int) -> Iterator[Chunk]:
        """Yield the chunk cut by the first units of a gate only, in front of which it still is."""
        for part, front in self.fronts(level, chunk):
            planes = front.planes
            if isinstance(planes, Windows):
                planes = planes._replace(table=planes.table[:units])
            else:
                planes = blinded(planes, np.arange(len(planes.magnitude)) % (64 * front.words // len(planes.at)) >= units)
            rows = {-1: part.points, **part.carried}
            job = Sweep.of(part.cells, front._replace(planes=planes), rows, reserved=self.sides)
            workspace = Workspace(part.cells.mask.shape[1], front.words, self.chunk)
            for done in workspace.sweep(job, Tally()):  # all will be cut again
                carried = {v: r.copy() for v, r in done.rows.items() if v >= 0}
                here = (done.rows[-1].copy(), done.weight.copy(), done.error.copy())
                yield Chunk(_copied(done.cells), part.words[done.parent], *here, carried, part.profile)

    @torch.no_grad()
    def front(self, level: int, chunk: Chunk, errors: Values | None = None) -> Front:
        """Return the values in front of a gate at a chunk's vertices, and the gate's hyperplanes with tolerances.

        `errors` of the carried values replace those that the chunk came with, where a closer look has found smaller ones.
        """
        stage = self.levels[level]
        carried = {v: self._tensor(v, rows) for v, rows in chunk.carried.items()}
        widest = {v: _scale(rows) for v, rows in chunk.carried.items()}
        scales = {v: self._tensor(v, scale[None]) for v, scale in widest.items()}
        largest = np.zeros(len(chunk.weight))
        for v, rows in chunk.carried.items():
            frames.sizes(rows, _inverse(widest[v]), largest)
        vertices, errors = Vertices(largest, chunk.weight, chunk.error), errors or chunk.profile or scales
        before = advance(self.network, carried, max(carried), stage.before, self._weight(chunk.weight))
        found = gains(self.network, stage, scales, errors, float(chunk.error.max()))
        z = before[stage.source].reshape(len(chunk.weight), -1).cpu().numpy()
        planes, words = planes_of(self.network, stage, found, vertices, self.tolerance.relative)
        return Front(before, z, vertices, errors, found, planes, words)

    def errors(self, vertices: Vertices) -> Array:
        """Return the errors of values in front of a gate, of every vertex in parts of their profile."""
        return self.tolerance.relative * np.maximum(vertices.largest, vertices.weight) + vertices.error

    def _weight(self, weight: Array) -> Tensor | None:
        return None if self.domain.is_bounded else torch.from_numpy(weight).to(self.network.device)

    def _tensor(self, value: int, rows: Array) -> Tensor:
        return torch.from_numpy(rows).to(self.network.device).reshape(len(rows), *self.network.shape_of(value))

    def _workspace(self, level: int, chunk: Chunk, words: int) -> Workspace:
        if level not in self._workspaces:
            self._workspaces[level] = Workspace(chunk.cells.mask.shape[1], words, self.chunk)
        return self._workspaces[level]

    @torch.no_grad()
    def _next(self, stage: Stage, front: Front, chunk: Chunk, done: Cut, final_level: bool) -> Chunk:
        """Return finished cells with what the following gates need at their vertices."""
        step = cast(Choice, self.network.nodes[stage.value - 1].step)
        words = _planes_of(step, done.words, self.network.shape_of(stage.value))
        cells, points, weight = _copied(done.cells), done.rows[-1].copy(), done.weight.copy()
        error = self.errors(Vertices(done.magnitude, weight, done.error))
        chunk = Chunk(cells, np.concatenate([chunk.words[done.parent], words], 1), points, weight, error, {})
        if final_level:
            return chunk
        rows = {v: r for v, r in done.rows.items() if v >= 0}
        rows[_INPUT], span = snapped(front.planes, rows[stage.source], done)
        pieces = None
        if jumps(step):
            rows = _unshared(chunk, rows)
            pieces = self._pieces(stage, words, np.diff(cells.start))
        z = self._tensor(stage.source, rows[_INPUT])
        image = gated(step, z, self._weight(chunk.weight), pieces).reshape(len(z), -1).cpu().numpy()
        chunk.carried = {v: image if v == stage.value else rows[v] for v in stage.after}
        profile = front.gains.profile
        passed = stretched(step, profile[stage.source], *(self._tensor(stage.source, part) for part in span))
        chunk.profile = {v: passed if v == stage.value else profile[v] for v in stage.after}
        return chunk

    def _pieces(self, stage: Stage, words: Array, repeats: Array) -> Tensor:
        """Return the pieces of a gate at every incidence."""
        names = [n.name for n in self.network.nodes]
        layer = next(g for g in self.network.gates if g.name == names[stage.value - 1])
        pieces = layer.unpack(np.ascontiguousarray(words).view(np.uint8)).long()
        return pieces.repeat_interleave(torch.from_numpy(repeats), 0).to(self.network.device)


def blinded(planes: cut.Planes, hidden: Array) -> cut.Planes:
    """Return hyperplanes of which some, by a mask, cut nothing: all their values count as zero."""
    blind = (np.where(hidden, 1e300, t) for t in (planes.magnitude, planes.constant, planes.ceiling))
    magnitude, constant, ceiling = blind
    return planes._replace(magnitude=magnitude, constant=constant, ceiling=ceiling, uneven=planes.uneven & ~hidden)


def _copied(cells: frames.Cells) -> frames.Cells:
    return frames.Cells(*(a.copy() for a in cells))


def _scale(rows: Array) -> Array:
    """Return how large the entries of each column are: 0 where they are all 0, which then add nothing to any sum."""
    found = np.zeros(rows.shape[1])
    frames.widest(rows, found)
    return found


def _inverse(scale: Array) -> Array:
    """Return 1 / scale, 0 where the scale is 0; scales below 1e-300 count as that, so that none is infinite."""
    return np.divide(1.0, np.maximum(scale, 1e-300), out=np.zeros_like(scale), where=scale > 0.0)


def _planes_of(step: Choice, words: Array, shape: tuple[int, ...]) -> Array:
    """Return the kernel's words as bit planes of pieces: for a gate, how many breakpoints lie below."""
    if isinstance(step, MaxGate):
        return words.copy()
    gate, units = cast(Gate, step), int(np.prod(shape))
    layer = UnitLayer("", "", shape, gate.num_pieces)
    per_plane = layer.plane_bytes // 8
    full = np.frombuffer(np.packbits(np.arange(64 * per_plane) < units, bitorder="little").tobytes(), np.uint64)
    planes = np.zeros((len(words), layer.planes, per_plane), np.uint64)
    width = words.shape[1] // max(1, len(gate.breakpoints))
    for k in range(len(gate.breakpoints)):
        carry = words[:, k * width : k * width + per_plane]
        carry = ~carry & full if k in gate.inclusive else carry
        for plane in range(layer.planes):
            planes[:, plane], carry = planes[:, plane] ^ carry, planes[:, plane] & carry
    return planes.reshape(len(words), -1)


def _unshared(chunk: Chunk, rows: dict[int, Array]) -> dict[int, Array]:
    """Give every cell vertices of its own, because a gate that jumps has as many values there as cells meet."""
    order = chunk.cells.vertex
    chunk.cells = chunk.cells._replace(vertex=np.arange(len(order), dtype=np.int32))
    chunk.points, chunk.weight, chunk.error = chunk.points[order], chunk.weight[order], chunk.error[order]
    return {v: r[order] for v, r in rows.items()}
