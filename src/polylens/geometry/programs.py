"""What linear programs and Newton's method answer: emptiness, balls, widths, affine hulls, boundedness, centres.

A polytope counts as flat when the largest ball in it is rounding of its coordinates: below about 1e-9 of the median
distance of its hyperplanes from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._barrier import Barrier
from .._check import ArrayLike, finite
from .._lp import Deepest, LinearProgram, Optimum, Proofs, accuracy_of, deepest
from .._types import Status, Tolerance
from ..errors import GeometryError, InputError, ShapeError
from ..polytope import Polytope
from ._answers import TOLERANCE, Answer, proofs_of, refuse_empty, refuse_undecided


@final
@dataclass(frozen=True, eq=False, slots=True)
class Emptiness(Answer):
    """Whether a polytope is empty: a `point` (dim,) of it, or Farkas `multipliers` (rows,); `answer` None is undecided.

    Multipliers y >= 0 with A^T y = 0 and b.y < 0 prove that A x <= b has no solution.
    """

    answer: bool | None
    point: Tensor | None
    multipliers: Tensor | None

    def summary(self) -> str:
        return {None: "undecided", True: "empty (Farkas multipliers)", False: "not empty (a point)"}[self.answer]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Ball(Answer):
    """A largest ball in a polytope: `center` (dim,), `radius`.

    `multipliers` y (rows,) >= 0 with A^T y = 0 and sum |a_i| y_i = 1 prove that no ball is larger than b.y; None where
    the radius is infinite.
    """

    center: Tensor
    radius: float
    multipliers: Tensor | None

    def summary(self) -> str:
        return f"ball of radius {self.radius:.6g}"


@final
@dataclass(frozen=True, eq=False, slots=True)
class Support(Answer):
    """The greatest c.x: `value`, attained at `point`, proven by `multipliers`; or infinite along `ray` (see `Status`)."""

    status: Status
    value: float
    point: Tensor | None
    ray: Tensor | None
    multipliers: Tensor | None

    def summary(self) -> str:
        return f"support {self.value:.9g} ({self.status.value})"


class Bounds(NamedTuple):
    """The least box around a polytope: `low` and `high` (dim,), infinite where it is unbounded."""

    low: Tensor
    high: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True)
class AffineHull(Answer):
    """The least flat that holds a polytope: `point` (dim,) in the relative interior, orthonormal `basis` (dim, k).

    `equalities` are the rows that hold with equality everywhere. `multipliers` y (rows,) with A^T y = 0 and b.y = 0 prove it:
    positive on the equalities, rows of zeros aside, and 0 elsewhere. None where none but rows of zeros are.
    """

    point: Tensor
    basis: Tensor
    equalities: Tensor
    multipliers: Tensor | None

    @property
    def dimension(self) -> int:
        """The dimension of the polytope."""
        return self.basis.shape[1]

    def summary(self) -> str:
        return f"dimension {self.dimension} in dimension {len(self.point)}, {len(self.equalities)} rows are equalities"


@final
@dataclass(frozen=True, eq=False, slots=True)
class Boundedness(Answer):
    """Whether a polytope is bounded: `multipliers` y (rows,) >= 0 or a `ray` (dim,); `answer` None is undecided.

    Multipliers with A^T y = 0, whose positive rows span the space, prove it bounded (Stiemke); an empty polytope is bounded
    and may have Farkas multipliers in their place (b.y < 0). A ray d has A d <= 0.
    """

    answer: bool | None
    multipliers: Tensor | None
    ray: Tensor | None

    def summary(self) -> str:
        return {None: "undecided", True: "bounded (multipliers)", False: "unbounded (a ray)"}[self.answer]


def is_empty(p: Polytope, *, tolerance: Tolerance = TOLERANCE) -> Emptiness:
    """Return whether the polytope is empty, with a point of it or with Farkas multipliers.

    A point may violate rows by rounding: polytopes that are empty by less than 1e-9 of their coordinates have a point.
    No rows: the origin. Rows of zeros with a negative bound make a polytope empty.

    Algorithm: one linear program, the deepest point, whose optimum exists for every polytope and whose multipliers are
    Farkas's when the depth is negative.

    References: Schrijver, Theory of Linear and Integer Programming (1986), corollary 7.1e.

    >>> is_empty(Polytope.of([[1.0], [-1.0]], [0.0, -1.0])).answer  # x <= 0 and x >= 1
    True
    """
    deep = _deepest(p, tolerance)
    if deep is None:
        return Emptiness(None, None, None)
    return Emptiness(True, None, deep.multipliers) if deep.is_empty else Emptiness(False, deep.point, None)


def chebyshev_ball(p: Polytope, *, tolerance: Tolerance = TOLERANCE) -> Ball:
    """Return a largest ball inside the polytope.

    Radius 0 (and some point) for flat polytopes and single points; an infinite radius, with some interior point, where
    balls grow without bound (no rows, a cone); an unbounded strip still has a largest radius.

    Raises: GeometryError for an empty polytope.

    Algorithm: one linear program, max r subject to A x + |a_i| r <= b, with r bounded where it has a bound; a second one
    without a bound on r where the first one meets it.

    References: Boyd and Vandenberghe, Convex Optimization (2004), section 4.3.1.

    >>> chebyshev_ball(Polytope.box([0, 0], [2, 8])).radius
    1.0
    >>> chebyshev_ball(Polytope.box([0, 0], [2, 0])).radius
    0.0
    """
    deep = _deepest(p, tolerance)
    length = proofs_of(p, tolerance).length
    if deep is not None and accuracy_of(tolerance) * length < deep.depth < length / 2:  # neither flat nor at its cap
        return Ball(deep.point, deep.depth, deep.multipliers)
    norms = torch.linalg.vector_norm(p.matrix, dim=1, keepdim=True)
    program = LinearProgram(torch.cat([p.matrix, norms], 1), p.bound, tolerance=tolerance)
    found = program.maximise(_unit(p.dim, p.dim + 1))
    rounding = accuracy_of(tolerance) * program.length
    if found.status is Status.INFEASIBLE or found.value < -rounding:
        refuse_empty("chebyshev_ball")
    if found.point is None:
        refuse_undecided("chebyshev_ball")
    return Ball(found.point[:-1], found.value if found.value > rounding else 0.0, found.multipliers)


def support(p: Polytope, c: ArrayLike, *, tolerance: Tolerance = TOLERANCE) -> Support:
    """Return the greatest c.x over the polytope, c of shape (dim,), with its proof.

    Infinite along a ray for unbounded polytopes; minus infinity, with Farkas multipliers, for empty ones; NaN and the
    status UNDECIDED where nothing could be verified. Rows that merely touch may share the multipliers in any way.

    Algorithm: one linear program.

    >>> support(Polytope.simplex(2), [1, 3]).value
    3.0
    >>> support(Polytope.box([0], [torch.inf]), [1]).value
    inf
    """
    return _support(LinearProgram(p.matrix, p.bound, tolerance=tolerance), _direction(p, c))


def width(p: Polytope, c: ArrayLike, *, tolerance: Tolerance = TOLERANCE) -> float:
    """Return the distance between the two hyperplanes orthogonal to c (dim,) that touch the polytope.

    0 for a polytope that is flat across c, infinite for one unbounded along it; the length of c does not matter.

    Raises: GeometryError for an empty polytope; InputError for c = 0.

    Algorithm: two linear programs, the second from the first one's basis.

    >>> width(Polytope.box([0, 0], [3, 4]), [10, 0])
    3.0
    """
    direction = _direction(p, c)
    size = float(torch.linalg.vector_norm(direction))
    if size == 0:
        raise InputError("width: expected a direction other than 0; give the normal of the two hyperplanes")
    program = LinearProgram(p.matrix, p.bound, tolerance=tolerance)
    return max(0.0, sum(_value("width", program.maximise(sign * direction)) for sign in (1.0, -1.0)) / size)


def bounding_box(p: Polytope, *, tolerance: Tolerance = TOLERANCE) -> Bounds:
    """Return the least box around the polytope, with infinite ends where it is unbounded.

    Raises: GeometryError for an empty polytope.

    Algorithm: 2 dim linear programs, each from the basis of the last.

    >>> bounding_box(Polytope.box([0, 1], [torch.inf, 2])).high.tolist()
    [inf, 2.0]
    """
    program = LinearProgram(p.matrix, p.bound, tolerance=tolerance)
    ends = [[_value("bounding_box", program.maximise(sign * _unit(i, p.dim))) for i in range(p.dim)] for sign in (1.0, -1.0)]
    high, low = torch.tensor(ends, dtype=torch.float64).reshape(2, p.dim)
    return Bounds(-low, high)


def affine_hull(p: Polytope, *, tolerance: Tolerance = TOLERANCE) -> AffineHull:
    """Return the least flat around the polytope, with a point of the relative interior.

    A full-dimensional polytope has no equalities and the identity as its basis; a single point has a basis (dim, 0).
    Rows of zeros with bound 0 are equalities.

    Raises: GeometryError for an empty polytope.

    Algorithm: one linear program (the deepest point) when there are interior points. Otherwise its multipliers name rows
    that hold with equality; the same question again within their flat, at most dim + 1 times.

    >>> affine_hull(Polytope.box([0, 1], [2, 1])).dimension
    1
    """
    deep = _deepest(p, tolerance)
    if deep is None:
        refuse_undecided("affine_hull")
    if deep.is_empty:
        refuse_empty("affine_hull")
    if deep.depth > accuracy_of(tolerance) * proofs_of(p, tolerance).length:
        return AffineHull(deep.point, torch.eye(p.dim, dtype=torch.float64), torch.zeros(0, dtype=torch.long), None)
    return _flat_hull(p, deep.point, tolerance)


def dimension(p: Polytope, *, tolerance: Tolerance = TOLERANCE) -> int:
    """Return the dimension of the polytope as a set: -1 for the empty one, 0 for a point, `p.dim` with interior points.

    Algorithm: that of `affine_hull`.

    >>> dimension(Polytope.of([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])), dimension(Polytope.of([[0.0]], [-1.0]))
    (1, -1)
    """
    empty = is_empty(p, tolerance=tolerance).answer
    return -1 if empty else affine_hull(p, tolerance=tolerance).dimension


def is_bounded(p: Polytope, *, tolerance: Tolerance = TOLERANCE) -> Boundedness:
    """Return whether the polytope is bounded, with multipliers or with a ray.

    Bounds do not matter unless the polytope is empty: then it is bounded. The whole space is unbounded; in dimension 0
    everything is bounded.

    Algorithm: a box around the polytope or a rank below dim is seen at once; otherwise one linear program, max sum u
    subject to A d + u <= 0, 0 <= u <= 1: a ray d where it is positive, multipliers of at least 1 where it is 0.

    References: Stiemke's theorem of the alternative; Schrijver (1986), section 7.8.

    >>> is_bounded(Polytope.simplex(3)).answer, is_bounded(Polytope.of([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1, 1, 1])).answer
    (True, False)
    """
    spanning = _box_multipliers(p)
    if spanning is not None:
        return Boundedness(True, spanning, None)
    ray, multipliers = _recession(p, tolerance)
    if ray is None:
        return Boundedness(None if multipliers is None else True, multipliers, None)
    empty = is_empty(p, tolerance=tolerance)
    if empty.answer is None:
        return Boundedness(None, None, None)
    return Boundedness(True, empty.multipliers, None) if empty.answer else Boundedness(False, None, ray)


def analytic_center(p: Polytope, *, start: Tensor | None = None) -> Tensor:
    """Return the point (dim,) that maximises the product of the slacks: the analytic centre.

    For bounded polytopes with interior points; rows of zeros do not count, repeated rows count repeatedly. `start` (dim,)
    need not be inside. Every slack of the returned point is positive.

    Raises: GeometryError for empty, flat and unbounded polytopes, which have no analytic centre.

    Algorithm: Newton steps from outside or inside (infeasible-start Newton with slack variables), one Cholesky factor
    of A^T D A each: O(rows dim^2 + dim^3), some 10-60 steps; rows with one nonzero entry only reach the diagonal.

    References: Boyd and Vandenberghe, Convex Optimization (2004), sections 8.5.3 and 10.3.

    >>> [round(v, 9) for v in analytic_center(Polytope.box([0, 0], [2, 8])).tolist()]
    [1.0, 4.0]
    """
    zero = ~p.matrix.any(1)
    if p.dim == 0 and not bool((p.bound < 0).any()):
        return torch.zeros(0, dtype=torch.float64)
    if not bool((p.bound[zero] < 0).any()):
        barrier = barrier_of(p)
        for x in (start, None) if start is not None else (None,):
            point = barrier.center(torch.zeros(p.dim, dtype=torch.float64) if x is None else x.double())
            if point is not None and bool((p.slack(point)[~zero] > 0).all()):
                return point
    raise GeometryError(
        "analytic_center: expected a bounded polytope with interior points; Newton's method found no centre; is_empty,"
        " dimension and is_bounded say which it lacks: intersect with a box, or go to the affine hull, first"
    )


def _unit(i: int, dim: int) -> Tensor:
    unit = torch.zeros(dim, dtype=torch.float64)
    unit[i] = 1.0
    return unit


def _direction(p: Polytope, c: ArrayLike) -> Tensor:
    direction = torch.as_tensor(c, dtype=torch.float64)
    if direction.shape != (p.dim,):
        raise ShapeError(f"direction: expected shape ({p.dim},); got {tuple(direction.shape)}")
    return finite(direction, "direction")


def _deepest(p: Polytope, tolerance: Tolerance) -> Deepest | None:
    return deepest(p.matrix, p.bound, accuracy=accuracy_of(tolerance))


def _support(program: LinearProgram, c: Tensor) -> Support:
    found = program.maximise(c)
    return Support(found.status, found.value, found.point, found.ray, found.multipliers)


def _value(question: str, found: Optimum) -> float:
    if found.status is Status.INFEASIBLE:
        refuse_empty(question)
    if found.status is Status.UNDECIDED:
        refuse_undecided(question)
    return found.value


def _unit_rows(p: Polytope) -> tuple[Tensor, Tensor]:
    """Return matrix and bound with rows of length 1 (rows of zeros stay)."""
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    norms = torch.where(norms > 0, norms, 1.0)
    return p.matrix / norms[:, None], p.bound / norms


def _flat_hull(p: Polytope, point: Tensor, tolerance: Tolerance) -> AffineHull:
    """Return the affine hull of a polytope without interior, from a point of it.

    Where the deepest point lies on the walls, multipliers say which rows hold with equality: go to the flat of these, and
    ask again there. Multipliers within a flat are those of the space up to multiples of the rows that made it.
    """
    proofs = proofs_of(p, tolerance)
    a, b = _unit_rows(p)
    rounding = proofs.accuracy * (proofs.length + float(torch.linalg.vector_norm(point)))
    held, y = torch.zeros(len(p), dtype=torch.bool), torch.zeros(len(p), dtype=torch.float64)
    basis = torch.eye(p.dim, dtype=torch.float64)
    for _ in range(p.dim + 1):
        slack = b - a @ point
        live = torch.linalg.vector_norm(a @ basis, dim=1) > math.sqrt(proofs.accuracy)
        section = (a @ basis)[live]
        deep = deepest(section, torch.where(slack.abs() > rounding, slack, 0.0)[live], accuracy=proofs.accuracy)
        if deep is None or deep.is_empty:
            refuse_undecided("affine_hull")
        if deep.depth > rounding or basis.shape[1] == 0:
            equal = ~live & (slack.abs() <= rounding)
            y = _completed(a, equal, held, y)
            return _proven(p, AffineHull(point + basis @ deep.point, basis, torch.nonzero(equal).reshape(-1), y), proofs)
        force = torch.zeros(len(p), dtype=torch.float64)
        force[live] = deep.multipliers
        y = _balanced(a, force, held, y)
        # of multipliers that sum to 1, dim + 1 at most, these prove their row's slack to be rounding as well
        held = held | (force > 0.5 / (basis.shape[1] + 1))
        basis, point = _solutions(a[held], b[held], point, proofs.accuracy)
    refuse_undecided("affine_hull")


def _completed(a: Tensor, equal: Tensor, held: Tensor, y: Tensor) -> Tensor:
    """Return multipliers positive on all `equal` rows but those of zeros, from `y`, positive on the `held` ones that span them.

    They exist by strict complementarity; a row in the span of the held ones takes what balances it from these.
    """
    named = equal & a.any(1)
    y = torch.where(named, y, 0.0)
    return _balanced(a, (named & (y == 0)).double(), held, y)


def _balanced(a: Tensor, force: Tensor, held: Tensor, y: Tensor) -> Tensor:
    """Return multipliers with A^T y = 0 from those within the flat of the `held` rows, for which `y` are multipliers."""
    found = force.clone()
    if bool(held.any()):
        found[held] -= torch.linalg.pinv(a[held].T) @ (a.T @ force)
    needed = torch.where(y > 0, -found / y.clamp(min=torch.finfo(y.dtype).tiny), 0.0).clamp(min=0).max()
    return (found + (needed + 1.0) * y).clamp(min=0)


def _proven(p: Polytope, hull: AffineHull, proofs: Proofs) -> AffineHull:
    """Return the hull with multipliers of the rows as given, if they prove it."""
    norms = torch.from_numpy(proofs.norms)
    y = (torch.zeros(0) if hull.multipliers is None else hull.multipliers) / torch.where(norms > 0, norms, 1.0)
    size = proofs.worth(y.numpy(), p.bound.abs().numpy()) + proofs.length * float(norms @ y)
    if not proofs.stationary(y.numpy(), torch.zeros(p.dim).numpy()) or abs(proofs.worth(y.numpy())) > proofs.accuracy * size:
        refuse_undecided("affine_hull")
    return AffineHull(hull.point, hull.basis, hull.equalities, y if bool(y.any()) else None)


def _solutions(a: Tensor, b: Tensor, near: Tensor, accuracy: float) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis of the kernel of a, and the solution of a x = b next to `near`; rows of length 1."""
    _, values, right = torch.linalg.svd(a, full_matrices=True)
    rank = int((values > accuracy * math.sqrt(max(a.shape))).sum())
    point = near - torch.linalg.pinv(a, rtol=accuracy) @ (a @ near - b)
    return right[rank:].T.contiguous(), point


def _box_multipliers(p: Polytope) -> Tensor | None:
    """Return multipliers that prove a polytope bounded by rows with one entry alone, if there is one on every side."""
    single = torch.nonzero((p.matrix != 0).sum(1) == 1).reshape(-1)
    column = p.matrix[single].abs().argmax(1) if len(single) else single
    entry = p.matrix[single, column]
    y = torch.zeros(len(p), dtype=torch.float64)
    for sign in (1.0, -1.0):
        rows, columns = single[entry * sign > 0], column[entry * sign > 0]
        first = torch.full((p.dim,), len(p)).scatter_reduce(0, columns, rows, "amin")
        if bool((first == len(p)).any()):
            return None
        y[first] = 1.0 / p.matrix[first, torch.arange(p.dim)].abs()
    return y


def _recession(p: Polytope, tolerance: Tolerance) -> tuple[Tensor | None, Tensor | None]:
    """Return a ray d with A d <= 0, or multipliers y >= 0 with A^T y = 0 whose rows span the space, or neither."""
    kept = torch.nonzero(p.matrix.any(1)).reshape(-1)
    a = _unit_rows(p)[0][kept]
    rows, dim = a.shape
    if dim == 0:
        return None, torch.zeros(len(p), dtype=torch.float64)
    _, values, right = torch.linalg.svd(a, full_matrices=True)
    rank = int((values > max(rows, dim) * 2.0**-52 * values[0]).sum()) if rows else 0
    if rank < dim:
        return right[-1], None
    eye, side = torch.eye(rows, dtype=torch.float64), torch.zeros(rows, dim, dtype=torch.float64)
    matrix = torch.cat([torch.cat([a, eye], 1), torch.cat([side, eye], 1), torch.cat([side, -eye], 1)])
    ones, zeros = torch.ones(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.float64)
    cost = torch.cat([torch.zeros(dim, dtype=torch.float64), ones])
    found = LinearProgram(matrix, torch.cat([zeros, ones, zeros]), tolerance=tolerance).optimum(cost.numpy())
    return (None, None) if found is None else _ray_or_multipliers(p, kept, found, tolerance)


def _ray_or_multipliers(p: Polytope, kept: Tensor, found: Optimum, tolerance: Tolerance) -> tuple[Tensor | None, Tensor | None]:
    if found.point is None or found.multipliers is None:
        return None, None
    proofs, ray = proofs_of(p, tolerance), found.point[: p.dim]
    downhill = -_unit_rows(p)[0].sum(0)
    # the rows span the space, so A d <= 0 with d != 0 has a strictly negative entry: the sum of the rows descends
    if found.value > 0.5 and proofs.ray(downhill.numpy(), ray.numpy()):
        return ray / torch.linalg.vector_norm(ray), None
    y = torch.zeros(len(p), dtype=torch.float64)
    y[kept] = found.multipliers[: len(kept)] / torch.linalg.vector_norm(p.matrix[kept], dim=1)
    settled = proofs.stationary(y.numpy(), torch.zeros(p.dim).numpy()) and bool((y[kept] > 0).all())
    return None, y if settled else None


def barrier_of(p: Polytope) -> Barrier:
    """Return the logarithmic barrier of the rows that are not zero."""
    zero = ~p.matrix.any(1)
    return Barrier.of(p.matrix[~zero], p.bound[~zero])
