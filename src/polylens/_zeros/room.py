"""Where the points of a search may be: sides and rows in coordinates u, the embedding into inputs, and first points.

A domain becomes `low <= u <= high` with rows `matrix u <= bound` beside it; sides are kept apart because clipping to them
is exact, and because an input of many entries has two for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..domain import Box, Domain, Segment, WholeSpace, _Flat, domain_of
from ..errors import GeometryError, InputError, ShapeError
from ..geometry import chebyshev_ball, is_bounded, sample
from ..polytope import Polytope

_OUTSIDE = 1e-9  # by which part of their size points that the caller gives may miss the domain, as a projection may


@final
@dataclass(frozen=True, eq=False, slots=True)
class Room:
    """{u : low <= u <= high, matrix u <= bound}; `domain` embeds it into the inputs, None where u is the input itself."""

    low: Tensor
    high: Tensor
    matrix: Tensor
    bound: Tensor
    domain: Domain | None

    @property
    def dim(self) -> int:
        """How many coordinates a point has."""
        return len(self.low)

    def embed(self, u: Tensor) -> Tensor:
        """Return the flattened inputs at coordinates (batch, dim)."""
        return u if self.domain is None else self.domain.embed(u)

    def clip(self, u: Tensor) -> Tensor:
        """Return points moved onto the sides that they are beyond; rows are left alone."""
        return u.clamp(self.low, self.high)

    def reach(self, u: Tensor, step: Tensor) -> Tensor:
        """Return how far u + t step, t <= 1, stays within the rows: (batch,). What points outwards on a row has reach 0."""
        if not len(self.bound):
            return u.new_ones(len(u))
        gap, speed = (self.bound - u @ self.matrix.T).clamp(min=0), step @ self.matrix.T
        outward = speed > 1e-14 * (step.abs() @ self.matrix.abs().T)  # rounding of the product
        return torch.where(outward, gap / torch.where(outward, speed, 1.0), 1.0).amin(1).clamp(max=1.0)


def room_of(domain: Domain | Polytope | None, inputs: int) -> Room:
    """Return the room of a domain among inputs of so many entries, or raise InputError or ShapeError."""
    if isinstance(domain, Polytope):
        return _checked(_rows(domain, None), domain.dim, inputs)
    if domain is None:
        return _free(inputs)
    domain = domain_of(domain)
    if isinstance(domain, WholeSpace):
        room = _free(domain.dim)
    elif isinstance(domain, Box):
        room = _sides(domain.low, domain.high, None if domain.dim == domain.num_inputs else domain)
    elif isinstance(domain, Segment):
        room = _sides(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64), domain)
    elif isinstance(domain, _Flat):
        room = _rows(_polygon(domain.corners), domain)
    else:
        room = _rows(domain.polytope, domain)  # type: ignore[attr-defined]
    return _checked(room, domain.num_inputs, inputs)


def _checked(room: Room, got: int, inputs: int) -> Room:
    if got != inputs:
        raise ShapeError(f"domain: expected one of inputs of {inputs} entries, as the network takes; got {got}")
    if not room.dim:
        raise InputError("domain: expected room to move; it is a single point; evaluate the network there")
    return room


def _sides(low: Tensor, high: Tensor, domain: Domain | None) -> Room:
    return Room(low, high, low.new_zeros(0, len(low)), low.new_zeros(0), domain)


def _free(dim: int) -> Room:
    end = torch.full((dim,), torch.inf, dtype=torch.float64)
    return _sides(-end, end, None)


def _rows(polytope: Polytope, domain: Domain | None) -> Room:
    """Return the room of a polytope: rows with one entry are sides, those of zeros are dropped, others get length 1."""
    norms = torch.linalg.vector_norm(polytope.matrix, dim=1)
    if bool((polytope.bound[norms == 0] < 0).any()):
        raise GeometryError("domain: expected a polytope with points; a row of zeros is bounded by less than 0")
    matrix, bound = polytope.matrix[norms > 0], polytope.bound[norms > 0]
    matrix, bound = matrix / norms[norms > 0, None], bound / norms[norms > 0]
    side = (matrix != 0).sum(1) == 1
    end = torch.full((polytope.dim,), torch.inf, dtype=torch.float64)
    entry, sign = matrix.abs().argmax(1), matrix.sum(1) > 0
    above, below = side & sign, side & ~sign
    high = end.scatter_reduce(0, entry[above], bound[above], "amin")
    low = (-end).scatter_reduce(0, entry[below], -bound[below], "amax")
    if bool((low > high).any()):
        raise GeometryError("domain: expected a polytope with points; this one is empty")
    return Room(low, high, matrix[~side], bound[~side], domain)


def _polygon(corners: Tensor) -> Polytope:
    """Return the polytope of a convex polygon whose corners go round counter-clockwise."""
    edge = corners.roll(-1, 0) - corners
    outward = torch.stack([edge[:, 1], -edge[:, 0]], 1)
    return Polytope.of(outward, (outward * corners).sum(1))


# -- first points


def drawn(room: Room, count: int, seed: int) -> Tensor:
    """Return points (count, dim): uniform where the room is bounded, else normal around what is nearest to the origin.

    A coordinate with one side is drawn as far from it as a standard normal number is from 0; a polytope without an end is
    cut by a box of side 2 around its Chebyshev centre.
    """
    generator = torch.Generator().manual_seed(seed)
    if len(room.bound):
        return sample(_bounded(room), count, seed=generator).points
    uniform = torch.rand(count, room.dim, generator=generator, dtype=torch.float64)
    normal = torch.randn(count, room.dim, generator=generator, dtype=torch.float64)
    low, high = torch.isfinite(room.low), torch.isfinite(room.high)
    one_side = torch.where(low, room.low + normal.abs(), torch.where(high, room.high - normal.abs(), normal))
    both = torch.lerp(torch.nan_to_num(room.low), torch.nan_to_num(room.high), uniform)
    return room.clip(torch.where(low & high, both, one_side))


def _bounded(room: Room) -> Polytope:
    polytope = Polytope.of(room.matrix, room.bound) & Polytope.box(room.low, room.high)
    if is_bounded(polytope).answer:
        return polytope
    centre = chebyshev_ball(polytope).center
    return polytope & Polytope.box(centre - 1, centre + 1)


def given(room: Room, x: Tensor) -> Tensor:
    """Return the coordinates of flattened inputs, or raise InputError where some are not in the domain."""
    u = x if room.domain is None else room.domain.project(x)
    back = room.embed(u)
    size = 1 + x.abs().amax(1)
    missed = (back - x).abs().amax(1) > _OUTSIDE * size
    beyond = torch.maximum(room.low - u, u - room.high).amax(1) > _OUTSIDE * size
    if len(room.bound):
        beyond |= (u @ room.matrix.T - room.bound).amax(1) > _OUTSIDE * size
    if bool((missed | beyond).any()):
        raise InputError(
            f"starts: expected points of the domain; {int((missed | beyond).sum())} of {len(x)} are outside; move them in"
        )
    return room.clip(u)
