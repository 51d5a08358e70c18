"""A chunk of cells in front of a gate: the gate's hyperplanes with their tolerances, and cells that need finer ones.

Tolerances come from the largest terms over a chunk. A cell on which large units are off has smaller ones: where that decides,
the chunk is parted.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .._kernels import cut, cut_max, frames
from ..gates import Gate, MaxGate, spread
from ..network import Network
from ..pattern import UnitLayer
from .stages import Gains, Stage, Values, inherited_errors, padded, through, words_of

if TYPE_CHECKING:
    from .engine import Chunk
    from .workspace import Cut

Array = np.ndarray[Any, Any]
_UNLIKE = 10  # binary orders of magnitude by which a cell's terms are smaller than the chunk's, to be looked at apart


class Vertices(NamedTuple):
    """What is known of a chunk's vertices beside their values: relative size, weight and error of each."""

    largest: Array
    weight: Array
    error: Array


class Front(NamedTuple):
    """A chunk in front of a gate: the values alive there, the gate's input `z`, sizes, gains, hyperplanes, words of a pattern.

    `errors` say how large those of carried values are, in parts of a vertex's.
    """

    before: Values
    z: Array
    vertices: Vertices
    errors: Values
    gains: Gains
    planes: cut.Planes | cut_max.Windows
    words: int


def planes_of(
    net: Network, stage: Stage, gains: Gains, vertices: Vertices, unit: float
) -> tuple[cut.Planes | cut_max.Windows, int]:
    """Return a gate's hyperplanes, or a max-gate's windows, with their tolerances, and the words of its pattern."""
    step, shape = net.nodes[stage.value - 1].step, net.shape_of(stage.source)
    rates = (gains.magnitude * unit, gains.constant * unit, gains.inherited, gains.least)
    magnitude, constant, inherited, least = (rate.cpu().numpy() for rate in rates)
    if isinstance(step, MaxGate):
        table = step.candidates(shape).numpy()
        layer = UnitLayer("", "", (len(table),), step.num_pieces)
        ceiling = _ceiling(vertices, magnitude, constant, inherited)
        uneven = ~(ceiling < _least_beside(table, least)) & (ceiling > 0.0)
        sign = 1.0 if step.largest else -1.0
        return cut_max.Windows(table, sign, magnitude, constant, inherited, ceiling, uneven, unit), layer.num_bytes // 8
    at, flip = breakpoints(cast(Gate, step), shape)
    count, width = at.shape
    magnitude, constant, inherited, least = (np.tile(padded(t, width), count) for t in (magnitude, constant, inherited, least))
    constant += np.abs(at).reshape(-1) * unit
    ceiling = _ceiling(vertices, magnitude, constant, inherited)
    uneven = ~(ceiling < np.minimum(least, _gaps(at).reshape(-1))) & (ceiling > 0.0)
    return cut.Planes(at, flip, magnitude, constant, inherited, ceiling, uneven, unit), count * width // 64


def _least_beside(table: Array, least: Array) -> Array:
    """Return the smallest term of each input (inputs,) of a max-gate and of all that it is compared with."""
    found, inside = least.copy(), table >= 0
    of_window = np.where(inside, least[table], np.inf).min(1)
    np.minimum.at(found, table[inside], np.broadcast_to(of_window[:, None], table.shape)[inside])
    return found


def _ceiling(vertices: Vertices, *rates: Array) -> Array:
    """Return the largest tolerances over a chunk."""
    total: Array = sum((rate * most.max() for rate, most in zip(rates, vertices, strict=True)), np.zeros(len(rates[0])))
    return total


def _gaps(at: Array) -> Array:
    """Return how far each breakpoint (k, units) is from 0, if it is not that, and from the unit's others."""
    gaps = np.where(at == 0.0, np.inf, np.abs(at))
    for k, j in itertools.permutations(range(len(at)), 2):
        gaps[k] = np.minimum(gaps[k], np.abs(at[k] - at[j]))
    return gaps


def breakpoints(gate: Gate, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return a gate's breakpoints (k, padded units) and the sign by which its hyperplanes are turned."""
    count, units = len(gate.breakpoints), int(np.prod(shape))
    at = padded(spread(gate.breakpoints, shape).reshape(count, units).cpu().numpy(), 64 * words_of(units))
    return at, np.array([-1.0 if k in gate.inclusive else 1.0 for k in range(count)])


def snapped(planes: cut.Planes | cut_max.Windows, z: Array, pool: Cut) -> tuple[Array, Array]:
    """Return a gate's input with values that count as being on a breakpoint moved there, and what it ranges over.

    On a cell where a unit is off it then adds nothing, whatever rounding vertices carry. The range (3, breakpoints, units) is
    the least and the largest of what values are above each breakpoint, and below what they count as zero.
    """
    if isinstance(planes, cut_max.Windows):
        return z, np.zeros((3, 0, z.shape[1]))
    count, units = len(planes.at), z.shape[1]
    z, span = z.copy(), np.full((3, count, units), np.inf)
    span[1] = -np.inf
    span[2] = planes.ceiling.reshape(count, -1)[:, :units]
    own = (planes.at, planes.ceiling, planes.magnitude, planes.constant, planes.inherited)
    frames.snap(z, *own, pool.magnitude, pool.weight, pool.error, span[0], span[1])
    return z, span


# -- cells that are not alike


def groups_of_like_size(net: Network, stage: Stage, chunk: Chunk, front: Front, unit: float) -> list[Array]:
    """Return groups of cells, by position, whose tolerances are of like size wherever a value is as small as the chunk's.

    Cost: where a value is in doubt, two evaluations of the steps in front of the gate for every cell that has one.
    """
    cells, count = chunk.cells, len(chunk)
    if count == 1:
        return [np.arange(1)]
    near = np.maximum.reduceat(_near(front)[cells.vertex], cells.start[:-1])
    some = np.flatnonzero(near.any(1))
    if not len(some):  # the value in doubt is at a vertex that no cell of the chunk has any more
        return [np.arange(count)]
    largest = through(net, _sizes(net, cells, some, chunk.carried), stage.absolute, stage.before, constants=True)
    errors = {v: e * error_mask(net, v, chunk.words[some]) for v, e in front.errors.items()}
    inherited = inherited_errors(net, stage, errors, (stage.source,))[stage.source]
    own = unit * largest[stage.source] + float(chunk.error.max()) * inherited
    rates = front.gains.magnitude * unit, front.gains.constant * unit, front.gains.inherited
    chunks = _ceiling(front.vertices, *(rate.cpu().numpy() for rate in rates))
    with np.errstate(divide="ignore", invalid="ignore"):
        orders = np.nan_to_num(np.log2(own.flatten(1).cpu().numpy() / chunks), nan=0.0, neginf=-2048.0)
    signature = np.zeros((count, orders.shape[1]), np.int16)
    signature[some] = np.where(near[some] & (orders < -_UNLIKE), orders // _UNLIKE, 0.0)
    group = np.unique(signature, axis=0, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]


def error_mask(net: Network, value: int, words: Array) -> Tensor:
    """Return for patterns (cells, words) of the first gates where (cells, *shape) a value can carry an error: 1, else 0.

    A unit on a piece of slope 0 has none. Everything but the outputs of gates may have one.
    """
    shape = net.shape_of(value)
    if not value or not isinstance(net.nodes[value - 1].step, Gate):
        return torch.ones(len(words), *shape, dtype=torch.float64, device=net.device)
    gate, at = cast(Gate, net.nodes[value - 1].step), 0
    for layer in net.gates:
        if layer.name == net.nodes[value - 1].name:
            break
        at += layer.num_bytes // 8
    packed = np.ascontiguousarray(words[:, at : at + layer.num_bytes // 8]).view(np.uint8)
    pieces = layer.unpack(packed).long().to(net.device)
    return (spread(gate.slopes, shape).gather(0, pieces) != 0.0).double()


def in_doubt(front: Front) -> bool:
    """Say whether some value of a chunk may count as being on a breakpoint without being there."""
    planes = front.planes
    if isinstance(planes, cut_max.Windows):
        return bool(cut_max.in_doubt_max(front.z, planes))
    return bool(cut.in_doubt(front.z, planes, front.vertices.weight))


def _near(front: Front) -> Array:
    """Return a mask (vertices, units): which inputs of a gate are within the tolerance of a change without being on it."""
    z, planes = front.z, front.planes
    near = np.zeros(z.shape, dtype=bool)
    if isinstance(planes, cut_max.Windows):
        value = np.where(planes.table >= 0, planes.sign * z[:, planes.table], -np.inf)
        behind = value.max(2, keepdims=True) - value
        tied = (behind <= 2.0 * planes.ceiling[planes.table]) & (planes.table >= 0)
        tied &= (tied & (behind > 0.0)).any(2, keepdims=True)
        for candidate in range(planes.table.shape[1]):
            index = planes.table[:, candidate]
            near[:, index[index >= 0]] |= tied[:, index >= 0, candidate]
        return near
    width = len(planes.ceiling) // len(planes.at)
    for k, at in enumerate(planes.at[:, : z.shape[1]]):
        apart = np.abs(z - front.vertices.weight[:, None] * at)
        near |= (apart > 0.0) & (apart <= planes.ceiling[k * width : k * width + z.shape[1]])
    return near


def _sizes(net: Network, cells: frames.Cells, chosen: Array, carried: dict[int, Array]) -> Values:
    """Return how large the carried values are at most on each of the chosen cells."""
    out = {}
    for v, rows in carried.items():
        most = np.empty((len(chosen), rows.shape[1]))
        for k, cell in enumerate(chosen):
            most[k] = np.abs(rows[cells.vertex[cells.start[cell] : cells.start[cell + 1]]]).max(0)
        out[v] = torch.from_numpy(most).to(net.device).reshape(len(most), *net.shape_of(v))
    return out
