"""What a walk on a fibre is after, and the sides of the domain that it stays in; points and directions are flat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..polytope import Polytope

_MET = 2.0**-40  # a side is met from so near on, in parts of the terms of its row


@final
@dataclass(frozen=True, eq=False, slots=True)
class Goal:
    """One of: away from `start` (no target, no direction), nearer to `target`, farther along `direction`."""

    start: Tensor
    target: Tensor | None
    direction: Tensor | None

    @property
    def kind(self) -> str:
        """In a word."""
        return "towards" if self.target is not None else "direction" if self.direction is not None else "away"

    def pull(self, x: Tensor) -> Tensor:
        """Return the gradient of what grows: half the squared distance, minus that to the target, or the way along."""
        if self.target is not None:
            return self.target - x
        return self.direction if self.direction is not None else x - self.start

    @property
    def longest(self) -> float:
        """How many times a projected pull may be added before the goal gets worse."""
        return 1.0 if self.target is not None else math.inf


class Sides(NamedTuple):
    """A domain: bounds of coordinates `low` and `high` (n,), and the other `rows` (k, n; of length 1) <= `bound` (k,)."""

    low: Tensor
    high: Tensor
    rows: Tensor
    bound: Tensor

    @classmethod
    def of(cls, domain: Polytope | None, like: Tensor) -> Sides:
        """Return the sides of a polytope, or of the whole space, on the device of `like` (n,)."""
        low, high = torch.full_like(like, -math.inf), torch.full_like(like, math.inf)
        if domain is None:
            return cls(low, high, like.new_zeros(0, len(like)), like.new_zeros(0))
        matrix, bound = domain.matrix.to(like.device), domain.bound.to(like.device)
        entries = (matrix != 0).sum(1)
        for row in torch.nonzero(entries == 1).reshape(-1).tolist():
            i = int(matrix[row].abs().argmax())
            limit = bound[row] / matrix[row, i]
            if matrix[row, i] > 0:
                high[i] = torch.minimum(high[i], limit)
            else:
                low[i] = torch.maximum(low[i], limit)
        norms = torch.linalg.vector_norm(matrix[entries > 1], dim=1)
        return cls(low, high, matrix[entries > 1] / norms[:, None], bound[entries > 1] / norms)

    def met(self, x: Tensor) -> Tensor:
        """Return for every coordinate 1 where it is at its upper bound, -1 at its lower, 2 at both, 0 at none."""
        room = _MET * (1 + x.abs())
        up, down = x >= self.high - room, x <= self.low + room
        return up.long() - down.long() + 2 * (up & down)

    def rows_met(self, x: Tensor) -> Tensor:
        """Return the numbers of the rows that a point lies on."""
        room = _MET * (self.bound.abs() + self.rows.abs() @ x.abs())
        return torch.nonzero(self.bound - self.rows @ x <= room).reshape(-1)

    def reach(self, x: Tensor, way: Tensor) -> float:
        """Return how many times `way` may be added to a point until a side is met that is not met yet."""
        met = self.met(x)
        up, down = (met < 1) & (way > 0), (met > -1) & (met < 2) & (way < 0)
        found = [((self.high - x) / way)[up], ((self.low - x) / way)[down]]
        if len(self.rows):
            speed, slack = self.rows @ way, self.bound - self.rows @ x
            ahead = speed > _MET * float(torch.linalg.vector_norm(way))
            ahead[self.rows_met(x)] = False
            found.append(slack[ahead] / speed[ahead])
        times = torch.cat(found)
        return float(times.min()) if len(times) else math.inf

    def room(self, x: Tensor, pull: Tensor) -> Tensor:
        """Return how much room every coordinate has between its bounds, 1 at most: little near one, none against one."""
        up, down = (self.high - x).clamp(0, 1), (x - self.low).clamp(0, 1)
        met = self.met(x)
        inwards = ((met == 1) & (pull < 0)) | ((met == -1) & (pull > 0))
        return torch.where(inwards, torch.maximum(up, down), torch.where(met == 0, (up * down).sqrt(), 0.0))

    def least(self, x: Tensor, ways: Tensor) -> Tensor:
        """Return how many times each of some ways (k, n), in units of `room`, may be added until a bound is met, at most."""
        scale = self.room(x, torch.zeros_like(x))
        speed = (ways * scale).abs()
        ahead = torch.where(ways > 0, self.high - x, x - self.low)
        return torch.where(speed > 0, ahead / speed, torch.inf).amin(1)

    def inside(self, x: Tensor) -> Tensor:
        """Return the point with coordinates that are at their bounds, or beyond them by rounding, put onto them."""
        met = self.met(x)
        return torch.where(met >= 1, self.high, torch.where(met == -1, self.low, x))


def time_to(start: Tensor, x: Tensor, way: Tensor, distance: float) -> float:
    """Return the least t >= 0 at which x + t way is at the given distance from `start`; infinite if it never is."""
    offset = x - start
    a, b = float(way @ way), float(offset @ way)
    c = float(offset @ offset) - distance * distance
    if c >= 0 or a == 0:
        return 0.0 if c >= 0 else math.inf
    root = math.sqrt(b * b - a * c)
    return -c / (b + root) if b >= 0 else (root - b) / a


def time_in(start: Tensor, x: Tensor, way: Tensor, distance: float) -> float:
    """Return the least t >= 0 at which x + t way, from outside, comes within a distance of `start`; infinite if never."""
    offset = x - start
    a, b = float(way @ way), float(offset @ way)
    c = max(0.0, float(offset @ offset) - distance * distance)
    root = b * b - a * c
    return c / (math.sqrt(root) - b) if b < 0 and root > 0 else math.inf
