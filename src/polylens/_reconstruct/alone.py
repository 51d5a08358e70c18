"""Whether a point is the only one of {E x = e, G x <= g, low <= x <= high}, with another one where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._layers import recession
from .._types import Tolerance
from .nearest import Rows

_SNAP = 2.0**-36  # of a coordinate's size: solutions this near to a side are on it
_KERNEL = 1e-6  # the part of a random direction that is left in a kernel, where there is one
_HALVINGS = 30
_APART = 2.0**-20  # of its size: another point has to be as far away, or nothing is settled


class Alone(NamedTuple):
    """The answer (None: undecided), the point moved onto the sides that it is near, and another point, None without one."""

    answer: bool | None
    point: Tensor
    other: Tensor | None


def snapped(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return x (n,) with coordinates that are rounding away from a side moved onto it."""
    room = _SNAP * (x.abs() + torch.linalg.vector_norm(x) / len(x) ** 0.5)
    x = torch.where(x - low <= room, low, x)
    return torch.where(high - x <= room, high, x)


def alone(rows: Rows, x: Tensor, solves: Callable[[Tensor], bool], tolerance: Tolerance, seed: int) -> Alone:
    """Return whether x is alone; `solves` confirms points before they are called another one.

    Algorithm: directions within the sides that x lies on by counting and a projection, else the cone of all directions by
    whether its rows are omnidirectional, either way with a proof.
    """
    near = snapped(x, rows.low, rows.high)
    x = near if solves(near) else x
    free = (x > rows.low) & (x < rows.high)
    terms = rows.matrix.abs() @ (x.abs() + torch.linalg.vector_norm(x) / len(x) ** 0.5) + rows.bound.abs()
    tight = rows.equal | (rows.matrix @ x - rows.bound >= -tolerance.relative * terms)
    way: Tensor | bool | None = _within_sides(rows.matrix[tight][:, free], free, seed)
    if way is None:
        way = _cone(rows, x, tight, tolerance)
    if not isinstance(way, Tensor):
        return Alone(way, x, None)
    other = _farthest(rows, x, way, solves)
    return Alone(None if other is None else False, x, other)


def _within_sides(matrix: Tensor, free: Tensor, seed: int) -> Tensor | None:
    """Return a direction of the kernel that moves free coordinates alone, None where there is none."""
    draw = torch.randn(int(free.sum()), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if not len(draw):
        return None
    way = draw
    if len(matrix):
        _, values, right = torch.linalg.svd(matrix, full_matrices=False)
        space = right[values > max(matrix.shape) * 2.0**-52 * values[0]]
        way = way - space.T @ (space @ way)
        way = way - space.T @ (space @ way)
    if torch.linalg.vector_norm(way) <= _KERNEL * torch.linalg.vector_norm(draw):
        return None
    found = torch.zeros(len(free), dtype=torch.float64)
    found[free] = way
    return found


def _cone(rows: Rows, x: Tensor, tight: Tensor, tolerance: Tolerance) -> Tensor | bool | None:
    """Return True where no direction leads on from x, a direction that does, or None."""
    at_high, at_low = x >= rows.high, x <= rows.low
    eye = torch.eye(len(x), dtype=torch.float64)
    less = torch.cat([_unit(rows.matrix[tight & ~rows.equal]), eye[at_high], -eye[at_low]])
    equal = _unit(rows.matrix[rows.equal])
    system = recession.System(equal.numpy(), less.numpy(), torch.zeros(len(less), dtype=torch.float64).numpy(), False)
    found = recession.size(system, recession.flat(system.equal), tolerance)
    if found.ray is not None:
        return torch.from_numpy(found.ray)
    return True if found.kind == "singleton" else None


def _unit(rows: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)


def _farthest(rows: Rows, x: Tensor, way: Tensor, solves: Callable[[Tensor], bool]) -> Tensor | None:
    """Return a point of the set on the way, as far as the rows and sides allow or a half, a quarter ... of it."""
    speed = torch.cat([rows.matrix[~rows.equal] @ way, way, -way])
    slack = torch.cat([(rows.bound - rows.matrix @ x)[~rows.equal], rows.high - x, x - rows.low]).clamp(min=0)
    noise = 2.0**-40 * torch.linalg.vector_norm(way)
    lengths = torch.where(speed > noise, slack / speed.clamp(min=2.0**-1000), torch.inf)
    length = float(lengths.amin())
    length = length if length < math.inf else max(1.0, float(torch.linalg.vector_norm(x)))
    for k in range(_HALVINGS):
        other = (x + 0.5**k * length * way).clamp(rows.low, rows.high)
        if torch.linalg.vector_norm(other - x) < _APART * torch.linalg.vector_norm(x) or not length:
            return None
        if solves(other):
            return other
    return None
