"""The nearest direction to a wanted one within a cone: `{d : equal d = 0, sides and rows not crossed}`.

Least squares over multipliers that are not negative, after Lawson and Hanson: what the multipliers leave of the wanted
direction is its projection. Sides are bounds of single coordinates, and held ones drop out of the linear algebra.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

_RANK = 2.0**-40  # singular values below this part of the largest are none: a drift of 1e-12 of the step at most
_FIRM = 2.0**-20  # smaller ones are not stepped along to mend residues, which are rounding: the step would be large
_FLOOR = 2.0**-40  # part of the wanted direction that a row may be crossed by: rounding of the projection


@final
@dataclass(frozen=True, eq=False, slots=True)
class Cone:
    """Directions with `equal` d = 0 (m, n), `rows` d <= 0 (k, n; of length 1), and bounded coordinates.

    `sides` (n,): 1 where a coordinate may not grow, -1 where it may not fall, 2 where it may do neither, 0 elsewhere.
    """

    equal: Tensor
    rows: Tensor
    sides: Tensor

    def crossed(self, way: Tensor) -> Tensor:
        """Return by how much a direction crosses each side and row, (n + k,); what is no constraint is not crossed."""
        of_sides = torch.where(self.sides.abs() == 1, self.sides * way, 0.0)
        return torch.cat([of_sides, self.rows @ way])


class Glide(NamedTuple):
    """The projection `way` (n,); `weights` (n + k,), the multipliers of sides and rows; `held`, which of them are held.

    `inverse` (n, m + rows held) takes residues of the equations and the held rows to the least step that mends them.
    """

    way: Tensor
    weights: Tensor
    held: Tensor
    inverse: Tensor

    @property
    def length(self) -> float:
        """How much of the wanted direction is left."""
        return float(torch.linalg.vector_norm(self.way))


def glide(cone: Cone, wanted: Tensor, held: Tensor | None = None) -> Glide:
    """Return the direction of the cone nearest to `wanted`; `held` (n + k,) is a guess of what will be held.

    Algorithm: from the guess, the held constraint with a negative multiplier is let go and what is crossed is taken up: all
    at once as long as that shortens what is left, then one by one, which always does. Each solves a least-squares problem of
    as many equations as there are rows held.
    """
    constrained = torch.cat([cone.sides != 0, cone.rows.new_ones(len(cone.rows), dtype=torch.bool)])
    stuck = torch.cat([cone.sides == 2, cone.rows.new_zeros(len(cone.rows), dtype=torch.bool)])
    held = stuck if held is None else (held & constrained) | stuck
    now = _settled(cone, wanted, held, stuck)
    room = _FLOOR * float(torch.linalg.vector_norm(wanted))
    while True:
        crossed = torch.where(now.held, 0.0, cone.crossed(now.way))
        if not len(crossed) or float(crossed.max()) <= room:
            return now
        shorter = now.length * (1 - 2.0**-46)
        further = _settled(cone, wanted, now.held | (crossed > room), stuck)
        if further.length >= shorter:
            further = _one_more(cone, wanted, now, int(crossed.argmax()), stuck)
            if further.length >= shorter:
                return now
        now = further


def _settled(cone: Cone, wanted: Tensor, held: Tensor, stuck: Tensor) -> Glide:
    """Let go what has no positive multiplier until all have."""
    while True:
        now = _least_squares(cone, wanted, held)
        loose = held & ~stuck & (now.weights <= 0)
        if not bool(loose.any()):
            return now
        held = held & ~loose


def _one_more(cone: Cone, wanted: Tensor, now: Glide, new: int, stuck: Tensor) -> Glide:
    """Take up one constraint; on the way to the new multipliers the first to vanish is let go, then the next."""
    held, weights = now.held.clone(), torch.where(now.held, now.weights, 0.0)
    held[new] = True
    while True:
        then = _least_squares(cone, wanted, held)
        sinking = held & ~stuck & (then.weights <= 0)
        if not bool(sinking.any()):
            return then
        parts = torch.where(sinking, weights / (weights - then.weights), torch.inf).nan_to_num(nan=0.0)
        weights = torch.where(held, weights + parts.min() * (then.weights - weights), 0.0)
        held = held & ~(sinking & (parts <= parts.min()))


def _least_squares(cone: Cone, wanted: Tensor, held: Tensor) -> Glide:
    """Project onto the flat on which everything held stays equal."""
    n, m = len(wanted), len(cone.equal)
    free, rows = ~held[:n], cone.rows[held[n:]]
    matrix = torch.cat([cone.equal, rows])
    u, s, vh = torch.linalg.svd(matrix[:, free], full_matrices=False)
    kept = s > _RANK * (s[0] if len(s) else 0.0)
    u, s, vh = u[:, kept], s[kept], vh[kept]
    part = vh @ wanted[free]
    rest = wanted[free] - vh.T @ part
    way, inverse = torch.zeros_like(wanted), wanted.new_zeros(n, len(matrix))
    way[free] = rest - vh.T @ (vh @ rest)  # twice is enough
    firm = s > _FIRM * (s[0] if len(s) else 0.0)
    inverse[free] = vh[firm].T @ (u[:, firm] / s[firm]).T
    factors = (u / s) @ part
    weights = wanted.new_zeros(len(held))
    weights[:n] = torch.where(held[:n], cone.sides * (wanted - matrix.T @ factors), 0.0)
    weights[n:][held[n:]] = factors[m:]
    return Glide(way, weights, held, inverse)
