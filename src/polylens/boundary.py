"""The boundaries of regions seen from points: the first ones along a direction, and the nearest of all.

Both are closed forms in the exact affine maps; no solver is needed, and no region is built.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, batches, is_batch, whole
from ._progress import progress
from ._ray import course
from ._rounding import flat_sizes, of_walls, term_sizes
from ._types import Result, Tolerance
from .errors import InputError
from .gates import Choice, Gate, Walls, spread
from .germ import exact, fixed_at, one_point
from .local import maps
from .network import Network, Node
from .pattern import Patterns
from .polytope import RowOrigin
from .steps import flat


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Crossings(Result):
    """Where a ray first changes region, and next: parameters `t` (crossings,), `units` that change there, `points`.

    `patterns` holds the pattern in front of the first crossing and the one behind each. `complete` says whether the ray
    meets no further boundary. `fragile` counts crossings that rounding hides: those so near to another that both are listed
    as one, and in networks too large for rational arithmetic also decisions on values that may be rounding. Where it is 0,
    the crossings are those that exact arithmetic finds.
    """

    t: Tensor
    units: tuple[tuple[RowOrigin, ...], ...]
    points: Tensor
    patterns: Patterns
    complete: bool
    fragile: int

    def __repr__(self) -> str:
        return f"Crossings({len(self.t)}{', no more' if self.complete else ''})"

    def summary(self) -> str:
        rows = zip(self.t.tolist(), self.units, strict=True)
        lines = [repr(self), *(f"  t = {t:.6g}: {', '.join(f'{u.name}[{u.unit}]' for u in units)}" for t, units in rows)]
        return "\n".join([*lines, f"  {self.fragile} within rounding of others"] if self.fragile else lines)

    def to_dict(self) -> dict[str, Any]:
        units = [[u._asdict() for u in group] for group in self.units]
        plain = {"t": self.t.tolist(), "units": units, "points": self.points.tolist()}
        return {**plain, "complete": self.complete, "fragile": self.fragile}


def first_boundary(net: Network, x: ArrayLike, v: ArrayLike, *, count: int = 1) -> Crossings:
    """Return the first `count` boundaries that the ray x + t v, t > 0, crosses, and the units that change at each.

    Args:
        net: piecewise linear.
        x: one point (*input_shape); on a boundary, crossings start behind it.
        v: the direction (*input_shape), not all zero; t counts in units of it.
        count: how many crossings at most; fewer come back when the ray meets no more.

    Raises: SmoothError, ShapeError, InputError (a direction of zeros, a count below 1).

    Algorithm: in every region the pre-activations are affine in t; the least root is the next boundary, behind which the
    derivative decides. One forward pass of values, derivatives and the sizes of their terms a crossing: what is below
    `Tolerance().relative` of these is 0. Where decisions lie within rounding of one another, a network of up to 4 096
    weights is followed in rational arithmetic instead, and only crossings that no floats t tell apart are one.

    Example:
        >>> import torch
        >>> from polylens import dense, first_boundary
        >>> net = dense([([[1.0], [2.0]], [-1.0, -2.0]), ([[1.0, 1.0]], None)])  # two units, one hyperplane x = 1
        >>> found = first_boundary(net, torch.tensor([0.0]), torch.tensor([1.0]), count=5)
        >>> found.t.tolist(), len(found.units[0]), found.complete, found.fragile
        ([1.0], 2, True, 0)
    """
    net = exact(net)
    point, direction = one_point(net, x), one_point(net, v, "direction")
    if not bool(direction.any()):
        raise InputError("direction: expected one that is not all zeros")
    whole(count, "count")
    found = course(net, point, direction, count)
    t = torch.tensor(found.times, dtype=torch.float64)
    points = point + t.to(point.device).reshape(-1, *(1,) * point.ndim) * direction
    units = tuple(changes(*pair) for pair in itertools.pairwise(found.patterns))
    return Crossings(t, units, points, Patterns.concat(found.patterns), found.complete, found.fragile)


def changes(before: Patterns, behind: Patterns) -> tuple[RowOrigin, ...]:
    """Return the units that are on other pieces behind a boundary."""
    changed = []
    for layer in before.layers:
        a, b = (p.pieces(layer.name).reshape(-1).long() for p in (before, behind))
        changed += [RowOrigin(layer.name, int(u), int(b[u])) for u in torch.nonzero(a != b).reshape(-1)]
    return tuple(changed)


class NearestBoundary(NamedTuple):
    """For many points the distance to the nearest hyperplane of their regions and the unit behind it.

    `distance` (batch,), float64; `layer` (batch,) indexes `names`; `unit` and `piece` as in RowOrigin; `normal`
    (batch, *input_shape) is the unit vector towards it, so that x + distance * normal lies on the hyperplane.
    """

    names: tuple[str, ...]
    distance: Tensor
    layer: Tensor
    unit: Tensor
    piece: Tensor
    normal: Tensor


def nearest_boundary(net: Network, x: ArrayLike, *, batch_size: int | None = None) -> NearestBoundary:
    """Return, for every point of a batch, the distance to the boundary of its region and the unit that draws it.

    Args:
        net: piecewise linear.
        x: (batch, *input_shape), or one point, which counts as a batch of one.
        batch_size: points at once; by default what keeps the maps within 256 MB.

    Raises: SmoothError, ShapeError, InputError as for `affine_map`. A network without units gives infinite distances.

    A unit whose terms cancel, up to `Tolerance().relative` of their size, draws no hyperplane.

    Algorithm: the maps of all pre-activations in chunks, row norms, and the least quotient; the cost is that of the maps.

    Example:
        >>> import torch
        >>> from polylens import dense, nearest_boundary
        >>> net = dense([([[3.0, 4.0]], [0.0]), ([[1.0]], None)])
        >>> nearest_boundary(net, torch.tensor([[3.0, 4.0], [0.0, 0.0]])).distance.tolist()  # the origin is on it
        [5.0, 0.0]
    """
    net = exact(net)
    x = array(x)
    gates = [node for node in net.nodes if isinstance(node.step, Choice)]
    rows = sum(math.prod(net.shape_of(n.inputs[0])) for n in gates)
    size = (
        whole(batch_size, "batch_size")
        if batch_size is not None
        else max(1, (1 << 28) // (8 * max(1, rows) * max(1, math.prod(net.input_shape))))
    )
    total = -(-len(x) // size) if is_batch(x, net.input_shape) else 1
    chunks = progress(batches(x, net.input_shape, size, net.dtype, net.device), total, "nearest boundaries")
    parts = [_nearest(net, gates, chunk) for chunk in chunks]
    return NearestBoundary(tuple(n.name for n in gates), *(torch.cat(column) for column in zip(*parts, strict=True)))


def _nearest(net: Network, gates: list[Node], x: Tensor) -> tuple[Tensor, ...]:
    """Return distance, layer, unit, piece and normal for one chunk of points."""
    none = torch.full((len(x),), -1, device=x.device)
    best: tuple[Tensor, ...] = (x.new_full((len(x),), math.inf), none, none, none, torch.zeros_like(x).flatten(1))
    if gates:
        values = [n.inputs[0] for n in gates]
        local, pieces = fixed_at(net, x, max(k for k, node in enumerate(net.nodes, 1) if isinstance(node.step, Choice)))
        found = maps(net, len(x), lambda _: local, dict.fromkeys(values), 1 << 62)
        relative = Tolerance().relative
        sizes = term_sizes(net, local, values, relative)
        for k, node in enumerate(gates):
            weight, offset = found[node.inputs[0]]
            room = relative * flat_sizes(sizes[node.inputs[0]]).row
            gap, unit, piece, normal = _nearest_wall(net, node, pieces[node.name], x, weight, offset, room)
            closer = gap < best[0]
            new = (gap, torch.full_like(unit, k), unit, piece, normal)
            best = tuple(torch.where(closer.reshape(-1, *(1,) * (b.ndim - 1)), a, b) for a, b in zip(new, best, strict=True))
    return (*best[:4], best[4].reshape(x.shape))


Wall = tuple[Tensor, Tensor, Tensor, Tensor]  # distance, unit, piece behind, unit normal towards it; for many points


def _nearest_wall(net: Network, node: Node, pieces: Tensor, x: Tensor, weight: Tensor, offset: Tensor, room: Tensor) -> Wall:
    """Return the nearest wall of one gate for every point; rows no longer than `room` (batch, inputs) are none."""
    z = (weight @ flat(x, 1).unsqueeze(-1)).squeeze(-1) + offset
    room = room.expand(z.shape)
    if isinstance(node.step, Gate):
        return _nearest_breakpoint(node.step, net.shape_of(node.inputs[0]), flat(pieces, 1).long(), z, weight, room)
    step, shape = cast(Choice, node.step), net.shape_of(node.inputs[0])
    columns = zip(pieces, z, weight.expand(len(z), *weight.shape[1:]), room, strict=True)
    found = [_nearest_rival(step.walls(p, shape), v, w, r) for p, v, w, r in columns]
    return tuple(torch.stack(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _nearest_breakpoint(step: Gate, shape: tuple[int, ...], pieces: Tensor, z: Tensor, weight: Tensor, room: Tensor) -> Wall:
    """The least of |z - t| / |w| over units and breakpoints: the nearest breakpoint is always one beside the piece."""
    count, units = len(z), z.shape[1]
    if not units:
        none = pieces.new_full((count,), -1)
        return z.new_full((count,), math.inf), none, none, z.new_zeros(count, weight.shape[-1])
    norms = torch.linalg.vector_norm(weight, dim=-1).expand(z.shape)
    limits = spread(step.breakpoints, shape).reshape(len(step.breakpoints), 1, -1)
    gaps = torch.where(norms > room, (z - limits).abs() / norms, math.inf)
    gap, at = gaps.permute(1, 0, 2).flatten(1).min(1)
    limit, unit, points = at // units, at % units, torch.arange(count, device=at.device)
    piece = pieces[points, unit]
    beyond = torch.where(piece > limit, -1, 1)  # the piece tells the side also where z is on the breakpoint itself
    length = torch.where(gap < math.inf, norms[points, unit], 1.0)
    normal = beyond[:, None] * weight.expand(count, *weight.shape[1:])[points, unit] / length[:, None]
    return gap, unit, piece + beyond, normal


def _nearest_rival(walls: Walls, z: Tensor, weight: Tensor, room: Tensor) -> Wall:
    if not len(walls.unit):
        none = torch.tensor(-1, device=z.device)
        return z.new_full((), math.inf), none, none, z.new_zeros(weight.shape[-1])
    rows = walls.values(weight.mT).mT
    norms = torch.linalg.vector_norm(rows, dim=-1)
    gaps = torch.where(norms > of_walls(walls, room), (walls.bound - walls.values(z)) / norms, math.inf)
    at = gaps.argmin()
    length = torch.where(gaps[at] < math.inf, norms[at], 1.0)
    return gaps[at], walls.unit[at], walls.beyond[at], rows[at] / length
