"""Walks on a fibre: from an input to others with exactly the same output, along null directions and across facets.

Inside a region the fibre is a flat, cut by the region; behind a facet it goes on in the null space of the next map.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, whole
from ._fibre.chart import Ground, changes
from ._fibre.course import Goal, Sides
from ._fibre.walker import Limits, Walker
from ._fibre.ways import Surroundings
from ._types import Result
from .errors import GeometryError, InputError, ShapeError
from .germ import exact, one_point
from .network import Network
from .polytope import Polytope, RowOrigin, slack_rounding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORDS = {
    "crossings": "as many regions were entered as asked for",
    "distance": "the distance asked for was reached",
    "reached": "the target lies in the fibre, and was reached",
    "maximum": "no way on: {what} at this point",
    "domain": "no way on within the domain: {what} there, where its sides bar the way",
    "point": "no way at all: around this input the output changes along every direction",
    "unbounded": "the fibre goes on for ever along the last direction",
    "bends": "as many bends were made as allowed",
    "undecided": "no way on was found, but rounding hides one, or more patterns meet at the end than were asked",
}
_MAXIMA = {
    "away": "a local maximum of the distance from the start",
    "roam": "none of the units that were tried changes along the fibre",
    "towards": "a local minimum of the distance to the target",
    "direction": "a local maximum along the direction",
}


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class FibreWalk(Result):
    """A path of straight pieces through inputs that all have the output of its first.

    Attributes: `path` (points, *input_shape), the start and every bend; between two points the network is affine and
    constant. `crossed`, for every point the units that change their piece there, none where the path bends at a side of the
    domain or along a crease of the fibre. `outputs` (points, *output_shape) as the network itself computes them in float64;
    `goal`, one of "away", "roam", "towards", "direction"; `target` (*input_shape) for "towards"; `layer`, whose fibre it is,
    None for the output. `reason` is why the walk ended: "crossings", "distance", "reached", "maximum", "domain", "point",
    "unbounded", "bends" or "undecided", and `ray` (*input_shape) where it goes on for ever.
    """

    path: Tensor
    crossed: tuple[tuple[RowOrigin, ...], ...]
    outputs: Tensor
    goal: str
    target: Tensor | None
    layer: str | None
    reason: str
    ray: Tensor | None

    @property
    def start(self) -> Tensor:
        """The input that the walk began at, (*input_shape)."""
        return self.path[0]

    @property
    def end(self) -> Tensor:
        """The last input, (*input_shape)."""
        return self.path[-1]

    @property
    def num_crossings(self) -> int:
        """How often another region was entered."""
        return sum(bool(units) for units in self.crossed)

    @property
    def crossings(self) -> Tensor:
        """The numbers of the points at which another region is entered."""
        return torch.tensor([k for k, units in enumerate(self.crossed) if units], dtype=torch.long)

    @property
    def drift(self) -> Tensor:
        """The largest difference of an output from the first point's, (points,)."""
        off = (self.outputs - self.outputs[0]).abs().reshape(len(self.path), -1)
        return off.amax(1) if off.shape[1] else off.sum(1)

    @property
    def distance(self) -> Tensor:
        """How far every point is from the start, (points,)."""
        return torch.linalg.vector_norm((self.path - self.path[0]).flatten(1), dim=1)

    @property
    def to_target(self) -> Tensor | None:
        """How far every point is from the target, (points,), where there is one."""
        return None if self.target is None else torch.linalg.vector_norm((self.path - self.target).flatten(1), dim=1)

    @property
    def length(self) -> float:
        """How long the path is."""
        return float(torch.linalg.vector_norm(self.path.diff(dim=0).flatten(1), dim=1).sum())

    def __repr__(self) -> str:
        return f"FibreWalk({self.num_crossings} crossings, {float(self.distance[-1]):.4g} away, {self.reason})"

    def summary(self) -> str:
        name = "the output" if self.layer is None else self.layer
        lines = [
            repr(self),
            f"  {len(self.path) - 1} straight pieces of length {self.length:.4g} in all",
            f"  {name} stays the same up to {float(self.drift.max()):.3g}, of at most {float(self.outputs.abs().max()):.4g}",
            f"  ended: {self.why}",
        ]
        if self.to_target is not None:
            before, after = (float(self.to_target[k]) for k in (0, -1))
            lines.insert(2, f"  from {before:.4g} to {after:.4g} away from the target")
        return "\n".join(lines)

    @property
    def why(self) -> str:
        """The reason in a sentence."""
        return _WORDS[self.reason].format(what=_MAXIMA[self.goal])

    def to_dict(self) -> dict[str, Any]:
        target = self.to_target
        return {
            "goal": self.goal,
            "layer": self.layer,
            "points": len(self.path),
            "crossings": self.num_crossings,
            "length": self.length,
            "distance": self.distance.tolist(),
            "distance_to_target": None if target is None else target.tolist(),
            "drift": self.drift.tolist(),
            "max_drift": float(self.drift.max()),
            "crossed": [[u._asdict() for u in units] for units in self.crossed],
            "reason": self.reason,
            "why": self.why,
            "start": self.start.tolist(),
            "end": self.end.tolist(),
            "ray": None if self.ray is None else self.ray.tolist(),
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the walk and return the Axes; `polylens.plotting.fibre` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.fibre").draw(self, ax, **options)
        return axes


def fibre_walk(
    net: Network,
    x: ArrayLike,
    *,
    towards: ArrayLike | None = None,
    direction: ArrayLike | None = None,
    roam: bool = False,
    crossings: int = 1000,
    until: float | None = None,
    bends: int = 20_000,
    domain: Polytope | tuple[ArrayLike, ArrayLike] | None = None,
    layer: str | int | None = None,
    seed: torch.Generator | int = 0,
) -> FibreWalk:
    """Return a walk through the fibre f^-1(f(x)): other inputs that the network cannot tell from x, to rounding.

    It goes away from x, and never comes nearer again, unless one of `towards`, `direction` and `roam` is given.

    Args:
        net: piecewise linear as far as the output, or as far as `layer`.
        x: one point (*input_shape), inside the domain.
        towards: an input (*input_shape) to come as near to as the fibre allows.
        direction: a vector (*input_shape) along which to get as far as the fibre allows.
        roam: walk from wall to wall of units chosen at random, so as to see many regions.
        crossings: how many regions to enter at most.
        until: stop so far away from x. A roaming walk goes so far away first, and then stays at least as far.
        bends: how many straight pieces to walk at most; sides of the domain cost one each.
        domain: a polytope over the flattened input, or a pair (low, high) of numbers or arrays for a box; None for R^n.
        layer: a node's name or a position among the gates, for the inputs that this layer cannot tell apart.
        seed: an integer or a `torch.Generator`, for the first direction of a walk away, and for roaming.

    Walls at which the network jumps (threshold, hardshrink) are not crossed: the walk keeps 1e-9 of the terms of the unit's
    pre-activation away.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError, InputError: unfit points, options that exclude one another, a domain that does not hold x.
        GeometryError: x lies on a jump of the network.

    Algorithm: at a bend the gradient of the goal is projected onto the directions that the pattern's map does not see and
    that neither walls nor sides bar (multipliers by active sets); patterns behind the walls that bar it are asked too. The
    path runs along the projection to the next wall or side. What rounding changed is then mended by the least step that is
    invisible to the walls held. A bend costs about 20 forward passes and a few decompositions of the map.

    References: Hanin, Rolnick, Deep ReLU networks have surprisingly few activation patterns, NeurIPS 2019 (regions);
    Rosen, The gradient projection method for nonlinear programming, SIAM Journal 8, 1960; Lawson, Hanson, Solving Least
    Squares Problems, 1974, chapter 23 (multipliers).

    Example:
        >>> import torch
        >>> from polylens import fibre_walk, zoo
        >>> walk = fibre_walk(zoo.triangle(), torch.tensor([1.5, 0.0]), direction=torch.tensor([0.0, 1.0]))
        >>> walk.path.tolist(), walk.reason  # z = -x1 until relu(x1 - x2) ends at x2 = x1, then z = x2 - 2 x1
        ([[1.5, 0.0], [1.5, 1.5]], 'unbounded')
    """
    net = exact(net if layer is None else replace(net, nodes=net.nodes[: net.value_of(layer)]))
    name = None if layer is None else net.nodes[-1].name
    if sum((towards is not None, direction is not None, roam)) > 1:
        raise InputError("fibre_walk: expected at most one of towards, direction and roam; got several; walk once for each")
    start = one_point(net, x)
    goal = Goal(
        start.reshape(-1),
        *(
            None if v is None else one_point(net, v, what).reshape(-1)
            for v, what in ((towards, "towards"), (direction, "direction"))
        ),
    )
    if goal.direction is not None and not bool(goal.direction.any()):
        raise InputError("direction: expected one that is not all zeros")
    if until is not None and not until > 0:
        raise InputError(f"until: expected a distance above 0; got {until!r}")
    limits = Limits(whole(crossings, "crossings"), whole(bends, "bends"), math.inf if until is None else float(until))
    sides = Sides.of(_domain(net, start, domain), goal.start)
    with torch.no_grad():
        around = Surroundings(Ground(net), sides, net.forward(start[None]).reshape(-1))
        _off_jumps(around, goal.start)
        random = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        walker = Walker(around, goal, limits, random, roam)
        reason = walker.walk()
        path = torch.stack(walker.path).reshape(-1, *net.input_shape)
        outputs = torch.cat([net.forward(part) for part in path.split(256)])
    ray = None if reason != "unbounded" else walker.step.reshape(net.input_shape)
    target = None if goal.target is None else goal.target.reshape(net.input_shape)
    return FibreWalk(path, tuple(walker.crossed), outputs, "roam" if roam else goal.kind, target, name, reason, ray)


def _off_jumps(around: Surroundings, x: Tensor) -> None:
    """Raise where a unit is on a breakpoint at which its gate jumps: its fibre does not hold its own limits there."""
    chart = around.chart(x, torch.ones_like(x))
    met = torch.nonzero(chart.jump & (chart.gap.abs() <= 1e-3 * chart.room)).reshape(-1)
    if len(met):
        unit = changes(around.ground, chart.pieces, chart.pieces.index_fill(0, chart.unit[met[:1]], -1))[0]
        raise GeometryError(
            f"fibre_walk: expected a point at which the network is continuous; got one where {unit.name}[{unit.unit}] jumps;"
            " move the point"
        )


def _domain(net: Network, x: Tensor, domain: Polytope | tuple[ArrayLike, ArrayLike] | None) -> Polytope | None:
    """Return the domain as a polytope that holds x."""
    if domain is None:
        return None
    dim = x.numel()
    if isinstance(domain, tuple) and len(domain) == 2:
        low, high = (torch.as_tensor(v, dtype=torch.float64, device="cpu") for v in domain)
        ends = [v.expand(net.input_shape) if v.ndim == 0 else v for v in (low, high)]
        domain = Polytope.box(*ends)
    if not isinstance(domain, Polytope):
        raise InputError(f"domain: expected a Polytope or a pair (low, high); got {type(domain).__name__}")
    if domain.dim != dim:
        raise ShapeError(f"domain: expected a polytope over the {dim} flattened inputs; got one in dimension {domain.dim}")
    flat = x.reshape(-1).cpu()
    if bool((domain.slack(flat) < -slack_rounding(domain, flat, 1e-9)).any()):
        raise InputError("fibre_walk: expected a point inside the domain; move the point or widen the domain")
    return domain
