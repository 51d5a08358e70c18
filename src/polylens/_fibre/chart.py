"""A network around a point on one pattern: its affine map, and how near and how fast the walls of the pattern are.

The pattern need not be that of an open region. Where every unit's input lies on the closure of its piece, the network is
the pattern's affine map, by continuity; so all patterns around a point may be asked, thin ones and empty ones too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast, final

import torch
from torch import Tensor

from .._rounding import behind_gate, magnitudes, of_walls, settled
from .._types import Tolerance
from ..gates import Choice, Gate, Walls
from ..germ import Motion, towards, walls_of
from ..local import on_patterns, pull
from ..network import Network, Node
from ..pattern import Patterns
from ..polytope import RowOrigin
from ..steps import Affine, LinearAt, flat

_KEPT_OFF = 1e-9  # how far from a jump one stays, in parts of the pre-activation's terms


@final
@dataclass(frozen=True, eq=False)
class Ground:
    """A network, with what all of its charts share."""

    net: Network

    @cached_property
    def rough(self) -> list[Affine | None]:
        """The affine steps with the absolute values of their coefficients."""
        return magnitudes(self.net)

    @cached_property
    def gates(self) -> tuple[Node, ...]:
        """The nodes that choose pieces, in order."""
        return tuple(node for node in self.net.nodes if isinstance(node.step, Choice))

    @cached_property
    def first_unit(self) -> list[int]:
        """The number of each gate's first unit, counting through all gates, and the number of all units."""
        sizes = [math.prod(node.shape) for node in self.gates]
        return [sum(sizes[:k]) for k in range(len(sizes) + 1)]

    def chart(self, point: Tensor, way: Tensor) -> Chart:
        """Return the chart just behind a point in a direction, both (*input_shape)."""
        germ = towards(self.net, point, way, rough=self.rough)
        return self.on(germ.pattern, point, germ.inputs)

    def on(self, pattern: Patterns, point: Tensor, inputs: dict[str, Motion]) -> Chart:
        """Return the chart of a pattern at a point whose gates have the given inputs."""
        net = self.net
        local = on_patterns(net, pattern, len(net.nodes))
        walls = tuple(walls_of(net, node, pattern) for node in self.gates)
        gaps, rooms, sharp = [], [], []
        for node, w in zip(self.gates, walls, strict=True):
            z, _, room, _ = (flat(t, 0).reshape(-1) for t in inputs[node.name])
            jump = _jumps(node, w, pattern, net)
            terms = of_walls(w, room)
            gaps.append(w.bound - w.values(z))
            rooms.append(torch.where(jump, terms / Tolerance().relative * _KEPT_OFF + _KEPT_OFF * w.bound.abs(), terms))
            sharp.append(jump)
        value = point[None]
        values = {0: value}
        for k, (node, step) in enumerate(zip(net.nodes, local, strict=True), 1):
            values[k] = value = step.offset(*(values[i] for i in node.inputs))
        gap, room, jump = (_joined(parts, point) for parts in (gaps, rooms, sharp))
        return Chart(self, pattern, inputs, local, walls, value.reshape(-1), gap, gap <= room, jump.bool(), room)


@final
@dataclass(frozen=True, eq=False)
class Chart:
    """The network at a point on one pattern; entries of all walls of all gates stand one after another.

    `value` (outputs,) is the affine map at the point; `gap` how far each wall is, in units of its pre-activation; `tight`
    those that are met; `jump` those behind which the network has another value. `room` tells what counts as met.
    """

    ground: Ground
    pattern: Patterns
    inputs: dict[str, Motion]
    local: list[LinearAt]
    walls: tuple[Walls, ...]
    value: Tensor
    gap: Tensor
    tight: Tensor
    jump: Tensor
    room: Tensor

    @cached_property
    def weight(self) -> Tensor:
        """The matrix of the affine map, (outputs, inputs)."""
        net = self.ground.net
        count = math.prod(net.output_shape)
        eye = torch.eye(count, dtype=net.dtype, device=net.device).reshape(1, count, *net.output_shape)
        return flat(pull(net, self.local, len(net.nodes), eye)[0], 1)

    @cached_property
    def size(self) -> float:
        """The length of the matrix's entries, 0 for a map that is constant."""
        return float(torch.linalg.matrix_norm(self.weight)) if self.weight.numel() else 0.0

    @cached_property
    def unit(self) -> Tensor:
        """The unit of every wall, counting through all gates."""
        parts = [w.unit + first for w, first in zip(self.walls, self.ground.first_unit, strict=False)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)

    @cached_property
    def beyond(self) -> Tensor:
        """The piece behind every wall."""
        parts = [w.beyond for w in self.walls]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)

    @cached_property
    def pieces(self) -> Tensor:
        """The piece of every unit, counting through all gates."""
        parts = [self.pattern.pieces(node.name).reshape(-1).long() for node in self.ground.gates]
        return (torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)).to(self.gap.device)

    def speeds(self, way: Tensor) -> tuple[Tensor, Tensor]:
        """Return how fast every wall comes nearer along a direction (*input_shape), and how much of that is rounding."""
        net, relative = self.ground.net, Tolerance().relative
        dz, size = {0: way[None, None]}, {0: way[None].abs()}
        speeds, rooms = [], []
        of_gate = dict(zip((node.name for node in self.ground.gates), self.walls, strict=True))
        for k, (node, step, rough) in enumerate(zip(net.nodes, self.local, self.ground.rough, strict=True), 1):
            columns, terms = [dz[i] for i in node.inputs], [size[i] for i in node.inputs]
            dz[k] = step.columns(*columns)
            if rough is not None:
                size[k] = rough.linear(*terms)
                continue
            walls = of_gate[node.name]
            speeds.append(walls.values(columns[0].reshape(-1)))
            rooms.append(relative * of_walls(walls, terms[0].reshape(-1)))
            size[k] = settled(dz[k][:, 0], behind_gate(step, terms[0], constant=False), relative)
        return _joined(speeds, way), _joined(rooms, way)

    def rows(self, chosen: Sequence[int]) -> Tensor:
        """Return the gradients of some walls' pre-activations, towards the wall, (chosen, inputs)."""
        net = self.ground.net
        found = torch.zeros(len(chosen), math.prod(net.input_shape), dtype=net.dtype, device=net.device)
        first = 0
        for node, walls in zip(self.ground.gates, self.walls, strict=True):
            mine = [(i, c - first) for i, c in enumerate(chosen) if first <= c < first + len(walls.unit)]
            first += len(walls.unit)
            if mine:
                at, which = (torch.tensor(v, device=net.device) for v in zip(*mine, strict=True))
                shape = net.shape_of(node.inputs[0])
                one = torch.zeros(len(mine), math.prod(shape) + 1, dtype=net.dtype, device=net.device)
                each = torch.arange(len(mine), device=net.device)
                one[each, walls.plus[which]] += 1
                one[each, walls.minus[which]] -= 1
                columns = one[:, :-1].reshape(1, len(mine), *shape)
                found[at] = flat(pull(net, self.local, node.inputs[0], columns)[0], 1)
        return found

    def beside(self, wall: int, point: Tensor) -> Chart:
        """Return the chart of the pattern in which one wall's unit alone is behind it."""
        pieces = self.pieces.clone()
        pieces[self.unit[wall]] = self.beyond[wall]
        firsts = self.ground.first_unit
        parts = [pieces[a:b].reshape(1, *node.shape) for node, a, b in zip(self.ground.gates, firsts, firsts[1:], strict=False)]
        gates = self.ground.net.gates
        typed = [p.bool() if g.num_pieces <= 2 else p for p, g in zip(parts, gates, strict=True)]
        return self.ground.on(Patterns.from_pieces(gates, typed, 1), point, self.inputs)


def changes(ground: Ground, before: Tensor, behind: Tensor) -> tuple[RowOrigin, ...]:
    """Return the units that are on other pieces, with the pieces they come to."""
    found = []
    for node, first, end in zip(ground.gates, ground.first_unit, ground.first_unit[1:], strict=False):
        moved = torch.nonzero(before[first:end] != behind[first:end]).reshape(-1)
        found += [RowOrigin(node.name, int(u), int(behind[first + u])) for u in moved]
    return tuple(found)


def _joined(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.cat(parts) if parts else like.new_zeros(0)


def _jumps(node: Node, walls: Walls, pattern: Patterns, net: Network) -> Tensor:
    """Say behind which walls of a gate its value is another one."""
    step = cast(Choice, node.step)
    if not isinstance(step, Gate):
        return torch.zeros_like(walls.unit, dtype=torch.bool)
    shape, units = net.shape_of(node.inputs[0]), walls.unit
    piece = pattern.pieces(node.name).reshape(-1).long().to(units.device)[units]
    limit = torch.minimum(piece, walls.beyond)

    def of(parameter: Tensor, index: Tensor) -> Tensor:
        spread = torch.stack([p.expand(shape) for p in parameter])
        return spread.reshape(len(parameter), -1)[index, units]

    at = of(step.breakpoints, limit)
    ends = [of(step.slopes, p) * at + of(step.intercepts, p) for p in (piece, walls.beyond)]
    return (ends[0] - ends[1]).abs() > 1e-9 * (ends[0].abs() + ends[1].abs() + at.abs())
