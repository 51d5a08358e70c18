"""How far a piecewise-linear network stays exactly constant: along a direction, and within the null space of a region."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike
from ._ray import Ray
from ._rounding import behind_gate, magnitudes, settled
from ._subdivision.stages import jumps
from ._types import Tolerance
from .boundary import changes
from .domain import Box
from .errors import InputError
from .gates import Choice
from .geometry import Ball, Boundedness, chebyshev_ball, is_bounded
from .germ import Germ, Motion, exact, fixed_at, one_point, pattern_of
from .local import on_patterns
from .network import Network
from .nullspace import EPS, Forgetting, NullSpace, null_space, up_to
from .pattern import Patterns
from .polytope import Polytope, RowOrigin
from .region import Region, _check_domain, region
from .steps import flat

Reason = Literal["the map changes", "domain", "never ends", "not in the null space"]


class End(NamedTuple):
    """Where constancy ends on one side of a point: the parameter `t`, infinite where it never does, and the `reason`.

    `units` are those whose boundary is met there, or the side of the domain; `slope` is the length of the change of f for
    each unit of t just beyond: 0 but where the map changes, infinite where f jumps. `crossed` counts the boundaries before,
    at which it does not.
    """

    t: float
    reason: Reason
    units: tuple[RowOrigin, ...]
    slope: float
    crossed: int

    def words(self) -> str:
        """Return the end in words."""
        names = ", ".join(f"{u.name}[{u.unit}]" for u in self.units[:3]) + (", ..." if len(self.units) > 3 else "")
        why = self.reason + (f" ({names})" if names else "")
        behind = f", behind which f changes by {self.slope:.3g} per unit of t" if self.slope else ""
        behind = ", where f jumps" if math.isinf(self.slope) else behind
        return f"t = {self.t:.6g}: {why}{behind}; {self.crossed} boundaries on the way"


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Constancy(Forgetting):
    """The interval [t_min, t_max] on which f(point + t direction) = f(point), with the reasons for its ends.

    `below` is the end at t_min <= 0, `above` the one at t_max >= 0; `network` puts out what is constant.
    """

    network: Network
    point: Tensor
    direction: Tensor
    below: End
    above: End

    @property
    def t_min(self) -> float:
        """The lower end of the interval, at most 0, possibly -inf."""
        return self.below.t

    @property
    def t_max(self) -> float:
        """The upper end of the interval, at least 0, possibly inf."""
        return self.above.t

    @property
    def crossed(self) -> int:
        """How many boundaries of regions lie within the interval."""
        return self.below.crossed + self.above.crossed

    def __repr__(self) -> str:
        return f"Constancy({self.t_min:.6g} <= t <= {self.t_max:.6g})"

    def summary(self) -> str:
        return "\n".join([repr(self), f"  {self.below.words()}", f"  {self.above.words()}"])

    def to_dict(self) -> dict[str, Any]:
        return {"below": _plain(self.below), "above": _plain(self.above), "crossed": self.crossed}


def constant_along(
    net: Network,
    x: ArrayLike,
    v: ArrayLike,
    *,
    layer: str | int | None = None,
    domain: Polytope | Box | None = None,
    tolerance: Tolerance | None = None,
) -> Constancy:
    """Return the largest interval around 0 on which f(x + t v) = f(x): across boundaries for as long as the slope stays 0.

    Args:
        net: piecewise linear, as far as the layer.
        x: one point (*input_shape).
        v: the direction (*input_shape), not all zero; t counts in units of it. One outside the null space gives [0, 0].
            Its entries are taken to carry the rounding of the largest one: those below `tolerance` of that are 0.
        layer: a node's name or a position among `net.gates`: what it puts out stays constant; the output when None.
        domain: a polytope over the flattened input, or a box, that holds x and where t ends; None for all of R^n.
        tolerance: which part of the terms of a slope counts as 0; `Tolerance()` when None.

    Raises:
        SmoothError: a step in front of the layer is not piecewise linear; `second_order` accepts such a network.
        ShapeError, InputError: as for `first_boundary`; x outside the domain, a domain of another kind.

    On a boundary each side is judged by the region on that side. At a gate that jumps the value counts, too.

    Algorithm: from boundary to boundary as in `first_boundary`; in every region on the way the derivative along v is
    compared with the size of its terms. About two forward passes for each boundary within the interval.

    Example:
        >>> import torch
        >>> from polylens import constant_along, dense
        >>> net = dense([([[1.0], [1.0], [1.0]], [0.0, -1.0, -3.0]), ([[1.0, -1.0, 1.0]], None)])
        >>> found = constant_along(net, torch.tensor([2.0]), torch.tensor([1.0]))  # relu(x) - relu(x - 1) is 1 from 1 on
        >>> found.t_min, found.t_max, found.above.units[0].unit
        (-1.0, 1.0, 2)
    """
    net = exact(up_to(net, layer) if isinstance(net, Network) else net)
    point, direction = one_point(net, x).detach(), one_point(net, v, "direction").detach()
    if not bool(direction.any()):
        raise InputError("direction: expected one that is not all zeros")
    tolerance, size = tolerance or Tolerance(), direction.abs()
    direction = torch.where(size > tolerance.relative * size.max(), direction, 0.0)
    line = _Line(net, point, tolerance)
    sides = None if domain is None else _sides(net, point, domain)
    below, above = (line.end(s * direction, sides) for s in (-1.0, 1.0))
    return Constancy(net, point, direction, below._replace(t=-below.t if below.t else 0.0), above)


class _Line:
    """A network around one point, ready to be followed along directions."""

    def __init__(self, net: Network, point: Tensor, tolerance: Tolerance) -> None:
        self.net, self.point, self.tolerance = net, point, tolerance
        self.rough = magnitudes(net)
        self.pattern = pattern_of(net, fixed_at(net, point[None], len(net.nodes))[1])
        broken = any(jumps(node.step) for node in net.nodes if isinstance(node.step, Choice))
        self.value = net.forward(point[None]).reshape(-1) if broken else None

    def end(self, direction: Tensor, sides: Polytope | None) -> End:
        """Return the end of constancy from the point on in a direction."""
        limit, side = _leaving(sides, self.point, direction)
        ray = Ray(self.net, self.point, direction, self.rough)
        germ = ray.germ(0.0)
        if slope := self.slope(germ, ray, 0.0):
            units = changes(self.pattern, germ.pattern)
            return End(0.0, "the map changes" if units else "not in the null space", units, slope, 0)
        crossed = 0
        for place in ray.places():
            if place.t >= limit:
                break
            if place.crossed and (slope := self.slope(place.germ, ray, place.t)):
                return End(place.t, "the map changes", changes(germ.pattern, place.germ.pattern), slope, crossed)
            germ, crossed = place.germ, crossed + place.crossed
        return End(limit, "domain" if side else "never ends", side, 0.0, crossed)

    def slope(self, germ: Germ, ray: Ray, t: float) -> float:
        """Return the length of the slope of the output behind x + t v, 0 where it is rounding; infinite behind a jump."""
        found = _at_output(ray, germ.pattern, t, self.tolerance.relative)
        if self.value is not None and bool(((found.value - self.value).abs() > 2 * found.value_room).any()):
            return math.inf
        moving = torch.where(found.speed.abs() > found.speed_room, found.speed, 0.0)
        return float(torch.linalg.vector_norm(moving))


def _at_output(ray: Ray, pattern: Patterns, t: float, relative: float) -> Motion:
    """Return value and slope of the flattened output on a ray on the map of a pattern, and how much of them is rounding.

    Every entry of the direction counts as having the rounding of its largest one.
    """
    net, direction = ray.net, ray.direction
    z, terms = {0: (ray.point + t * direction)[None]}, {0: ray.terms(t)[None]}
    dz, speeds = {0: direction[None]}, {0: torch.full_like(direction, float(direction.abs().max()))[None]}
    local = on_patterns(net, pattern, len(net.nodes))
    for k, (node, step, size) in enumerate(zip(net.nodes, local, ray.rough, strict=True), 1):
        here = [[held[i] for i in node.inputs] for held in (z, terms, dz, speeds)]
        z[k], dz[k] = step.offset(*here[0]), step.columns(*(s.unsqueeze(1) for s in here[2]))[:, 0]
        if size is not None:
            terms[k], speeds[k] = size.apply(*here[1]), size.linear(*here[3])
        else:
            terms[k] = settled(z[k], behind_gate(step, here[1][0]), relative)
            speeds[k] = settled(dz[k], behind_gate(step, here[3][0], constant=False), relative)
    last = len(net.nodes)
    value, speed, room, speed_room = (flat(t[last], 1)[0] for t in (z, dz, terms, speeds))
    return Motion(value, speed, relative * room, relative * speed_room)


def _sides(net: Network, point: Tensor, domain: Polytope | Box) -> Polytope:
    """Return the domain as a polytope over the flattened input that holds the point."""
    if isinstance(domain, Box):
        free = domain.basis.any(1)
        low, high = domain.origin.clone(), domain.origin.clone()
        low[free], high[free] = domain.low, domain.high
        domain = Polytope.box(low, high)
    _check_domain(net, point, domain)
    return domain


def _leaving(sides: Polytope | None, point: Tensor, direction: Tensor) -> tuple[float, tuple[RowOrigin, ...]]:
    """Return where a ray leaves the domain and across which side; a side that it nears by rounding only is none."""
    if sides is None or not len(sides):
        return math.inf, ()
    x, v = point.reshape(-1).cpu(), direction.reshape(-1).cpu()
    speed = sides.matrix @ v
    ahead = speed > Tolerance().relative * (sides.matrix.abs() @ v.abs())
    times = torch.where(ahead, sides.slack(x).clamp(min=0) / speed, torch.inf)
    row = int(times.argmin())
    t = float(times[row])
    return (t, (sides.origins[row],)) if t < math.inf else (math.inf, ())


@final
@dataclass(frozen=True, eq=False, repr=False)
class ConstantPolytope(Forgetting):
    """The inputs of one region that the network maps to one output: {z : point + basis z in the region (and domain)}.

    Attributes: `null_space` at the point, whose `basis` embeds z; `region`; `polytope` over z (nullity dimensions), whose rows
    know their units. Questions of `polylens.geometry` accept it as they do a region.
    """

    null_space: NullSpace
    region: Region
    polytope: Polytope

    @cached_property
    def boundedness(self) -> Boundedness:
        """Whether the set is bounded, with multipliers or a ray: one linear program over z, solved when first asked for."""
        return is_bounded(self.polytope)

    @cached_property
    def ball(self) -> Ball:
        """A largest ball within the set, over z: one linear program, solved when first asked for."""
        return chebyshev_ball(self.polytope)

    def embed(self, z: ArrayLike) -> Tensor:
        """Return the inputs (*batch, *input_shape) at coordinates z (*batch, nullity)."""
        basis, shape = self.null_space.basis, self.null_space.network.input_shape
        given = torch.as_tensor(z, dtype=torch.float64, device=basis.device)
        if given.ndim not in (1, 2) or given.shape[-1] != basis.shape[1]:
            raise InputError(f"z: expected ({basis.shape[1]},) or (batch, {basis.shape[1]}); got {tuple(given.shape)}")
        flat_inputs = self.null_space.point.reshape(-1) + given @ basis.mT
        return flat_inputs.reshape(*given.shape[:-1], *shape)

    def __repr__(self) -> str:
        return f"ConstantPolytope({self.polytope.dim} dimensions, {len(self.polytope)} rows)"

    def summary(self) -> str:
        nearest = self.polytope.distance_to_boundary(torch.zeros(self.polytope.dim, dtype=torch.float64))
        row = int(nearest.row)
        if row < 0:
            return f"{self!r}\n  no boundary of the region is met within the null space"
        wall = self.polytope.origins[row]
        return (
            f"{self!r}\n  the nearest boundary is {float(nearest.distance):.4g} away, that of {wall.name}[{wall.unit}]"
            "\n  boundedness and ball say how large it is, by linear programs (half a minute for an image)"
        )

    def to_dict(self) -> dict[str, Any]:
        nearest = float(self.polytope.distance_to_boundary(torch.zeros(self.polytope.dim, dtype=torch.float64)).distance)
        return {
            "dimension": self.polytope.dim,
            "rows": len(self.polytope),
            "boundary_distance": nearest if math.isfinite(nearest) else None,
            "null_space": self.null_space.to_dict(),
        }


def constant_polytope(
    net: Network,
    x: ArrayLike,
    *,
    layer: str | int | None = None,
    domain: Polytope | Box | None = None,
    tolerance: float | None = None,
) -> ConstantPolytope:
    """Return the part of the region around x on which f is f(x): the null space through x, cut by the region's walls.

    f is constant on all of it, and on no larger set of this region. Its dimension is the nullity; a point for a Jacobian of
    full rank, the region itself where the Jacobian is 0.

    Args:
        net: piecewise linear, as far as the layer.
        x: one point (*input_shape).
        layer: as for `constant_along`.
        domain: a polytope over the flattened input, or a box, to intersect with; it holds x.
        tolerance: as for `null_space`.

    Raises:
        SmoothError, ShapeError, InputError: as for `region` and `null_space`.

    Rows that the null space runs along, up to the rounding of the basis, are left out.

    Algorithm: `region`, `null_space`, and one product of the walls with the basis, O(rows * inputs * nullity).

    Example:
        >>> import torch
        >>> from polylens import constant_polytope, dense
        >>> net = dense([([[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # 2 a where a > |b|
        >>> found = constant_polytope(net, torch.tensor([3.0, 1.0]))
        >>> found.polytope.dim, found.boundedness.answer, round(found.ball.radius, 9)  # b between -3 and 3
        (1, True, 3.0)
    """
    cut = exact(up_to(net, layer) if isinstance(net, Network) else net)
    point = one_point(cut, x).detach()
    around = region(cut, point, domain=None if domain is None else _sides(cut, point, domain))
    forgotten = null_space(net, point, layer=layer, tolerance=tolerance)
    walls, basis = around.polytope, forgotten.basis.cpu()
    within = walls.section(point.reshape(-1).cpu(), basis)
    before, after = (torch.linalg.vector_norm(p.matrix, dim=1) for p in (walls, within))
    lean = _leaning(forgotten, max(around.map.weight.shape))
    return ConstantPolytope(forgotten, around, within.select(after > lean * before))


def _leaning(forgotten: NullSpace, size: int) -> float:
    """Return by how much the computed null space may lean away from the exact one: eps over the relative gap, and rounding."""
    rank, values = int(forgotten.rank), forgotten.singular_values
    condition = float(values[0] / values[rank - 1]) if rank else 1.0
    return Tolerance().relative + size * EPS * condition


def _plain(end: End) -> dict[str, Any]:
    numbers = {name: value if math.isfinite(value) else None for name, value in (("t", end.t), ("slope", end.slope))}
    return {**numbers, "reason": end.reason, "units": [u._asdict() for u in end.units], "crossed": end.crossed}
