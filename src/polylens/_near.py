"""A search from region to region for those that meet a target: the least violated first, across the walls that hold it up."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from ._meeting import ALIKE, Inmost, Meeting, inmost, least_violation, limits, tight, way_across
from ._rounding import flat_sizes, magnitudes, term_sizes
from ._types import Tolerance
from .errors import GeometryError
from .facets import facets
from .gates import Gate
from .geometry import affine_hull, is_empty
from .germ import towards
from .local import on_patterns
from .network import Network
from .pattern import Patterns
from .polytope import DOMAIN, Origins, Polytope
from .region import Region, region, region_on
from .target import OutputSet, Part


class Look(NamedTuple):
    """What was found in one region: per part of the target the least violation, where, and Farkas multipliers.

    `apart` has one entry a part: True proven to be empty, False met, None undecided. `multipliers` are None but where apart.
    """

    pattern: Patterns
    violations: tuple[float, ...]
    points: tuple[Tensor, ...]
    apart: tuple[bool | None, ...]
    multipliers: tuple[Tensor | None, ...]

    @property
    def violation(self) -> float:
        """The least violation of all parts."""
        return min(self.violations, default=math.inf)


class Found(NamedTuple):
    """A piece: the number of the look, of the part, a point (dim,) of it, and how deep that lies between walls and target."""

    look: int
    part: int
    point: Tensor
    depth: float


def within(of: Region, domain: Polytope | None) -> Region:
    """Return a region of the whole space cut with a domain."""
    return of if domain is None else replace(of, polytope=of.polytope & domain, domain=domain)


def pulled_back(of: Region, part: Part, tolerance: Tolerance) -> Polytope:
    """Return the closure of a part of the target as rows over the inputs of a region, their origins named "target".

    A row whose terms cancel up to rounding says nothing: it becomes 0, and its bound too where that is rounding.
    """
    rows, relative = part.polytope, tolerance.relative
    weight, offset = (v.cpu() for v in (of.map.weight, of.map.offset))
    weight, offset = weight.reshape(rows.dim, -1), offset.reshape(-1)
    net, last = of.network, len(of.network.nodes)
    sizes = term_sizes(net, on_patterns(net, of.pattern, last), [last], relative)[last]
    row, constant = (s[0].cpu() for s in flat_sizes(sizes))
    matrix, bound = rows.matrix @ weight, rows.bound - rows.matrix @ offset
    none = torch.linalg.vector_norm(matrix, dim=1) <= relative * (rows.matrix.abs() @ row)
    rest = bound.abs() <= relative * (rows.matrix.abs() @ constant + rows.bound.abs())
    zeros = torch.zeros(len(rows), dtype=torch.long)
    origins = Origins(("target",), zeros, torch.arange(len(rows)), zeros)
    return Polytope(torch.where(none[:, None], 0.0, matrix), torch.where(none & rest, 0.0, bound), origins)


def jumps(net: Network) -> bool:
    """Say whether some gate has a jump, behind which the next region depends on where one crosses."""
    for gate in (node.step for node in net.nodes if isinstance(node.step, Gate)):
        below = gate.slopes[:-1] * gate.breakpoints + gate.intercepts[:-1]
        above = gate.slopes[1:] * gate.breakpoints + gate.intercepts[1:]
        if bool(((above - below).abs() > ALIKE * (above.abs() + below.abs() + gate.breakpoints.abs())).any()):
            return True
    return False


_STEPS = 64  # points along a way at which the network is evaluated at once
_DESCENTS = 64  # ways that a descent takes at most
_GAIN = 1e-4  # the part by which a way lowers the violation, if another one is to follow


@final
@dataclass(eq=False, slots=True)
class Search:
    """A search under way: what was looked at, what was found, and which regions come next."""

    net: Network
    target: OutputSet
    domain: Polytope | None
    tolerance: Tolerance
    limit: int
    deadline: float
    looks: list[Look] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    reason: str | None = None
    _seen: set[Patterns] = field(default_factory=set)
    _next: list[tuple[float, int, Tensor, Tensor]] = field(default_factory=list)
    _whole: list[tuple[float, int, Tensor]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)
    _unsettled: bool = False

    def run(self, x: Tensor) -> Iterator[int]:
        """Look at the region around a point and at others from there on; yield how many after each."""
        following: tuple[Patterns, Tensor] | None = self._start(x)
        while following is not None:
            self._look(*following)
            yield len(self.looks)
            following = self._following()

    def _start(self, x: Tensor) -> tuple[Patterns, Tensor]:
        """Return a pattern whose region holds the point: on walls, the one towards a point that lies on none."""
        of, flat = region(self.net, x, domain=self.domain), x.reshape(-1).cpu()
        walls = of.polytope.origins.layer != DOMAIN
        if not bool((walls & tight(of.polytope, flat)).any()):
            return of.pattern, flat
        return self._behind(flat, self._inwards(flat)), flat

    def _inwards(self, x: Tensor) -> Tensor:
        """Return a direction from a point of the domain into its relative interior, a random one."""
        way = torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        if self.domain is None or not len(self.domain):
            return way
        hull = affine_hull(self.domain, tolerance=self.tolerance)
        way = hull.basis @ (hull.basis.T @ way)
        others = torch.ones(len(self.domain), dtype=torch.bool)
        others[hull.equalities] = False
        ends = self.domain.select(others).ray_exit(hull.point, way)
        return hull.point + min(1.0, 0.5 * float(ends.t)) * way - x

    def _behind(self, x: Tensor, way: Tensor) -> Patterns:
        point, direction = (v.reshape(self.net.input_shape).to(self.net.device) for v in (x, way))
        return towards(self.net, point, direction, rough=magnitudes(self.net)).pattern

    def _region(self, pattern: Patterns, x: Tensor) -> Region:
        point = x.reshape(self.net.input_shape).to(self.net.device)
        return within(region_on(self.net, pattern, point), self.domain)

    # -- one region

    def _look(self, pattern: Patterns, x: Tensor) -> None:
        self._seen.add(pattern)
        of = self._region(pattern, x)
        pairs = [(part, pulled_back(of, part, self.tolerance)) for part in self.target.parts]
        met = [self._meeting(of.polytope, rows, x) for _, rows in pairs]
        proofs = tuple(m.multipliers if m.apart else None for m in met)
        own = (tuple(m.violation for m in met), tuple(m.point for m in met), tuple(m.apart for m in met), proofs)
        look = Look(pattern, *own)
        self.looks.append(look)
        self._unsettled |= None in look.apart
        walls = torch.nonzero((of.polytope.origins.layer != DOMAIN) & of.polytope.matrix.any(1)).reshape(-1)
        if len(walls):
            heapq.heappush(self._whole, (look.violation, len(self.looks) - 1, x))
        for i, ((part, rows), m) in enumerate(zip(pairs, met, strict=True)):
            if m.apart is False:
                self._piece(i, of.polytope, part, rows, m, walls)
            else:
                self._towards(of.polytope, m, walls)
                for start in (m.point, x) if len(self.looks) == 1 else (m.point,):
                    self._leap(part, start, m.violation)

    def _meeting(self, hard: Polytope, soft: Polytope, x: Tensor) -> Meeting:
        """Return how a region meets a part; where the least violation proves nothing, the deepest point may."""
        found = least_violation(hard, soft, self.tolerance)
        if found is not None and found.apart is not None:
            return found
        asked = is_empty(hard & soft, tolerance=self.tolerance)
        point = asked.point if asked.point is not None else x if found is None else found.point
        violation = 0.0 if asked.answer is False else float((-soft.slack(point)).clamp(min=0).amax())
        none = torch.zeros(len(hard) + len(soft), dtype=torch.float64)
        return Meeting(point, violation, none if asked.multipliers is None else asked.multipliers, asked.answer)

    def _piece(self, i: int, hard: Polytope, part: Part, rows: Polytope, m: Meeting, walls: Tensor) -> None:
        """Note a piece, unless it lies on the hyperplane of a strict row; queue what is behind the walls that it reaches."""
        both, count = hard & rows, len(part.bound)
        strict = torch.zeros(len(both), dtype=torch.bool)
        strict[len(hard) : len(hard) + count] = part.strict
        equal = torch.zeros(len(both), dtype=torch.bool)
        equal[len(hard) : len(hard) + count] = part.equal
        equal[len(hard) + count :] = True
        sides = (both.origins.layer == DOMAIN) & ((both.matrix != 0).sum(1) == 1)
        middle = inmost(both, strict | (both.matrix.any(1) & ~equal & ~sides), self.tolerance)
        if middle is not None and not middle.depth and bool(strict.any()):
            off = inmost(both, strict, self.tolerance)
            if off is not None and not off.depth:
                return
            middle = None if off is None else Inmost(off.point, 0.0)
        self._unsettled |= middle is None
        middle = middle or Inmost(m.point, 0.0)
        self.found.append(Found(len(self.looks) - 1, i, middle.point, middle.depth))
        self._around(both, equal, middle.point, walls)

    # -- which regions are next

    def _push(self, violation: float, point: Tensor, way: Tensor) -> None:
        heapq.heappush(self._next, (violation, next(self._order), point, way))

    def _around(self, both: Polytope, equal: Tensor, x: Tensor, walls: Tensor) -> None:
        """Queue the regions behind the walls of a piece that rays from a point of it meet, the nearest first."""
        ways = both.matrix[walls]
        if bool(equal.any()):
            _, values, right = torch.linalg.svd(both.matrix[equal], full_matrices=False)
            held = right[values > ALIKE * values.amax()]
            ways = ways - (ways @ held.T) @ held
        lengths = torch.linalg.vector_norm(ways, dim=1)
        ways = ways[lengths > ALIKE * torch.linalg.vector_norm(both.matrix[walls], dim=1)]
        ways = ways / torch.linalg.vector_norm(ways, dim=1, keepdim=True)
        kept = torch.nonzero(~equal).reshape(-1)
        out = both.select(kept).ray_exit(x.expand(len(ways), -1), ways)
        left = torch.isin(kept[out.row.clamp(min=0)], walls) & torch.isfinite(out.t)
        for ray in out.t.argsort().tolist():
            if bool(left[ray]):
                self._push(0.0, x + out.t[ray] * ways[ray], ways[ray])

    def _towards(self, hard: Polytope, m: Meeting, walls: Tensor) -> None:
        """Queue the regions behind the walls that keep the violation up: behind all of them at once, and behind each."""
        at = tight(hard, m.point)
        sides = hard.matrix[at & (hard.origins.layer == DOMAIN)]
        rows = walls[at[walls]]
        force = m.multipliers[rows] * torch.linalg.vector_norm(hard.matrix[rows], dim=1)
        pushing = force > ALIKE * float(force.amax()) if len(rows) else force > 0
        alone = [torch.arange(len(rows)) == i for i in force.argsort(descending=True).tolist() if bool(pushing[i])]
        for across in ([pushing] if len(alone) > 1 else []) + alone:
            way = way_across(hard.matrix[rows], across, sides)
            if way is not None:
                self._push(m.violation, m.point, way)

    def _leap(self, part: Part, start: Tensor, bar: float) -> None:
        """Queue the region where a descent of the network's own violation comes to rest, if that is below a bar.

        Along the steepest way, the network is evaluated at steps of all sizes; where the length of all rows' violations
        falls no more, the largest one may.
        """
        x, order = start, 2.0
        for _ in range(_DESCENTS):
            way = self._downhill(part, x, order)
            length = float(torch.linalg.vector_norm(way))
            if not length:
                break
            reach = (float(torch.linalg.vector_norm(x)) + 1.0) / length
            steps = reach * torch.logspace(-24, 4, _STEPS, base=2.0, dtype=torch.float64)
            points = self._path(torch.cat([x[None], x + steps[:, None] * way]))
            missed = torch.linalg.vector_norm(self._excess(part, points), order, dim=1)
            best = int(missed.argmin())  # the first of those that meet the target
            if not float(missed[best]) < float(missed[0]) * (1 - _GAIN):
                if order > 2:
                    break
                order = math.inf
                continue
            x = points[best]
            if not float(missed[best]):
                break
        violation = float(self._excess(part, x[None]).amax())
        if violation < bar:
            self._push(violation, x, start - x)

    def _downhill(self, part: Part, x: Tensor, order: float) -> Tensor:
        """Return the direction (dim,) in which the violation falls most, without what leaves a box."""
        with torch.enable_grad():
            point = x.clone().requires_grad_()
            missed = torch.linalg.vector_norm(self._excess(part, point[None]), order)
            (pull,) = torch.autograd.grad(missed, point)
        if self.domain is None:
            return -pull
        low, high = self._sides(self.domain)
        return torch.where(((pull > 0) & (x <= low)) | ((pull < 0) & (x >= high)), 0.0, -pull)

    def _path(self, points: Tensor) -> Tensor:
        """Return points (steps, dim) held within the sides of a box; those beyond other sides are the first one instead."""
        if self.domain is None:
            return points
        held = points.clamp(*self._sides(self.domain))
        others = self.domain.select((self.domain.matrix != 0).sum(1) != 1)
        return torch.where((others.slack(held) >= 0).all(1, keepdim=True), held, points[0])

    def _excess(self, part: Part, points: Tensor) -> Tensor:
        """Return by how much the network, evaluated at points (batch, dim), violates each row of a part of the target."""
        y = self.net(points.reshape(-1, *self.net.input_shape).to(self.net.device)).flatten(1).cpu()
        rows = part.polytope
        return (y @ rows.matrix.T - rows.bound).clamp(min=0)

    @staticmethod
    def _sides(domain: Polytope) -> tuple[Tensor, Tensor]:
        return limits(domain.select((domain.matrix != 0).sum(1) == 1))

    def _following(self) -> tuple[Patterns, Tensor] | None:
        """Return the next region that was not looked at, or None, with the reason unless there is none left."""
        while True:
            if time.monotonic() > self.deadline:
                self.reason = "time_limit"
                return None
            while self._next:
                _, _, point, way = heapq.heappop(self._next)
                pattern = self._behind(point, way)
                if pattern in self._seen:
                    continue
                if len(self.looks) >= self.limit:
                    self.reason = "limit"
                    return None
                return pattern, point
            if not self._whole:
                self.reason = "undecided" if self._unsettled else None
                return None
            if len(self.looks) >= self.limit:
                self.reason = "limit"
                return None
            self._all_around()

    def _all_around(self) -> None:
        """Queue the regions behind all facets of the region that violates least among those not yet so treated."""
        violation, i, x = heapq.heappop(self._whole)
        of = self._region(self.looks[i].pattern, x)
        left = None if math.isinf(self.deadline) else max(self.deadline - time.monotonic(), 1e-3)
        try:
            found = facets(of.polytope, tolerance=self.tolerance, time_limit=left)
        except GeometryError:  # flat beyond proof
            self._unsettled = True
            return
        self._unsettled |= not found.complete or jumps(self.net)
        for rows, point, normal in zip(found.groups, found.witnesses, found.normals, strict=True):
            if not bool((of.polytope.origins.layer[list(rows)] == DOMAIN).all()):
                self._push(violation, point, normal)
