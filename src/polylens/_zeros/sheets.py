"""A piecewise-linear network on given pieces at many points at once: values, distances to all walls, and their rows.

The pieces are state: on a wall a point may be looked at from either side, whatever its pattern says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from .._rounding import behind_gate, magnitudes, settled, term_sizes
from ..gates import Choice, Gate, MaxGate, spread
from ..network import Network, Node
from ..steps import Affine, LinearAt, flat

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
    """The network on one piece a point: what its steps are there, the `output` (batch, m), and `gap` to walls (batch, walls).

    Walls of all gates stand side by side.
    """

    local: list[LinearAt]
    output: Tensor
    walls: list[GateWalls]
    gap: Tensor


class Rounding(NamedTuple):
    """What of a gap, `near` (walls,), and of the length of a row, `thin` (walls,), is rounding."""

    near: Tensor
    thin: Tensor


def walls_of_gate(node: Node, pieces: Tensor, shape: tuple[int, ...]) -> GateWalls:
    """Return the walls of one gate for a batch of pieces (batch, *output shape); `shape` is that of its input."""
    piece = flat(pieces.long(), 1)
    build = _breakpoints if isinstance(node.step, Gate) else _rivals
    return build(node, piece, shape)


def _breakpoints(node: Node, piece: Tensor, shape: tuple[int, ...]) -> GateWalls:
    """The breakpoint above the piece and the one below; gates of two pieces have one of both."""
    step = cast(Gate, node.step)
    count = len(step.breakpoints)
    limits = spread(step.breakpoints, shape).reshape(count, -1)
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


def walls_on(net: Network, pieces: Pieces) -> list[GateWalls]:
    """Return the walls of all gates on given pieces."""
    nodes = [node for node in net.nodes if node.name in pieces]
    return [walls_of_gate(node, pieces[node.name], net.shape_of(node.inputs[0])) for node in nodes]


def sheet(net: Network, u: Tensor, pieces: Pieces) -> Sheet:
    """Return the network at points (batch, *input_shape) on given pieces: one pass of values."""
    local, walls = localised(net, pieces), walls_on(net, pieces)
    values, before = _passed(net, [here.offset for here in local], u)
    gaps = [gate.bound - gate.values(flat(z, 1)) for gate, z in zip(walls, before, strict=True)]
    return Sheet(local, flat(values, 1), walls, torch.cat([u.new_zeros(len(u), 0), *gaps], 1))


def speeds(net: Network, at: Sheet, way: Tensor) -> Tensor:
    """Return how fast points moving along `way` (batch, *input_shape) approach the walls: (batch, walls)."""
    _, before = _passed(net, [here.columns for here in at.local], way.unsqueeze(1))
    found = [gate.values(flat(dz[:, 0], 1).expand(len(way), -1)) for gate, dz in zip(at.walls, before, strict=True)]
    return torch.cat([way.new_zeros(len(way), 0), *found], 1)


def _passed(net: Network, steps: Sequence[Callable[..., Tensor]], value: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return what steps make of a value in the end, and what they hand to the gates."""
    values, before = {0: value}, list[Tensor]()
    for k, (node, step) in enumerate(zip(net.nodes, steps, strict=True), 1):
        inputs = [values[i] for i in node.inputs]
        values[k] = step(*inputs)
        if not isinstance(node.step, Affine):
            before.append(inputs[0])
        for i in net.expiring[k]:
            values.pop(i)
    return values[len(net.nodes)], before


def rounding(net: Network, u: Tensor, pieces: Pieces, relative: float) -> Rounding:
    """Return how much of gaps and rows is rounding around points: that of their terms, in the median and at most."""
    local, walls, near = localised(net, pieces), walls_on(net, pieces), list[Tensor]()
    values, sizes = {0: u}, {0: u.abs()}
    gates = iter(walls)
    for k, (node, here, rough) in enumerate(zip(net.nodes, local, magnitudes(net), strict=True), 1):
        z, terms = ([held[i] for i in node.inputs] for held in (values, sizes))
        values[k] = here.offset(*z)
        if rough is not None:
            sizes[k] = rough.apply(*terms)
            continue
        sizes[k] = settled(values[k], behind_gate(here, terms[0]), relative)
        gate = next(gates)
        near.append(gate.values(flat(terms[0], 1), 1.0) + gate.bound.abs().nan_to_num(posinf=0.0))
    none = u.new_zeros(len(u), 0)
    thin = _row_terms(net, local, walls, relative) if walls else []
    near_rows, thin_rows = torch.cat([none, *near], 1), torch.cat([none, *(t.expand(len(u), -1) for t in thin)], 1)
    return Rounding(relative * near_rows.median(0).values, relative * thin_rows.amax(0))


def _row_terms(net: Network, local: list[LinearAt], walls: list[GateWalls], relative: float) -> list[Tensor]:
    """Return the sizes of the terms of the rows of all walls."""
    sizes = term_sizes(net, local, [gate.node.inputs[0] for gate in walls], relative)
    return [gate.values(flat(sizes[gate.node.inputs[0]].row, 1).expand(len(gate.plus), -1), 1.0) for gate in walls]


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


def _form(gate: GateWalls, chosen: Tensor, inside: Tensor, inputs: int) -> Tensor:
    """Return z -> z[plus] - z[minus] of chosen walls (batch, k) as rows (batch, k, inputs), zero where not inside."""
    form = torch.zeros(*chosen.shape, inputs + 1, dtype=gate.bound.dtype, device=chosen.device)
    here = inside.to(form.dtype).unsqueeze(2)
    form.scatter_add_(2, gate.plus.gather(1, chosen).unsqueeze(2), here)
    form.scatter_add_(2, gate.minus.gather(1, chosen).unsqueeze(2), -here)
    return form[:, :, :-1]


def choices(walls: list[GateWalls], units: Sequence[int], num_pieces: int) -> Tensor:
    """Return what lies behind all walls as one number each: unit * num_pieces + piece; `units` counts those of each gate."""
    starts = itertools.accumulate(units, initial=0)
    return torch.cat([(gate.unit + start) * num_pieces + gate.beyond for gate, start in zip(walls, starts, strict=False)], 1)


def chosen(pieces: Pieces, names: Sequence[str], choice: Tensor, num_pieces: int) -> Pieces:
    """Return the pieces after one choice for each point (batch,), as `choices` numbers them; -1 for none."""
    found, start = dict(pieces), 0
    for name in names:
        piece = flat(pieces[name], 1).clone()
        unit = choice.div(num_pieces, rounding_mode="floor") - start
        rows = torch.nonzero((unit >= 0) & (unit < piece.shape[1])).reshape(-1)
        piece[rows, unit[rows]] = (choice[rows] % num_pieces).to(piece.dtype)
        found[name] = piece.reshape(pieces[name].shape)
        start += piece.shape[1]
    return found


def crossed(walls: list[GateWalls], pieces: Pieces, through: Tensor) -> Pieces:
    """Return the pieces behind the walls that `through` (batch, walls) marks."""
    found, start = dict(pieces), 0
    for gate in walls:
        mask = through[:, start : start + len(gate.unit)]
        start += len(gate.unit)
        if bool(mask.any()):
            old = pieces[gate.node.name]
            piece = flat(old.long(), 1).clone()
            points, wall = torch.nonzero(mask, as_tuple=True)
            piece[points, gate.unit[wall]] = gate.beyond[points, wall]
            found[gate.node.name] = piece.reshape(old.shape).to(old.dtype)
    return found
