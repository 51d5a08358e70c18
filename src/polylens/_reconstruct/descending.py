"""Descent to given features: Adam's steps on the distance from what they ask for, with a prior that fades, within sides.

What is asked for in front of the last gate pulls at units that are off too; gates farther in front leak at first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast, final

import torch
from torch import Tensor

from ..gates import Gate
from ..network import Network, ancestors
from .priors import Prior
from .wanted import Wanted

_LEAKY = 0.5  # of the steps are made with flat pieces that slope
_LEAK = 0.2  # their slope at first
_FADED = 1e-3  # the part of the prior's weight that is left at the last step
_FIRST, _SECOND = 0.9, 0.99  # how long Adam remembers slopes and their squares


@final
@dataclass(frozen=True, eq=False, slots=True)
class Descent:
    """A search for inputs (batch, n) between `low` and `high` (n,) with a value within what is wanted."""

    net: Network
    wanted: Wanted
    prior: Prior | None
    weight: float
    low: Tensor
    high: Tensor
    rate: Tensor  # (n,), the longest step
    leaky: bool = True  # whether gates leak at first

    def run(self, x: Tensor, steps: int) -> Iterator[Tensor]:
        """Yield the points after each step.

        References: Kingma, Ba, Adam: a method for stochastic optimization (2015).
        """
        leaks = _leaky_gates(self.net, self.wanted.value) if self.leaky else frozenset()
        mean, square = torch.zeros_like(x), torch.zeros_like(x)
        size = self.scale(x)
        for k in range(steps):
            part = k / steps
            leak = _LEAK * (1 - part / _LEAKY) if leaks and part < _LEAKY else 0.0
            net = leaking(self.net, leaks, leak) if leak else self.net
            slope = self._gradient(net, x, size, self.weight * _FADED**part)
            mean.lerp_(slope, 1 - _FIRST)
            square.lerp_(slope.square(), 1 - _SECOND)
            way = mean / (1 - _FIRST ** (k + 1)) / (square / (1 - _SECOND ** (k + 1))).sqrt().clamp(min=2.0**-500)
            rate = self.rate * 0.5 * (1 + math.cos(math.pi * part))
            x = (x - rate * way).clamp(self.low, self.high)
            yield x

    def scale(self, x: Tensor) -> Tensor:
        """Return the length of what is missed at the start, (batch, 1), 1 for 0: prior and residual are weighed by it."""
        with torch.no_grad():
            w = self.net.forward(x.reshape(len(x), *self.net.input_shape), last=self.wanted.value)
            length = torch.linalg.vector_norm(self.wanted.missed(w), dim=1, keepdim=True)
        return torch.where(length > 0, length, 1.0)

    def _gradient(self, net: Network, x: Tensor, size: Tensor, weight: float) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            w = net.forward(x.reshape(len(x), *net.input_shape), last=self.wanted.value)
            loss = (self.wanted.missed(w) / size).square().sum()
            if self.prior is not None and weight:
                loss = loss + weight * self.prior(x).sum()
            return torch.autograd.grad(loss, x)[0]


def _leaky_gates(net: Network, value: int) -> frozenset[int]:
    """Return the positions of elementwise gates with flat pieces that a value depends on."""
    places = (k - 1 for k in ancestors(net, value) if k)
    return frozenset(i for i in places if isinstance(g := net.nodes[i].step, Gate) and bool((g.slopes == 0).any()))


def leaking(net: Network, places: frozenset[int], leak: float) -> Network:
    """Return the network with a slope on the flat ends of some gates, joined to the next piece where they were."""
    nodes = tuple(replace(n, step=_sloped(cast(Gate, n.step), leak)) if i in places else n for i, n in enumerate(net.nodes))
    return replace(net, nodes=nodes)


def _sloped(gate: Gate, leak: float) -> Gate:
    slopes, intercepts = gate.slopes.clone(), gate.intercepts.clone()
    for end in (0, -1):
        flat = slopes[end] == 0
        slopes[end] = torch.where(flat, leak, slopes[end])
        intercepts[end] = torch.where(flat, intercepts[end] - leak * gate.breakpoints[end], intercepts[end])
    return Gate("leaking", gate.breakpoints, slopes, intercepts, gate.inclusive)
