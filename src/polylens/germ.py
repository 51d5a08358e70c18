"""A piecewise-linear network just behind a point in a direction: which pieces its units take there.

At a point on boundaries the pattern alone does not say which region lies where; a value and a derivative together do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, is_batch
from ._rounding import behind_gate, magnitudes, settled
from ._types import Tolerance
from .errors import InputError, ShapeError, SmoothError
from .gates import Choice, Walls
from .network import Network, Node
from .pattern import Patterns
from .steps import Affine, LinearAt


def exact(net: Network) -> Network:
    """Return the network in float64, or raise SmoothError where it is not piecewise linear."""
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
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
    return cast(Choice, node.step).walls(pattern.pieces(node.name)[0].to(net.device), net.shape_of(node.inputs[0]))


class Motion(NamedTuple):
    """A gate's input on a ray and its derivative along it (*shape), and how much of each is rounding."""

    value: Tensor
    speed: Tensor
    value_room: Tensor
    speed_room: Tensor


class Germ(NamedTuple):
    """The network just behind a point in a direction: its pattern, and the motion of each gate's input."""

    pattern: Patterns
    inputs: dict[str, Motion]


Sized = tuple[Tensor, Tensor]  # a value, and the size of the terms that it is the sum of


def towards(
    net: Network,
    point: Tensor,
    direction: Tensor,
    tolerance: Tolerance | None = None,
    rough: Sequence[Affine | None] | None = None,
    terms: Tensor | None = None,
) -> Germ:
    """Return the network just behind `point` in `direction`: where a unit is on its breakpoint, the derivative decides.

    A pre-activation counts as on the breakpoint, and a derivative as none, within `tolerance.relative` of the terms that
    it is the sum of, taken from the last gates on. `rough` are the network's `magnitudes`, where they are at hand; `terms`
    (*input_shape) are the sizes of what the point itself is a sum of, its own entries where None.

    Algorithm: one forward pass of values, derivatives and the sizes of both, gates fixed as they come.
    """
    relative, rough = (tolerance or Tolerance()).relative, rough or magnitudes(net)
    z: dict[int, Sized] = {0: (point[None], (point.abs() if terms is None else terms)[None])}
    dz: dict[int, Sized] = {0: (direction[None], direction[None].abs())}
    pieces, inputs = dict[str, Tensor](), dict[str, Motion]()
    for k, (node, size) in enumerate(zip(net.nodes, rough, strict=True), 1):
        values, sizes = zip(*(z[i] for i in node.inputs), strict=True)
        speeds, speed_terms = zip(*(dz[i] for i in node.inputs), strict=True)
        if size is not None:
            step = cast(Affine, node.step)
            z[k] = step.apply(*values), size.apply(*sizes)
            dz[k] = step.linear(*speeds), size.linear(*speed_terms)
            continue
        motion = Motion(values[0][0], speeds[0][0], relative * sizes[0][0], relative * speed_terms[0][0])
        chosen, here = _fixed_towards(net, node, motion)
        pieces[node.name], inputs[node.name] = chosen, motion
        value, speed = here.offset(*values), here.columns(*(s.unsqueeze(1) for s in speeds))[:, 0]
        z[k] = value, settled(value, behind_gate(here, sizes[0]), relative)
        dz[k] = speed, settled(speed, behind_gate(here, speed_terms[0], constant=False), relative)
    return Germ(pattern_of(net, pieces), inputs)


def _fixed_towards(net: Network, node: Node, motion: Motion) -> tuple[Tensor, LinearAt]:
    """Return the pieces of a gate, (1, *shape), just behind its input, and the affine map that it is there."""
    step = cast(Choice, node.step)
    moving = torch.where(motion.speed.abs() > motion.speed_room, motion.speed, 0.0)  # what only rounding moves stands still
    chosen = step.pieces_towards(motion.value, moving, motion.value_room)[None]
    return chosen, step.on(chosen, net.shape_of(node.inputs[0]))
