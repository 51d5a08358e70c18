"""Whether a matrix is omnidirectional (A x <= 0 only for x = 0), and whether a system A x + b <= 0 has one solution only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating
from ._layers import rational, stiemke
from ._types import Result, Tolerance
from .errors import GeometryError, InputError, ShapeError

TOLERANCE = Tolerance()
EXACT_ENTRIES = 4096  # larger matrices take rational arithmetic more than about a minute


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Omnidirectional(Result):
    """Whether a matrix A (rows, dim) is omnidirectional, alone or, with b (rows,), for a `point` (dim,): A point + b = 0.

    True: `multipliers` (rows,), every entry > 0, with A^T multipliers = 0, rows that span the space, and the `radius` of a
    ball around 0 within the hull of the rows (a lower bound, infinite in dimension 0). False: a unit `ray` (dim,) with
    A ray <= 0, or, for a point, a `residual` |A point + b| that is not 0. None: undecided.
    """

    answer: bool | None
    matrix: Tensor
    multipliers: Tensor | None
    radius: float | None
    ray: Tensor | None
    point: Tensor | None
    residual: float | None

    def __repr__(self) -> str:
        return f"Omnidirectional({self.answer}, {tuple(self.matrix.shape)})"

    def summary(self) -> str:
        rows, dim = self.matrix.shape
        of = f"{rows} rows in dimension {dim}"
        if self.answer is None:
            return f"undecided: {of}; neither multipliers nor a ray could be verified; exact=True decides small matrices"
        if self.ray is not None:
            views = (
                "a vector other than 0 has A x <= 0 (the ray)",
                "the open halfspace that the ray points into holds no row",
                "0 is not inside the convex hull of the rows",
            )
            return "\n  ".join([f"not omnidirectional: {of}", *views])
        if self.answer is False:
            return f"omnidirectional, but not for this point: {of}; A x + b = 0 is missed by {self.residual:.3g}"
        views = (
            "A x <= 0 for x = 0 alone",
            "every open halfspace holds a row",
            f"0 is inside the convex hull of the rows, with a ball of radius {self.radius:.3g} or more",
        )
        alone = "" if self.point is None else "; the point is the only solution of A x + b <= 0"
        return "\n  ".join([f"omnidirectional: {of}{alone}", *views])

    def to_dict(self) -> dict[str, Any]:
        tensors = {"multipliers": self.multipliers, "ray": self.ray, "point": self.point}
        plain = {name: None if v is None else v.tolist() for name, v in tensors.items()}
        shape = {"rows": self.matrix.shape[0], "dim": self.matrix.shape[1]}
        return {"answer": self.answer, **shape, **plain, "radius": self.radius, "residual": self.residual}


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class UniqueSolution(Result):
    """Whether x is the only solution of A x + b <= 0.

    `rows` are those that are tight at x. True: they are omnidirectional for x, by `multipliers` (rows,) > 0. False: the
    unit direction `ray` (dim,) leads to other solutions, up to x + `length` ray. None: undecided.
    """

    answer: bool | None
    point: Tensor
    rows: Tensor
    multipliers: Tensor | None
    ray: Tensor | None
    length: float | None

    def __repr__(self) -> str:
        return f"UniqueSolution({self.answer}, {len(self.rows)} tight rows)"

    def summary(self) -> str:
        tight = f"{len(self.rows)} tight rows in dimension {len(self.point)}"
        if self.answer is None:
            return f"undecided: {tight}; exact=True decides small matrices"
        if self.answer:
            return f"the only solution: {tight} are omnidirectional for the point"
        return f"not the only solution: {tight} leave a ray; the system holds along it for a length of {self.length:.6g}"

    def to_dict(self) -> dict[str, Any]:
        tensors = {"point": self.point, "rows": self.rows, "multipliers": self.multipliers, "ray": self.ray}
        plain = {name: None if v is None else v.tolist() for name, v in tensors.items()}
        return {"answer": self.answer, **plain, "length": self.length}


def is_omnidirectional(
    A: ArrayLike,
    b: ArrayLike | None = None,
    point: ArrayLike | None = None,
    *,
    exact: bool = False,
    tolerance: Tolerance = TOLERANCE,
) -> Omnidirectional:
    """Return whether A x <= 0 only for x = 0, with a certificate either way; with b and a point, also whether A point + b = 0.

    Equivalent: every open halfspace holds a row; 0 lies inside the convex hull of the rows, not on its boundary. It takes
    at least dim + 1 rows. Rows of zeros change nothing; in dimension 0 every matrix is omnidirectional; one without rows is
    not, in higher dimensions.

    Args:
        A: matrix (rows, dim); its rows may have any lengths.
        b: (rows,), with a point; None for the matrix alone.
        point: (dim,), with b; None for the matrix alone.
        exact: decide in rational arithmetic, in which floats are what they are, so that nothing is undecided; for matrices
            of at most 4096 entries.
        tolerance: products with unit vectors up to its relative size count as 0 in rays that only just are.

    Raises: InputError for NaN, infinity, b without a point, and matrices too large for `exact`; ShapeError.

    Algorithm: ranks, over-relaxed alternating projections through one Cholesky factor, Newton's method on a convex function
    whose derivatives are positive multipliers, nonnegative least squares; then plain products verify: |A^T lambda| <
    sigma_min(A) min lambda proves that exact multipliers lie near, and a ray's rows are strictly negative but for some of
    rank below dim, on which they are 0. O(rows dim^2) as a rule.

    References: Stiemke (1915); Behrmann, Dittmer, Fernsel, Maass, Analysis of invariance and robustness via invertibility of
    ReLU networks (2018).

    >>> is_omnidirectional([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]).answer
    True
    >>> is_omnidirectional([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]).ray.tolist()  # 0 is on the boundary of the hull
    [0.0, -1.0]
    """
    matrix = _double(A, "A", 2)
    found = _exactly(matrix) if exact else stiemke.alternative(matrix.numpy(), tolerance=tolerance)
    multipliers, ray = (None if v is None else torch.from_numpy(v) + 0.0 for v in (found.multipliers, found.ray))
    radius = None if found.multipliers is None else stiemke.hull_radius(matrix.numpy(), found.multipliers)
    answer = Omnidirectional(found.answer, matrix, multipliers, radius, ray, None, None)
    return answer if b is None and point is None else _for_point(answer, b, point, tolerance)


def unique_solution(
    A: ArrayLike, b: ArrayLike, x0: ArrayLike, *, exact: bool = False, tolerance: Tolerance = TOLERANCE
) -> UniqueSolution:
    """Return whether x0 is the only solution of A x + b <= 0, with the rows that make it so or a way to others.

    It is iff some of the rows that are tight at x0 are omnidirectional; then all of these are. Rows within the tolerance of
    0, relative to their terms, are tight; with `exact`, those that are 0 in rational arithmetic. In dimension 0 every
    solution is the only one.

    Args:
        A: matrix (rows, dim).
        b: (rows,).
        x0: a solution (dim,).
        exact: decide in rational arithmetic, for matrices of at most 4096 entries.
        tolerance: what counts as tight, relative to the terms.

    Raises: GeometryError where x0 is no solution; InputError, ShapeError as `is_omnidirectional`.

    Algorithm: that of `is_omnidirectional`, on the tight rows.

    References: Behrmann, Dittmer, Fernsel, Maass (2018), on unique solutions of inequality systems.

    >>> unique_solution([[1.0], [-1.0], [2.0]], [-1.0, 1.0, -5.0], [1.0]).rows.tolist()  # x <= 1 and x >= 1
    [0, 1]
    """
    matrix, offset, x = _double(A, "A", 2), _double(b, "b", 1), _double(x0, "x0", 1)
    _fitting(matrix, offset, x, "x0")
    value, room = _value(matrix, offset, x, exact, tolerance)
    if bool((value > room).any()):
        worst = int((value - room).argmax())
        raise GeometryError(
            f"unique_solution: expected a solution x0 of A x + b <= 0; row {worst} is {float(value[worst]):.6g} there"
        )
    rows = torch.nonzero(value >= -room).reshape(-1)
    found = is_omnidirectional(matrix[rows], exact=exact, tolerance=tolerance)
    if found.ray is None:
        return UniqueSolution(found.answer, x, rows, found.multipliers, None, None)
    speed = matrix @ found.ray
    speed[rows] = 0.0
    rising = speed > 0
    length = float((-value[rising] / speed[rising]).min()) if bool(rising.any()) else torch.inf
    return UniqueSolution(False, x, rows, None, found.ray, length)


def _exactly(matrix: Tensor) -> stiemke.Alternative:
    rows, dim = matrix.shape
    if rows * dim > EXACT_ENTRIES:
        raise InputError(
            f"exact: expected a matrix of at most {EXACT_ENTRIES} entries; got {rows} x {dim}; leave out exact=True"
        )
    multipliers, ray = rational.alternative(rational.exact(matrix.tolist()), dim)
    scale = np.ones(rows)
    if ray is not None:
        return stiemke.Alternative(None, _floats(ray, unit=True), scale)
    return stiemke.Alternative(_floats(multipliers or [], unit=False), None, scale)


def _floats(values: rational.Vector, *, unit: bool) -> stiemke.Array:
    largest = max((abs(v) for v in values), default=1)
    found = np.array([float(v / largest) for v in values])
    return found / np.linalg.norm(found) if unit else found


def _for_point(found: Omnidirectional, b: ArrayLike | None, point: ArrayLike | None, tolerance: Tolerance) -> Omnidirectional:
    if b is None or point is None:
        raise InputError("is_omnidirectional: expected b and a point, or neither; got one of them")
    offset, x = _double(b, "b", 1), _double(point, "point", 1)
    _fitting(found.matrix, offset, x, "point")
    value, room = _value(found.matrix, offset, x, False, tolerance)
    off = bool((value.abs() > room).any())
    residual = float(value.abs().max()) if len(value) else 0.0
    answer = False if off else found.answer
    return Omnidirectional(answer, found.matrix, found.multipliers, found.radius, found.ray, x, residual)


def _value(matrix: Tensor, b: Tensor, x: Tensor, exact: bool, tolerance: Tolerance) -> tuple[Tensor, Tensor]:
    """Return A x + b and how much of it counts as 0."""
    if exact:
        point = rational.exact([x.tolist()])[0]
        rows = rational.exact(matrix.tolist())
        sums = [rational.dot(row, point) + c for row, c in zip(rows, rational.exact([b.tolist()])[0], strict=True)]
        return torch.tensor([float(s) for s in sums], dtype=torch.float64), torch.zeros(len(b), dtype=torch.float64)
    return matrix @ x + b, tolerance.relative * (matrix.abs() @ x.abs() + b.abs())


def _fitting(matrix: Tensor, b: Tensor, x: Tensor, what: str) -> None:
    if b.shape != matrix.shape[:1] or x.shape != matrix.shape[1:]:
        raise ShapeError(
            f"expected b ({matrix.shape[0]},) and {what} ({matrix.shape[1]},); got {tuple(b.shape)} and {tuple(x.shape)}"
        )


def _double(x: ArrayLike, what: str, axes: int) -> Tensor:
    given = array(x, what)
    floating(given, what)
    tensor = as_tensor(given, torch.float64, torch.device("cpu")).detach()
    if tensor.ndim != axes:
        shape = "(rows, dim)" if axes == 2 else "(n,)"
        raise ShapeError(f"{what}: expected shape {shape}; got {tuple(tensor.shape)}")
    return finite(tensor, what)
