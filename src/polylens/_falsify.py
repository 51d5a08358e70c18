"""Inputs of a box that lead an output as deep into a set as gradients do: candidates for a witness, no proof."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .network import Network

STARTS, STEPS = 256, 60
LONGEST, SHRUNK = 2.0**-3, 2.0**-10  # the first step as a share of a side of the box; the ratio of the last step to it
KEPT, AGAIN = 32, 4  # deepest points that are kept, and starts around each of them in a round


class Ascents:
    """Rounds of ascents in a box, each from random points and from around the deepest ones of all rounds before.

    `low` and `high` are finite sides (inputs,), `depth` says how deep outputs (batch, outputs) lie, and is differentiable
    almost everywhere. The network is in float64.
    """

    def __init__(self, net: Network, low: Tensor, high: Tensor, depth: Callable[[Tensor], Tensor]) -> None:
        self.net, self.low, self.high, self.depth = net, low, high, depth
        self.rounds = 0
        self._generator = torch.Generator().manual_seed(0)
        self._deepest = low.new_zeros(0, len(low)), low.new_zeros(0)

    def next_round(self) -> Tensor:
        """Return the inputs (some, inputs) of one more round whose outputs lie in the set, the deepest first.

        Algorithm: steps along the signs of the gradient, in parts of the sides and shorter from step to step, back into the
        box each time; `STEPS` forward and backward passes of `STARTS` inputs.

        References: A. Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018.
        """
        found, depth = self._ascended(self._starts())
        points, depths = (torch.cat(pair) for pair in zip((found, depth), self._deepest, strict=True))
        order = depths.argsort(descending=True, stable=True)[:KEPT]
        self._deepest = points[order], depths[order]
        self.rounds += 1
        return found[depth.argsort(descending=True, stable=True)][: int((depth >= 0).sum())]

    def _starts(self) -> Tensor:
        side, near = self.high - self.low, self._deepest[0][:KEPT].repeat(AGAIN, 1)
        random = self.low + side * torch.rand(STARTS, len(side), generator=self._generator, dtype=torch.float64)
        away = torch.randn(near.shape, generator=self._generator, dtype=torch.float64)
        scale = 2.0 ** -torch.randint(1, 9, (len(near), 1), generator=self._generator).double()
        return torch.cat([self._boxed(near + scale * side * away), random])[:STARTS]

    def _ascended(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deepest point on the way up from each start, and its depth."""
        best, most, net = x, x.new_full((len(x),), -torch.inf), self.net
        for step in range(STEPS):
            x = x.detach().requires_grad_(True)
            with torch.enable_grad():
                found = self.depth(net(x.to(net.device).reshape(-1, *net.input_shape)).flatten(1).cpu())
                (slope,) = torch.autograd.grad(found.sum(), x)
            deeper = found.detach() > most
            best, most = torch.where(deeper[:, None], x.detach(), best), torch.where(deeper, found.detach(), most)
            length = LONGEST * SHRUNK ** (step / STEPS)
            x = self._boxed(x.detach() + length * (self.high - self.low) * slope.sign())
        return best, most

    def _boxed(self, x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, self.low), self.high)


def in_box(net: Network, low: Tensor, high: Tensor, depth: Callable[[Tensor], Tensor]) -> Ascents | None:
    """Return the ascents in a box, None where it has no end."""
    return Ascents(net, low, high, depth) if bool((low.isfinite() & high.isfinite()).all()) else None
