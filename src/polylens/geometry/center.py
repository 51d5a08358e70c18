"""The analytic centre of a polytope, by Newton's method on the logarithmic barrier of its rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .._barrier import Barrier
from ..errors import GeometryError
from ..polytope import HasPolytope, Polytope, polytope_of


def analytic_center(p: Polytope | HasPolytope, *, start: Tensor | None = None) -> Tensor:
    """Return the point (dim,) that maximises the product of the slacks: the analytic centre.

    For bounded polytopes with interior points; rows of zeros do not count, repeated rows count repeatedly. `start` (dim,)
    need not be inside. Every slack of the returned point is positive.

    Raises: GeometryError for empty, flat and unbounded polytopes, which have no analytic centre.

    Algorithm: Newton steps from outside or inside (infeasible-start Newton with slack variables), one Cholesky factor
    of A^T D A each: O(rows dim^2 + dim^3), some 10-60 steps; rows with one nonzero entry only reach the diagonal.

    References: Boyd and Vandenberghe, Convex Optimization (2004), sections 8.5.3 and 10.3.

    >>> [round(v, 9) for v in analytic_center(Polytope.box([0, 0], [2, 8])).tolist()]
    [1.0, 4.0]
    """
    p = polytope_of(p, "analytic_center")
    zero = ~p.matrix.any(1)
    if p.dim == 0 and not bool((p.bound < 0).any()):
        return torch.zeros(0, dtype=torch.float64)
    if not bool((p.bound[zero] < 0).any()):
        barrier = barrier_of(p)
        for x in (start, None) if start is not None else (None,):
            point = barrier.center(torch.zeros(p.dim, dtype=torch.float64) if x is None else x.double())
            if point is not None and bool((p.slack(point)[~zero] > 0).all()):
                return point
    raise GeometryError(
        "analytic_center: expected a bounded polytope with interior points; Newton's method found no centre; is_empty,"
        " dimension and is_bounded say which it lacks: intersect with a box, or go to the affine hull, first"
    )


def barrier_of(p: Polytope) -> Barrier:
    """Return the logarithmic barrier of the rows that are not zero."""
    zero = ~p.matrix.any(1)
    return Barrier.of(p.matrix[~zero], p.bound[~zero])
