"""How large a region is: the noise sampler of the activation-pattern study beside exact lengths.

The sampler walks a crowd of points by uniform noise, keeps those with the right pattern and widens or narrows the noise;
its final scale is what that study reports. The exact figures need no sampling; one that is not to be had is None, and the
result says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from ._progress import progress
from ._types import Result
from .errors import GeometryError, InputError
from .geometry import chebyshev_ball, volume, width
from .network import Network, patterns
from .polytope import RowOrigin
from .region import Region

_CROWDED, _THINNED = 0.2, 0.1  # below this share of survivors the noise is halved; this share of the closest is dropped


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Exploration(Result):
    """What noise found in a region, and what is so.

    Attributes: `points` (n, *input_shape), the last crowd of inputs with the region's pattern (copies of the start when
    no round had survivors); `scales`, the noise range of every round, and `survivors`, which share of its points kept
    the pattern; `reach`, the largest distance of a point from the start; `boundary_distance` from the start.

    Of the polytope: `inradius`, `volume` and the `widths` between supporting hyperplanes along the direction of each of the
    `directions` (k, *input_shape), infinite where it is unbounded. None is what could not be had, and `missing` says why.
    """

    points: Tensor
    scales: tuple[float, ...]
    survivors: tuple[float, ...]
    reach: float
    boundary_distance: float
    inradius: float | None
    volume: float | None
    widths: tuple[float | None, ...]
    directions: Tensor
    missing: dict[str, str]

    @property
    def final_scale(self) -> float | None:
        """The noise range of the last round that anybody survived, None where nobody ever did."""
        return next((s for s, kept in zip(self.scales[::-1], self.survivors[::-1], strict=True) if kept > 0), None)

    def __repr__(self) -> str:
        return f"Exploration({len(self.points)} points, final noise {_text(self.final_scale)}, inradius {_text(self.inradius)})"

    def summary(self) -> str:
        sizes = f"inradius {_text(self.inradius)}, volume {_text(self.volume)}, nearest boundary {self.boundary_distance:.4g}"
        return "\n".join(
            [
                repr(self),
                f"  noise: {len(self.scales)} rounds, {self._noise()}",
                f"  exact: {sizes}",
                f"  exact widths along the noise's own main directions: {', '.join(map(_text, self.widths))}",
                *(f"  no {what}: {why}" for what, why in self.missing.items()),
            ]
        )

    def _noise(self) -> str:
        if self.final_scale is None:
            return f"none with survivors down to a range of {self.scales[-1]:.4g}: the region is thinner than that, or flat"
        share = next(kept for kept in self.survivors[::-1] if kept > 0)
        return f"final range {self.final_scale:.4g}, which {share:.0%} survived, reached {self.reach:.4g} away"

    def to_dict(self) -> dict[str, Any]:
        return {
            "points": len(self.points),
            "scales": list(self.scales),
            "survivors": list(self.survivors),
            "final_scale": self.final_scale,
            "reach": self.reach,
            "boundary_distance": self.boundary_distance,
            "inradius": self.inradius,
            "volume": self.volume,
            "widths": list(self.widths),
            "missing": dict(self.missing),
        }


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def explore(
    of: Region,
    *,
    count: int = 64,
    rounds: int = 60,
    scale: float = 1.0,
    layers: Sequence[str] | None = None,
    seed: torch.Generator | int = 0,
    directions: int = 3,
) -> Exploration:
    """Return how far noise gets inside a region, beside its exact boundary distance, inradius, volume and widths.

    Args:
        of: a region of at least one unit; its domain, if any, confines the noise too.
        count: how many points walk at once, at least 2.
        rounds: how often noise is added.
        scale: the first noise range: each coordinate moves by U(-scale, scale).
        layers: gates whose pattern must be kept; all of the region's when None. Points that keep the pattern of a later
            layer alone may leave the polytope.
        seed: an integer, or a `torch.Generator`.
        directions: along how many of the points' principal directions the exact width is measured.

    Raises: InputError for a count below 2, rounds or scale that are not positive.

    Algorithm: the study's rules: the survivors of a round are those with the start's pattern; below a share of 20 % the
    noise is halved; the crowd is filled up with copies, and the 10 % with the least summed distance to the others are
    dropped; when nobody survives, all start again, and the last crowd that did survive is returned. Noise that rounding
    swallows, so that a coordinate stays as it was, is no noise, and nobody survives it. Each round is one forward pass of
    `count` points. The inradius is one linear program, each width two; the volume is that of a hull, up to dimension 7,
    where it may take half a minute. A region that holds balls of every size needs no more programs.

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
    random = torch.Generator("cpu").manual_seed(seed) if isinstance(seed, int) else seed
    crowd, scales, survivors = _walk(of, count, rounds, scale, tuple(layers or of.layers), random)
    centred = (crowd - of.point).flatten(1)
    main = torch.linalg.svd(centred, full_matrices=False).Vh[:directions]
    missing: dict[str, str] = {}
    radius = _settled(missing, "inradius", lambda: chebyshev_ball(of.polytope).radius)
    size, widths = _sizes(of, main, radius, missing)
    return Exploration(
        points=crowd,
        scales=tuple(scales),
        survivors=tuple(survivors),
        reach=float(centred.norm(dim=1).max()),
        boundary_distance=of.nearest[0],
        inradius=radius,
        volume=size,
        widths=widths,
        directions=main.reshape(-1, *of.network.input_shape),
        missing=missing,
    )


def _sizes(
    of: Region, main: Tensor, radius: float | None, missing: dict[str, str]
) -> tuple[float | None, tuple[float | None, ...]]:
    """Return the volume, and the width along each direction; both are infinite where balls of every size fit."""
    if radius == math.inf:
        return math.inf, (math.inf,) * len(main)
    size = _settled(missing, "volume", lambda: volume(of.polytope).value)
    return size, tuple(_settled(missing, f"width {k}", partial(width, of.polytope, v)) for k, v in enumerate(main))


def _settled(missing: dict[str, str], what: str, question: Callable[[], float]) -> float | None:
    """Return the answer, or None and the reason in `missing` where the polytope has no answer that can be vouched for."""
    try:
        return float(question())
    except GeometryError as error:
        missing[what] = str(error)
        return None


def _walk(
    of: Region, count: int, rounds: int, scale: float, layers: tuple[str, ...], random: torch.Generator
) -> tuple[Tensor, list[float], list[float]]:
    """Return the last crowd that survived a round, the noise range of every round, and the share that survived it."""
    start = of.point.expand(count, *of.point.shape)
    target, points, crowd = of.pattern.layer(*layers), start, start
    scales, survivors = list[float](), list[float]()
    for _ in progress(range(rounds), rounds, "noise"):
        noise = (2 * torch.rand(points.shape, generator=random, dtype=points.dtype) - 1) * scale
        moved = points + noise
        kept = moved[_stays(of, moved, layers, target) & (moved != points).flatten(1).all(1)]
        scales.append(scale)
        survivors.append(len(kept) / len(points))
        if len(kept) < _CROWDED * len(points):
            scale /= 2
        points = _spread(_refilled(kept, count, random)) if len(kept) else start
        crowd = points if len(kept) else crowd
    return crowd, scales, survivors


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


def in_words(net: Network, unit: RowOrigin) -> str:
    """Return what happens at a row: which unit switches there and to what, or which side of the domain it is."""
    if unit.name == "domain":
        return f"side {unit.unit} of the domain"
    gate = next(g for g in net.gates if g.name == unit.name)
    if gate.is_max:
        return f"window {unit.unit} of layer {unit.name} takes its entry {unit.piece}"
    who = f"unit {unit.unit} of layer {unit.name}"
    if gate.num_pieces > 2:
        return f"{who} goes to piece {unit.piece} of 0 to {gate.num_pieces - 1}"
    return f"{who} switches {'on' if unit.piece else 'off'}"
