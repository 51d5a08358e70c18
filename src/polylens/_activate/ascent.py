"""Ascents of a differentiable aim from many points at once, held within the sides of a room."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._progress import progress
from .._zeros.room import Room

_STEP = 0.05  # of the room's extent, or of 1 where it has no end: the length of a first step in every coordinate
_FORGET = (0.9, 0.999)  # Adam's


def ascend(aim: Callable[[Tensor], Tensor], room: Room, points: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the best points (batch, dim) met on ascents, and the aim (batch,) there.

    Adam's directions, in units of the room's extent, with lengths that fall to nothing along a quarter of a cosine; every
    step ends on a side rather than beyond it, and before a row rather than behind.

    References: D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """
    extent = room.high - room.low
    scale = torch.where(torch.isfinite(extent), extent, 1.0)
    u, best = points.clone(), points.clone()
    top = torch.full((len(u),), -torch.inf, dtype=u.dtype)
    mean, square = torch.zeros_like(u), torch.zeros_like(u)
    for k in progress(range(1, steps + 2), steps + 1, "ascents"):
        with torch.enable_grad():
            here = u.clone().requires_grad_()
            value = aim(here)
            (slope,) = torch.autograd.grad(value.sum(), here)
        better = value.detach() > top
        best[better], top[better] = u[better], value.detach()[better]
        slope = slope * scale
        mean.lerp_(slope, 1 - _FORGET[0])
        square.lerp_(slope.square(), 1 - _FORGET[1])
        length = torch.sqrt(square / (1 - _FORGET[1] ** k))
        way = mean / (1 - _FORGET[0] ** k) / length.clamp(min=torch.finfo(u.dtype).tiny)
        step = _STEP * math.cos(math.pi / 2 * min(1.0, (k - 1) / steps)) * scale * way
        u = room.clip(u + room.reach(u, step).unsqueeze(1) * step)
    return best, top
