"""Zeros of a network: many solutions of f(x) = y from many starts at once, and least-squares points where there is none."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, whole
from ._progress import progress
from ._rounding import evaluated
from ._types import Result, Tolerance
from ._zeros import descent, marquardt
from ._zeros.corners import corner_finder
from ._zeros.room import Room, drawn, given, room_of
from .compose import compose
from .domain import Domain
from .errors import InputError, ShapeError
from .local import MAX_BYTES
from .network import Network, patterns
from .pattern import Patterns
from .polytope import Polytope
from .steps import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EXACT = Tolerance(256.0)  # some hundred roundings of the output's terms: 6e-14 of them
_SAMPLES_AT_ONCE = 16  # as many evaluations of one point are alive at once: trial steps, columns, state


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Zeros(Result):
    """Where searches for f(x) = target came to rest, one row a start.

    `points` (starts, *input_shape), float64; `residuals` (starts,), the largest |f(x) - target| over the outputs, from a
    plain evaluation. Every start is one of three: `exact`, a solution, with a residual of at most `allowed`;
    `least_squares`, no way leads down from there, so it is a local minimum of |f(x) - target| in the domain; `failed`, the
    search stopped without either. `steps` (starts,) counts rounds. That starts found no zero does not prove that there is
    none: `preimage` does.
    """

    network: Network
    points: Tensor
    target: Tensor
    residuals: Tensor
    allowed: float
    exact: Tensor
    least_squares: Tensor
    failed: Tensor
    steps: Tensor

    @property
    def regions(self) -> Patterns:
        """The activation patterns of the points, one for each start."""
        return patterns(self.network, self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        counts = [int(mask.sum()) for mask in (self.exact, self.least_squares, self.failed)]
        return f"Zeros({len(self)} starts: {counts[0]} exact, {counts[1]} least-squares, {counts[2]} failed)"

    def __getitem__(self, rows: Tensor | slice) -> Zeros:
        """Return some starts (a mask, positions or a slice)."""
        masks = [t[rows] for t in (self.exact, self.least_squares, self.failed, self.steps)]
        return Zeros(self.network, self.points[rows], self.target, self.residuals[rows], self.allowed, *masks)

    def distinct(self, radius: float = 1e-6) -> Zeros:
        """Return the exact zeros, one of each group that lies within `radius` of it (relative to 1 + |x|), in their order.

        Where zeros fill a region, as those of dead units do, every point of it that is farther from the others remains.
        """
        if not (math.isfinite(radius) and radius >= 0):
            raise InputError(f"radius: expected a number of at least 0; got {radius!r}")
        found = self[self.exact]
        x = found.points.flatten(1)
        left = torch.ones(len(x), dtype=torch.bool, device=x.device)
        kept: list[int] = []
        while bool(left.any()):
            i = int(left.to(torch.uint8).argmax())
            kept.append(i)
            near = torch.linalg.vector_norm(x - x[i], dim=1) <= radius * (1 + torch.linalg.vector_norm(x[i]))
            left &= ~near
            left[i] = False
        return found[torch.tensor(kept, dtype=torch.long, device=x.device)]

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the points, or for inputs of another size than 2 the residuals; `polylens.plotting.zeros` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.zeros").draw(self, ax, **options)
        return axes

    def summary(self) -> str:
        lines = [repr(self)]
        names = {"exact": self.exact, "least-squares": self.least_squares, "failed": self.failed}
        for name, mask in names.items():
            if bool(mask.any()):
                low, middle, high = _quantiles(self.residuals[mask])
                lines.append(f"  {name:<13}  residuals from {low:.3g}, median {middle:.3g}, to {high:.3g}")
        lines.append(f"  steps: {int(self.steps.median())} in the median, {int(self.steps.max())} at most" if len(self) else "")
        return "\n".join(line for line in lines if line)

    def to_dict(self) -> dict[str, Any]:
        return {
            "starts": len(self),
            "num_exact": int(self.exact.sum()),
            "num_least_squares": int(self.least_squares.sum()),
            "num_failed": int(self.failed.sum()),
            "target": self.target.tolist(),
            "points": self.points.tolist(),
            "residuals": self.residuals.tolist(),
            "allowed": self.allowed,
            "exact": self.exact.tolist(),
            "least_squares": self.least_squares.tolist(),
            "failed": self.failed.tolist(),
            "steps": self.steps.tolist(),
        }


def _quantiles(values: Tensor) -> tuple[float, float, float]:
    return float(values.min()), float(values.median()), float(values.max())


def zeros(
    net: Network,
    domain: Domain | Polytope | None = None,
    target: ArrayLike = 0,
    *,
    starts: int | ArrayLike = 1000,
    tolerance: Tolerance | None = None,
    max_steps: int = 500,
    seed: int = 0,
) -> Zeros:
    """Return where searches for f(x) = target from many starts come to rest: solutions, or least-squares points.

    Args:
        net: any network; it is searched in float64. Exactness per region needs one that is piecewise linear.
        domain: where solutions may lie: None for all of R^n, a domain as in `subdivide` (a Box may have any number of
            entries here), or a Polytope over the inputs. No point leaves it.
        target: the wanted output y: one number for all outputs, or an array of the output's shape.
        starts: how many, drawn uniformly in the domain (normally where it has no end), or points (count, *input_shape).
        tolerance: the residual, in parts of the size of the terms that outputs are sums of (at the starts, in the median),
            up to which a point is a zero; 256 roundings when None.
        max_steps: rounds for each start, at least 1; what runs longer has failed.
        seed: of the starts that are drawn, and of directions that are tried where many walls meet.

    Raises:
        ShapeError: target, starts or domain do not fit the network.
        InputError: starts outside the domain, NaN or infinity, counts below 1, or a smooth network without a derivative.
        GeometryError: an empty domain.

    Algorithm: piecewise-linear networks: in its region every point takes the least-norm least-squares step of the exact
    affine map, which is exact where it ends within the region. Otherwise the point goes on beyond the first wall where a
    trial of a full or shorter step is lower than there, else it crosses that wall; where both sides point back, the wall
    is run along, with an active set. At rest all sides of up to 6 walls that meet in the point are asked for a way down;
    where more meet, the regions that a subdivision of a tiny box around finds. In more than 3 dimensions only 16 directions
    are tried then, and the start counts as failed, since nothing is proven; so does one beside a jump of a gate. Smooth
    networks: Levenberg and Marquardt's steps for ten dampings at once. All starts move together; a round costs about ten
    evaluations for each point that still moves, a small linear system, and a backward pass for the walls that it is on.

    References: Nocedal and Wright, Numerical Optimization (2006), chapters 10 and 16.

    Example:
        >>> from polylens import Box, dense, zeros
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [-1.0])])  # |x| - 1
        >>> found = zeros(net, Box([-3.0], [3.0]), starts=20)
        >>> sorted(found.distinct().points.flatten().tolist())
        [-1.0, 1.0]
        >>> zeros(net, target=-2, starts=20)  # not reached: the least value is that at the crease
        Zeros(20 starts: 0 exact, 20 least-squares, 0 failed)
    """
    net, y, size = _network(net), _target(net, target), math.prod(net.input_shape)
    max_steps = whole(max_steps, "max_steps")
    tolerance = tolerance or _EXACT
    room = _moved(room_of(domain, size), net.device)
    u = _starts(net, room, starts, seed)
    searched = net if room.domain is None else _within(room.domain, net)
    generator = torch.Generator().manual_seed(whole(seed, "seed", 0))
    chunk = max(1, MAX_BYTES // (_SAMPLES_AT_ONCE * searched.sample_bytes + 16 * room.dim * (y.numel() + room.dim)))
    chunks = progress(u.split(chunk), -(-len(u) // chunk), "zeros")
    allowed = tolerance.relative * _size(searched, u, y)
    ends = [_search(searched, room, y, part, max_steps, allowed, generator) for part in chunks]
    points = room.embed(torch.cat([end[0] for end in ends])).to(net.device).reshape(-1, *net.input_shape)
    return _result(net, points, y, torch.cat([e[1] for e in ends]), torch.cat([e[2] for e in ends]), allowed)


def _network(net: Network) -> Network:
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
    return net.double()


def _target(net: Network, target: ArrayLike) -> Tensor:
    """Return the wanted output, flattened."""
    count = math.prod(net.output_shape)
    values = np.asarray(target) if isinstance(target, bool | int | float) else array(target, "target")
    if str(values.dtype).endswith("bool"):  # of torch and of numpy alike
        raise InputError("target: expected numbers; got truth values; write 1.0 or 0.0 where these are meant")
    y = as_tensor(values, torch.float64, net.device)
    y = finite(y, "target")
    if y.ndim == 0:
        return y.expand(count)
    if tuple(y.shape) not in (net.output_shape, (count,)):
        raise ShapeError(f"target: expected a number or an array of shape {net.output_shape}; got {tuple(y.shape)}")
    return y.reshape(-1)


def _moved(room: Room, device: torch.device) -> Room:
    low, high, matrix, bound = (t.to(device) for t in (room.low, room.high, room.matrix, room.bound))
    return Room(low, high, matrix, bound, room.domain)


def _within(domain: Domain, net: Network) -> Network:
    """Return the network over the coordinates of a domain."""
    return compose((domain.basis.to(net.device), domain.origin.to(net.device)), net)


def _starts(net: Network, room: Room, starts: int | ArrayLike, seed: int) -> Tensor:
    """Return the coordinates (count, dim) of the starts."""
    if isinstance(starts, (int, np.integer)):
        return drawn(room, whole(starts, "starts"), whole(seed, "seed", 0)).to(net.device)
    x = array(starts, "starts")
    floating(x, "starts")
    if tuple(x.shape[1:]) != net.input_shape or not len(x):
        raise ShapeError(
            f"starts: expected a number or points (count, {', '.join(map(str, net.input_shape))}); got {tuple(x.shape)}"
        )
    return given(room, flat(finite(as_tensor(x, torch.float64, net.device), "starts"), 1))


def _search(
    net: Network, room: Room, y: Tensor, u: Tensor, max_steps: int, allowed: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates, whether points rest at least squares, and rounds."""
    if net.is_piecewise_linear:
        problem = descent.Problem.of(net, y, room, allowed, u[:1000], corner_finder(net))
        state = descent.descend(problem, u, max_steps, generator)
        return state.u, state.status == descent.LEAST, state.steps
    rest = marquardt.marquardt(net, y, room, u, max_steps, allowed)
    return rest.u, rest.status == marquardt.LEAST, rest.steps


def _result(net: Network, points: Tensor, y: Tensor, least: Tensor, steps: Tensor, allowed: float) -> Zeros:
    """Judge the points by a plain evaluation."""
    with torch.no_grad():
        residuals = (flat(net.forward(points), 1) - y).abs().amax(1)
    exact = residuals <= allowed
    least = least & ~exact
    return Zeros(net, points, y.reshape(net.output_shape), residuals, allowed, exact, least, ~exact & ~least, steps)


def _size(net: Network, u: Tensor, y: Tensor) -> float:
    """Return the size of the largest term of f - y, in the median over points (at most a thousand of them)."""
    x = u[:1000].reshape(-1, *net.input_shape)
    return max(float(flat(evaluated(net, x)[1], 1).amax(1).median()), float(y.abs().max()))
