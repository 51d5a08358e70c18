"""The engine: all cells of a domain, streamed depth first through the gates of a network.

A cell is a simple polytope held by its vertices; vertices are shared within a chunk, and the network's values at them are
carried along: computed by one product for a chunk, interpolated where an edge is cut. Memory is bounded by the number of
gates times the chunk, and not by the number of cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from . import _cut
from ._cut_max import Windows
from ._stages import Stage, advance, gated, jumps, padded, stages, steepest, words_of
from ._types import Tolerance
from ._workspace import Cut, Sweep, Tally, Workspace
from .cells import Cells
from .domain import Domain
from .gates import Choice, Gate, MaxGate
from .germ import exact
from .network import Network
from .pattern import UnitLayer

Array = np.ndarray[Any, Any]
_CELLS = 8192  # of a chunk: enough for full products, few enough to stay near the caches
_BYTES = 1 << 25  # that the carried values of a chunk may take


@dataclass(eq=False, slots=True)
class _Chunk:
    """Cells on their way: incidences, words so far, and at the vertices coordinates, weight, error and carried values."""

    cells: _cut.Cells
    words: Array
    points: Array
    weight: Array
    error: Array
    carried: dict[int, Array]


@dataclass(eq=False)
class Engine:
    """One run over the cells of a domain; `tally` and `per_level` tell what it met so far.

    With `counting`, cells of the last gate are counted in the tally and not made.
    """

    network: Network
    domain: Domain
    tolerance: Tolerance
    counting: bool = False
    chunk: int = _CELLS
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.network = exact(self.network)
        self.levels = stages(self.network, len(self.network.nodes))
        self.per_level = [0] * len(self.levels)
        self._workspaces: dict[int, Workspace] = {}
        self._sides = 0

    # -- the run

    def run(self) -> Iterator[Cells]:
        """Yield all cells, some thousand at a time."""
        with torch.no_grad():
            for chunk in self.first():
                yield from self.descend(0, chunk)

    def descend(self, level: int, chunk: _Chunk) -> Iterator[Cells]:
        """Yield the cells that a chunk in front of the given gate falls into."""
        if level == len(self.levels):
            yield self._leaves(chunk)
            return
        for child in self._children(level, chunk):
            self.per_level[level] += len(child.words)
            yield from self.descend(level + 1, child)

    def _leaves(self, chunk: _Chunk) -> Cells:
        return Cells(
            chunk.points, chunk.weight, chunk.cells.start, chunk.cells.vertex, chunk.cells.mask, chunk.words, self._sides,
            self.network.gates,
        )  # fmt: skip

    # -- the first cells

    def first(self) -> Iterator[_Chunk]:
        """Yield the domain's cells, clipped by its rows where it has any."""
        start = self.domain.start()
        bits = max(1, -(-(start.sides + len(start.bound)) // 64))
        mask = np.zeros((len(start.vertex), bits), np.uint64)
        for column in start.facets.T:
            mask[np.arange(len(column)), column // 64] |= np.uint64(1) << (column % 64).astype(np.uint64)
        cells = _cut.Cells(start.start.astype(np.int64), start.vertex.astype(np.int32), mask)
        count = len(start.weight)
        words = np.zeros((len(start.start) - 1, 0), np.uint64)
        chunk = _Chunk(cells, words, start.points.astype(float), start.weight.astype(float), np.zeros(count), {})
        self._sides = start.sides + len(start.bound)
        for part in self._clipped(chunk, start.matrix, start.bound, start.sides) if len(start.bound) else [chunk]:
            part.carried = {0: self._embedded(part)}
            yield part

    def _embedded(self, chunk: _Chunk) -> Array:
        origin, basis = self.domain.origin.numpy(), self.domain.basis.numpy()
        return chunk.weight[:, None] * origin + chunk.points @ basis.T

    def _clipped(self, chunk: _Chunk, matrix: Array, bound: Array, first_bit: int) -> Iterator[_Chunk]:
        """Yield what of a chunk lies within rows in the domain's coordinates."""
        z = chunk.points @ matrix.T - chunk.weight[:, None] * bound
        width, unit = 64 * words_of(len(bound)), self.tolerance.relative
        magnitude = _wide(np.abs(matrix).sum(1) * unit, width)
        constant = _wide(np.abs(bound) * unit, width)
        largest = np.abs(chunk.points).max(1, initial=0.0)
        ceiling = magnitude * largest.max() + constant * chunk.weight.max()
        flat = np.zeros((1, width))
        planes = _cut.Planes(flat, np.ones(1), magnitude, constant, flat[0], ceiling, unit)
        job = Sweep(
            chunk.cells,
            z,
            planes,
            largest,
            chunk.weight,
            chunk.error,
            {-1: chunk.points},
            width // 64,
            False,
            True,
            first_bit,
            0,
        )
        for done in Workspace(chunk.cells.mask.shape[1], width // 64, self.chunk).sweep(job, self.tally):
            words = np.zeros((len(done.parent), 0), np.uint64)
            yield _Chunk(_copied(done.cells), words, done.rows[-1].copy(), done.weight.copy(), np.zeros(len(done.weight)), {})

    # -- one gate

    def _children(self, level: int, chunk: _Chunk) -> Iterator[_Chunk]:
        """Yield the cells that one gate cuts a chunk into; the last gate's are counted where that is all that is asked."""
        stage, final_level = self.levels[level], level == len(self.levels) - 1
        weight = torch.from_numpy(chunk.weight).to(self.network.device) if not self.domain.is_bounded else None
        carried = {v: self._tensor(v, rows) for v, rows in chunk.carried.items()}
        before = advance(self.network, carried, max(carried), stage.before, weight)
        largest = np.max([np.abs(r).max(1, initial=0.0) for r in chunk.carried.values()], axis=0)
        rows = {-1: chunk.points}
        if not final_level:
            rows |= {v: t.reshape(len(t), -1).cpu().numpy() for v, t in before.items()}
        z = before[stage.source].reshape(len(chunk.weight), -1).cpu().numpy()
        planes, words = self._planes(stage, largest, chunk)
        counted = self.counting and final_level
        job = Sweep(
            chunk.cells,
            z,
            planes,
            largest,
            chunk.weight,
            chunk.error,
            {} if counted else rows,
            words,
            counted,
            False,
            -1,
            self._sides,
        )
        counted_before = self.tally.count
        for done in self._workspace(level, chunk, words).sweep(job, self.tally):
            yield self._next(stage, chunk, done, final_level)
        self.per_level[level] += self.tally.count - counted_before

    def _tensor(self, value: int, rows: Array) -> Tensor:
        return torch.from_numpy(rows).to(self.network.device).reshape(len(rows), *self.network.shape_of(value))

    def _workspace(self, level: int, chunk: _Chunk, words: int) -> Workspace:
        if level not in self._workspaces:
            self._workspaces[level] = Workspace(chunk.cells.mask.shape[1], words, self.chunk)
        return self._workspaces[level]

    def _planes(self, stage: Stage, largest: Array, chunk: _Chunk) -> tuple[_cut.Planes | Windows, int]:
        """Return a gate's hyperplanes, or a max-gate's windows, with their tolerances, and the words of its pattern."""
        step, unit = self.network.nodes[stage.value - 1].step, self.tolerance.relative
        magnitude, constant, inherited = (
            g.cpu().numpy() for g in (stage.magnitude * unit, stage.constant * unit, stage.inherited)
        )

        def ceiling(magnitude: Array, constant: Array, inherited: Array) -> Array:
            return magnitude * largest.max() + constant * chunk.weight.max() + inherited * chunk.error.max()

        if isinstance(step, MaxGate):
            table = step.candidates(self.network.shape_of(stage.source)).numpy()
            layer = UnitLayer("", "", (len(table),), step.num_pieces)
            return Windows(
                table,
                1.0 if step.largest else -1.0,
                magnitude,
                constant,
                inherited,
                ceiling(magnitude, constant, inherited),
                unit,
            ), layer.num_bytes // 8
        gate = cast(Gate, step)
        at, flip = _breakpoints(gate, self.network.shape_of(stage.source))
        count, width = at.shape
        magnitude, constant, inherited = (np.tile(_wide(g, width), count) for g in (magnitude, constant, inherited))
        constant += np.abs(at).reshape(-1) * unit
        return _cut.Planes(
            at, flip, magnitude, constant, inherited, ceiling(magnitude, constant, inherited), unit
        ), count * width // 64

    def _next(self, stage: Stage, chunk: _Chunk, done: Cut, final_level: bool) -> _Chunk:
        """Return finished cells with what the following gates need at their vertices."""
        step = cast(Choice, self.network.nodes[stage.value - 1].step)
        words = _planes_of(step, done.words, self.network.shape_of(stage.value))
        cells, points, weight = _copied(done.cells), done.rows[-1].copy(), done.weight.copy()
        unit = self.tolerance.relative
        gains = [float(g.max()) if g.numel() else 0.0 for g in (stage.magnitude, stage.constant, stage.inherited)]
        error = unit * (gains[0] * done.magnitude + gains[1] * weight) + gains[2] * done.error
        chunk = _Chunk(cells, np.concatenate([chunk.words[done.parent], words], 1), points, weight, error * steepest(step), {})
        if final_level:
            return chunk
        rows = {v: r.copy() for v, r in done.rows.items() if v >= 0}
        pieces = None
        if jumps(step):
            rows = _unshared(chunk, rows)
            pieces = self._pieces(stage, words, np.diff(cells.start))
        z = self._tensor(stage.source, rows[stage.source])
        t = torch.from_numpy(chunk.weight).to(z.device) if not self.domain.is_bounded else None
        image = gated(step, z, t, pieces).reshape(len(z), -1).cpu().numpy()
        chunk.carried = {v: image if v == stage.value else rows[v] for v in stage.after}
        return chunk

    def _pieces(self, stage: Stage, words: Array, repeats: Array) -> Tensor:
        """Return the pieces of a gate at every incidence."""
        names = [n.name for n in self.network.nodes]
        layer = next(g for g in self.network.gates if g.name == names[stage.value - 1])
        pieces = layer.unpack(np.ascontiguousarray(words).view(np.uint8)).long()
        return pieces.repeat_interleave(torch.from_numpy(repeats), 0).to(self.network.device)


def _copied(cells: _cut.Cells) -> _cut.Cells:
    return _cut.Cells(*(a.copy() for a in cells))


def _wide(values: Array, width: int) -> Array:
    out = np.zeros(width)
    out[: len(values)] = values
    return out


def _breakpoints(gate: Gate, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return a gate's breakpoints (k, padded units) and the sign by which its hyperplanes are turned."""
    count, units = len(gate.breakpoints), int(np.prod(shape))
    at = padded(gate.breakpoints.expand(count, *shape).reshape(count, units), 64 * words_of(units))
    return at, np.array([-1.0 if k in gate.inclusive else 1.0 for k in range(count)])


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


def _unshared(chunk: _Chunk, rows: dict[int, Array]) -> dict[int, Array]:
    """Give every cell vertices of its own, because a gate that jumps has as many values there as cells meet."""
    order = chunk.cells.vertex
    chunk.cells = chunk.cells._replace(vertex=np.arange(len(order), dtype=np.int32))
    chunk.points, chunk.weight, chunk.error = chunk.points[order], chunk.weight[order], chunk.error[order]
    return {v: r[order] for v, r in rows.items()}
