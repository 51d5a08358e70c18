"""Whether a polytope is bounded: multipliers whose rows span the space, or a ray that stays inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._lp import LinearProgram, Optimum, accuracy_of
from .._types import Tolerance
from ..polytope import HasPolytope, Polytope, polytope_of
from ._answers import TOLERANCE, Answer, proofs_of, row_space, unit_rows
from .programs import is_empty


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Boundedness(Answer):
    """Whether a polytope is bounded: `multipliers` y (rows,) >= 0 or a `ray` (dim,); `answer` None is undecided.

    Multipliers with A^T y = 0, whose positive rows span the space, prove it bounded (Stiemke); an empty polytope is bounded
    and may have Farkas multipliers in their place (b.y < 0). A ray d has A d <= 0.
    """

    answer: bool | None
    multipliers: Tensor | None
    ray: Tensor | None

    def summary(self) -> str:
        return {None: "undecided", True: "bounded (multipliers)", False: "unbounded (a ray)"}[self.answer]


def is_bounded(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Boundedness:
    """Return whether the polytope is bounded, with multipliers or with a ray.

    Bounds do not matter unless the polytope is empty: then it is bounded. The whole space is unbounded; in dimension 0
    everything is bounded.

    Algorithm: a box around the polytope or a rank below dim is seen at once; otherwise one linear program, max sum u
    subject to A d + u <= 0, 0 <= u <= 1: a ray d where it is positive, multipliers of at least 1 where it is 0.

    References: Stiemke's theorem of the alternative; Schrijver (1986), section 7.8.

    >>> is_bounded(Polytope.simplex(3)).answer, is_bounded(Polytope.of([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1, 1, 1])).answer
    (True, False)
    """
    p = polytope_of(p, "is_bounded")
    spanning = _box_multipliers(p)
    if spanning is not None:
        return Boundedness(True, spanning, None)
    ray, multipliers = _recession(p, tolerance)
    if ray is None:
        return Boundedness(None if multipliers is None else True, multipliers, None)
    empty = is_empty(p, tolerance=tolerance)
    if empty.answer is None:
        return Boundedness(None, None, None)
    return Boundedness(True, empty.multipliers, None) if empty.answer else Boundedness(False, None, ray)


def _box_multipliers(p: Polytope) -> Tensor | None:
    """Return multipliers that prove a polytope bounded by rows with one entry alone, if there is one on every side."""
    single = torch.nonzero((p.matrix != 0).sum(1) == 1).reshape(-1)
    column = p.matrix[single].abs().argmax(1) if len(single) else single
    entry = p.matrix[single, column]
    y = torch.zeros(len(p), dtype=torch.float64)
    for sign in (1.0, -1.0):
        rows, columns = single[entry * sign > 0], column[entry * sign > 0]
        first = torch.full((p.dim,), len(p)).scatter_reduce(0, columns, rows, "amin")
        if bool((first == len(p)).any()):
            return None
        y[first] = 1.0 / p.matrix[first, torch.arange(p.dim)].abs()
    return y


def _recession(p: Polytope, tolerance: Tolerance) -> tuple[Tensor | None, Tensor | None]:
    """Return a ray d with A d <= 0, or multipliers y >= 0 with A^T y = 0 whose rows span the space, or neither."""
    kept = torch.nonzero(p.matrix.any(1)).reshape(-1)
    a = unit_rows(p)[0][kept]
    rows, dim = a.shape
    if dim == 0:
        return None, torch.zeros(len(p), dtype=torch.float64)
    lines = row_space(a, accuracy_of(tolerance))[1]
    if lines.shape[1]:
        return lines[:, -1], None
    eye, side = torch.eye(rows, dtype=torch.float64), torch.zeros(rows, dim, dtype=torch.float64)
    matrix = torch.cat([torch.cat([a, eye], 1), torch.cat([side, eye], 1), torch.cat([side, -eye], 1)])
    ones, zeros = torch.ones(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.float64)
    cost = torch.cat([torch.zeros(dim, dtype=torch.float64), ones])
    found = LinearProgram(matrix, torch.cat([zeros, ones, zeros]), tolerance=tolerance).optimum(cost.numpy())
    return (None, None) if found is None else _ray_or_multipliers(p, kept, found, tolerance)


def _ray_or_multipliers(p: Polytope, kept: Tensor, found: Optimum, tolerance: Tolerance) -> tuple[Tensor | None, Tensor | None]:
    if found.point is None or found.multipliers is None:
        return None, None
    proofs, ray = proofs_of(p, tolerance), found.point[: p.dim]
    downhill = -unit_rows(p)[0].sum(0)
    # the rows span the space, so A d <= 0 with d != 0 has a strictly negative entry: the sum of the rows descends
    if found.value > 0.5 and proofs.ray(downhill.numpy(), ray.numpy()):
        return ray / torch.linalg.vector_norm(ray), None
    y = torch.zeros(len(p), dtype=torch.float64)
    y[kept] = found.multipliers[: len(kept)] / torch.linalg.vector_norm(p.matrix[kept], dim=1)
    settled = proofs.stationary(y.numpy(), torch.zeros(p.dim).numpy()) and bool((y[kept] > 0).all())
    return None, y if settled else None
