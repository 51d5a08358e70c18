"""Undoing affine maps `u = L x + c`: least squares with rank, consistency and amplification.

Small maps are matrices with their singular values, which decide rank and uniqueness. Large ones, such as convolutions over
whole images, stay operators: conjugate gradients solve with them, and rank is left undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from ..layer_map import LayerMap
from .factors import Factors

EPS = 2.0**-52
# Rounding to nearest, of numbers of all sizes, has a standard deviation of about so much of the spacing that eps stands for
ROUNDING = 0.3
_DENSE = 6e9  # multiplications of a decomposition: a second or two
_ROUNDS = 400  # of conjugate gradients
_ROUGH = 1e-3  # how far they go for errors and amplifications, which are estimates
_INVERSE = 4  # rounds of inverse iteration


@final
@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map that is to be undone: a matrix where that is small enough, else an operator."""

    map: LayerMap

    @property
    def is_dense(self) -> bool:
        """Whether the map is taken as a matrix."""
        m, n = self.map.outputs, self.map.inputs
        return m * n * min(m, n) <= _DENSE

    @cached_property
    def factors(self) -> Factors:
        """The matrix and its singular values."""
        return Factors(self.map.matrix())

    @cached_property
    def offset(self) -> Tensor:
        """The constant (outputs,)."""
        return self.map.offset

    @cached_property
    def _squares(self) -> Tensor:
        return self.factors.matrix.square()

    def apply(self, x: Tensor) -> Tensor:
        """Return L x + c for flat x (batch, inputs)."""
        return self.map(x.reshape(len(x), *self.map.input_shape)).reshape(len(x), -1)

    def linear(self, x: Tensor) -> Tensor:
        """Return L x for flat x (batch, inputs)."""
        return self.map.linear(x.reshape(len(x), *self.map.input_shape)).reshape(len(x), -1)

    def adjoint(self, r: Tensor) -> Tensor:
        """Return the transpose of L applied to flat rows (batch, outputs)."""
        return self.map.adjoint(r.reshape(len(r), *self.map.output_shape)).reshape(len(r), -1)

    def terms(self, x: Tensor) -> Tensor:
        """Return the root of the sum of squared terms of each output at flat x (batch, inputs): what rounding is a part of."""
        if self.is_dense:
            return (x.square() @ self._squares.T + self.offset.square()).sqrt()
        signs = 1.0 - 2.0 * torch.randint(2, x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        return (self.linear(x * signs).square() + self.offset.square()).sqrt()

    def solve(self, b: Tensor, rough: bool = False) -> Tensor:
        """Return least-norm least-squares solutions (k, inputs) of L x = b for flat b (k, outputs)."""
        aim = _ROUGH if rough else 4 * EPS
        return self.factors.solve(b) if self.is_dense else conjugate_gradients(self.linear, self.adjoint, b, aim)

    def rest(self, b: Tensor, x: Tensor) -> Tensor:
        """Return what solutions x of L x = b leave of b."""
        return self.factors.rest(b) if self.is_dense else b - self.linear(x)

    @cached_property
    def least(self) -> float:
        """The least nonzero singular value; of an operator an estimate from above."""
        if self.is_dense:
            return self.factors.least
        v = torch.randn(1, self.map.inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        v = self.adjoint(self.linear(v))  # nothing of the kernel is left
        for _ in range(_INVERSE):
            v = self.solve(self._lifted(v / torch.linalg.vector_norm(v)), rough=True)
        v = v / torch.linalg.vector_norm(v)
        return float(torch.linalg.vector_norm(self.linear(v)))

    def _lifted(self, v: Tensor) -> Tensor:
        """Return the least-norm w with L^T w = v."""
        return conjugate_gradients(self.adjoint, self.linear, v, _ROUGH)


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], b: Tensor, aim: float
) -> Tensor:
    """Return least-norm least-squares solutions of A x = b for many b (k, m) at once.

    Algorithm: conjugate gradients on the normal equations, which keep the residual of A (Hestenes and Stiefel's CGLS), until
    the image of the residual is `aim` of what it was; for an exact one started again once, which mends the rounding of the
    first run.
    """
    x = torch.zeros_like(adjoint(b))
    for _ in range(1 if aim >= _ROUGH else 2):
        x = x + _run(apply, adjoint, b - apply(x), aim)
    return x


def _run(apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], r: Tensor, part: float) -> Tensor:
    s = adjoint(r)
    x, p, gamma = torch.zeros_like(s), s, s.square().sum(1, keepdim=True)
    aim = part**2 * gamma
    for _ in range(_ROUNDS):
        live = gamma > aim
        if not bool(live.any()):
            break
        q = apply(p)
        size = q.square().sum(1, keepdim=True)
        alpha = torch.where(live & (size > 0), gamma / torch.where(size > 0, size, 1.0), 0.0)
        x, r = x + alpha * p, r - alpha * q
        s = adjoint(r)
        new = s.square().sum(1, keepdim=True)
        p = s + torch.where(gamma > 0, new / torch.where(gamma > 0, gamma, 1.0), 0.0) * p
        gamma = torch.where(live, new, gamma)
    return x
