"""A polytope and rows that it may not reach: how far apart they are, with proof; their inmost point; ways across walls."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._lp import LinearProgram, Proofs, accuracy_of
from ._types import Tolerance
from .polytope import Polytope, slack_rounding

ALIKE = 1e-9  # rows of length 1 that differ by less share a hyperplane; slacks below this part of their terms are none


class Meeting(NamedTuple):
    """The point (dim,) of a polytope that violates further rows least, and by how much: 0 where it meets them.

    `multipliers` are those of the polytope's rows and then of the others: Farkas's where they are `apart`. `apart` is
    None where neither these nor the point proves anything.
    """

    point: Tensor
    violation: float
    multipliers: Tensor
    apart: bool | None


def least_violation(hard: Polytope, soft: Polytope, tolerance: Tolerance) -> Meeting | None:
    """Return where a polytope that is not empty comes nearest to further rows; None where the solver finds no proof.

    min t >= 0 subject to the polytope's rows and C x <= d + t: for t > 0 its multipliers are Farkas's for all rows. Cost:
    one linear program; for the region of an image, 2 080 rows in 784 dimensions, 0.2 s by the simplex method.
    """
    matrix, bound = torch.cat([hard.matrix, soft.matrix]), torch.cat([hard.bound, soft.bound])
    lifted = torch.zeros(len(bound) + 1, hard.dim + 1, dtype=torch.float64)
    lifted[:-1, :-1], lifted[len(hard) :, -1] = matrix, -1.0
    cost = -torch.eye(hard.dim + 1, dtype=torch.float64)[-1]
    found = LinearProgram(lifted, torch.cat([bound, bound.new_zeros(1)]), tolerance=tolerance).optimum(cost.numpy())
    if found is None or found.point is None or found.multipliers is None:
        return None
    proofs = Proofs(matrix.numpy(), bound.numpy(), accuracy_of(tolerance))
    point, y = found.point[:-1], found.multipliers[:-1]
    apart = True if proofs.empty(y.numpy()) else False if proofs.feasible(point.numpy()) else None
    violation = float((-soft.slack(point)).clamp(min=0).amax()) if apart is not False and len(soft) else 0.0
    return Meeting(point, violation, y, apart)


class Inmost(NamedTuple):
    """The point (dim,) of a polytope with the greatest least distance from chosen hyperplanes, 0 where that is rounding."""

    point: Tensor
    depth: float


def inmost(p: Polytope, chosen: Tensor, tolerance: Tolerance) -> Inmost | None:
    """Return the inmost point as seen from the rows of a mask; None where nothing is proven.

    Sides of a box that are not chosen stay bounds of variables, which keeps the program as small as the one without a depth.
    A row of zeros has no distance; its bound counts as one.
    """
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    proofs = Proofs(p.matrix.numpy(), p.bound.numpy(), accuracy_of(tolerance))
    weight = torch.where(chosen, torch.where(norms > 0, norms, 1.0), 0.0)
    depth = torch.eye(p.dim + 1, dtype=torch.float64)[-1:]
    matrix = torch.cat([torch.cat([p.matrix, weight[:, None]], 1), depth, -depth])
    bound = torch.cat([p.bound, torch.tensor([proofs.length, 0.0], dtype=torch.float64)])
    found = LinearProgram(matrix, bound, tolerance=tolerance).optimum(depth[0].numpy())
    if found is None or found.point is None or not proofs.feasible(found.point[:-1].numpy()):
        return None
    return Inmost(found.point[:-1], found.value if found.value > proofs.accuracy * proofs.length else 0.0)


def tight(p: Polytope, x: Tensor) -> Tensor:
    """Return the mask of the rows, other than rows of zeros, that hold with equality at a point up to the solver's accuracy."""
    return p.matrix.any(1) & (p.slack(x) <= slack_rounding(p, x, ALIKE))


def limits(box: Polytope) -> tuple[Tensor, Tensor]:
    """Return the least and greatest coordinates (dim,) that rows with one nonzero entry leave, infinite where none."""
    column = box.matrix.abs().argmax(1)
    entry = box.matrix.gather(1, column[:, None])[:, 0]
    at, none = box.bound / entry, torch.full((box.dim,), torch.inf, dtype=torch.float64)
    low = (-none).scatter_reduce(0, column[entry < 0], at[entry < 0], "amax")
    return low, none.scatter_reduce(0, column[entry > 0], at[entry > 0], "amin")


def way_across(walls: Tensor, across: Tensor, sides: Tensor) -> Tensor | None:
    """Return a direction that leads across some of the walls that meet in a point, and inside of all others and of all sides.

    `walls` and `sides` are rows that hold with equality at the point; `across` is a mask of walls, and those on the same
    hyperplanes are crossed too. None where there is no such direction, or where least squares do not find it. Sides whose
    opposites hold as well are not left.
    """
    axis = (sides != 0).sum(1) == 1
    walls, rest = (v / torch.linalg.vector_norm(v, dim=1, keepdim=True) for v in (walls, sides[~axis]))
    way = -sides[axis].sign().sum(0)  # inwards along each axis, 0 between two sides
    bound = sides[axis].any(0)
    same = (walls[:, None] - walls[across][None]).abs().amax(-1) <= ALIKE
    opposite = (rest @ rest.T <= ALIKE - 1).any(1)
    wanted = torch.cat([torch.where(same.any(1), 1.0, -1.0), torch.where(opposite, 0.0, -1.0)]).double()
    rows = torch.cat([walls, rest])
    if not bool(bound.all()):
        left = wanted - rows @ way
        way[~bound] = torch.linalg.lstsq(rows[:, ~bound], left[:, None], driver="gelsd").solution[:, 0]
    way = way / torch.linalg.vector_norm(way).clamp(min=torch.finfo(torch.float64).tiny)
    speed = rows @ way
    fits = torch.where(wanted == 0, speed.abs() <= ALIKE, speed * wanted > ALIKE)
    return way if bool(fits.all()) else None
