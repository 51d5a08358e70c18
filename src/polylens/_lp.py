"""The one door to HiGHS: the greatest c.x over {x : A x <= b}, with proofs that are checked before they are returned.

The solver only proposes. A point and multipliers, a ray, or Farkas multipliers are verified here in plain products; what
cannot be verified is UNDECIDED. Rows with one nonzero entry become bounds of a variable, which costs the solver nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._types import Status, Tolerance

Array = NDArray[np.float64]

# HiGHS's own accuracy; 1e-10 is the least that it takes
SOLVER_ACCURACY = 1e-10
# HiGHS leaves out entries of the matrix below this, the least that it takes; rows reach it with lengths of about 1
SMALLEST_ENTRY = 1e-12
# Solvers leave residues of about their own accuracy, far above rounding: proofs are held to this many roundings more
SOLVER_FACTOR = 1024.0


def accuracy_of(tolerance: Tolerance) -> float:
    """Return the largest relative residue that a proof by multipliers may leave: about 1e-9."""
    return tolerance.relative * SOLVER_FACTOR


@final
@dataclass(frozen=True, eq=False, slots=True)
class Optimum:
    """The greatest c.x over a polytope, with its proof.

    OPTIMAL: `point` (dim,) attains `value`; `multipliers` y (rows,) >= 0 with A^T y = c prove c.x <= `upper` = b.y.
    UNBOUNDED: `point` lies in the polytope, `ray` d has A d <= 0 and c.d > 0; value is infinite.
    INFEASIBLE: `multipliers` y >= 0 with A^T y = 0 and b.y < 0 prove emptiness (Farkas); value is minus infinity.
    UNDECIDED: nothing was proven; value is NaN.
    """

    status: Status
    value: float
    upper: float
    point: Tensor | None = None
    multipliers: Tensor | None = None
    ray: Tensor | None = None


class Proofs:
    """The checks of certificates for {x : A x <= b}: plain products, no solver.

    `length` is the size of coordinates below which a distance is rounding of nothing: residues are measured against the
    terms that made them, with coordinates taken as at least `length`.
    """

    def __init__(self, matrix: Array, bound: Array, accuracy: float) -> None:
        self.matrix, self.bound, self.accuracy = matrix, bound, accuracy
        self.norms = np.linalg.norm(matrix, axis=1)
        self.length = _length(self.norms, bound)

    def worth(self, y: Array, bound: Array | None = None) -> float:
        """Return b.y, where rows without a multiplier may have an infinite bound."""
        used = y > 0
        return float((self.bound if bound is None else bound)[used] @ y[used])

    def feasible(self, x: Array) -> bool:
        """Say whether x violates no row by more than rounding."""
        room = self.accuracy * self.norms * (self.length + np.linalg.norm(x))
        return bool(np.isfinite(x).all() and (self.matrix @ x - self.bound <= room).all())

    def stationary(self, y: Array, c: Array) -> bool:
        """Say whether y >= 0 and A^T y = c up to rounding."""
        if not (np.isfinite(y).all() and (y >= 0).all()):
            return False
        residue = np.abs(self.matrix.T @ y - c)
        return bool((residue <= self.accuracy * (np.linalg.norm(c) + self.norms @ y)).all())

    def optimal(self, c: Array, x: Array, y: Array) -> bool:
        """Say whether x and y prove each other optimal: feasible, stationary, and without a gap."""
        if not (self.feasible(x) and self.stationary(y, c)):
            return False
        size = self.worth(y, np.abs(self.bound)) + np.linalg.norm(c) * (self.length + np.linalg.norm(x))
        return bool(np.isfinite(size) and abs(self.worth(y) - c @ x) <= self.accuracy * size)

    def empty(self, y: Array) -> bool:
        """Say whether y >= 0, A^T y = 0 and b.y < 0 by more than rounding (Farkas)."""
        if not self.stationary(y, np.zeros(self.matrix.shape[1])):
            return False
        size = self.worth(y, np.abs(self.bound)) + self.length * (self.norms @ y)
        return bool(np.isfinite(size) and self.worth(y) < -self.accuracy * size)

    def ray(self, c: Array, d: Array) -> bool:
        """Say whether A d <= 0 up to rounding and c.d > 0 by more."""
        size = float(np.linalg.norm(d))
        if not 0 < size < np.inf:
            return False
        inside = (self.matrix @ d <= self.accuracy * self.norms * size) | np.isposinf(self.bound)
        return bool(inside.all() and c @ d > self.accuracy * np.linalg.norm(c) * size)


class _Candidate(NamedTuple):
    """What a solver proposes: a point and the multipliers of the general rows, and whether it thinks them optimal."""

    point: Array
    multipliers: Array
    optimal: bool


class _Sides:
    """The rows with one nonzero entry, as bounds of variables; of several rows on one side the tightest counts."""

    def __init__(self, matrix: Array) -> None:
        self.rows = np.flatnonzero((matrix != 0).sum(1) == 1)
        self.columns = np.argmax(matrix[self.rows] != 0, axis=1) if len(self.rows) else np.zeros(0, dtype=np.intp)
        self.entries = matrix[self.rows, self.columns]

    def limits(self, bound: Array, dim: int) -> tuple[Array, Array]:
        """Return the lower and upper bounds of all variables."""
        at, up = bound[self.rows] / self.entries, self.entries > 0
        low, high = np.full(dim, -np.inf), np.full(dim, np.inf)
        np.minimum.at(high, self.columns[up], at[up])
        np.maximum.at(low, self.columns[~up], at[~up])
        return low, high

    def multipliers(self, bound: Array, reduced: Array) -> Array:
        """Return the multipliers of these rows that make up the reduced costs: each on the tightest row of its side.

        A side whose bound is infinite is none: what reduced cost points there is rounding, which its multiplier would
        turn into an infinite gap.
        """
        at, found = bound[self.rows] / self.entries, np.zeros(len(self.rows))
        for sign in (1.0, -1.0):
            side = np.flatnonzero((self.entries * sign > 0) & (reduced[self.columns] * sign > 0) & np.isfinite(at))
            order = side[np.argsort(at[side] * sign, kind="stable")]
            _, first = np.unique(self.columns[order], return_index=True)
            tightest = order[first]
            found[tightest] = reduced[self.columns[tightest]] / self.entries[tightest]
        return found


class _Solver:
    """HiGHS, silent and on one thread, holding min cost.x subject to rows and bounds of variables; warm from call to call."""

    def __init__(self, matrix: Array, bound: Array, low: Array, high: Array) -> None:
        import highspy

        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.silent()
        self._rows, self._dim = matrix.shape
        self._columns = np.arange(self._dim, dtype=np.int32)
        self._optimal = highspy.HighsModelStatus.kOptimal
        options: dict[str, str | int | float] = {
            "threads": 1,
            "parallel": "off",
            "primal_feasibility_tolerance": SOLVER_ACCURACY,
            "dual_feasibility_tolerance": SOLVER_ACCURACY,
            "small_matrix_value": SMALLEST_ENTRY,
        }
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        self._highs.passModel(_model(highspy, matrix, bound, low, high))

    def set_row(self, row: int, bound: float) -> None:
        self._highs.changeRowBounds(row, -np.inf, bound)

    def set_column(self, column: int, low: float, high: float) -> None:
        self._highs.changeColBounds(column, low, high)

    def minimise(self, cost: Array, method: str) -> _Candidate | None:
        """Return what the method proposes: "warm" goes on from the last basis, "simplex" and "ipm" start afresh."""
        if self._dim == 0:  # a single point, which HiGHS does not take
            return _Candidate(np.zeros(0), np.zeros(self._rows), True)
        if method != "warm":
            self._highs.clearSolver()
        self._highs.setOptionValue("solver", "ipm" if method == "ipm" else "simplex")
        self._highs.changeColsCost(self._dim, self._columns, cost)
        self._highs.run()
        solution = self._highs.getSolution()
        if not (solution.value_valid and solution.dual_valid):
            return None
        optimal = self._highs.getModelStatus() == self._optimal
        return _Candidate(np.array(solution.col_value), np.array(solution.row_dual), optimal)


def _model(highspy: Any, matrix: Array, bound: Array, low: Array, high: Array) -> Any:
    model = highspy.HighsLp()
    rows, columns = np.nonzero(matrix)
    model.num_row_, model.num_col_ = matrix.shape
    model.col_cost_, model.col_lower_, model.col_upper_ = np.zeros(len(low)), low, high
    model.row_lower_, model.row_upper_ = np.full(len(bound), -np.inf), bound
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.searchsorted(rows, np.arange(len(bound) + 1)).astype(np.int32)
    model.a_matrix_.index_ = columns.astype(np.int32)
    model.a_matrix_.value_ = matrix[rows, columns]
    return model


@final
class LinearProgram:
    """max c.x subject to matrix x <= bound, for many c and many changes of single bounds, warm from call to call.

    `matrix` (rows, dim) and `bound` (rows,) in float64; the variables are free but for the rows. No rows is the whole
    space. Rows and lengths are scaled by powers of two on the way to the solver, so that its absolute accuracy means the
    same for small and large polytopes; proofs are checked on the rows as given, to `accuracy` relative to the terms.
    """

    def __init__(self, matrix: Tensor, bound: Tensor, *, tolerance: Tolerance | None = None) -> None:
        self.tolerance = tolerance or Tolerance()
        self.accuracy = accuracy_of(self.tolerance)
        self._matrix, self._bound = (v.detach().double().clone().numpy() for v in (matrix, bound))
        self._proofs = Proofs(self._matrix, self._bound, self.accuracy)
        self.length = self._proofs.length
        self._weights = _power(self._proofs.norms)
        self._sides = _Sides(self._matrix)
        self._general = np.setdiff1d(np.arange(len(self._bound)), self._sides.rows)
        rows, bounds = self._scaled(self._general)
        low, high = self._sides.limits(self._bound, self.dim)
        self._solver = _Solver(rows, bounds, low / self.length, high / self.length)

    @property
    def dim(self) -> int:
        """The number of variables."""
        return self._matrix.shape[1]

    def set_bound(self, row: int, value: float) -> None:
        """Change one row's bound from here on; infinity takes the row away until another value comes."""
        self._bound[row] = value
        place = int(np.searchsorted(self._general, row))
        if place < len(self._general) and self._general[place] == row:
            self._solver.set_row(place, float(self._bound[row]) / self._weights[row] / self.length)
            return
        column = int(self._sides.columns[np.searchsorted(self._sides.rows, row)])
        low, high = self._sides.limits(self._bound, self.dim)
        self._solver.set_column(column, float(low[column]) / self.length, float(high[column]) / self.length)

    def maximise(self, c: Tensor) -> Optimum:
        """Return the greatest c.x, c of shape (dim,), with its proof; see `Optimum` for each status."""
        cost = c.detach().double().numpy()
        found = self._attempt(cost, "warm", insist=False) or self._without_optimum(cost)
        return found or self.optimum(cost) or Optimum(Status.UNDECIDED, math.nan, math.inf)

    def optimum(self, cost: Array) -> Optimum | None:
        """Return a proven optimum, or None: for programs that are known to have one."""
        methods = ("warm", "simplex", "ipm")
        return next((found for m in methods if (found := self._attempt(cost, m)) is not None), None)

    def _attempt(self, cost: Array, method: str, *, insist: bool = True) -> Optimum | None:
        scale = float(_power(np.array([np.linalg.norm(cost)]))[0])
        proposal = self._solver.minimise(-cost / scale, method)
        if proposal is None or not (insist or proposal.optimal):
            return None
        point, multipliers = proposal.point * self.length, self._multipliers(cost, proposal.multipliers * scale)
        if not self._proofs.optimal(cost, point, multipliers):
            return None
        value, upper = float(cost @ point), self._proofs.worth(multipliers)
        return Optimum(Status.OPTIMAL, value, upper, torch.from_numpy(point), torch.from_numpy(multipliers))

    def _multipliers(self, cost: Array, duals: Array) -> Array:
        """Return multipliers of all rows: those of bounds of variables are what the general rows leave of the cost."""
        y = np.zeros(len(self._bound))
        y[self._general] = np.maximum(-duals, 0.0) / self._weights[self._general]
        y[self._sides.rows] = self._sides.multipliers(self._bound, cost - self._matrix.T @ y)
        return y

    def _without_optimum(self, cost: Array) -> Optimum | None:
        """Return the proof that there is no optimum, from programs that have one whatever the polytope is."""
        kept = np.flatnonzero(self._bound < np.inf)
        rows, bounds = torch.from_numpy(self._matrix[kept]), torch.from_numpy(self._bound[kept])
        deep = deepest(rows, bounds, tolerance=self.tolerance)
        if deep is None:
            return None
        if deep.is_empty:
            y = torch.zeros(len(self._bound), dtype=torch.float64)
            y[torch.from_numpy(kept)] = deep.multipliers
            return Optimum(Status.INFEASIBLE, -math.inf, -math.inf, None, y)
        ray = self._ray(cost)
        return None if ray is None else Optimum(Status.UNBOUNDED, math.inf, math.inf, deep.point, None, ray)

    def _ray(self, cost: Array) -> Tensor | None:
        """Return d with A d <= 0 and c.d > 0, proven, or None: the greatest c.d <= 1 over the recession cone."""
        size = float(np.linalg.norm(cost))
        if size == 0:
            return None
        rows = torch.from_numpy(np.vstack([self._matrix[self._bound < np.inf], cost / size]))
        cone = LinearProgram(rows, torch.cat([torch.zeros(len(rows) - 1), torch.ones(1)]).double(), tolerance=self.tolerance)
        found = cone.optimum(cost / size)
        if found is None or found.point is None or not self._proofs.ray(cost, found.point.numpy()):
            return None
        return found.point / torch.linalg.vector_norm(found.point)

    def _scaled(self, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        weights = self._weights[rows]
        return self._matrix[rows] / weights[:, None], self._bound[rows] / weights / self.length


class Deepest(NamedTuple):
    """The point farthest inside all rows, how far, and `multipliers` y >= 0 with A^T y = 0 that prove b.y >= any depth.

    For an empty polytope the depth is negative and they are Farkas's. A depth of at most `rounding` is none; one of `cap`
    may be more.
    """

    point: Tensor
    depth: float
    multipliers: Tensor
    is_empty: bool
    rounding: float
    cap: float


def deepest(matrix: Tensor, bound: Tensor, *, tolerance: Tolerance | None = None) -> Deepest | None:
    """Return the point with the greatest least distance inside the rows, capped at the polytope's length; None: undecided.

    max r subject to A x + |a_i| r <= b and r <= length has an optimum for every A and b, empty, flat or unbounded; when r is
    below 0 its multipliers are Farkas's. A row of zeros has no distance; its bound counts as one.
    """
    tolerance = tolerance or Tolerance()
    found = _capped(matrix, bound, tolerance)
    if found is None or found.is_empty or found.depth > found.rounding:
        return found
    return _closer(matrix, bound, found, tolerance) or found


def _capped(matrix: Tensor, bound: Tensor, tolerance: Tolerance) -> Deepest | None:
    sides = torch.nonzero((matrix != 0).sum(1) == 1).reshape(-1)
    found = _deepest(matrix, bound, sides, tolerance) if len(sides) else None
    return found or _deepest(matrix, bound, None, tolerance)


def _closer(matrix: Tensor, bound: Tensor, found: Deepest, tolerance: Tolerance) -> Deepest | None:
    """Return the deepest point as seen from one found before, if it is inside by more than rounding; None otherwise.

    The solver's accuracy is relative to where the hyperplanes lie; around a point nearby they lie where the polytope is
    thin, and what is left is the rounding of the slacks.
    """
    slack, room = slack_at(matrix, bound, found.point, tolerance)
    near = _capped(matrix, slack, tolerance)
    rounding = max(room, near.rounding) if near is not None else room
    if near is None or near.is_empty or near.depth <= rounding:
        return None
    return near._replace(point=found.point + near.point, rounding=rounding)


def slack_at(matrix: Tensor, bound: Tensor, point: Tensor, tolerance: Tolerance) -> tuple[Tensor, float]:
    """Return the slacks (rows,) at a point, 0 where they are rounding, and the largest distance that rounding makes."""
    norms = torch.linalg.vector_norm(matrix, dim=1)
    room = tolerance.relative * (bound.abs() + matrix.abs() @ point.abs())
    slack = bound - matrix @ point
    distances = (room / norms)[norms > 0]
    return torch.where(slack.abs() > room, slack, 0.0), float(distances.max()) if len(distances) else 0.0


def _deepest(matrix: Tensor, bound: Tensor, sides: Tensor | None, tolerance: Tolerance) -> Deepest | None:
    """Solve for the deepest point; with `sides`, under r >= 0 and those rows as bounds of variables.

    For r >= 0 they follow from the rows with r in them and change nothing but the time: a box of 784 dimensions takes half
    a second with them and minutes without. An empty polytope has no such point, and is left to the plain program.
    """
    rows, dim = matrix.shape
    proofs = Proofs(matrix.numpy(), bound.numpy(), accuracy_of(tolerance))
    weight = torch.from_numpy(np.where(proofs.norms > 0, proofs.norms, 1.0))
    depth = torch.zeros(1, dim + 1, dtype=torch.float64)
    depth[0, -1] = 1.0
    parts, limits = (
        [torch.cat([matrix, weight[:, None]], 1), depth],
        [bound, torch.tensor([proofs.length], dtype=torch.float64)],
    )
    if sides is not None:
        parts += [torch.cat([matrix[sides], torch.zeros(len(sides), 1, dtype=torch.float64)], 1), -depth]
        limits += [bound[sides], torch.zeros(1, dtype=torch.float64)]
    found = LinearProgram(torch.cat(parts), torch.cat(limits), tolerance=tolerance).optimum(depth[0].numpy())
    if found is None or found.point is None or found.multipliers is None:
        return None
    point, y = found.point[:-1], found.multipliers[:rows].clone()
    if sides is not None:
        y[sides] += found.multipliers[rows + 1 : rows + 1 + len(sides)]
    empty = sides is None and proofs.empty(y.numpy())
    if not (empty or proofs.feasible(point.numpy())):
        return None
    return Deepest(point, found.value, y, empty, proofs.accuracy * proofs.length, proofs.length)


def _power(sizes: Array) -> Array:
    """Return the powers of two next to the sizes, 1 for 0: scaling by them rounds nothing."""
    return np.exp2(np.round(np.log2(np.where(sizes > 0, sizes, 1.0))))


def _length(norms: Array, bound: Array) -> float:
    """Return the size of the coordinates where the rows lie: the median distance of hyperplanes from 0, as a power of two."""
    kept = (norms > 0) & (bound != 0) & np.isfinite(bound)
    distances = np.abs(bound[kept]) / norms[kept]
    return float(_power(np.array([np.median(distances)]))[0]) if len(distances) else 1.0
