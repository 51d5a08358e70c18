"""Which input activates a unit most: in one region by a linear program, over a domain by its cells, beyond by climbing."""

from __future__ import annotations

import importlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from ._activate.ascent import ascend
from ._activate.climb import Climb, Summit, summit
from ._activate.unit import Unit, unit_of
from ._check import ArrayLike, whole
from ._lp import accuracy_of
from ._meeting import tight
from ._near import within
from ._progress import progress
from ._reconstruct.priors import PriorName, prior_of
from ._subdivision.stages import jumps
from ._types import Result, Status, Tolerance
from ._zeros.corners import corner_finder
from ._zeros.room import drawn, given
from .domain import Box, Domain, Slice
from .errors import GeometryError, InputError, SmoothError
from .gates import Choice
from .germ import one_point
from .linearise import Side
from .network import Network
from .pattern import Patterns
from .polytope import DOMAIN, Polytope
from .region import Region, region, region_on
from .subdivision import iter_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SearchName = Literal["region", "climb", "ascent", "exact"]
Proof = Literal["global", "local", "region", "unbounded", "none"]

_TOUCHING = 1e-9  # of 1 + |u|: regions farther from a point than this do not meet there
_WORDS: dict[Proof, str] = {
    "global": "no input of the domain gives more",
    "local": "no input near it gives more",
    "region": "no input of its region gives more",
    "unbounded": "it grows without end along a ray",
    "none": "nothing is proven of other inputs",
}


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Activation(Result):
    """An input that activates a unit, and what is proven of all others.

    `point` (*input_shape), float64, and the unit's `value` there by a plain evaluation; `proof`: "global", nothing in the
    domain gives more; "local", nothing near it does; "region", nothing in its region does; "unbounded", the value grows
    along `ray` (*input_shape) for ever; "none". `bound` is what no input of the domain exceeds, infinite where none is known.

    `region`, cut with the domain, is that of the certificate, in coordinates of the domain: `multipliers` y (rows,) >= 0 of
    its rows A u <= b with A^T y = `gradient` prove that the unit is at most `upper` there. They are None for an ascent and
    for a subdivision, whose cells `cells` counts. `values` are those of the regions passed on a climb, or where the starts of
    an ascent ended.
    """

    network: Network
    layer: str
    unit: int
    search: SearchName
    point: Tensor
    value: float
    proof: Proof
    bound: float
    region: Region | None
    multipliers: Tensor | None
    gradient: Tensor | None
    upper: float | None
    ray: Tensor | None
    values: tuple[float, ...]
    cells: int

    @property
    def gap(self) -> float:
        """How much more the unit could be somewhere in the domain, for all that is known."""
        return max(0.0, self.bound - self.value)

    def __repr__(self) -> str:
        return f"Activation({self.layer} {self.unit} = {self.value:.6g}: {_WORDS[self.proof]})"

    def summary(self) -> str:
        lines = [f"{self.layer} {self.unit} is {self.value:.6g} at the input found by {self.search}: {_WORDS[self.proof]}"]
        if self.proof not in ("global", "unbounded"):
            known = (
                f"no input of the domain gives more than {self.bound:.6g}" if math.isfinite(self.bound) else "no bound is known"
            )
            lines.append(f"  {known}")
        if self.multipliers is not None and self.upper is not None:
            lines.append(f"  multipliers of its region's {len(self.multipliers)} rows prove {self.upper:.6g} there")
        if self.cells:
            lines.append(f"  {self.cells:,} cells looked at")
        elif len(self.values) > 1:
            what = "starts ended at" if self.search == "ascent" else "regions passed, from"
            lines.append(f"  {len(self.values)} {what} {min(self.values):.6g} to {max(self.values):.6g}")
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the input that was found, as a picture or as bars."""
        axes: Axes = importlib.import_module("polylens.plotting.sensitivity").draw(self, ax, **options)
        return axes

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "unit": self.unit,
            "search": self.search,
            "value": self.value,
            "proof": self.proof,
            "bound": self.bound if math.isfinite(self.bound) else None,
            "upper": self.upper,
            "values": list(self.values),
            "cells": self.cells,
            "point": self.point.tolist(),
            "ray": None if self.ray is None else self.ray.tolist(),
        }


def activate(
    net: Network,
    unit: int,
    *,
    layer: str | int | None = None,
    at: Side = "post",
    x: ArrayLike | None = None,
    domain: Domain | Polytope | None = None,
    search: SearchName = "climb",
    prior: PriorName = "none",
    weight: float = 0.1,
    starts: int = 16,
    steps: int = 200,
    limit: int = 100,
    time_limit: float | None = None,
    seed: int = 0,
    tolerance: Tolerance | None = None,
) -> Activation:
    """Return an input that activates a unit as much as the search finds, with what is proven of all other inputs.

    Args:
        net: piecewise linear in front of the unit; smooth networks can be ascended.
        unit: a position in the flattened layer.
        layer: a node's name, a position among `net.gates`, or None for the output.
        at: "post" for what the layer puts out, "pre" for what reaches it, which tells silent units apart.
        x: an input (*input_shape) of the domain to start from.
        domain: where the input may be; None for everywhere.
        search: "region": the best input of the region of x, which has to be given. "climb": from region to region upwards,
            from x, and from the best of an ascent where the domain is bounded. "ascent": by the gradient, from x and from
            drawn starts; the only one with a prior. "exact": over all cells of a bounded domain of few dimensions.
        prior: what an ascent holds against an input: "norm", "tv" (of pictures), or "none".
        weight: of the prior, in units of the value.
        starts: how many points an ascent draws.
        steps: of an ascent.
        limit: how many linear programs a climb may solve.
        time_limit: seconds after which a climb or a subdivision ends with what it has.
        seed: of the starts.
        tolerance: how large a residue of rounding may be.

    Raises:
        SmoothError: anything but an ascent where the network is not piecewise linear in front of the unit.
        InputError: no such unit; no x for "region"; an x outside the domain; a prior for another search than an ascent; an
            ascent without prior over an unbounded domain; "exact" over one, or with gates that jump.
        GeometryError: more dimensions than a subdivision can start with; a climb whose first program stays undecided.

    Algorithm: in a region the unit is affine, so its best input is a linear program's, verified by its multipliers. A climb
    goes on behind the walls that these name, all at once or one by one, into regions that hold the same point, so values never
    fall. What it ends at is a local maximum if no wall is met there, or if in all regions that meet there, found by a
    subdivision of a small box in up to three dimensions, nothing is higher. `bound` is that of intervals and of strips around
    the gates over the domain's sides. An ascent takes steps of falling length in Adam's directions, clipped to the sides.

    References: D. Erhan et al., Visualizing higher-layer features of a deep network, 2009; A. Mahendran, A. Vedaldi,
    Visualizing deep convolutional neural networks using natural pre-images, IJCV 2016 (priors).

    Example:
        >>> from polylens import Box, activate, dense
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 2.0]], None)])  # x, or -2 x below 0
        >>> found = activate(net, 0, domain=Box([-1.0], [3.0]), search="exact")
        >>> found.point.item(), found.value, found.proof
        (3.0, 3.0, 'global')
        >>> activate(net, 0, x=[-0.5], domain=Box([-1.0], [3.0]), search="region").value
        2.0
    """
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
    problem = unit_of(net, unit, layer, at, domain)
    _check(problem, x, search, prior, weight)
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    for name, value in (("starts", starts), ("steps", steps), ("limit", limit)):
        whole(value, name)
    whole(seed, "seed", 0)
    tolerance = tolerance or Tolerance()
    start = None if x is None else given(problem.room, one_point(problem.network, x).reshape(1, -1).cpu())
    with torch.no_grad():
        if search == "exact":
            return _exact(problem, deadline)
        if search == "region":
            assert start is not None
            return _certified(problem, search, [_first(problem, start[0], tolerance)], tolerance)
        if search == "ascent":
            return _ascent(problem, start, prior, weight, starts, steps, seed)
        return _climb(problem, start, (starts, steps, seed), (limit, deadline), tolerance)


def _check(problem: Unit, x: ArrayLike | None, search: str, prior: str, weight: float) -> None:
    if search not in ("region", "climb", "ascent", "exact"):
        raise InputError(f"search: expected 'region', 'climb', 'ascent' or 'exact'; got {search!r}")
    if prior not in ("none", "norm", "tv"):
        raise InputError(f"prior: expected 'norm', 'tv' or 'none'; got {prior!r}")
    if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
        raise InputError(f"weight: expected a number of at least 0; got {weight!r}")
    if prior != "none" and search != "ascent":
        raise InputError(f"prior: expected none but for search='ascent', as the unit is no longer affine; got {prior!r}")
    if search == "region" and x is None:
        raise InputError("x: expected an input whose region is asked about; got None")
    if search == "ascent" and prior == "none" and not problem.is_bounded:
        raise InputError("ascent: expected a bounded domain, such as Box(low, high), or a prior; values may grow for ever")
    if search == "exact" and not problem.is_bounded:
        raise InputError("exact: expected a bounded domain, such as Box(low, high); the others climb, and may find a ray")
    if search != "ascent":
        for node in problem.scalar.smooth_steps:
            raise SmoothError(
                f"regions need piecewise-linear steps; {node.name} ({node.step.kind}) is smooth; use search='ascent'"
            )
    if search == "exact":
        for node in problem.scalar.nodes:
            if isinstance(node.step, Choice) and jumps(node.step):
                raise InputError(
                    f"exact: expected gates that do not jump, as a maximum need not exist; {node.name} does; climb"
                )


# -- the searches


def _first(problem: Unit, u: Tensor, tolerance: Tolerance) -> Summit:
    point = u.reshape(problem.scalar.input_shape).to(problem.scalar.device)
    return summit(region(problem.scalar, point, domain=problem.rows), tolerance)


def _climb(
    problem: Unit, start: Tensor | None, drawing: tuple[int, int, int], limits: tuple[int, float], tolerance: Tolerance
) -> Activation:
    """Climb from the given input, and from where the best ascent ended; the higher end counts."""
    begins = [] if start is None else [start[0]]
    if problem.is_bounded or start is None:
        begins.append(_ascended(problem, start, "none", 0.0, *drawing)[0])
    best: list[Summit] = []
    for u in progress(begins, len(begins), "climbs"):
        climb = Climb(problem.scalar, problem.rows, tolerance, *limits)
        climb.run(u.reshape(problem.scalar.input_shape).to(problem.scalar.device))
        if not best or climb.summits[-1].value > best[-1].value:
            best = climb.summits
    return _certified(problem, "climb", best, tolerance)


def _ascent(
    problem: Unit, start: Tensor | None, prior: PriorName, weight: float, starts: int, steps: int, seed: int
) -> Activation:
    u, values = _ascended(problem, start, prior, weight, starts, steps, seed)
    return _answer(problem, "ascent", u, "none", values)


def _ascended(
    problem: Unit, start: Tensor | None, prior: PriorName, weight: float, starts: int, steps: int, seed: int
) -> tuple[Tensor, list[float]]:
    """Return the best end (dim,) of ascents from a given point and from drawn ones, and the values at all ends."""
    held = prior_of(prior, problem.network.input_shape, None)
    room, shape = problem.room, problem.scalar.input_shape
    points = drawn(room, starts, seed)
    points = points if start is None else torch.cat([start, points])

    def value(u: Tensor) -> Tensor:
        return problem.scalar.forward(u.reshape(-1, *shape).to(problem.scalar.device))[:, 0].cpu()

    def aim(u: Tensor) -> Tensor:
        return value(u) if held is None else value(u) - weight * held(room.embed(u))

    ends, scores = ascend(aim, room, points, steps)
    return ends[int(scores.argmax())], value(ends).tolist()


def _exact(problem: Unit, deadline: float) -> Activation:
    """Look at the corners of all cells: in each the unit is affine, so one of them has the maximum."""
    best, top, count, complete = None, -math.inf, 0, True
    assert problem.rows is not None
    domain = Slice(problem.rows) if len(problem.room.bound) else Box(problem.room.low, problem.room.high)
    shape = problem.scalar.input_shape
    for cells in iter_cells(problem.scalar, domain):
        used = np.unique(cells.vertex)  # others may lie outside, or at infinity
        u = domain.embed(cells.points[used] / cells.weight[used, None])
        values = problem.scalar.forward(u.reshape(-1, *shape).to(problem.scalar.device)).reshape(-1)
        count += len(cells)
        k = int(values.argmax())
        if float(values[k]) > top:
            best, top = u[k], float(values[k])
        if time.monotonic() > deadline:
            complete = False
            break
    assert best is not None
    return _answer(problem, "exact", best, "global" if complete else "none", [top], cells=count)


def _answer(problem: Unit, search: SearchName, u: Tensor, proof: Proof, values: list[float], **more: Any) -> Activation:
    """Return the result at coordinates (dim,); whoever reaches the bound has the maximum."""
    point, value = problem.at(u)
    bound = value if proof == "global" else math.inf if proof == "unbounded" else problem.bound()
    if proof != "unbounded" and bound <= value + accuracy_of(Tolerance()) * abs(value):
        proof = "global"
    plain: dict[str, Any] = {
        "region": None, "multipliers": None, "gradient": None, "upper": None, "ray": None, "cells": 0,
    }  # fmt: skip
    told = (point, math.inf if proof == "unbounded" else value, proof, max(bound, value))
    return Activation(problem.network, problem.layer, problem.unit, search, *told, values=tuple(values), **(plain | more))


def _certified(problem: Unit, search: SearchName, summits: list[Summit], tolerance: Tolerance) -> Activation:
    """Return the result of the last of some summits, with its certificate."""
    last = summits[-1]
    found, values = last.optimum, [s.value for s in summits]
    if found.point is None:
        raise GeometryError(
            "activate: expected a region that the solver can settle; its answer could not be verified within tolerance;"
            " pass a larger tolerance, or search by ascent"
        )
    certificate = {"region": last.region, "gradient": last.gradient}
    if found.status is Status.UNBOUNDED:
        assert found.ray is not None
        away = problem.room.embed(found.ray[None]) - problem.room.embed(torch.zeros_like(found.ray[None]))
        return _answer(
            problem, search, found.point, "unbounded", values, ray=away.reshape(problem.network.input_shape), **certificate
        )
    certificate |= {"multipliers": found.multipliers, "upper": last.upper}
    proof: Proof = "local" if _is_local(problem, last, tolerance) else "region"
    return _answer(problem, search, found.point, proof, values, **certificate)


# -- proofs


def _is_local(problem: Unit, last: Summit, tolerance: Tolerance) -> bool:
    """Say whether it is proven that nothing near a summit is higher: no wall is met there, or all regions around were asked."""
    u, p = last.optimum.point, last.region.polytope
    assert u is not None
    if not bool((tight(p, u) & (p.origins.layer != DOMAIN)).any()):
        return True
    ((_, pieces),) = corner_finder(problem.scalar)(u[None])
    if pieces is None:
        return False
    point = u.reshape(problem.scalar.input_shape).to(problem.scalar.device)
    room = accuracy_of(tolerance) * (abs(last.value) + float(last.gradient.abs() @ u.abs()))
    gates = problem.scalar.gates
    for k in range(len(next(iter(pieces.values())))):
        pattern = Patterns.from_pieces(gates, [pieces[g.name][k : k + 1] for g in gates], 1)
        around = within(region_on(problem.scalar, pattern, point), problem.rows)
        if bool(around.polytope.contains(u, _TOUCHING * (1 + float(u.abs().max())))):
            found = summit(around, tolerance)
            if found.optimum.status is not Status.OPTIMAL or found.value > last.value + room:
                return False
    return True
