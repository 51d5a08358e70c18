"""Levenberg and Marquardt's method for smooth networks, for many points at once: every damping is tried, the best is taken."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..local import at_points, maps
from ..network import Network
from ..steps import flat
from .active import RANK, Walls, constrained, pseudo_inverse, size_of
from .room import Room

RUNNING, EXACT, LEAST, FAILED = range(4)
# Dampings in parts of the largest singular value squared; without any it is Newton's step, with a large one the gradient's
_DAMPINGS = (0.0, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3)
_GRADIENT = 1e-6  # of |J| |r|: a point without a way down rests there; the fall is of second order, so it ends near 1e-8
_CLOSE = 1e-6  # of 1 + |u|: a side as near as this is stepped onto, where steps would approach it for ever


class Rest(NamedTuple):
    """Where points came to: coordinates (batch, dim), status (batch,), rounds (batch,)."""

    u: Tensor
    status: Tensor
    steps: Tensor


def marquardt(net: Network, target: Tensor, room: Room, u: Tensor, max_steps: int, allowed: float) -> Rest:
    """Return where points of the room come to rest; a residual up to `allowed` is a zero."""
    u = u.clone()
    status = torch.zeros(len(u), dtype=torch.long, device=u.device)
    steps = status.clone()
    with torch.no_grad():
        for _ in range(max_steps):
            if not len(live := torch.nonzero(status == RUNNING).reshape(-1)):
                break
            u[live], status[live] = _round(net, target, room, u[live], allowed)
            steps[live] += 1
    status[status == RUNNING] = FAILED
    return Rest(u, status, steps)


def _round(net: Network, target: Tensor, room: Room, u: Tensor, allowed: float) -> tuple[Tensor, Tensor]:
    last, x = len(net.nodes), u.reshape(len(u), *net.input_shape)
    jacobian = maps(net, len(u), lambda part: at_points(net, x[part], last), {last: None})[last][0]
    if not bool(torch.isfinite(jacobian).all()):
        raise InputError("zeros: expected a network that is differentiable where it is searched; move the domain or the starts")
    r = flat(net.forward(x), 1) - target
    gradient = (jacobian.mT @ r.unsqueeze(-1)).squeeze(-1)
    walls, onto = _walls(room, u, gradient)
    free = constrained(jacobian, walls)
    slope = torch.linalg.vector_norm((free.mT @ r.unsqueeze(-1)).squeeze(-1), dim=1)
    norm = torch.linalg.vector_norm(r, dim=1)
    steps = onto + _steps(free, r, size_of(jacobian))
    if bool((free != jacobian).any()):  # near a zero on a side the gradient is rounding and says nothing of the way
        steps = torch.cat([steps, _steps(jacobian, r, size_of(jacobian))])
    best, least = _best(net, target, room, u, steps)
    status = torch.full_like(norm, RUNNING, dtype=torch.long)
    down = least < norm
    status[~down] = torch.where(slope <= _GRADIENT * size_of(jacobian) * norm, LEAST, FAILED)[~down]
    status[(r.abs().amax(1) <= allowed) & (least > 0.5 * norm)] = EXACT  # while it halves, digits are still to be had
    return torch.where(down.unsqueeze(1), best, u), status


def _walls(room: Room, u: Tensor, gradient: Tensor) -> tuple[Walls, Tensor]:
    """Return the sides and rows close by that the way down leads through, and the steps (batch, n) onto them."""
    size = _CLOSE * (1 + u.abs())
    upper = (room.high - u <= size) & (gradient < 0)
    lower = (u - room.low <= size) & (gradient > 0)
    held = upper | lower | (room.low == room.high)
    onto = torch.where(upper, room.high - u, torch.where(lower, room.low - u, 0.0))
    gap = room.bound - u @ room.matrix.T
    close = (gap <= size.amax(1, keepdim=True)) & (gradient @ room.matrix.T < 0)
    walls = Walls(room.matrix.expand(len(u), *room.matrix.shape), close, held)
    if bool(close.any()):
        n = walls.constraint
        onto = onto + (pseudo_inverse(n, n.new_ones(len(n))) @ (gap * close).unsqueeze(-1)).squeeze(-1)
    return walls, onto


def _steps(a: Tensor, r: Tensor, scale: Tensor) -> Tensor:
    """Return the steps (dampings, batch, n) that minimise |a p + r|^2 + damping |p|^2."""
    left, values, right = torch.linalg.svd(a, full_matrices=False)
    along = (left.mT @ r.unsqueeze(-1)).squeeze(-1)
    kept = values > RANK * scale.unsqueeze(1)
    damping = torch.tensor(_DAMPINGS, dtype=a.dtype, device=a.device).reshape(-1, 1, 1) * values[:, :1] ** 2
    inverse = torch.where(kept, values / torch.where(kept, values**2 + damping, 1.0), 0.0)
    return -((inverse * along).unsqueeze(2) @ right).squeeze(2)


def _best(net: Network, target: Tensor, room: Room, u: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the trial points (batch, dim) with the least residuals, and the norms of these."""
    count = len(u)
    ways = steps.flatten(0, 1)
    starts = u.repeat(len(steps), 1)
    trials = room.clip(starts + room.reach(starts, ways).unsqueeze(1) * ways)
    values = flat(net.forward(trials.reshape(len(trials), *net.input_shape)), 1) - target
    norms = torch.nan_to_num(torch.linalg.vector_norm(values, dim=1), nan=torch.inf).reshape(-1, count)
    norm, best = norms.min(0)
    return trials.reshape(len(steps), count, -1)[best, torch.arange(count, device=u.device)], norm
