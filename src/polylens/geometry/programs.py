"""What linear programs answer about a polytope: emptiness, the largest ball, supports, widths, the box around it.

A polytope counts as flat when the largest ball in it is rounding: of radius below about 1e-12 of the terms b_i and
a_ij x_j of some row, or 1e-9 of the median distance of its hyperplanes from a point of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._check import ArrayLike, finite
from .._lp import Deepest, LinearProgram, Optimum
from .._types import Status, Tolerance
from ..errors import InputError, ShapeError
from ..polytope import HasPolytope, Polytope, polytope_of
from ._answers import TOLERANCE, Answer, deepest_of, refuse_empty, refuse_undecided


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
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
@dataclass(frozen=True, eq=False, slots=True, repr=False)
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
@dataclass(frozen=True, eq=False, slots=True, repr=False)
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


def is_empty(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Emptiness:
    """Return whether the polytope is empty, with a point of it or with Farkas multipliers.

    A point may violate rows by rounding: polytopes that are empty by less than the solver's accuracy, 1e-9 of the median
    distance of the hyperplanes from 0, have a point. No rows: the origin. Rows of zeros with a negative bound make a
    polytope empty.

    Algorithm: one linear program, the deepest point, whose optimum exists for every polytope and whose multipliers are
    Farkas's when the depth is negative.

    References: Schrijver, Theory of Linear and Integer Programming (1986), corollary 7.1e.

    >>> is_empty(Polytope.of([[1.0], [-1.0]], [0.0, -1.0])).answer  # x <= 0 and x >= 1
    True
    """
    p = polytope_of(p, "is_empty")
    deep = deepest_of(p, tolerance)
    if deep is None:
        return Emptiness(None, None, None)
    return Emptiness(True, None, deep.multipliers) if deep.is_empty else Emptiness(False, deep.point, None)


def chebyshev_ball(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Ball:
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
    p = polytope_of(p, "chebyshev_ball")
    deep = deepest_of(p, tolerance)
    if deep is not None and deep.rounding < deep.depth < deep.cap / 2:  # neither flat nor at its cap
        return Ball(deep.point, deep.depth, deep.multipliers)
    if deep is None:
        refuse_undecided("chebyshev_ball")
    if deep.is_empty:
        refuse_empty("chebyshev_ball")
    return _uncapped_ball(p, deep, tolerance)


def support(p: Polytope | HasPolytope, c: ArrayLike, *, tolerance: Tolerance = TOLERANCE) -> Support:
    """Return the greatest c.x over the polytope, c of shape (dim,), with its proof.

    Infinite along a ray for unbounded polytopes; minus infinity, with Farkas multipliers, for empty ones; NaN and the
    status UNDECIDED where nothing could be verified. Rows that merely touch may share the multipliers in any way.

    Algorithm: one linear program.

    >>> support(Polytope.simplex(2), [1, 3]).value
    3.0
    >>> support(Polytope.box([0], [torch.inf]), [1]).value
    inf
    """
    p = polytope_of(p, "support")
    return _support(LinearProgram(p.matrix, p.bound, tolerance=tolerance), _direction(p, c))


def width(p: Polytope | HasPolytope, c: ArrayLike, *, tolerance: Tolerance = TOLERANCE) -> float:
    """Return the distance between the two hyperplanes orthogonal to c (dim,) that touch the polytope.

    0 for a polytope that is flat across c, infinite for one unbounded along it; the length of c does not matter.

    Raises: GeometryError for an empty polytope; InputError for c = 0.

    Algorithm: two linear programs, the second from the first one's basis.

    >>> width(Polytope.box([0, 0], [3, 4]), [10, 0])
    3.0
    """
    p = polytope_of(p, "width")
    direction = _direction(p, c)
    size = float(torch.linalg.vector_norm(direction))
    if size == 0:
        raise InputError("width: expected a direction other than 0; give the normal of the two hyperplanes")
    program = LinearProgram(p.matrix, p.bound, tolerance=tolerance)
    return max(0.0, sum(_value("width", program.maximise(sign * direction)) for sign in (1.0, -1.0)) / size)


def bounding_box(p: Polytope | HasPolytope, *, tolerance: Tolerance = TOLERANCE) -> Bounds:
    """Return the least box around the polytope, with infinite ends where it is unbounded.

    Raises: GeometryError for an empty polytope.

    Algorithm: 2 dim linear programs, each from the basis of the last.

    >>> bounding_box(Polytope.box([0, 1], [torch.inf, 2])).high.tolist()
    [inf, 2.0]
    """
    p = polytope_of(p, "bounding_box")
    program = LinearProgram(p.matrix, p.bound, tolerance=tolerance)
    ends = [[_value("bounding_box", program.maximise(sign * _unit(i, p.dim))) for i in range(p.dim)] for sign in (1.0, -1.0)]
    high, low = torch.tensor(ends, dtype=torch.float64).reshape(2, p.dim)
    return Bounds(0.0 - low, high + 0.0)  # without negative zeros


def _uncapped_ball(p: Polytope, deep: Deepest, tolerance: Tolerance) -> Ball:
    """Return a largest ball by a program without a cap, around a point known before; its radius is 0 where that is rounding."""
    norms = torch.linalg.vector_norm(p.matrix, dim=1, keepdim=True)
    program = LinearProgram(torch.cat([p.matrix, norms], 1), p.slack(deep.point), tolerance=tolerance)
    found = program.maximise(_unit(p.dim, p.dim + 1))
    if found.point is None:
        refuse_undecided("chebyshev_ball")
    return Ball(deep.point + found.point[:-1], found.value if found.value > deep.rounding else 0.0, found.multipliers)


def _unit(i: int, dim: int) -> Tensor:
    unit = torch.zeros(dim, dtype=torch.float64)
    unit[i] = 1.0
    return unit


def _direction(p: Polytope, c: ArrayLike) -> Tensor:
    direction = torch.as_tensor(c, dtype=torch.float64)
    if direction.shape != (p.dim,):
        raise ShapeError(f"direction: expected shape ({p.dim},); got {tuple(direction.shape)}")
    return finite(direction, "direction")


def _support(program: LinearProgram, c: Tensor) -> Support:
    found = program.maximise(c)
    return Support(found.status, found.value, found.point, found.ray, found.multipliers)


def _value(question: str, found: Optimum) -> float:
    if found.status is Status.INFEASIBLE:
        refuse_empty(question)
    if found.status is Status.UNDECIDED:
        refuse_undecided(question)
    return found.value
