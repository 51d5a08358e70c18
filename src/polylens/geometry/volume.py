"""Vertices, extreme rays and volume: exact by hulls in low dimension, by counting samples beyond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from .. import _hull
from .._lp import accuracy_of
from .._types import Tolerance
from .._walk import Walk
from ..errors import GeometryError, InputError
from ..polytope import HasPolytope, Polytope, polytope_of
from ._answers import TOLERANCE, Answer, deepest_of, proofs_of, refuse_undecided, unit_rows
from .boundedness import is_bounded
from .flats import dimension, hull_for, lineality
from .programs import bounding_box, support
from .sampling import Rounded, Seed, default_burn_in, default_thinning, generator_of, rounded_at_center, rounded_inside, within

# Hulls beyond these take minutes or all memory: the number of vertices grows like rows ** (dim / 2)
MAX_HULL_DIM = 9
MAX_VERTICES = 2_000_000
# The hull of a 7-dimensional cube's vertices takes a second, of a 9-dimensional one's a minute
MAX_VOLUME_DIM = 7
# Independent runs of the Monte Carlo volume, whose spread is its error
REPLICAS = 16


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Volume(Answer):
    """A volume: `error` bounds the rounding of an exact `method` and is the standard error of "monte_carlo".

    Of a polytope taken as flat it is the most that rounding can hide, by either method: infinite where it is unbounded.
    """

    value: float
    error: float
    method: Literal["exact", "monte_carlo"]

    def summary(self) -> str:
        return f"volume {self.value:.6g} +- {self.error:.2g} ({self.method})"


def vertices(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Tensor:
    """Return the vertices (n, dim), in no particular order; coincident ones are one.

    A flat polytope has the vertices that it has within its affine hull; a point is its own vertex. An unbounded one may
    have vertices beside its `extreme_rays`; one that contains a line, as the whole space does, has none: (0, dim).

    Raises: GeometryError for an empty polytope, and beyond dimension 9 or two million vertices (by the upper bound theorem).

    Algorithm: Qhull on the polar points of the rows, seen from an interior point and rounded by the barrier's Hessian
    there; about rows^(dim/2) in time and memory. No vertex violates a row by more than rounding.

    References: Ziegler, Lectures on Polytopes (1995), section 2.3; Barber, Dobkin and Huhdanpaa, The Quickhull algorithm
    (1996).

    >>> sorted(vertices(Polytope.simplex(2)).round(decimals=9).abs().tolist())
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    >>> vertices(Polytope.of([[1.0, 0.0]], [1.0])).shape
    torch.Size([0, 2])
    """
    p = polytope_of(p, "vertices")
    return _corners("vertices", p, tolerance)[0]


def extreme_rays(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Tensor:
    """Return the unit directions (n, dim) of the extreme rays of a polytope with a vertex: (0, dim) for a bounded one.

    Raises: GeometryError as `vertices` does, and for a polytope that contains a line, whose rays are not unique.

    Algorithm: that of `vertices`; rays are the facets of the polar hull through 0.

    >>> extreme_rays(Polytope.box([0, 0], [torch.inf, 1])).round(decimals=9).tolist()
    [[1.0, 0.0]]
    """
    p = polytope_of(p, "extreme_rays")
    return _corners("extreme_rays", p, tolerance, lines=False)[1]


def volume(
    p: Polytope | HasPolytope,
    *,
    method: Literal["exact", "monte_carlo"] = "exact",
    samples: int = 512,
    seed: Seed = 0,
    tolerance: Tolerance = TOLERANCE,
) -> Volume:
    """Return the dim-dimensional volume: 0 for empty and flat polytopes, infinite for unbounded ones with interior.

    "exact" is the volume of the hull of the vertices, in float64; `error` bounds the rounding. "monte_carlo" works in any
    dimension; `samples` per body and run, `error` is the standard error over 16 independent runs.

    Raises: GeometryError when the exact method is asked beyond dimension 7 or would need too many vertices (`vertices`
    has the limit); the Monte Carlo method has no limit but time.

    Algorithm: exact: Qhull. Monte Carlo: bodies K_0 = K, K_i = K cut with ever smaller balls around the rounded centre,
    each about half of the last, down to a ball inside K; the volume is the ball's times the product of the ratios, each
    counted from hit-and-run samples of the larger body.

    References: Lovasz and Vempala, Simulated annealing in convex bodies and an O*(n^4) volume algorithm (2006).

    >>> volume(Polytope.box([0, 0], [2, 3])).value
    6.0
    >>> volume(Polytope.box([0, 0], [2, 0])).value, volume(Polytope.of([[1.0]], [0.0])).value
    (0.0, inf)
    """
    p = polytope_of(p, "volume")
    if method not in ("exact", "monte_carlo"):
        raise InputError(f"volume: expected the method 'exact' or 'monte_carlo'; got {method!r}")
    if samples < 2:
        raise InputError(f"volume: expected at least 2 samples per body and run; got {samples}")
    size = dimension(p, tolerance=tolerance)
    if size < p.dim:
        return Volume(0.0, _hidden(p, tolerance) if size >= 0 else 0.0, method)
    bounded = is_bounded(p, tolerance=tolerance)
    if bounded.answer is None:
        refuse_undecided("volume")
    if not bounded.answer:
        return Volume(math.inf, 0.0, method)
    if method == "exact" and p.dim > MAX_VOLUME_DIM:
        raise GeometryError(
            f"volume: expected at most dimension {MAX_VOLUME_DIM} for the exact method; got {p.dim}; take method='monte_carlo'"
        )
    if method == "monte_carlo":
        return _annealed_volume(p, samples, generator_of(seed), tolerance)
    return _hull_volume(vertices(p, tolerance=tolerance), tolerance)


def _hidden(p: Polytope, tolerance: Tolerance) -> float:
    """Return a bound on the volume of a polytope that counts as flat: its largest ball's radius times the surface of its box.

    A convex body's volume is at most its inradius times its surface, and a convex body within another has less surface.
    """
    deep = deepest_of(p, tolerance)
    if deep is None:
        return math.inf
    low, high = bounding_box(p, tolerance=tolerance)
    sides = (high - low).clamp(min=2 * deep.rounding).tolist()
    return deep.rounding * 2 * sum(math.prod(sides[:i] + sides[i + 1 :]) for i in range(p.dim))


def _corners(question: str, p: Polytope, tolerance: Tolerance, *, lines: bool = True) -> tuple[Tensor, Tensor]:
    """Return vertices and extreme rays; neither for a polytope with a line, or its refusal unless `lines` may be."""
    hull = hull_for(question, p, tolerance)
    none = torch.zeros(0, p.dim, dtype=torch.float64)
    if hull.dimension == 0:
        return hull.point[None], none
    inner = within(p, hull)
    if lineality(inner, tolerance=tolerance).shape[1]:
        if lines:
            return none, none
        raise GeometryError(
            "extreme_rays: expected a polytope with a vertex; got one that contains a line (lineality gives it); intersect"
            " with a box"
        )
    _affordable(len(inner), inner.dim)
    bounded = is_bounded(inner, tolerance=tolerance).answer
    if bounded is None:
        refuse_undecided(question)
    rounded = rounded_inside(question, inner, inner if bounded else _part(question, inner, tolerance), tolerance)
    middle = torch.zeros(inner.dim, dtype=torch.float64)
    points, rays = _hull.corners(rounded.matrix.numpy(), rounded.bound.numpy(), middle.numpy(), accuracy_of(tolerance))
    found = hull.point + (rounded.origin + torch.from_numpy(points) @ rounded.transform.T) @ hull.basis.T
    ways = torch.from_numpy(rays) @ rounded.transform.T @ hull.basis.T
    proofs = proofs_of(p, tolerance)
    if (bounded and len(ways)) or not all(proofs.feasible(v.numpy()) for v in found):
        refuse_undecided(question)
    return found, ways / torch.linalg.vector_norm(ways, dim=1, keepdim=True)


def _part(question: str, p: Polytope, tolerance: Tolerance) -> Polytope:
    """Return a bounded part, with interior points, of an unbounded polytope without lines.

    The sum of the rows falls along every ray, so bounding it leaves no ray; where it is least there is a corner.
    """
    ahead = -unit_rows(p)[0].sum(0)
    ahead = ahead / torch.linalg.vector_norm(ahead)
    reach = proofs_of(p, tolerance).length - support(p, -ahead, tolerance=tolerance).value
    if not math.isfinite(reach):
        refuse_undecided(question)
    return p & Polytope.of(ahead[None], torch.tensor([reach]))


def _affordable(rows: int, dim: int) -> None:
    """Raise GeometryError where the upper bound theorem allows for more vertices than a hull can be asked for."""
    most = math.comb(max(rows - (dim + 1) // 2, 0), dim // 2) + math.comb(max(rows - dim // 2 - 1, 0), (dim - 1) // 2)
    if dim > MAX_HULL_DIM or most > MAX_VERTICES:
        raise GeometryError(
            f"vertices: expected at most dimension {MAX_HULL_DIM} and {MAX_VERTICES} possible vertices; got dimension {dim}"
            f" and {rows} rows, up to {most:.3g}; remove redundant rows, or take volume(method='monte_carlo') or sample"
        )


def _hull_volume(corners: Tensor, tolerance: Tolerance) -> Volume:
    if corners.shape[1] == 0:
        return Volume(1.0, 0.0, "exact")
    shift = tolerance.relative * float(corners.abs().max())
    if corners.shape[1] == 1:
        return Volume(float(corners.max() - corners.min()), 2 * shift, "exact")
    middle = corners.mean(0)
    extent = (corners - middle).abs().amax(0)  # coordinates of one size, as Qhull wants them
    size = _hull.hull_size(((corners - middle) / extent).numpy())
    scale = float(extent.prod())
    return Volume(size.volume * scale, size.area * scale * shift / float(extent.min()), "exact")


def _annealed_volume(p: Polytope, samples: int, generator: torch.Generator, tolerance: Tolerance) -> Volume:
    if p.dim == 0:
        return Volume(1.0, 0.0, "monte_carlo")
    rounded = rounded_at_center(p, "volume", tolerance)
    radii = _radii(rounded, samples * REPLICAS, generator)
    ratios = _ratios(rounded, radii, samples, generator)  # (bodies, replicas)
    ball = 0.5 * p.dim * math.log(math.pi) - math.lgamma(0.5 * p.dim + 1) + p.dim * math.log(radii[-1])
    value = float(rounded.transform.diagonal().abs().log().sum() + ball - ratios.mean(1).log().sum())
    # a run that saw no point in the next body says nothing about it
    spread = float(ratios.log().sum(0).std()) / math.sqrt(REPLICAS) if bool((ratios > 0).all()) else math.inf
    return Volume(math.exp(value), math.exp(value) * spread, "monte_carlo")


def _radii(rounded: Rounded, chains: int, generator: torch.Generator) -> list[float]:
    """Return radii of balls that about halve the body each, from a run of their own; the last ball lies inside it."""
    inner = float(1.0 / torch.linalg.vector_norm(rounded.matrix, dim=1).max())
    radii = [math.inf]
    z = _first_body(rounded, chains, generator)
    while radii[-1] > inner:
        distances = torch.linalg.vector_norm(z, dim=1)
        radii.append(max(inner, float(distances.median())))
        z = _next_body(rounded, radii[-1], z[None], (distances <= radii[-1])[None], generator)[0]
    return radii[1:]


def _ratios(rounded: Rounded, radii: list[float], samples: int, generator: torch.Generator) -> Tensor:
    """Return the share of each body that lies in the next: (bodies, replicas), the replicas independent of each other."""
    z = _first_body(rounded, samples * REPLICAS, generator).reshape(REPLICAS, samples, -1)
    ratios = []
    for radius in radii:
        inside = torch.linalg.vector_norm(z, dim=2) <= radius
        ratios.append(inside.double().mean(1))
        if radius > radii[-1]:
            z = _next_body(rounded, radius, z, inside, generator)
    return torch.stack(ratios)


def _first_body(rounded: Rounded, chains: int, generator: torch.Generator) -> Tensor:
    walk = Walk(rounded.matrix, rounded.bound, generator)
    return walk.run(walk.start(chains), default_burn_in(rounded.matrix.shape[1]))


def _next_body(rounded: Rounded, radius: float, z: Tensor, inside: Tensor, generator: torch.Generator) -> Tensor:
    """Return points of the body cut with a ball: those of `z` (replicas, samples, dim) inside it, repeated, walked on."""
    weight = inside.double() + torch.finfo(torch.float64).tiny
    chosen = torch.multinomial(weight, z.shape[1], replacement=True, generator=generator)
    picked = z.gather(1, chosen[:, :, None].expand(-1, -1, z.shape[2]))
    walk = Walk(rounded.matrix, rounded.bound, generator, radius)
    return walk.run(picked.reshape(-1, z.shape[2]), default_thinning(z.shape[2])).reshape(z.shape)
