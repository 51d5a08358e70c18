"""The flat that a polytope fills: its affine hull, its dimension, and the rows that hold with equality everywhere.

A polytope is flat as `geometry.programs` says. Equalities are found flat by flat and come with multipliers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._lp import Proofs, accuracy_of, deepest, slack_at
from .._types import Tolerance
from ..polytope import HasPolytope, Polytope, polytope_of
from ._answers import TOLERANCE, Answer, deepest_of, proofs_of, refuse_empty, refuse_undecided, row_space, unit_rows
from .programs import is_empty


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class AffineHull(Answer):
    """The least flat that holds a polytope: `point` (dim,) in the relative interior, orthonormal `basis` (dim, k).

    `equalities` are the rows that hold with equality everywhere. `multipliers` y (rows,) with A^T y = 0 and b.y = 0 prove it:
    positive on the equalities, rows of zeros aside, and 0 elsewhere. None where none but rows of zeros are.
    """

    point: Tensor
    basis: Tensor
    equalities: Tensor
    multipliers: Tensor | None

    @property
    def dimension(self) -> int:
        """The dimension of the polytope."""
        return self.basis.shape[1]

    def summary(self) -> str:
        return f"dimension {self.dimension} in dimension {len(self.point)}, {len(self.equalities)} rows are equalities"


def affine_hull(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> AffineHull:
    """Return the least flat around the polytope, with a point of the relative interior.

    A full-dimensional polytope has no equalities and the identity as its basis; a single point has a basis (dim, 0).
    Rows of zeros with bound 0 are equalities.

    Raises: GeometryError for an empty polytope.

    Algorithm: one linear program (the deepest point) when there are interior points. Otherwise its multipliers name rows
    that hold with equality; the same question again within their flat, at most dim + 1 times.

    >>> affine_hull(Polytope.box([0, 1], [2, 1])).dimension
    1
    """
    return hull_for("affine_hull", polytope_of(p, "affine_hull"), tolerance)


def hull_for(question: str, p: Polytope, tolerance: Tolerance) -> AffineHull:
    """Return the affine hull; the errors of empty and undecided polytopes are headed by the question that needs it."""
    deep = deepest_of(p, tolerance)
    if deep is None:
        refuse_undecided(question)
    if deep.is_empty:
        refuse_empty(question)
    if deep.depth > deep.rounding:
        return AffineHull(deep.point, torch.eye(p.dim, dtype=torch.float64), torch.zeros(0, dtype=torch.long), None)
    return _flat_hull(p, deep.point, tolerance) or refuse_undecided(question)


def dimension(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> int:
    """Return the dimension of the polytope as a set: -1 for the empty one, 0 for a point, `p.dim` with interior points.

    Algorithm: that of `affine_hull`.

    >>> dimension(Polytope.of([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])), dimension(Polytope.of([[0.0]], [-1.0]))
    (1, -1)
    """
    p = polytope_of(p, "dimension")
    empty = is_empty(p, tolerance=tolerance).answer
    return -1 if empty else affine_hull(p, tolerance=tolerance).dimension


def lineality(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Tensor:
    """Return an orthonormal basis (dim, k) of the directions along which the polytope, if not empty, holds whole lines.

    (dim, 0) where there are none; the identity's columns up to rotation where there are no rows. Directions that rows of
    length 1 see by less than 1e-9 of the largest singular value count as lines.

    Algorithm: a singular value decomposition of the rows, O(rows dim^2).

    References: Schrijver, Theory of Linear and Integer Programming (1986), section 8.2.

    >>> lineality(Polytope.of([[1.0, 2.0], [-1.0, -2.0]], [3.0, 1.0])).shape
    torch.Size([2, 1])
    """
    p = polytope_of(p, "lineality")
    return row_space(p.matrix, accuracy_of(tolerance))[1]


def _flat_hull(p: Polytope, point: Tensor, tolerance: Tolerance) -> AffineHull | None:
    """Return the affine hull of a polytope without interior, from a point of it; None: undecided.

    Where the deepest point lies on the walls, multipliers say which rows hold with equality: go to the flat of these, and
    ask again there. Multipliers within a flat are those of the space up to multiples of the rows that made it.
    """
    proofs = proofs_of(p, tolerance)
    a, b = unit_rows(p)
    slack, room = slack_at(a, b, point, tolerance)
    rounding = max(room, proofs.accuracy * Proofs(a.numpy(), slack.numpy(), proofs.accuracy).length)
    held, y = torch.zeros(len(p), dtype=torch.bool), torch.zeros(len(p), dtype=torch.float64)
    basis = torch.eye(p.dim, dtype=torch.float64)
    for _ in range(p.dim + 1):
        slack = b - a @ point
        live = torch.linalg.vector_norm(a @ basis, dim=1) > math.sqrt(proofs.accuracy)
        section = (a @ basis)[live]
        deep = deepest(section, torch.where(slack.abs() > rounding, slack, 0.0)[live], tolerance=tolerance)
        if deep is None or deep.is_empty:
            return None
        if deep.depth > rounding or basis.shape[1] == 0:
            equal = ~live & (slack.abs() <= rounding)
            y = _completed(a, equal, held, y)
            return _proven(p, AffineHull(point + basis @ deep.point, basis, torch.nonzero(equal).reshape(-1), y), proofs)
        force = torch.zeros(len(p), dtype=torch.float64)
        force[live] = deep.multipliers
        y = _balanced(a, force, held, y)
        # of multipliers that sum to 1, dim + 1 at most, these prove their row's slack to be rounding as well
        held = held | (force > 0.5 / (basis.shape[1] + 1))
        basis, point = _solutions(a[held], b[held], point, proofs.accuracy)
    return None


def _completed(a: Tensor, equal: Tensor, held: Tensor, y: Tensor) -> Tensor:
    """Return multipliers positive on all `equal` rows but those of zeros, from `y`, positive on the `held` ones that span them.

    They exist by strict complementarity; a row in the span of the held ones takes what balances it from these.
    """
    named = equal & a.any(1)
    y = torch.where(named, y, 0.0)
    return _balanced(a, (named & (y == 0)).double(), held, y)


def _balanced(a: Tensor, force: Tensor, held: Tensor, y: Tensor) -> Tensor:
    """Return multipliers with A^T y = 0 from those within the flat of the `held` rows, for which `y` are multipliers."""
    found = force.clone()
    if bool(held.any()):
        found[held] -= torch.linalg.pinv(a[held].T) @ (a.T @ force)
    needed = torch.where(y > 0, -found / y.clamp(min=torch.finfo(y.dtype).tiny), 0.0).clamp(min=0).max()
    return (found + (needed + 1.0) * y).clamp(min=0)


def _proven(p: Polytope, hull: AffineHull, proofs: Proofs) -> AffineHull | None:
    """Return the hull with multipliers of the rows as given, if they prove it, else None."""
    norms = torch.from_numpy(proofs.norms)
    y = (torch.zeros(0) if hull.multipliers is None else hull.multipliers) / torch.where(norms > 0, norms, 1.0)
    size = proofs.worth(y.numpy(), p.bound.abs().numpy()) + proofs.length * float(norms @ y)
    if not proofs.stationary(y.numpy(), torch.zeros(p.dim).numpy()) or abs(proofs.worth(y.numpy())) > proofs.accuracy * size:
        return None
    return AffineHull(hull.point, hull.basis, hull.equalities, y if bool(y.any()) else None)


def _solutions(a: Tensor, b: Tensor, near: Tensor, accuracy: float) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis of the kernel of a, and the solution of a x = b next to `near`; rows of length 1."""
    _, values, right = torch.linalg.svd(a, full_matrices=True)
    rank = int((values > accuracy * math.sqrt(max(a.shape))).sum())
    point = near - torch.linalg.pinv(a, rtol=accuracy) @ (a @ near - b)
    return right[rank:].T.contiguous(), point
