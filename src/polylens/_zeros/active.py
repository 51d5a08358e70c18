"""Least-squares steps for many points at once, with walls that a step runs along: batched linear algebra alone.

A step p for the map A and the residual r is the least-norm minimiser of |A p + r| over {p : N p = 0 on the working rows,
p_i = 0 where an entry is held}.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Singular values below this part of the largest entry count as 0: the maps are products of layers, known to some roundings
RANK = 1e-12
_DEPENDENT = 1e-8
# of the map's norm, for Cholesky's pivots: the normal equations then lose half of the digits, which the next step restores
_CONDITION = 1e-4


def pseudo_inverse(a: Tensor, scale: Tensor) -> Tensor:
    """Return the pseudo-inverses of (batch, m, n); singular values up to RANK * scale (batch,) count as 0."""
    return torch.linalg.pinv(a, atol=RANK * scale, rtol=torch.zeros_like(scale))


def size_of(a: Tensor) -> Tensor:
    """Return the Frobenius norms (batch,)."""
    return torch.linalg.vector_norm(a, dim=(1, 2))


class Walls(NamedTuple):
    """Unit rows (batch, k, n) at points, `working` (batch, k) those to run along, `held` (batch, n) fixed entries."""

    rows: Tensor
    working: Tensor
    held: Tensor

    @property
    def constraint(self) -> Tensor:
        """The working rows, without held entries and zero elsewhere."""
        return self.rows * self.working.unsqueeze(2) * ~self.held.unsqueeze(1)


def orthonormal(rows: Tensor) -> Tensor:
    """Return rows (batch, k, n) made orthonormal one after the other, zero where they depend on those before.

    Twice is enough (Giraud, Langou and Rozloznik 2005); what is left of a unit row below 1e-8 is taken for dependence.
    """
    found = torch.zeros_like(rows)
    for j in range(rows.shape[1]):
        row = rows[:, j]
        for _ in range(2 if j else 0):
            row = row - ((found[:, :j] @ row.unsqueeze(2)).mT @ found[:, :j]).squeeze(1)
        length = torch.linalg.vector_norm(row, dim=1, keepdim=True)
        found[:, j] = torch.where(length > _DEPENDENT, row / length.clamp(min=_DEPENDENT), 0.0)
    return found


def constrained(a: Tensor, walls: Walls) -> Tensor:
    """Return the maps (batch, m, n) on the directions that working rows and held entries leave, 0 on all others."""
    return _projected(a, walls, _directions(walls))


def _directions(walls: Walls) -> Tensor | None:
    return orthonormal(walls.constraint) if bool(walls.working.any()) else None


def _projected(a: Tensor, walls: Walls, across: Tensor | None) -> Tensor:
    free = a * ~walls.held.unsqueeze(1)
    return free if across is None else free - (free @ across.mT) @ across


def step(a: Tensor, r: Tensor, walls: Walls) -> Tensor:
    """Return the steps (batch, n): by Cholesky's method where the maps are well conditioned, else by singular values."""
    across = _directions(walls)
    free, scale = _projected(a, walls, across), size_of(a)
    p, ill = (_tall if a.shape[1] >= a.shape[2] else _wide)(free, r, scale, walls.held, across)
    if len(ill):
        p[ill] = -(pseudo_inverse(free[ill], scale[ill]) @ r[ill].unsqueeze(2)).squeeze(2)
    return p.masked_fill(walls.held, 0.0)  # exactly: a rounding would leave through the side


def _tall(a: Tensor, r: Tensor, scale: Tensor, held: Tensor, across: Tensor | None) -> tuple[Tensor, Tensor]:
    """Solve the normal equations, made regular by what is held or across; return also which are ill-conditioned."""
    size = torch.where(scale > 0, scale, 1.0).reshape(-1, 1, 1) ** 2
    gram = a.mT @ a + torch.diag_embed(held.to(a.dtype)) * size
    gram = gram if across is None else gram + across.mT @ across * size
    factor, ill = _factor(gram, scale)
    return -torch.cholesky_solve(a.mT @ r.unsqueeze(2), factor).squeeze(2), ill


def _wide(a: Tensor, r: Tensor, scale: Tensor, held: Tensor, across: Tensor | None) -> tuple[Tensor, Tensor]:
    factor, ill = _factor(a @ a.mT, scale)
    return -(a.mT @ torch.cholesky_solve(r.unsqueeze(2), factor)).squeeze(2), ill


def _factor(gram: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return Cholesky factors, of the identity where they are ill-conditioned, and the rows where they are."""
    factor, info = torch.linalg.cholesky_ex(gram)
    bad = (info != 0) | ~(factor.diagonal(dim1=1, dim2=2).amin(1) > _CONDITION * scale)
    ill = torch.nonzero(bad).reshape(-1)
    if len(ill):
        factor[ill] = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return factor, ill


def multipliers(gradient: Tensor, walls: Walls) -> tuple[Tensor, Tensor]:
    """Return what the working rows and the held entries push with: gradient + rows^T l + m = 0, of least norm."""
    pushed = gradient
    rows = gradient.new_zeros(walls.working.shape)
    if bool(walls.working.any()):
        rows = _of_least_norm(walls.constraint, gradient * ~walls.held) * walls.working
        pushed = gradient + (walls.rows.mT @ rows.unsqueeze(-1)).squeeze(-1)
    return rows, -pushed * walls.held


def _of_least_norm(n: Tensor, gradient: Tensor) -> Tensor:
    """Return -pinv(n)^T gradient; a single working row needs no decomposition."""
    alone = (n != 0).any(2).sum(1) <= 1
    square = n.square().sum(2)
    found = -(n @ gradient.unsqueeze(2)).squeeze(2) / torch.where(square > 0, square, 1.0)
    several = torch.nonzero(~alone).reshape(-1)
    if len(several):
        part = n[several]
        found[several] = -(pseudo_inverse(part, part.new_ones(len(part))).mT @ gradient[several].unsqueeze(2)).squeeze(2)
    return found
