"""One unit of a layer over a domain: as the only output of a network in the domain's own coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from .._zeros.room import Room, room_of
from ..compose import compose
from ..domain import Domain
from ..errors import InputError
from ..geometry import is_bounded
from ..linearise import Side, _target
from ..network import Network, Node, section
from ..polytope import Polytope
from ..steps import Fixed, gather, reshape
from .box_bounds import most


@final
@dataclass(frozen=True, eq=False, slots=True)
class Unit:
    """What is asked: `scalar`, the unit as the only output, in coordinates of `room`; `rows`, its sides as a polytope."""

    network: Network
    layer: str
    unit: int
    scalar: Network
    room: Room
    rows: Polytope | None

    @property
    def is_bounded(self) -> bool:
        """Whether no input of the domain is far from all others."""
        return self.has_sides or (self.rows is not None and bool(is_bounded(self.rows).answer))

    @property
    def has_sides(self) -> bool:
        """Whether all coordinates have two sides."""
        return bool(torch.isfinite(self.room.high - self.room.low).all())

    def bound(self) -> float:
        """Return what the unit is at most over the sides."""
        if not (self.has_sides and self.scalar.is_piecewise_linear):
            return math.inf
        low, high = (t.reshape(self.scalar.input_shape).to(self.scalar.device) for t in (self.room.low, self.room.high))
        return most(self.scalar, low, high)

    def at(self, u: Tensor) -> tuple[Tensor, float]:
        """Return the input at coordinates (dim,), and the unit's value there."""
        u = self.room.clip(u[None])
        value = self.scalar.forward(u.reshape(1, *self.scalar.input_shape).to(self.scalar.device))
        return self.room.embed(u)[0].reshape(self.network.input_shape), float(value.reshape(()))


def unit_of(net: Network, unit: int, layer: str | int | None, at: Side, domain: Domain | Polytope | None) -> Unit:
    """Return what is asked of a unit over a domain, or raise InputError where there is no such unit."""
    net = net.double()
    front = section(net, 0, _target(net, layer, at))
    size = math.prod(front.output_shape)
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < size:
        raise InputError(f"unit: expected a position from 0 to {size - 1} in the layer; got {unit!r}")
    flat = Node("unit.flat", Fixed("reshape", reshape, {"shape": (size,)}), (len(front.nodes),), (size,))
    chosen = Node("unit", Fixed("gather", gather, {"dim": 1, "index": (unit,)}), (len(front.nodes) + 1,), (1,))
    scalar = replace(front, nodes=(*front.nodes, flat, chosen))
    room = room_of(domain, math.prod(net.input_shape))
    if room.domain is not None:
        scalar = compose((room.domain.basis, room.domain.origin), scalar)
    sides = Polytope.box(room.low, room.high)
    rows = sides & Polytope.of(room.matrix, room.bound) if len(room.bound) else sides
    name = "output" if layer is None else net.nodes[net.value_of(layer) - 1].name
    name = name if at == "post" else f"input of {name}"
    return Unit(net, name, unit, scalar, room, rows if len(rows) else None)
