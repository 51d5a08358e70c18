"""A piecewise-linear network just behind a point in a direction: which pieces its units take there.

At a point on boundaries the pattern alone does not say which region lies where; a value and a derivative together do.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, is_batch
from ._types import Tolerance
from .errors import ShapeError, SmoothError
from .gates import Choice, Walls
from .network import Network, Node
from .pattern import Patterns
from .steps import Affine, LinearAt


def exact(net: Network) -> Network:
    """Return the network in float64, or raise SmoothError where it is not piecewise linear."""
    if net.smooth_steps:
        node = net.smooth_steps[0]
        raise SmoothError(f"regions need piecewise-linear steps; {node.name} ({node.step.kind}) is smooth; use linearise")
    return net.double()


def one_point(net: Network, x: ArrayLike, what: str = "point") -> Tensor:
    """Return one checked point (or direction) in float64; a batch is a ShapeError."""
    x = array(x, what)
    floating(x, what)
    if is_batch(x, net.input_shape, what):
        raise ShapeError(f"{what}: expected one of shape {net.input_shape}; got a batch; take x[0], or loop over it")
    return finite(as_tensor(x, net.dtype, net.device), what)


def fixed_at(net: Network, x: Tensor, last: int) -> tuple[list[LinearAt], dict[str, Tensor]]:
    """Return what every step up to value `last` is at each point of a batch, and the pieces of its gates: one forward pass."""
    local, pieces = list[LinearAt](), dict[str, Tensor]()

    def fix(node: Node, values: list[Tensor]) -> None:
        if isinstance(node.step, Affine):
            local.append(node.step)
            return
        step = cast(Choice, node.step)
        pieces[node.name] = step.pieces(*values)
        local.append(step.on(pieces[node.name], net.shape_of(node.inputs[0])))

    net.forward(x, fix, last)
    return local, pieces


def pattern_of(net: Network, pieces: dict[str, Tensor]) -> Patterns:
    """Return the pattern whose pieces are given by gate, each (1, *shape)."""
    return Patterns.from_pieces(net.gates, [pieces[g.name] for g in net.gates], 1)


def walls_of(net: Network, node: Node, pattern: Patterns) -> Walls:
    """Return what keeps the units of one gate on their pieces, for a pattern of one input."""
    return cast(Choice, node.step).walls(pattern.pieces(node.name)[0], net.shape_of(node.inputs[0]))


class Germ(NamedTuple):
    """The network just behind a point in a direction: its pattern, and each gate's input and its derivative."""

    pattern: Patterns
    inputs: dict[str, tuple[Tensor, Tensor]]


def towards(net: Network, point: Tensor, direction: Tensor, tolerance: Tolerance | None = None) -> Germ:
    """Return the network just behind `point` in `direction`: where a unit is on its breakpoint, the derivative decides.

    A pre-activation counts as on the breakpoint within 1e-9 of the largest in its layer, or `tolerance.relative`.

    Algorithm: one forward pass of values and derivatives, gates fixed as they come.
    """
    relative = tolerance.relative if tolerance else 1e-9
    values: dict[int, tuple[Tensor, Tensor]] = {0: (point[None], direction[None, None])}
    pieces, inputs = dict[str, Tensor](), dict[str, tuple[Tensor, Tensor]]()
    for k, node in enumerate(net.nodes, 1):
        z, dz = zip(*(values[i] for i in node.inputs), strict=True)
        step = node.step
        if isinstance(step, Affine):
            values[k] = step.apply(*z), step.columns(*dz)
            continue
        scale = float(z[0].abs().max()) if z[0].numel() else 0.0
        speed = float(dz[0].abs().max()) if dz[0].numel() else 0.0
        moving = torch.where(dz[0][0, 0].abs() > 1e-12 * speed, dz[0][0, 0], 0.0)  # what only rounding moves stands still
        chosen = cast(Choice, step).pieces_towards(z[0][0], moving, relative * max(scale, 1e-300))[None]
        here = cast(Choice, step).on(chosen, net.shape_of(node.inputs[0]))
        pieces[node.name], inputs[node.name] = chosen, (z[0][0], dz[0][0, 0])
        values[k] = here.offset(*z), here.columns(*dz)
    return Germ(pattern_of(net, pieces), inputs)
