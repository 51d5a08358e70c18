"""The logarithmic barrier of {x : A x <= b}: its Hessian and its minimiser, by Newton's method.

Rows with one nonzero entry (a box's) reach only the diagonal of the Hessian and are kept as a column number and an entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

STEPS = 150
# Squared Newton decrement below which the centre is known to 1e-8 of the polytope's own extent in every direction
DECREMENT = 1e-16
# Below this, Newton's method doubles the digits with each step; where it does not, rounding ended the progress
NEAR = 1e-4
# A step goes this far towards the nearest slack that it would make 0
SHORT_OF_BOUNDARY = 0.9


@final
@dataclass(frozen=True, eq=False, slots=True)
class Barrier:
    """The sum of -log of the slacks: `matrix` has the general rows first, `column` and `entry` the single-entry rows after."""

    matrix: Tensor
    column: Tensor
    entry: Tensor
    bound: Tensor

    @classmethod
    def of(cls, matrix: Tensor, bound: Tensor) -> Barrier:
        """Return the barrier of {x : matrix x <= bound}, without rows of zeros, each row scaled to length 1."""
        entries = (matrix != 0).sum(1)
        general, single = torch.nonzero(entries > 1).reshape(-1), torch.nonzero(entries == 1).reshape(-1)
        norms = torch.linalg.vector_norm(matrix, dim=1)
        scaled = bound / norms
        column = matrix[single].abs().argmax(1)
        entry = matrix[single, column].sign()
        return cls(matrix[general] / norms[general, None], column, entry, torch.cat([scaled[general], scaled[single]]))

    def rows_times(self, x: Tensor) -> Tensor:
        """Return A x."""
        return torch.cat([self.matrix @ x, self.entry * x[self.column]])

    def transposed_times(self, y: Tensor) -> Tensor:
        """Return A^T y."""
        general = len(self.matrix)
        return (self.matrix.T @ y[:general]).index_add(0, self.column, self.entry * y[general:])

    def hessian(self, slack: Tensor) -> Tensor:
        """Return A^T diag(slack)^-2 A."""
        general = len(self.matrix)
        scaled = self.matrix / slack[:general, None]
        dense = scaled.T @ scaled
        dense.diagonal().index_add_(0, self.column, slack[general:] ** -2)
        return dense

    def center(self, x: Tensor) -> Tensor | None:
        """Return the minimiser, from any start x, or None where there is none or Newton's method does not find it.

        Slack variables s > 0 start apart from b - A x; each Newton step closes its share of that gap, and a full step
        closes it for good (Boyd and Vandenberghe, section 10.3).
        """
        slack = self.bound - self.rows_times(x)
        s = torch.where(slack > 0, slack, slack.abs().max() if len(slack) else slack)
        last = torch.inf
        for _ in range(STEPS):
            inside = bool((slack > 0).all())
            s = slack if inside else s
            step = self._newton(s, slack - s) if bool((s > 0).all()) else None
            if step is None:
                return None
            dx, ds = step
            decrement = float(((ds / s) ** 2).sum())
            if inside and (decrement <= DECREMENT or NEAR > decrement > last / 2):
                return x
            t, last = _length(s, ds, decrement, inside), decrement if inside else torch.inf
            x, s = x + t * dx, s + t * ds
            slack = self.bound - self.rows_times(x)
        return None

    def _newton(self, s: Tensor, gap: Tensor) -> tuple[Tensor, Tensor] | None:
        factor, failed = torch.linalg.cholesky_ex(self.hessian(s))
        if int(failed):
            return None
        target = self.transposed_times((gap / s - 1.0) / s)
        dx = torch.cholesky_solve(target[:, None], factor)[:, 0]
        return dx, gap - self.rows_times(dx)


def _length(s: Tensor, ds: Tensor, decrement: float, inside: bool) -> float:
    """Return the length of a step: damped inside, where 1/(1 + lambda) always descends; otherwise as far as slacks allow."""
    if inside and decrement > 0.0625:
        return float(1.0 / (1.0 + decrement**0.5))
    fastest = float((-ds / s).max())
    return min(1.0, SHORT_OF_BOUNDARY / fastest) if fastest > 0 else 1.0
