"""Undoing blocks `z = a x + g(x)` whose second part is a contraction beside the first: Banach's fixed point, with proof.

The bound on g's slope is a product of spectral norms and gate slopes; where it is below |a| the block has exactly one
inverse, whose amplification is at most 1 / (|a| - bound), and every round's error has a bound of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import torch
from torch import Tensor

from .._rounding import magnitudes
from ..gates import Gate, MaxGate
from ..local import at_points, push
from ..network import Network, Node
from ..smooth import Smooth
from ..steps import Affine, Fixed, Scale, combine
from .links import Link

EPS = 2.0**-52
_ABOVE = 1 + 1e-10  # what singular values are rounded up by
_DENSE = 2e9  # multiplications of the singular values of a step
_ROUNDS = 4000
# The largest slopes of smooth functions, rounded up
_SLOPES = {
    "tanh": 1.0,
    "sigmoid": 0.25,
    "softplus": 1.0,
    "log_sigmoid": 1.0,
    "softsign": 1.0,
    "gelu": 1.13,
    "silu": 1.1,
    "mish": 1.09,
    "hardswish": 1.5,
    "sin": 1.0,
    "cos": 1.0,
    "atan": 1.0,
    "asinh": 1.0,
    "erf": 1.1284,
    "selu": 1.7581,
}


class Bound(NamedTuple):
    """A value as `share` times the block's input plus a rest whose slope is at most `slope`."""

    share: float
    slope: float

    @property
    def whole(self) -> float:
        """The largest slope of the value."""
        return abs(self.share) + self.slope


def bound(net: Network) -> Bound:
    """Return how a network's output follows its input: a multiple of it, and the largest slope of the rest.

    Algorithm: one walk. Singular values for affine steps that are small, else the root of the largest row sum times the
    largest column sum of absolute values.
    """
    found = {0: Bound(1.0, 0.0)}
    for k, (node, rough) in enumerate(zip(net.nodes, magnitudes(net), strict=True), 1):
        found[k] = _behind(net, node, rough, [found[i] for i in node.inputs])
    return found[len(net.nodes)]


def _behind(net: Network, node: Node, rough: Affine | None, parts: list[Bound]) -> Bound:
    step = node.step
    if isinstance(step, Fixed) and step.function is combine and len({net.shape_of(i) for i in node.inputs}) == 1:
        weights = step.options["weights"]
        share = sum(w * p.share for w, p in zip(weights, parts, strict=True))
        return Bound(share, _ABOVE * sum(abs(w) * p.slope for w, p in zip(weights, parts, strict=True)))
    if isinstance(step, Scale) and (step.factor is None or step.factor.numel() == 1):
        factor = 1.0 if step.factor is None else float(step.factor)
        return Bound(factor * parts[0].share, abs(factor) * parts[0].slope)
    root = math.sqrt(sum(p.whole**2 for p in parts))
    return Bound(0.0, _ABOVE * root * (_norm(net, node, step, rough) if isinstance(step, Affine) else _slope(step)))


def _slope(step: object) -> float:
    """Return the largest slope of a gate or a smooth function; infinity where none is known."""
    if isinstance(step, MaxGate):
        return math.inf  # windows that overlap make it larger than 1
    if isinstance(step, Gate):
        gaps = (step.slopes[1:] - step.slopes[:-1]) * step.breakpoints + step.intercepts[1:] - step.intercepts[:-1]
        room = 8 * EPS * (step.breakpoints.abs() + step.intercepts[1:].abs() + step.intercepts[:-1].abs())
        return math.inf if bool((gaps.abs() > room).any()) else float(step.slopes.abs().max())
    if isinstance(step, Smooth) and step.kind in ("elu", "celu"):
        alpha, scale, inner = (float(step.options.get(k, 1.0)) for k in ("alpha", "scale", "input_scale"))
        return abs(scale) * max(1.0, abs(alpha * inner)) if step.kind == "elu" else 1.0
    return _SLOPES.get(step.kind, math.inf) if isinstance(step, Smooth) and step.elementwise else math.inf


def _norm(net: Network, node: Node, step: Affine, rough: Affine | None) -> float:
    """Return a bound on the spectral norm of the linear part of a step."""
    shapes = [net.shape_of(i) for i in node.inputs]
    sizes = [math.prod(s) for s in shapes]
    m, n = math.prod(node.shape), sum(sizes)
    if len(shapes) == 1 and m * n * min(m, n) <= _DENSE:
        eye = torch.eye(n, dtype=net.dtype, device=net.device).reshape(n, *shapes[0])
        return float(torch.linalg.matrix_norm(step.linear(eye).reshape(n, m), 2))
    rough = cast(Affine, rough)
    rows = rough.linear(*(torch.ones(1, *s, dtype=net.dtype, device=net.device) for s in shapes))
    columns = rough.adjoint(torch.ones(1, *node.shape, dtype=net.dtype, device=net.device), shapes)
    return math.sqrt(float(rows.max()) * max(float(c.max()) for c in columns))


@final
@dataclass(frozen=True, eq=False, slots=True)
class Residual:
    """A block that has one inverse everywhere: `share` of its input, and `slope` < |share| for the rest."""

    net: Network
    share: float
    slope: float

    @property
    def amplification(self) -> float:
        """The largest factor by which the inverse makes differences grow."""
        return 1 / (abs(self.share) - self.slope)

    def solve(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (batch, *shape) with block(x) = z, and for each a bound on what the rounds leave of the error."""
        rate = self.slope / abs(self.share)
        x = z / self.share
        for _ in range(_ROUNDS):
            new = x - (self.net.forward(x) - z) / self.share
            moved = torch.linalg.vector_norm((new - x).flatten(1), dim=1)
            x, left = new, rate / (1 - rate) * moved
            if bool((left <= 2 * EPS * torch.linalg.vector_norm(x.flatten(1), dim=1)).all()):
                break
        return x, left

    def carried(self, x: Tensor, errors: Tensor) -> Tensor:
        """Return errors of z (batch, k, *shape) as errors of x, to first order: the same rounds with the derivative."""
        local = at_points(self.net, x, len(self.net.nodes))
        e = errors / self.share
        rounds = math.ceil(math.log(1e-3) / math.log(max(self.slope / abs(self.share), 1e-6))) + 1
        for _ in range(min(rounds, _ROUNDS)):
            e = e - (push(self.net, local, e, {len(self.net.nodes)})[len(self.net.nodes)] - errors) / self.share
        return e


def residual(link: Link) -> tuple[Residual | None, Bound]:
    """Return the inverse of a block, None where none is proven, with the bound that decides it."""
    net = link.network()
    if net.input_shape != net.output_shape:
        return None, Bound(0.0, math.inf)
    found = bound(net)
    provable = found.slope < abs(found.share) * (1 - 1e-6)
    return (Residual(net, found.share, found.slope) if provable else None), found
