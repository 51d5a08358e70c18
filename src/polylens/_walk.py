"""Hit-and-run: many chains at once, uniform over a bounded polytope {z : M z <= b}, optionally cut with a ball around 0.

Every other step goes along a random direction, the others along a random axis: each keeps the uniform distribution, and
axes are fast where the rounding has made the polytope a box. Chains share nothing but the polytope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

# Slacks are updated from step to step and computed afresh this often, before rounding adds up
REFRESH = 64


@final
@dataclass(frozen=True, eq=False, slots=True)
class Walk:
    """The walk in {z : matrix z <= bound, |z| <= radius}; 0 is strictly inside. `radius` may be infinite."""

    matrix: Tensor
    bound: Tensor
    generator: torch.Generator
    radius: float = math.inf

    def start(self, chains: int) -> Tensor:
        """Return points inside (chains, dim): on random rays from 0, as a uniform ball would spread them along each."""
        direction = self._normal(chains)
        share = self._uniform(chains) ** (1.0 / self.matrix.shape[1])
        exits = 1.0 / (direction @ self.matrix.T / self.bound).amax(1)
        return direction * (share * exits.clamp(max=self.radius))[:, None]

    def run(self, z: Tensor, steps: int) -> Tensor:
        """Return the chains (chains, dim) after some steps from `z`."""
        slack = self.bound - z @ self.matrix.T
        for step in range(steps):
            if step % REFRESH == 0:
                slack = self.bound - z @ self.matrix.T
            direction, speed = self._axis(len(z)) if step % 2 else self._anywhere(len(z))
            back, ahead = self._chord(z, slack.clamp(min=torch.finfo(z.dtype).tiny), direction, speed)
            t = back + (ahead - back) * self._uniform(len(z))
            z = z + t[:, None] * direction
            slack = slack - t[:, None] * speed
        return z

    def _chord(self, z: Tensor, slack: Tensor, direction: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the interval of t for which z + t direction stays inside; it contains 0 up to rounding."""
        rates = speed / slack
        back, ahead = 1.0 / rates.amin(1), 1.0 / rates.amax(1)
        if self.radius < math.inf:
            middle = (z * direction).sum(1)
            half = (middle**2 + self.radius**2 - (z**2).sum(1)).clamp(min=0).sqrt()
            back, ahead = torch.maximum(back, -middle - half), torch.minimum(ahead, half - middle)
        return back.clamp(max=0), ahead.clamp(min=0)

    def _anywhere(self, chains: int) -> tuple[Tensor, Tensor]:
        direction = self._normal(chains)
        return direction, direction @ self.matrix.T

    def _axis(self, chains: int) -> tuple[Tensor, Tensor]:
        dim = self.matrix.shape[1]
        axis = torch.randint(dim, (chains,), generator=self.generator)
        return torch.eye(dim, dtype=self.matrix.dtype)[axis], self.matrix.T[axis]

    def _normal(self, chains: int) -> Tensor:
        normal = torch.randn(chains, self.matrix.shape[1], dtype=self.matrix.dtype, generator=self.generator)
        return normal / torch.linalg.vector_norm(normal, dim=1, keepdim=True)

    def _uniform(self, chains: int) -> Tensor:
        return torch.rand(chains, dtype=self.matrix.dtype, generator=self.generator)
