"""What features ask of the value in front of the last gate: an interval for every unit, which says which units are on."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..gates import Gate
from ..network import Network, ancestors
from ..steps import Affine, flat

_ROOM = 2.0**-46  # of a gate's terms: outputs that miss its range by less are rounding
_MET = 2.0**-36  # of a layer's largest value: units that miss their intervals by less are on the right piece


class Wanted(NamedTuple):
    """Intervals `low` <= value <= `high`, (batch, units) each, of the value numbered `value`, which gives the features.

    `gate` is the one that was undone, if any; `reached` (batch,) that all features are within its range: where they are not,
    the intervals are those of the nearest that are. `known`: no other gate or smooth step lies in front, so that the
    pattern follows from the features.
    """

    value: int
    low: Tensor
    high: Tensor
    gate: Gate | None
    reached: Tensor
    known: bool

    def missed(self, w: Tensor) -> Tensor:
        """Return by how much values (batch, *shape) miss their intervals, (batch, units)."""
        w = flat(w, 1)
        return w - w.clamp(self.low, self.high)

    def agreement(self, w: Tensor) -> Tensor:
        """Return which share of the units of the undone gate is on the piece that the features ask for, (batch,).

        Units that miss their intervals by rounding are where they should be.
        """
        if self.gate is None:
            return torch.ones(len(w), dtype=torch.float64)
        low = self.low.reshape(w.shape)
        there = (low == self.high.reshape(w.shape)) & (self.gate.pieces(w) == self.gate.pieces(low))
        met = self.missed(w).abs() <= _MET * flat(w, 1).abs().amax(1, keepdim=True)
        return (flat(there, 1) | met).double().mean(1)

    def part(self, rows: Tensor | slice) -> Wanted:
        """Return some of the batch."""
        return self._replace(low=self.low[rows], high=self.high[rows], reached=self.reached[rows])


def wanted(net: Network, value: int, features: Tensor) -> Wanted:
    """Return what features (batch, units) of a value ask for: of the value itself unless a gate in front can be undone."""
    step = net.nodes[value - 1].step if value else None
    everywhere = torch.ones(len(features), dtype=torch.bool)
    if not (isinstance(step, Gate) and _rises(step)):
        return Wanted(value, features, features, None, everywhere, _is_affine(net, value))
    low, high, reached = _undone(step, features.reshape(len(features), *net.shape_of(value)))
    before = net.nodes[value - 1].inputs[0]
    return Wanted(before, flat(low, 1), flat(high, 1), step, flat(reached, 1).all(1), _is_affine(net, before))


def _rises(gate: Gate) -> bool:
    """Say whether a gate never falls and does not jump, so that the inputs with one output are an interval."""
    if bool((gate.slopes < 0).any()):
        return False
    below = gate.slopes[:-1] * gate.breakpoints + gate.intercepts[:-1]
    above = gate.slopes[1:] * gate.breakpoints + gate.intercepts[1:]
    size = gate.breakpoints.abs() + below.abs() + above.abs()
    return bool(((above - below).abs() <= _ROOM * size).all())


def _undone(gate: Gate, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ends of the interval of inputs with outputs y, or with the nearest that there are, and which have some."""
    parts = [_on_piece(gate, p, y) for p in range(gate.num_pieces)]
    miss = torch.stack([m for _, _, m in parts])
    room = _ROOM * (y.abs() + gate.intercepts.abs().amax(0))
    best = torch.maximum(miss.amin(0), room)
    low = torch.stack([torch.where(m <= best, z, math.inf) for z, _, m in parts]).amin(0)
    high = torch.stack([torch.where(m <= best, z, -math.inf) for _, z, m in parts]).amax(0)
    return low, high, miss.amin(0) <= room


def _on_piece(gate: Gate, p: int, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ends of the inputs on one piece whose outputs are nearest to y, and by how much these miss it."""
    infinite = torch.full_like(y, math.inf)
    left = gate.breakpoints[p - 1].expand_as(y) if p else -infinite
    right = gate.breakpoints[p].expand_as(y) if p < len(gate.breakpoints) else infinite
    slope, intercept = gate.slopes[p].expand_as(y), gate.intercepts[p].expand_as(y)
    z = ((y - intercept) / torch.where(slope > 0, slope, 1.0)).clamp(left, right)
    z = torch.where(slope > 0, z, torch.where(torch.isfinite(left), left, torch.where(torch.isfinite(right), right, 0.0)))
    miss = (slope * z + intercept - y).abs()
    return torch.where(slope > 0, z, left), torch.where(slope > 0, z, right), miss


def _is_affine(net: Network, value: int) -> bool:
    return all(isinstance(net.nodes[k - 1].step, Affine) for k in ancestors(net, value) if k)
