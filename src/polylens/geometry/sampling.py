"""Uniform samples of a polytope: hit-and-run within its affine hull, after rounding at the analytic centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._check import whole
from .._types import Tolerance
from .._walk import Walk
from ..errors import GeometryError, InputError
from ..polytope import HasPolytope, Polytope, polytope_of
from ._answers import TOLERANCE, Answer, refuse_undecided
from .boundedness import is_bounded
from .center import analytic_center, barrier_of
from .flats import AffineHull, hull_for
from .programs import chebyshev_ball

# Chains that walk at once when there is no reason for another number
CHAINS = 256

Seed = int | torch.Generator


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Samples(Answer):
    """Uniform `points` (n, dim), and how they were come by: every `thinning`-th step of `chains` walks after `burn_in`.

    Consecutive points come from different chains; points i and i + chains are `thinning` steps apart.
    """

    points: Tensor
    thinning: int
    burn_in: int
    chains: int

    def summary(self) -> str:
        n, dim = self.points.shape
        return f"{n} points in dimension {dim}: {self.chains} chains, burn-in {self.burn_in}, thinning {self.thinning}"


def sample(
    p: Polytope | HasPolytope,
    n: int,
    *,
    seed: Seed = 0,
    thinning: int | None = None,
    burn_in: int | None = None,
    chains: int | None = None,
    tolerance: Tolerance = TOLERANCE,
) -> Samples:
    """Return n points (n, dim), uniform over the polytope (within its affine hull where it is flat).

    `seed` is an int or a `torch.Generator`. By default min(n, 256) chains, a burn-in of 40 k + 200 and a thinning of
    4 k + 20 steps, k the dimension of the polytope: enough for boxes and simplices to dimension 50, where variances come
    out within a few percent; take more in higher dimensions and for shapes with sharp corners. A single point is repeated.

    Raises: GeometryError for empty and unbounded polytopes; InputError for n < 1 and counts below 1.

    Algorithm: hit-and-run within the affine hull after rounding by the Hessian of the barrier at the analytic centre;
    every step costs O(rows k) a chain.

    References: Smith, Efficient Monte Carlo procedures for generating points uniformly distributed over bounded regions
    (1984); Lovasz, Hit-and-run mixes fast (1999).

    >>> sample(Polytope.box([1, 2], [1, 2]), 3).points.tolist()
    [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """
    p = polytope_of(p, "sample")
    for name, value in {"n": n, "thinning": thinning, "burn_in": burn_in, "chains": chains}.items():
        if value is not None or name == "n":
            whole(value, f"sample: {name}")
    hull = hull_for("sample", p, tolerance)
    k = hull.dimension
    chains = min(n, chains or CHAINS)
    burn_in, thinning = burn_in or default_burn_in(k), thinning or default_thinning(k)
    if k == 0:
        return Samples(hull.point.expand(n, p.dim).clone(), thinning, burn_in, chains)
    rounded = rounded_at_center(within(p, hull), "sample", tolerance)
    walk = Walk(rounded.matrix, rounded.bound, generator_of(seed))
    z = walk.run(walk.start(chains), burn_in)
    kept = [z]
    for _ in range(math.ceil(n / chains) - 1):
        z = walk.run(z, thinning)
        kept.append(z)
    flat = rounded.origin + torch.cat(kept)[:n] @ rounded.transform.T
    return Samples(hull.point + flat @ hull.basis.T, thinning, burn_in, chains)


def generator_of(seed: Seed) -> torch.Generator:
    """Return a generator as it is, or a new one for a seed."""
    if isinstance(seed, torch.Generator):
        return seed
    if not isinstance(seed, int):
        raise InputError(f"seed: expected an int or a torch.Generator; got {seed!r}; 0 makes the same points every time")
    return torch.Generator().manual_seed(seed)


def within(p: Polytope, hull: AffineHull) -> Polytope:
    """Return the polytope in the coordinates of its affine hull, without the rows that hold with equality there."""
    kept = torch.ones(len(p), dtype=torch.bool)
    kept[hull.equalities] = False
    inner = p.select(kept)
    inner = inner.section(hull.point, hull.basis)
    norms, sizes = torch.linalg.vector_norm(inner.matrix, dim=1), torch.linalg.vector_norm(p.matrix[kept], dim=1)
    return inner.select(norms > TOLERANCE.relative * sizes)  # a row parallel to the flat says nothing within it


class Rounded(NamedTuple):
    """{z : matrix z <= bound}, where x = origin + transform z: round enough, with 0 inside."""

    matrix: Tensor
    bound: Tensor
    origin: Tensor
    transform: Tensor


def whitened(p: Polytope, origin: Tensor) -> Rounded | None:
    """Return the polytope rounded by the Hessian of its barrier at a point inside; None where the Hessian is singular."""
    slack = p.slack(origin)
    factor, failed = torch.linalg.cholesky_ex(barrier_of(p).hessian_at(origin))
    if int(failed):
        return None
    transform = torch.linalg.solve_triangular(factor.T, torch.eye(p.dim, dtype=torch.float64), upper=True)
    return Rounded(p.matrix @ transform / slack[:, None], torch.ones(len(p), dtype=torch.float64), origin, transform)


def rounded_at_center(p: Polytope, question: str, tolerance: Tolerance) -> Rounded:
    """Return a bounded full-dimensional polytope rounded at its analytic centre."""
    bounded = is_bounded(p, tolerance=tolerance)
    if bounded.answer is None:
        refuse_undecided(question)
    if not bounded.answer:
        raise GeometryError(
            f"{question}: expected a bounded polytope; got an unbounded one (is_bounded gives a ray); intersect it with a box"
        )
    p = p.select(p.matrix.any(1))
    rounded = whitened(p, analytic_center(p, start=chebyshev_ball(p, tolerance=tolerance).center))
    return rounded if rounded is not None else refuse_undecided(question)


def default_burn_in(k: int) -> int:
    """Return the steps before a walk in k dimensions counts: calibrated on boxes and simplices."""
    return 40 * k + 200


def default_thinning(k: int) -> int:
    """Return the steps between two points of a walk in k dimensions that count."""
    return 4 * k + 20
