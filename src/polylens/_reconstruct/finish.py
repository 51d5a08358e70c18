"""The exact finish: on a linear piece, features are rows of a linear system, which is solved instead of descended.

Behind several gates the solution may lie on another piece: then the network is taken along towards it, as far as what is
missed falls, and asked for its map there (Gauss and Newton's method, damped after Levenberg and Marquardt within sides).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ..local import MAX_BYTES, at_points, maps
from ..network import Network
from .nearest import Rows, least_squares, nearest
from .wanted import Wanted

_SOFT = 1e-3  # damping at first, in rows of unit length
_LENGTHS = 0.5 ** torch.arange(9, dtype=torch.float64)
_MET = 1e-12  # of its terms: a linear system missed by less is solved
_NEARLY = 1e-9  # one missed by more has no solution that was found
_GAIN = 1e-3  # the part by which a step has to shorten what is missed, or the damping grows
_HARDEST = 1e6


@final
@dataclass(frozen=True, eq=False, slots=True)
class Finish:
    """Searches for points between `low` and `high` (n,) with values within what is wanted, by linear systems."""

    net: Network
    wanted: Wanted
    low: Tensor
    high: Tensor
    rounds: int
    size: Tensor  # (batch,), the length of the features
    enough: float  # the part of it that may be missed in the end

    def run(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the points (batch, n) after each round, until no more can be gained."""
        soft, missed = x.new_zeros(len(x)), self.missed(x, self.wanted)
        live = missed > 0
        for _ in range(self.rounds):
            if not bool(live.any()):
                return
            rows = torch.nonzero(live).reshape(-1)
            asked = self.wanted.part(rows)
            points, left = self._along(x[rows], self._tried(x[rows], asked, soft[rows]), asked)
            better, lower = left < (1 - _GAIN) * missed[rows], left < missed[rows]
            x, missed = x.clone(), missed.clone()
            x[rows] = torch.where(lower[:, None], points, x[rows])
            missed[rows] = torch.where(lower, left, missed[rows])
            soft[rows] = _damping(soft[rows], better)
            live[rows] = (missed[rows] > self.enough * self.size[rows]) & (soft[rows] < _HARDEST)
            yield x

    def once(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest solutions to points where the whole pattern is known, and where it is proven that none exists.

        There the answer is the least-squares one.
        """
        points, empty = x.clone(), torch.zeros(len(x), dtype=torch.bool)
        for k, rows in enumerate(self.rows(x)):
            found = nearest(rows, x[k], insist=True)
            empty[k] = found.empty is not None
            points[k] = least_squares(rows, x[k]) if found.missed > _NEARLY else found.point
        return points, empty

    def rows(self, x: Tensor) -> Iterator[Rows]:
        """Yield what is wanted of each point as rows on the piece around it."""
        for k, (matrix, offset) in enumerate(self._systems(x, self.wanted.value)):
            yield rows_of(matrix, offset, self.wanted.low[k], self.wanted.high[k], self.low, self.high)

    def _tried(self, x: Tensor, asked: Wanted, soft: Tensor) -> Tensor:
        part = replace(self, wanted=asked)
        return torch.stack([_solved(rows, x[k], float(soft[k])) for k, rows in enumerate(part.rows(x))])

    def _systems(self, x: Tensor, value: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the matrix (units, n) and the offset (units,) of a value near each point."""
        shaped = x.reshape(len(x), *self.net.input_shape)
        size = max(1, math.prod(self.net.shape_of(value)) * x.shape[1] * 8)
        for part in shaped.split(max(1, MAX_BYTES // size)):
            near = lambda rows, part=part: at_points(self.net, part[rows], value)  # noqa: E731
            weight, offset = maps(self.net, len(part), near, {value: None})[value]
            yield from zip(weight, offset, strict=True)

    def missed(self, x: Tensor, asked: Wanted) -> Tensor:
        """Return by how much points miss what is asked, (batch,)."""
        with torch.no_grad():
            w = self.net.forward(x.reshape(len(x), *self.net.input_shape), last=asked.value)
        return torch.linalg.vector_norm(asked.missed(w), dim=1)

    def _along(self, x: Tensor, tried: Tensor, asked: Wanted) -> tuple[Tensor, Tensor]:
        """Return the best points on the ways to what is tried, and what is missed there."""
        trials = x + _LENGTHS.reshape(-1, 1, 1) * (tried - x)
        trials[0] = tried
        left = torch.stack([self.missed(t, asked) for t in trials])
        least, best = torch.nan_to_num(left, nan=math.inf).min(0)
        return trials[best, torch.arange(len(x))], least


def rows_of(matrix: Tensor, offset: Tensor, low: Tensor, high: Tensor, sides_low: Tensor, sides_high: Tensor) -> Rows:
    """Return low <= matrix x + offset <= high between the sides: equalities first, then upper, then lower ends."""
    equal = low == high
    above, below = ~equal & torch.isfinite(high), ~equal & torch.isfinite(low)
    parts = torch.cat([matrix[equal], matrix[above], -matrix[below]])
    bound = torch.cat([(high - offset)[equal], (high - offset)[above], (offset - low)[below]])
    return Rows(parts, bound, int(equal.sum()), sides_low, sides_high)


def _damping(soft: Tensor, better: Tensor) -> Tensor:
    """Return less damping after a good step, more after a bad one."""
    damped = torch.where(soft > 0, soft, _SOFT)
    return torch.where(better, torch.where(soft > _SOFT, soft / 30, 0.0), 10 * damped)


def _solved(rows: Rows, x: Tensor, soft: float) -> Tensor:
    if soft:
        return nearest(rows, x, soft).point
    found = nearest(rows, x)
    return found.point if found.missed <= _MET else nearest(rows, x, _SOFT).point
