"""The flat in which the facets of a polytope are sought: a point inside, and directions without lines and equalities.

Where a polytope is flat its facets are those within its affine hull; where it holds whole lines, those of a section.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._lp import accuracy_of
from .._types import Tolerance
from ..errors import GeometryError
from ..geometry import analytic_center
from ..geometry._answers import row_space
from ..geometry.flats import hull_for
from ..polytope import Polytope


class Flat(NamedTuple):
    """A point in the relative interior of a polytope, and an orthonormal basis (dim, k) of the directions across its lines.

    `basis` None means the whole space. `equalities` are the rows (not of zeros) that hold with equality everywhere,
    `positive` (rows,) multipliers m of them with sum m_e a_e = 0 and sum m_e b_e = 0.
    """

    point: Tensor
    basis: Tensor | None
    equalities: Tensor
    positive: Tensor


def flat_of(p: Polytope, tolerance: Tolerance) -> Flat:
    """Return the flat of a polytope, with the analytic centre as its point where the polytope lies in a box.

    Raises: GeometryError for an empty polytope, or one whose affine hull cannot be proven.
    """
    positive = torch.zeros(len(p), dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.long)
    center = _center(p, tolerance)
    if center is not None:
        return Flat(center, None, none, positive)
    found = hull_for("facets", p, tolerance)
    if found.multipliers is None:
        return Flat(found.point, _across_lines(p.matrix, tolerance), none, positive)
    rows = found.equalities[p.matrix[found.equalities].any(1)]
    positive[rows] = found.multipliers[rows]
    return Flat(found.point, found.basis, rows, positive)


def rows_within(p: Polytope, flat: Flat) -> Tensor:
    """Return the rows in coordinates of the flat, (rows, k)."""
    return p.matrix if flat.basis is None else p.matrix @ flat.basis


def varying(p: Polytope, flat: Flat, norms: Tensor, tolerance: Tolerance) -> Tensor:
    """Say which rows, of length `norms` within the flat, are not constant on it."""
    whole = torch.linalg.vector_norm(p.matrix, dim=1)
    found = norms > (0 if flat.basis is None else accuracy_of(tolerance) * whole)
    found[flat.equalities] = False
    return found


def lift(p: Polytope, flat: Flat, vector: Tensor, tolerance: Tolerance) -> Tensor:
    """Return multipliers y >= 0 of the equalities with A^T y = vector, for a vector across the flat.

    Equalities have a positive combination that is 0, so any combination becomes nonnegative by adding enough of it.
    """
    y, rows = torch.zeros(len(p), dtype=torch.float64), flat.equalities
    if len(rows):
        signed = torch.linalg.pinv(p.matrix[rows].T, rtol=accuracy_of(tolerance)) @ vector
        enough = (-signed / flat.positive[rows]).max().clamp(min=0)
        y[rows] = (signed + flat.positive[rows] * enough).clamp(min=0)
    return y


def _across_lines(matrix: Tensor, tolerance: Tolerance) -> Tensor | None:
    """Return an orthonormal basis (dim, rank) of the row space, None where that is the whole space.

    A polytope that holds whole lines is as wide along them everywhere: its facets are those of its section across them.
    Regions of networks are often so: rows of later layers are combinations of those of the first.
    """
    basis, lines = row_space(matrix, accuracy_of(tolerance))
    return basis if lines.shape[1] else None


def _center(p: Polytope, tolerance: Tolerance) -> Tensor | None:
    """Return the analytic centre of a polytope with two sides in every coordinate, or None."""
    single = (p.matrix != 0).sum(1) == 1
    signs = p.matrix[single].sign()
    if not bool(((signs > 0).any(0) & (signs < 0).any(0)).all()) or p.dim == 0:
        return None
    try:
        center = analytic_center(p)
    except GeometryError:  # empty or flat: the affine hull tells which
        return None
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    room = accuracy_of(tolerance) * (p.bound.abs() + norms * torch.linalg.vector_norm(center))
    return center if bool((p.slack(center)[norms > 0] > room[norms > 0]).all()) else None
