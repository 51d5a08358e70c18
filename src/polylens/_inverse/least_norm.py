"""An input of least norm with a given output: within one region a convex program, from region to region a descent.

Regions are looked at in the coordinates of the row space of the first layer, which holds every input of least norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._meeting import tight, way_across
from .._rounding import evaluated, magnitudes
from .._types import Tolerance
from .._zeros import descent, marquardt
from .._zeros.corners import corner_finder
from .._zeros.room import room_of
from ..compose import compose
from ..domain import Box, WholeSpace
from ..errors import GeometryError
from ..geometry import dimension
from ..germ import fixed_at, pattern_of, towards
from ..local import at_points, maps
from ..network import Network
from ..pattern import Patterns
from ..polytope import Polytope
from ..preimage import preimage
from ..region import Region, region_on
from ..steps import flat
from .affine import Affine
from .factors import Factors
from .least_distance import Least, least
from .links import Link

_EXACT = Tolerance(256.0)
_DRAWN = 64  # points for every start
_STEPS = 300  # rounds of a search for any solution
_SHORTER = 1 - 1e-9  # a point is moved on to where it is shorter by more than rounding
_FEW = 3  # dimensions in which all regions are looked at for the proof that no input is shorter
_UNITS = 128
_SECONDS = 5.0
_BYTES = 1 << 29  # of the columns of all starts: networks that need more are not searched


@final
@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """An input of least norm on its piece: `point` (inputs,), and what proves it.

    `pattern` is that of the piece, None for smooth networks. `gap` is what is left of the conditions for a least norm,
    relative; `dimension` that of all inputs of the piece with this output; `is_global` says that no input at all is shorter.
    """

    point: Tensor
    pattern: Patterns | None
    gap: float
    proven: bool
    dimension: int | None
    is_global: bool
    regions: int


@final
@dataclass(frozen=True, eq=False, slots=True)
class Coordinates:
    """The network in the coordinates of the row space of its first layer: x = basis q, basis (inputs, rank); None for all."""

    net: Network
    basis: Tensor | None

    @classmethod
    def of(cls, net: Network, chain: tuple[Link, ...]) -> Coordinates:
        """Return the coordinates of what the first layer sees, where that is less than everything."""
        first = next((link for link in chain if link.kind not in ("rearrangement",)), None)
        if first is None or first.kind != "affine" or first is not chain[0] or not (own := Affine(first.map())).is_dense:
            return cls(net, None)
        factors = own.factors
        if factors.rank == factors.matrix.shape[1] or not factors.rank:
            return cls(net, None)
        basis = factors.rows.T.contiguous()
        return cls(compose((basis, None), net), basis)

    def inputs(self, q: Tensor) -> Tensor:
        """Return inputs (..., inputs) from coordinates (..., rank)."""
        return q if self.basis is None else q @ self.basis.T

    @property
    def hidden(self) -> int:
        """How many dimensions of the input the first layer does not see."""
        return 0 if self.basis is None else self.basis.shape[0] - self.basis.shape[1]


def least_norm(net: Network, chain: tuple[Link, ...], target: Tensor, starts: int, seed: int, limit: int) -> Found | None:
    """Return an input of least norm among those near by with f(x) = target (outputs,), or None where no input was
    found, and for networks too large to be searched.

    Algorithm: searches for any solution from `starts` points; then, from the shortest on, the convex program of the
    region, and those of the regions behind the walls that keep the norm up, as long as one of them is shorter.
    """
    at = Coordinates.of(net, chain)
    if math.prod(at.net.input_shape) * at.net.sample_bytes * starts > _BYTES:
        return None
    generator = torch.Generator().manual_seed(seed)
    points = _solutions(at.net, target, starts, generator)
    if not len(points):
        return None
    order = torch.linalg.vector_norm(points, dim=1).argsort()
    if not net.is_piecewise_linear:
        return _smooth(at, target, points[order])
    descent = _Descent(at.net, target, limit)
    best = descent.run(points[order])
    if best is None:
        return None
    everywhere = _nothing_shorter(at.net, target, best.least.point)
    dim = _dimension(best.region, target)
    x = at.inputs(best.least.point)
    total = None if dim is None else dim + at.hidden
    return Found(x, best.pattern, best.least.gap, best.least.proven, total, everywhere, len(descent.seen))


def is_nowhere(net: Network, chain: tuple[Link, ...], target: Tensor) -> bool:
    """Say whether it is proven that no input has the output; in few dimensions only, where all regions are looked at."""
    if not net.is_piecewise_linear:
        return False
    at = Coordinates.of(net, chain).net
    n = math.prod(at.input_shape)
    if n > _FEW or at.num_units > _UNITS:
        return False
    found = preimage(at, target.reshape(at.output_shape), WholeSpace(n), time_limit=_SECONDS)
    return found.is_empty is True


def _solutions(net: Network, target: Tensor, starts: int, generator: torch.Generator) -> Tensor:
    """Return points (k, inputs) with f = target, from the best of random points."""
    n = math.prod(net.input_shape)
    u = _starts(net, target, starts, generator)
    room = room_of(None, n)
    with torch.no_grad():
        size = float(flat(evaluated(net, u.reshape(-1, *net.input_shape))[1], 1).amax(1).median())
    allowed = _EXACT.relative * max(size, float(target.abs().max()))
    if net.is_piecewise_linear:
        problem = descent.Problem.of(net, target, room, allowed, u, corner_finder(net))
        state = descent.descend(problem, u, _STEPS, generator)
        return state.u[state.status == descent.EXACT]
    rest = marquardt.marquardt(net, target, room, u, _STEPS, allowed)
    return rest.u[rest.status == marquardt.EXACT]


def _starts(net: Network, target: Tensor, starts: int, generator: torch.Generator) -> Tensor:
    """Return the points nearest to a solution by their outputs, of many that are drawn, of sizes from small to large."""
    drawn = _DRAWN * starts
    u = torch.randn(drawn, math.prod(net.input_shape), generator=generator, dtype=torch.float64)
    u = u * 2.0 ** torch.linspace(-8, 4, drawn, dtype=torch.float64)[:, None] * _scale(net, target)
    u[0] = 0
    with torch.no_grad():
        parts = u.reshape(drawn, *net.input_shape).split(max(1, _BYTES // 16 // net.sample_bytes))
        missed = torch.cat([torch.linalg.vector_norm(flat(net.forward(part), 1) - target, dim=1) for part in parts])
    return u[missed.argsort()[:starts]]


def _scale(net: Network, target: Tensor) -> float:
    """Return the size of entries at which outputs differ from that at 0 as the target does, by the Jacobian at a point."""
    n, last = math.prod(net.input_shape), len(net.nodes)
    x = torch.randn(4, *net.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        jacobian = maps(net, 4, lambda part: at_points(net, x[part], last), {last: None})[last][0]
        away = float(torch.linalg.vector_norm(flat(net.forward(torch.zeros_like(x[:1])), 1) - target))
    size = float(torch.linalg.matrix_norm(jacobian).median())
    found = away / size * math.sqrt(len(target) / n) if size > 0 else 1.0
    return found if 0 < found < math.inf else 1.0


# -- piecewise-linear networks


class _Look(NamedTuple):
    pattern: Patterns
    region: Region
    least: Least

    @property
    def norm(self) -> float:
        return float(torch.linalg.vector_norm(self.least.point))


@final
class _Descent:
    """Which patterns were looked at, and the shortest solution so far."""

    def __init__(self, net: Network, target: Tensor, limit: int) -> None:
        self.net, self.target, self.limit = net, target, limit
        self.seen = set[Patterns]()
        self.rough = magnitudes(net)

    def run(self, points: Tensor) -> _Look | None:
        """Descend from every point, the shortest first, while the limit lasts; return the best of where that ends."""
        best: _Look | None = None
        for q in points:
            pattern = pattern_of(self.net, fixed_at(self.net, q.reshape(1, *self.net.input_shape), len(self.net.nodes))[1])
            look = self._look(pattern, q)
            if look is None:
                continue
            look = self._down(look)
            best = look if best is None or look.norm < best.norm else best
        return best

    def _look(self, pattern: Patterns, q: Tensor) -> _Look | None:
        if pattern in self.seen or len(self.seen) >= self.limit:
            return None
        self.seen.add(pattern)
        of = region_on(self.net, pattern, q.reshape(self.net.input_shape))
        weight, offset = of.map.weight, of.map.offset
        found = least(weight, self.target - offset, of.polytope.matrix, of.polytope.bound)
        return None if found is None or not found.proven else _Look(pattern, of, found)

    def _down(self, look: _Look) -> _Look:
        while (shorter := self._shorter(look)) is not None:
            look = shorter
        return look

    def _shorter(self, look: _Look) -> _Look | None:
        """Return the first region behind walls that hold the point back in which a shorter one lies."""
        q = look.least.point
        for way in _ways(look):
            direction = way.reshape(self.net.input_shape)
            pattern = towards(self.net, q.reshape(self.net.input_shape), direction, rough=self.rough).pattern
            behind = self._look(pattern, q)
            if behind is not None and behind.norm < look.norm * _SHORTER:
                return behind
        return None


def _ways(look: _Look) -> Iterator[Tensor]:
    """Yield directions across the walls with positive multipliers: all at once, then each, the strongest first."""
    rows, q = look.region.polytope, look.least.point
    force = look.least.multipliers * torch.linalg.vector_norm(rows.matrix, dim=1)
    at = tight(rows, q) | (force > 0)
    walls, push = rows.matrix[at], force[at]
    none = rows.matrix.new_zeros(0, rows.dim)
    strongest = [i for i in push.argsort(descending=True).tolist() if push[i] > 0]
    alone = [torch.arange(len(push)) == i for i in strongest]
    for across in ([push > 0] if len(alone) > 1 else []) + alone:
        way = way_across(walls, across, none)
        yield walls[across].sum(0) if way is None else way


def _nothing_shorter(net: Network, target: Tensor, q: Tensor) -> bool:
    """Say whether all solutions in the box around the ball through a point are proven to be no shorter; few dimensions only."""
    n, radius = len(q), float(torch.linalg.vector_norm(q))
    if radius == 0:
        return True
    if n > _FEW or net.num_units > _UNITS:
        return False
    side = torch.full(net.input_shape, radius * (1 + 1e-6), dtype=torch.float64)
    pieces = preimage(net, target.reshape(net.output_shape), Box(-side, side), time_limit=_SECONDS)
    if not pieces.complete:
        return False
    none = q.new_zeros(0, n)
    found = [least(none, none[:, 0], p.matrix, p.bound) for p in (piece.polytope for piece in pieces)]
    proven = [f for f in found if f is not None and f.gap <= 1e-8]
    return len(proven) == len(found) > 0 and all(
        float(torch.linalg.vector_norm(f.point)) >= radius * (1 - 1e-7) for f in proven
    )


def _dimension(of: Region, target: Tensor) -> int | None:
    """Return the dimension of the solutions in a region."""
    return fibre_dimension(of.map.weight, target - of.map.offset, of.polytope)


def fibre_dimension(equal: Tensor, value: Tensor, rows: Polytope) -> int | None:
    """Return the dimension of {x : equal x = value} within a polytope; None where that is undecided."""
    flat_of = Factors(equal)
    basis = flat_of.kernel()
    inner = rows.section(flat_of.solve(value), basis)
    real = torch.linalg.vector_norm(inner.matrix, dim=1) > 2.0**-40 * torch.linalg.vector_norm(rows.matrix, dim=1)
    if not basis.shape[1] or not bool(real.any()):
        return basis.shape[1]
    try:
        return dimension(inner.select(real))
    except GeometryError:
        return None


# -- smooth networks


def _smooth(at: Coordinates, target: Tensor, points: Tensor) -> Found | None:
    """Return the shortest point at which the norm cannot fall to first order, from several solutions."""
    ends = [end for q in points[:8] if (end := _along(at.net, target, q)) is not None]
    if not ends:
        return None
    q, gap, rank = min(ends, key=lambda end: float(torch.linalg.vector_norm(end[0])))
    return Found(at.inputs(q), None, gap, gap <= 1e-6, len(q) - rank + at.hidden, False, len(ends))


def _along(net: Network, target: Tensor, q: Tensor) -> tuple[Tensor, float, int] | None:
    """Shorten a solution: least-norm solutions of the linearised equations, with halved steps (Gauss and Newton).

    Each step is that of the program min |x| subject to f(x) = y, and accepted where a sum of the norm and of the residual,
    weighted by the multipliers, falls.
    """
    for _ in range(_STEPS):
        factors, r = _linearised(net, target, q)
        wanted = factors.solve((factors.matrix @ q + r)[None])[0]
        way = wanted - q
        size = float(torch.linalg.vector_norm(q))
        if float(torch.linalg.vector_norm(way)) <= 1e-12 * size:
            break
        weight = 2 * float(torch.linalg.vector_norm(Factors(factors.matrix.T).solve(q[None])[0])) + 1e-3
        merit = _merit(net, target, q, weight)
        steps = (q + 0.5**k * way for k in range(30))
        new = next((p for p in steps if _merit(net, target, p, weight) < merit), None)
        if new is None:
            break
        q = new
    for _ in range(3):
        factors, r = _linearised(net, target, q)
        q = q + factors.solve(r[None])[0]
    factors, r = _linearised(net, target, q)
    if float(r.abs().max()) > 1e-9 * (1 + float(target.abs().max())):
        return None
    size = float(torch.linalg.vector_norm(q))
    across = q - (q @ factors.rows.T) @ factors.rows
    return q, float(torch.linalg.vector_norm(across)) / size if size else 0.0, factors.rank


def _linearised(net: Network, target: Tensor, q: Tensor) -> tuple[Factors, Tensor]:
    x, last = q.reshape(1, *net.input_shape), len(net.nodes)
    with torch.no_grad():
        jacobian = maps(net, 1, lambda _: at_points(net, x, last), {last: None})[last][0][0]
        return Factors(jacobian), target - net.forward(x).reshape(-1)


def _merit(net: Network, target: Tensor, q: Tensor, weight: float) -> float:
    with torch.no_grad():
        r = net.forward(q.reshape(1, *net.input_shape)).reshape(-1) - target
    return 0.5 * float(q.square().sum()) + weight * float(torch.linalg.vector_norm(r))
