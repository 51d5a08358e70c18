"""How large a region is: the noise sampler of the activation-pattern study beside exact lengths.

The sampler walks a crowd of points by uniform noise, keeps those with the right pattern and widens or narrows the noise;
its final scale is what that study reports. The exact figures need no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._progress import progress
from ._types import Result
from .errors import GeometryError, InputError
from .geometry import chebyshev_ball, width
from .network import patterns
from .region import Region

_CROWDED, _THINNED = 0.2, 0.1  # below this share of survivors the noise is halved; this share of the closest is dropped


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Exploration(Result):
    """What noise found in a region, and what is so.

    Attributes: `points` (n, *input_shape), inputs with the region's pattern that the noise reached; `scales`, the noise
    range of every round; `reach`, the largest distance of a point from the start; `inradius` of the polytope (infinite
    if a ball of any size fits); `boundary_distance` from the start; `widths` between supporting hyperplanes along the
    direction of each of the `directions` (k, *input_shape).
    """

    points: Tensor
    scales: tuple[float, ...]
    reach: float
    inradius: float
    boundary_distance: float
    widths: tuple[float, ...]
    directions: Tensor

    def __repr__(self) -> str:
        return f"Exploration({len(self.points)} points, final noise {self.scales[-1]:.3g}, inradius {self.inradius:.3g})"

    def summary(self) -> str:
        widths = ", ".join(f"{w:.4g}" for w in self.widths)
        return "\n".join(
            [
                repr(self),
                f"  noise: {len(self.scales)} rounds, final range {self.scales[-1]:.4g}, reached {self.reach:.4g} away",
                f"  exact: inradius {self.inradius:.4g}, nearest boundary {self.boundary_distance:.4g}",
                f"  exact widths along the noise's own main directions: {widths}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "points": len(self.points),
            "scales": list(self.scales),
            "final_scale": self.scales[-1],
            "reach": self.reach,
            "inradius": self.inradius,
            "boundary_distance": self.boundary_distance,
            "widths": list(self.widths),
        }


def explore(
    of: Region,
    *,
    count: int = 64,
    rounds: int = 60,
    scale: float = 1.0,
    layers: Sequence[str] | None = None,
    generator: torch.Generator | int = 0,
    directions: int = 3,
) -> Exploration:
    """Return how far noise gets inside a region, beside its exact inradius, boundary distance and widths.

    Args:
        of: a region of at least one unit; its domain, if any, confines the noise too.
        count: how many points walk at once, at least 2.
        rounds: how often noise is added.
        scale: the first noise range: each coordinate moves by U(-scale, scale).
        layers: gates whose pattern must be kept; all of the region's when None. Points that keep the pattern of a later
            layer alone may leave the polytope.
        generator: a `torch.Generator` or a seed.
        directions: along how many of the points' principal directions the exact width is measured.

    Raises: InputError for a count below 2, rounds or scale that are not positive.

    Algorithm: the study's rules: the survivors of a round are those with the start's pattern; below a share of 20 % the
    noise is halved; the crowd is filled up with copies, and the 10 % with the least summed distance to the others are
    dropped; when nobody survives, all start again. Each round is one forward pass of `count` points.
    The inradius is one linear program, each width two.

    References: Swiniarski, Bruna, Cho, Study on activation patterns, section 6 (the sampler).

    Example:
        >>> import torch
        >>> from polylens import Polytope, dense, explore, region
        >>> net = dense([([[1.0, 0.0]], [0.0]), ([[1.0]], None)])
        >>> found = explore(region(net, torch.tensor([1.0, 0.0]), domain=Polytope.box([-3, -1], [3, 1])), rounds=20)
        >>> found.inradius, found.boundary_distance  # half of the box's height, and the wall x1 = 0
        (1.0, 1.0)
    """
    if not of.layers:
        raise InputError("explore: expected a region of a network with units; this one has none, so noise has nothing to meet")
    if count < 2 or rounds < 1 or not scale > 0:
        raise InputError(f"explore: expected count >= 2, rounds >= 1, scale > 0; got {count}, {rounds}, {scale}")
    random = torch.Generator("cpu").manual_seed(generator) if isinstance(generator, int) else generator
    points, scales = _walk(of, count, rounds, scale, tuple(layers or of.layers), random)
    centred = (points - of.point).flatten(1)
    main = torch.linalg.svd(centred, full_matrices=False).Vh[:directions]
    return Exploration(
        points,
        tuple(scales),
        float(centred.norm(dim=1).max()),
        chebyshev_ball(of.polytope).radius,
        of.nearest[0],
        tuple(_width(of, v) for v in main),
        main.reshape(-1, *of.network.input_shape),
    )


def _walk(
    of: Region, count: int, rounds: int, scale: float, layers: tuple[str, ...], random: torch.Generator
) -> tuple[Tensor, list[float]]:
    start = of.point.expand(count, *of.point.shape)
    target, points, scales = of.pattern.layer(*layers), start, list[float]()
    for _ in progress(range(rounds), rounds, "noise"):
        noise = (2 * torch.rand(points.shape, generator=random, dtype=points.dtype) - 1) * scale
        moved = points + noise
        kept = moved[_stays(of, moved, layers, target)]
        scales.append(scale)
        if len(kept) < _CROWDED * len(points):
            scale /= 2
        points = _spread(_refilled(kept, count, random)) if len(kept) else start
    return points, scales


def _stays(of: Region, x: Tensor, layers: tuple[str, ...], target: Any) -> Tensor:
    same: Tensor = patterns(of.network, x).layer(*layers).matches(target)
    return same if of.domain is None else same & of.domain.contains(x.flatten(1))


def _refilled(points: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Return the points and random copies of them, `count` in all."""
    copies = torch.randint(len(points), (max(0, count - len(points)),), generator=random)
    return torch.cat([points, points[copies]])


def _spread(points: Tensor) -> Tensor:
    """Drop the tenth of the points that lie closest to all others."""
    total = torch.cdist(points.flatten(1), points.flatten(1)).sum(1)
    return points[total.argsort(descending=True)[: len(points) - int(_THINNED * len(points))]]


def _width(of: Region, direction: Tensor) -> float:
    try:
        return float(width(of.polytope, direction))
    except GeometryError:
        return float("inf")
