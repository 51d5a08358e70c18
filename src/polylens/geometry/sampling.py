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
from .center import analytic_center
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


def rounded_inside(question: str, p: Polytope, part: Polytope, tolerance: Tolerance) -> Rounded:
    """Return a polytope with interior points rounded by the Hessian of its barrier at the analytic centre of a bounded part.

    Where Newton's method cannot see across the polytope, thin in a direction of no axis, the centre is sought again in
    coordinates that the Hessian at the deepest point has rounded.
    """
    deep = chebyshev_ball(part, tolerance=tolerance).center
    try:
        found = _frame(p, analytic_center(part, start=deep))
    except GeometryError:
        found = _rounded_twice(p, part, deep)
    return found or refuse_undecided(question)


def _rounded_twice(p: Polytope, part: Polytope, deep: Tensor) -> Rounded | None:
    first = _frame(part, deep)
    if first is None:
        return None
    try:
        center = analytic_center(Polytope.of(first.matrix, first.bound))
    except GeometryError:
        return None
    return _frame(p, deep + first.transform @ center, first.transform)


def _frame(p: Polytope, origin: Tensor, before: Tensor | None = None) -> Rounded | None:
    """Return the polytope rounded by the Hessian of its barrier at a point inside; None where the Hessian is singular.

    Its factor is that of the scaled rows (QR), whose condition is the root of its own, where Cholesky's may fail; `before`
    are coordinates that are nearly round already.
    """
    p = p.select(p.matrix.any(1))
    slack = p.slack(origin)
    if not bool((slack > 0).all()) or len(p) < p.dim:
        return None
    basis = torch.eye(p.dim, dtype=torch.float64) if before is None else before
    scaled = p.matrix @ basis / slack[:, None]
    lower, failed = torch.linalg.cholesky_ex(scaled.T @ scaled)
    factor = torch.linalg.qr(scaled, mode="r").R if int(failed) else lower.T
    if not bool(factor.diagonal().all()):
        return None
    transform = basis @ torch.linalg.solve_triangular(factor, torch.eye(p.dim, dtype=torch.float64), upper=True)
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
    return rounded_inside(question, p, p, tolerance)


def default_burn_in(k: int) -> int:
    """Return the steps before a walk in k dimensions counts: calibrated on boxes and simplices."""
    return 40 * k + 200


def default_thinning(k: int) -> int:
    """Return the steps between two points of a walk in k dimensions that count."""
    return 4 * k + 20
