"""Which rows of a polytope {x : A x <= b} bound it: facets with a point on each, redundant rows with their proofs.

A facet is a set of rows that share one hyperplane. Nothing is guessed: what cannot be proven is `undecided`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._facets.decide import decide
from ._facets.flat import flat_of
from ._facets.verdicts import FACET, OPEN, REDUNDANT, Verdicts
from ._types import Result, Tolerance
from .polytope import HasPolytope, Polytope, polytope_of


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Facets(Result):
    """The facets of a polytope, numbered from 0 in the order of their first rows.

    Every row is exactly one of these: on a facet, an implicit equality, redundant, or undecided.

    `facet_of_row` (rows,): the facet's number, or -1. Equal numbers are rows that share one hyperplane.
    `witnesses` (facets, dim): a point in the relative interior of each; all rows of other facets have slack there.
    `normals` (facets, dim): outward and of length 1; for flat polytopes within the affine hull.
    `equalities`: rows that hold with equality on the whole polytope (none unless it is flat).
    `redundant`: rows that others imply, by `multipliers` (redundant, rows) y >= 0: a_i = sum y_j a_j and b_i >= sum y_j b_j.
    `undecided`: rows about which nothing could be proven.
    `center` (dim,): a point in the relative interior of the polytope.
    `how`: how many rows each method decided. `merged`: the largest difference (relative to the polytope's length) of
    hyperplanes that were taken as one; `touching`: the largest excess of a redundant row that was taken as 0.
    """

    facet_of_row: Tensor
    witnesses: Tensor
    normals: Tensor
    equalities: Tensor
    redundant: Tensor
    multipliers: Tensor
    undecided: Tensor
    center: Tensor
    how: dict[str, int]
    merged: float
    touching: float

    @property
    def num_facets(self) -> int:
        """How many facets were proven: all of them when `complete`."""
        return len(self.witnesses)

    @property
    def complete(self) -> bool:
        """Whether every row is decided."""
        return len(self.undecided) == 0

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The rows of each facet."""
        found: list[list[int]] = [[] for _ in range(self.num_facets)]
        for row, facet in enumerate(self.facet_of_row.tolist()):
            if facet >= 0:
                found[facet].append(row)
        return tuple(map(tuple, found))

    def __repr__(self) -> str:
        return f"Facets({self.num_facets} facets, {len(self.facet_of_row)} rows{'' if self.complete else ', incomplete'})"

    def summary(self) -> str:
        shared = sum(len(g) > 1 for g in self.groups)
        lines = [f"{self.num_facets} facets ({shared} of several rows), {len(self.redundant)} redundant rows"]
        if len(self.equalities):
            lines.append(f"flat: {len(self.equalities)} rows hold with equality everywhere")
        if not self.complete:
            lines.append(f"undecided: {len(self.undecided)} rows")
        lines.append("decided by " + ", ".join(f"{name} {n}" for name, n in self.how.items() if n))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "num_facets": self.num_facets,
            "complete": self.complete,
            "groups": [list(g) for g in self.groups],
            "witnesses": self.witnesses.tolist(),
            "normals": self.normals.tolist(),
            "equalities": self.equalities.tolist(),
            "redundant": self.redundant.tolist(),
            "undecided": self.undecided.tolist(),
            "how": dict(self.how),
            "merged": self.merged,
            "touching": self.touching,
        }


def facets(p: Polytope | HasPolytope, *, tolerance: Tolerance | None = None, time_limit: float | None = None) -> Facets:
    """Return which rows bound a polytope, each with a proof: a point on the facet, or multipliers that imply the row.

    Unbounded polytopes are normal. The facets of a flat one are relative to its affine hull, whose rows are listed as
    `equalities`; a single point has none. Rows of zeros, and rows that only touch a face of lower dimension, are
    redundant.

    Args:
        p: the polytope, or a region, whose polytope is meant.
        tolerance: rows of length 1 whose direction and distance differ by less than `relative` are one hyperplane. The
            solver's accuracy is 1024 times that (1e-9), relative to the polytope's length, the median distance of its
            hyperplanes from a point inside. `geometry` says which polytopes count as flat; a row that cuts off less is
            redundant; `merged` and `touching` report the largest that was so taken.
        time_limit: seconds; rows that are open then are `undecided`.

    Raises:
        GeometryError: the polytope is empty, or its affine hull cannot be proven.

    Algorithm: rows are normalised and equal hyperplanes grouped. From the analytic centre one ray per row is shot along
    H^-1 a_i, H the Hessian of the logarithmic barrier: the row through which a ray leaves, alone, is a facet, and nearly
    all facets that are sides of a box are found so. Cost: one factorisation, O(dim^3 + rows dim^2). In a box, the general
    rows that stay open go in batches through a few interior-point steps each of which tries its points and multipliers
    as proofs (`_certify`). What is left, and all of it in small polytopes, is one linear program a row, warm-started.
    Whatever is proposed as a proof is verified before it counts, multipliers on the rows as given.

    References: Boyd and Vandenberghe, Convex Optimization (2004), section 8.5; Mehrotra, On the implementation of a
    primal-dual interior point method, SIAM J. Optim. 2 (1992).

    >>> facets(Polytope.of([[1, 0], [0, 1], [-1, -1], [2, 0], [1, 1]], [1, 1, 0, 2, 2])).groups  # x + y <= 2 only touches
    ((0, 3), (1,), (2,))
    """
    p = polytope_of(p, "facets")
    tol = tolerance or Tolerance()
    deadline = None if time_limit is None else time.monotonic() + time_limit
    known = Verdicts(p, flat_of(p, tol), tol)
    decide(known, lambda: deadline is not None and time.monotonic() > deadline)
    return _result(known)


def reduced(p: Polytope | HasPolytope, *, tolerance: Tolerance | None = None) -> Polytope:
    """Return the same set from the rows that matter: one row for each facet, in their order, with their origins.

    Of a flat polytope the implicit equalities stay as they are, all of them. Undecided rows stay too.

    Args:
        p: the polytope, or a region, whose polytope is meant.
        tolerance: as in `facets`.

    Raises: GeometryError for an empty polytope.

    >>> len(reduced(Polytope.box([0, 0], [1, 1]) & Polytope.of([[1, 1]], [2])))
    4
    """
    p = polytope_of(p, "reduced")
    found = facets(p, tolerance=tolerance)
    first = torch.tensor([g[0] for g in found.groups], dtype=torch.long)
    return p.select(torch.cat([first, found.equalities, found.undecided]).sort().values)


def _result(known: Verdicts) -> Facets:
    """Return what is known of every row, in the coordinates of the space."""
    flat, firsts, verdict = known.flat, known.facets(), known.followed()
    number = torch.full((len(known.p),), -1)
    number[firsts] = torch.arange(len(firsts))
    points, normals = known.points[firsts], known.matrix[firsts]
    if flat.basis is not None:
        points, normals = points @ flat.basis.T, normals @ flat.basis.T
    redundant = torch.nonzero((verdict == REDUNDANT) & ~known.equal).reshape(-1)
    proofs = [known.proofs[row] for row in redundant.tolist()]
    return Facets(
        facet_of_row=torch.where(verdict == FACET, number[known.leader], -1),
        witnesses=flat.point + points,
        normals=normals,
        equalities=flat.equalities,
        redundant=redundant,
        multipliers=torch.stack(proofs) if proofs else torch.zeros(0, len(known.p), dtype=torch.float64),
        undecided=torch.nonzero(verdict == OPEN).reshape(-1),
        center=flat.point,
        how=dict(known.how),
        merged=known.merged,
        touching=known.touching,
    )
