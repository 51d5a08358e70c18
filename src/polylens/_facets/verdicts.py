"""What is known of the rows of a polytope: which are facets, by a ray each, and which redundant, by multipliers.

Rows are kept in coordinates of the polytope's flat, centred at a point inside and of length 1. Every proof is verified
before it counts: rays by the slacks of all other rows where they leave, multipliers on the rows as given.
"""

from __future__ import annotations

from collections import Counter
from typing import final

import torch
from torch import Tensor

from .._lp import accuracy_of
from .._types import Tolerance
from ..polytope import Polytope
from .certify import LEAD
from .flat import Flat, lift, rows_within, varying

REDUNDANT, OPEN, FACET = -1, 0, 1


@final
class Verdicts:
    """The rows {y : matrix y <= slack} around 0, and a verdict on each; rows of one hyperplane follow their `leader`.

    `points` (rows, k) holds a point on each facet that was proven, `proofs` multipliers of each redundant row. `merged`
    and `touching` are as in `Facets`.
    """

    def __init__(self, p: Polytope, flat: Flat, tolerance: Tolerance) -> None:
        self.p, self.flat, self.tolerance = p, flat, tolerance
        self.accuracy = accuracy_of(tolerance)
        matrix = rows_within(p, flat)
        self.norms = torch.linalg.vector_norm(matrix, dim=1)
        free = varying(p, flat, self.norms, tolerance)
        scale = torch.where(free, self.norms, 1.0)
        self.matrix, self.slack = torch.where(free[:, None], matrix / scale[:, None], 0.0), p.slack(flat.point) / scale
        self.length = _length(self.slack[free])
        self.whole = torch.linalg.vector_norm(p.matrix, dim=1)
        size = p.bound.abs() + self.whole * torch.linalg.vector_norm(flat.point)
        # What rounding may have done to the slacks of rows of length 1
        self.rounding = tolerance.relative * (size / scale + self.length)
        self.leader = torch.arange(len(p))
        self.verdict = torch.zeros(len(p), dtype=torch.long)
        self.points = torch.zeros(len(p), matrix.shape[1], dtype=torch.float64)
        self.proofs: dict[int, Tensor] = {}
        self._combinations: dict[int, Tensor] = {}
        self.how: Counter[str] = Counter()
        self.merged = self.touching = 0.0
        self._set_constants_aside(free)

    def _set_constants_aside(self, free: Tensor) -> None:
        equal = self.equal
        for row in torch.nonzero(~free & ~equal).reshape(-1).tolist():
            self.refute(row, self.combination(), "constant")
        self.verdict[equal] = REDUNDANT

    @property
    def equal(self) -> Tensor:
        """Which rows hold with equality on the whole polytope."""
        equal = torch.zeros(len(self.p), dtype=torch.bool)
        equal[self.flat.equalities] = True
        return equal

    def open(self) -> Tensor:
        """Return the rows of which nothing is known, one of each hyperplane."""
        return torch.nonzero((self.verdict == OPEN) & self._leads()).reshape(-1)

    def rows(self) -> Tensor:
        """Return the rows that still describe the polytope: those not redundant, one of each hyperplane."""
        return torch.nonzero((self.verdict != REDUNDANT) & self._leads()).reshape(-1)

    def facets(self) -> Tensor:
        """Return the first row of each facet that was proven."""
        return torch.nonzero((self.verdict == FACET) & self._leads()).reshape(-1)

    def _leads(self) -> Tensor:
        return self.leader == torch.arange(len(self.leader))

    def combination(self, rows: Tensor | int | None = None, values: Tensor | float = 1.0) -> Tensor:
        """Return multipliers (rows,) with the given values at some rows and 0 elsewhere."""
        y = torch.zeros(len(self.p), dtype=torch.float64)
        if rows is not None:
            y[rows] = values
        return y

    def confirm(self, rays: Tensor, how: str) -> None:
        """Certify as facets the rows through which `rays` (n, k) from 0 leave, by a clear lead over all others."""
        rows = self.rows()
        slack, speed = self.slack[rows], rays @ self.matrix[rows].T / self.slack[rows]
        top, place = speed.max(1)
        hit = place[:, None] == torch.arange(len(rows))
        # The slack that each row has at the point where the ray leaves; rounding must not have made it
        margin = slack * (1 - speed / top[:, None]) > torch.maximum(self.rounding[rows], LEAD * slack)
        leaves = (top > 0) & (margin | hit).all(1) & (self.verdict[rows[place]] == OPEN)
        found, number = rows[place[leaves]].unique(return_inverse=True)
        # The first ray of each row: several writes to one place at once may mix them
        chosen = torch.full_like(found, len(rays)).scatter_reduce(0, number, torch.nonzero(leaves).reshape(-1), "amin")
        self.points[found] = rays[chosen] / top[chosen, None]
        self.verdict[found] = FACET
        self.how[how] += len(found)

    def refute(self, row: int, combination: Tensor, how: str) -> bool:
        """Call a row redundant by multipliers of the rows of length 1 in the flat, if they hold on the rows as given."""
        if not self._settle(row, combination):
            return False
        self.verdict[row] = REDUNDANT
        self._combinations[row] = combination
        self.how[how] += 1
        return True

    def followed(self) -> Tensor:
        """Return the verdicts (rows,), those of leaders holding for the rows on their hyperplanes too.

        A row that follows a redundant one gets its multipliers, and stays open should they not hold for it.
        """
        verdict = self.verdict[self.leader]
        for row in torch.nonzero((verdict == REDUNDANT) & ~self.equal & ~self._leads()).reshape(-1).tolist():
            if not self._settle(row, self._combinations[int(self.leader[row])]):
                verdict[row] = OPEN
        return verdict

    def _settle(self, row: int, combination: Tensor) -> bool:
        """Keep the multipliers of the rows as given that follow from those of length 1 in the flat, if they prove the row."""
        norms = torch.where(self.norms > 0, self.norms, 1.0)
        y = torch.where(combination > 0, combination / norms, 0.0) * (float(norms[row]) if bool(combination.any()) else 1.0)
        y = y + lift(self.p, self.flat, self.p.matrix[row] - y @ self.p.matrix, self.tolerance)
        holds = self._implies(y, row)
        if holds:
            self.proofs[row] = y
        return holds

    def _implies(self, y: Tensor, row: int) -> bool:
        """Say whether y >= 0, A^T y = a_i and b.y <= b_i up to the solver's accuracy."""
        residue = torch.linalg.vector_norm(y @ self.p.matrix - self.p.matrix[row])
        size = float(y @ self.whole + self.whole[row])
        reach = torch.linalg.vector_norm(self.flat.point) + self.length
        excess = float(y @ self.p.bound - self.p.bound[row])
        room = self.accuracy * (float(y @ self.p.bound.abs() + self.p.bound[row].abs()) + size * float(reach))
        return bool((y >= 0).all()) and float(residue) <= self.accuracy * size and excess <= room


def _length(slack: Tensor) -> float:
    """Return the size of a polytope: the median distance of its hyperplanes."""
    kept = slack[slack > 0]
    return float(kept.median()) if len(kept) else 1.0
