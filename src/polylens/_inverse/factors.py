"""A matrix by its singular values: rank up to rounding, least squares of least norm, null space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

EPS = 2.0**-52


@final
@dataclass(frozen=True, eq=False)
class Factors:
    """The decomposition of a matrix (m, n): singular values above the rounding of the matrix count."""

    matrix: Tensor

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vh = torch.linalg.svd(self.matrix, full_matrices=False)
        kept = s > max(self.matrix.shape) * EPS * (s[0] if len(s) else 0.0)
        return u[:, kept], s[kept], vh[kept]

    @property
    def rank(self) -> int:
        """How many singular values count."""
        return len(self._svd[1])

    @property
    def least(self) -> float:
        """The least of them; infinity where there is none, as for a matrix of zeros, which nothing is divided by."""
        s = self._svd[1]
        return float(s[-1]) if len(s) else torch.inf

    @property
    def rows(self) -> Tensor:
        """An orthonormal basis of what the matrix sees, as rows (rank, n)."""
        return self._svd[2]

    def solve(self, b: Tensor) -> Tensor:
        """Return the least-norm least-squares solutions (..., n) for right-hand sides (..., m), refined once."""
        x = self._inverse(b)
        return x + self._inverse(b - x @ self.matrix.T)

    def rest(self, b: Tensor) -> Tensor:
        """Return what no solution reaches of right-hand sides (..., m)."""
        u = self._svd[0]
        b = b - (b @ u) @ u.T
        return b - (b @ u) @ u.T

    def kernel(self) -> Tensor:
        """Return an orthonormal basis of the null space, as columns (n, n - rank)."""
        n = self.matrix.shape[1]
        if self.rank == n:
            return self.matrix.new_zeros(n, 0)
        full = torch.linalg.qr(self.rows.T, mode="complete").Q if self.rank else torch.eye(n, dtype=self.matrix.dtype)
        return full[:, self.rank :]

    def _inverse(self, b: Tensor) -> Tensor:
        u, s, vh = self._svd
        return ((b @ u) / s) @ vh
