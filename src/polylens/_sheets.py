"""A piecewise-linear network on given pieces at many points at once: values, distances to all walls, and their rows.

The pieces are state: on a wall a point may be looked at from either side, whatever its pattern says. A wall is met within
the rounding of the terms of the pre-activation, as in `germ`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ._rounding import behind_gate, settled, term_sizes
from .gates import Choice, Gate, MaxGate
from .network import Network, Node
from .steps import Affine, LinearAt, flat

Pieces = dict[str, Tensor]


class GateWalls(NamedTuple):
    """The walls of a gate: z[plus] - z[minus] <= bound for its flattened input z, whose entry -1 is 0.

    `plus`, `minus`, `bound`, `beyond` are (batch, walls); an infinite bound is no wall. `unit` (walls,) is on piece
    `beyond` behind it.
    """

    node: Node
    plus: Tensor
    minus: Tensor
    bound: Tensor
    unit: Tensor
    beyond: Tensor

    def values(self, z: Tensor, sign: float = -1.0) -> Tensor:
        """Return z[plus] + sign * z[minus] for flattened z (batch, inputs)."""
        z = torch.cat([z, z.new_zeros(len(z), 1)], 1)
        return z.gather(1, self.plus) + sign * z.gather(1, self.minus)


class Sheet(NamedTuple):
    """The network on one piece a point: `output` (batch, m), its largest term (batch,), and `gap` to walls (batch, walls).

    A gap counts as 0 within `room`. Walls of all gates stand side by side.
    """

    local: list[LinearAt]
    output: Tensor
    terms: Tensor
    walls: list[GateWalls]
    gap: Tensor
    room: Tensor


def walls_of_gate(node: Node, pieces: Tensor, shape: tuple[int, ...]) -> GateWalls:
    """Return the walls of one gate for a batch of pieces (batch, *output shape); `shape` is that of its input."""
    piece = flat(pieces.long(), 1)
    build = _breakpoints if isinstance(node.step, Gate) else _rivals
    return build(node, piece, shape)


def _breakpoints(node: Node, piece: Tensor, shape: tuple[int, ...]) -> GateWalls:
    """The breakpoint above the piece and the one below; gates of two pieces have one of both."""
    step = cast(Gate, node.step)
    count = len(step.breakpoints)
    limits = step.breakpoints.expand(count, *shape).reshape(count, -1)
    unit = torch.arange(piece.shape[1], device=piece.device)
    at, none = unit.expand(piece.shape), torch.full_like(piece, piece.shape[1])
    upper, lower = piece < count, piece > 0
    above, below = limits[piece.clamp(max=count - 1), unit], limits[(piece - 1).clamp(min=0), unit]
    if count == 1:
        bound = torch.where(lower, -below, above)
        return GateWalls(node, torch.where(lower, none, at), torch.where(lower, at, none), bound, unit, 1 - piece)
    bound = torch.cat([torch.where(upper, above, torch.inf), torch.where(lower, -below, torch.inf)], 1)
    plus, minus = torch.cat([at, none], 1), torch.cat([none, at], 1)
    return GateWalls(node, plus, minus, bound, torch.cat([unit, unit]), torch.cat([piece + 1, piece - 1], 1))


def _rivals(node: Node, piece: Tensor, shape: tuple[int, ...]) -> GateWalls:
    """A wall for each candidate of each output; that of the winner itself is none."""
    step = cast(MaxGate, node.step)
    table = step.candidates(shape).to(piece.device)
    outputs, candidates = table.shape
    unit = torch.arange(outputs, device=piece.device).repeat_interleave(candidates)
    rival = table.reshape(-1).expand(len(piece), -1)
    winner = table[torch.arange(outputs, device=piece.device), piece].repeat_interleave(candidates, 1)
    beyond = torch.arange(candidates, device=piece.device).repeat(outputs).expand(len(piece), -1)
    bound = torch.where((rival >= 0) & (rival != winner), 0.0, torch.inf).to(torch.float64)
    plus, minus = (rival.clamp(min=0), winner) if step.largest else (winner, rival.clamp(min=0))
    return GateWalls(node, plus, minus, bound, unit, beyond)


def localised(net: Network, pieces: Pieces) -> list[LinearAt]:
    """Return what every step is on the given pieces."""
    return [
        node.step
        if isinstance(node.step, Affine)
        else cast(Choice, node.step).on(pieces[node.name], net.shape_of(node.inputs[0]))
        for node in net.nodes
    ]


def sheet(net: Network, rough: Sequence[Affine | None], u: Tensor, pieces: Pieces, relative: float) -> Sheet:
    """Return the network at points (batch, *input_shape) on given pieces: one pass of values and of their terms."""
    local = localised(net, pieces)
    values, sizes = {0: u}, {0: u.abs()}
    walls, gaps, rooms = list[GateWalls](), list[Tensor](), list[Tensor]()
    for k, (node, here, size) in enumerate(zip(net.nodes, local, rough, strict=True), 1):
        z, parts = ([held[i] for i in node.inputs] for held in (values, sizes))
        values[k] = here.offset(*z)
        if size is not None:
            sizes[k] = size.apply(*parts)
        else:
            sizes[k] = settled(values[k], behind_gate(here, parts[0]), relative)
            walls.append(found := walls_of_gate(node, pieces[node.name], net.shape_of(node.inputs[0])))
            gaps.append(found.bound - found.values(flat(z[0], 1)))
            rooms.append(relative * (found.values(flat(parts[0], 1), 1.0) + torch.nan_to_num(found.bound.abs(), posinf=0.0)))
        for i in net.expiring[k]:
            for held in (values, sizes):
                held.pop(i)
    last = len(net.nodes)
    none = u.new_zeros(len(u), 0)
    terms = flat(sizes[last], 1).amax(1)
    return Sheet(local, flat(values[last], 1), terms, walls, torch.cat([none, *gaps], 1), torch.cat([none, *rooms], 1))


def speeds(net: Network, rough: Sequence[Affine | None], at: Sheet, way: Tensor, relative: float) -> tuple[Tensor, Tensor]:
    """Return how fast points moving along `way` (batch, *input_shape) approach the walls, and what of it is rounding."""
    columns, sizes = {0: way.unsqueeze(1)}, {0: way.abs()}
    found, rooms, walls = list[Tensor](), list[Tensor](), iter(at.walls)
    for k, (node, here, size) in enumerate(zip(net.nodes, at.local, rough, strict=True), 1):
        dz, terms = [columns[i] for i in node.inputs], [sizes[i] for i in node.inputs]
        columns[k] = here.columns(*dz)
        if size is not None:
            sizes[k] = size.linear(*terms)
        else:
            sizes[k] = settled(columns[k][:, 0], behind_gate(here, terms[0], constant=False), relative)
            gate = next(walls)
            found.append(gate.values(flat(dz[0][:, 0].expand(len(way), *dz[0].shape[2:]), 1)))
            rooms.append(relative * gate.values(flat(terms[0], 1), 1.0))
        for i in net.expiring[k]:
            for held in (columns, sizes):
                held.pop(i)
    none = way.new_zeros(len(way), 0)
    return torch.cat([none, *found], 1), torch.cat([none, *rooms], 1)


def rows(net: Network, at: Sheet, index: Tensor) -> Tensor:
    """Return the rows (batch, k, inputs) of walls `index` (batch, k): all pulled to the input in one backward pass."""
    pending, start = dict[int, Tensor](), 0
    for gate in at.walls:
        inside = (index >= start) & (index < start + len(gate.unit))
        chosen = (index - start).clamp(0, max(0, len(gate.unit) - 1))
        start += len(gate.unit)
        if bool(inside.any()):
            value = gate.node.inputs[0]
            shape = net.shape_of(value)
            row = _form(gate, chosen, inside, torch.Size(shape).numel()).reshape(*index.shape, *shape)
            pending[value] = pending[value] + row if value in pending else row
    for k in range(max(pending, default=0), 0, -1):
        if k in pending:
            node, here = net.nodes[k - 1], pending.pop(k)
            for i, part in zip(node.inputs, at.local[k - 1].rows(here, [net.shape_of(i) for i in node.inputs]), strict=True):
                pending[i] = pending[i] + part if i in pending else part
    return flat(pending[0], 2) if pending else at.output.new_zeros(*index.shape, torch.Size(net.input_shape).numel())


def row_rooms(net: Network, at: Sheet, relative: float) -> Tensor:
    """Return the lengths (batch or 1, walls) up to which rows are rounding."""
    sizes = term_sizes(net, at.local, [gate.node.inputs[0] for gate in at.walls], relative)
    parts = [at.output.new_zeros(len(at.output), 0)]
    for gate in at.walls:
        size = flat(sizes[gate.node.inputs[0]].row, 1).expand(len(at.output), -1)
        parts.append(relative * gate.values(size, 1.0))
    return torch.cat(parts, 1)


def _form(gate: GateWalls, chosen: Tensor, inside: Tensor, inputs: int) -> Tensor:
    """Return z -> z[plus] - z[minus] of chosen walls (batch, k) as rows (batch, k, inputs), zero where not inside."""
    form = torch.zeros(*chosen.shape, inputs + 1, dtype=gate.bound.dtype, device=chosen.device)
    here = inside.to(form.dtype).unsqueeze(2)
    form.scatter_add_(2, gate.plus.gather(1, chosen).unsqueeze(2), here)
    form.scatter_add_(2, gate.minus.gather(1, chosen).unsqueeze(2), -here)
    return form[:, :, :-1]


def crossed(at: Sheet, pieces: Pieces, through: Tensor) -> Pieces:
    """Return the pieces behind the walls that `through` (batch, walls) marks."""
    found, start = dict(pieces), 0
    for gate in at.walls:
        mask = through[:, start : start + len(gate.unit)]
        start += len(gate.unit)
        if bool(mask.any()):
            old = pieces[gate.node.name]
            piece = flat(old.long(), 1).clone()
            points, wall = torch.nonzero(mask, as_tuple=True)
            piece[points, gate.unit[wall]] = gate.beyond[points, wall]
            found[gate.node.name] = piece.reshape(old.shape).to(old.dtype)
    return found
