"""Which rows of a polytope {x : A x <= b} bound it: facets with a point on each, redundant rows with their proofs.

A facet is a set of rows that share one hyperplane. Nothing is guessed: what cannot be proven is `undecided`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, final

import torch
from torch import Tensor

from ._certify import LEAD, Boxed, certify
from ._lp import SOLVER_FACTOR, LinearProgram
from ._types import Result, Tolerance
from .errors import GeometryError
from .geometry import affine_hull, analytic_center
from .polytope import Polytope

REDUNDANT, OPEN, FACET = -1, 0, 1
RAYS = 1024  # rays shot at once: bounds memory by RAYS x rows
BATCH = 32  # programs advanced in lockstep
# Below this many rows x dimensions, or open rows, linear programs are quicker than interior-point steps
WORTH_BATCHING, MANY = 20_000, 8


class Bounded(Protocol):
    """Something that a polytope describes, as a region."""

    @property
    def polytope(self) -> Polytope:
        """The polytope."""


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Facets(Result):
    """The facets of a polytope, numbered from 0 in the order of their first rows.

    Every row is exactly one of these: on a facet, an implicit equality, redundant, or undecided.

    `facet_of_row` (rows,): the facet's number, or -1. Equal numbers are rows that share one hyperplane.
    `witnesses` (facets, dim): a point in the relative interior of each; all rows of other facets have slack there.
    `normals` (facets, dim): outward and of length 1; for flat polytopes within the affine hull.
    `equalities`: rows that hold with equality on the whole polytope (none unless it is flat).
    `redundant`: rows that others imply, by `multipliers` (redundant, rows) y >= 0: a_i = sum y_j a_j and b_i >= sum y_j b_j.
    `undecided`: rows about which nothing could be proven.
    `center` (dim,): a point in the relative interior of the polytope.
    `how`: how many rows each method decided. `merged`: the largest difference (relative to the polytope's length) of
    hyperplanes that were taken as one; `touching`: the largest excess of a redundant row that was taken as 0.
    """

    facet_of_row: Tensor
    witnesses: Tensor
    normals: Tensor
    equalities: Tensor
    redundant: Tensor
    multipliers: Tensor
    undecided: Tensor
    center: Tensor
    how: dict[str, int]
    merged: float
    touching: float

    @property
    def num_facets(self) -> int:
        """How many facets were proven: all of them when `complete`."""
        return len(self.witnesses)

    @property
    def complete(self) -> bool:
        """Whether every row is decided."""
        return len(self.undecided) == 0

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The rows of each facet."""
        found: list[list[int]] = [[] for _ in range(self.num_facets)]
        for row, facet in enumerate(self.facet_of_row.tolist()):
            if facet >= 0:
                found[facet].append(row)
        return tuple(map(tuple, found))

    def __repr__(self) -> str:
        return f"Facets({self.num_facets} facets, {len(self.facet_of_row)} rows{'' if self.complete else ', incomplete'})"

    def summary(self) -> str:
        shared = sum(len(g) > 1 for g in self.groups)
        lines = [f"{self.num_facets} facets ({shared} of several rows), {len(self.redundant)} redundant rows"]
        if len(self.equalities):
            lines.append(f"flat: {len(self.equalities)} rows hold with equality everywhere")
        if not self.complete:
            lines.append(f"undecided: {len(self.undecided)} rows")
        lines.append("decided by " + ", ".join(f"{name} {n}" for name, n in self.how.items() if n))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "num_facets": self.num_facets,
            "complete": self.complete,
            "groups": [list(g) for g in self.groups],
            "witnesses": self.witnesses.tolist(),
            "normals": self.normals.tolist(),
            "equalities": self.equalities.tolist(),
            "redundant": self.redundant.tolist(),
            "undecided": self.undecided.tolist(),
            "how": dict(self.how),
            "merged": self.merged,
            "touching": self.touching,
        }


def facets(p: Polytope | Bounded, *, tolerance: Tolerance | None = None, time_limit: float | None = None) -> Facets:
    """Return which rows bound a polytope, each with a proof: a point on the facet, or multipliers that imply the row.

    Unbounded polytopes are normal. The facets of a flat one are relative to its affine hull, whose rows are listed as
    `equalities`; a single point has none. Rows of zeros, and rows that only touch a face of lower dimension, are
    redundant.

    Args:
        p: the polytope, or a region, whose polytope is meant.
        tolerance: rows of length 1 whose direction and distance differ by less than `relative` are one hyperplane. The
            solver's accuracy is 1024 times that (1e-9): a polytope thinner than this, relative to its length, is flat,
            and a row that cuts off less is redundant; `merged` and `touching` report the largest that was so taken.
        time_limit: seconds; rows that are open then are `undecided`.

    Raises:
        GeometryError: the polytope is empty, or its affine hull cannot be proven.

    Algorithm: rows are normalised and equal hyperplanes grouped. From the analytic centre one ray per row is shot along
    H^-1 a_i, H the Hessian of the logarithmic barrier: the row through which a ray leaves, alone, is a facet, and nearly
    all facets that are sides of a box are found so. Cost: one factorisation, O(dim^3 + rows dim^2). In a box, the general
    rows that stay open go in batches through a few interior-point steps each of which tries its points and multipliers
    as proofs (`_certify`). What is left, and all of it in small polytopes, is one linear program a row, warm-started.
    Multipliers are checked once more at the end.

    References: Boyd and Vandenberghe, Convex Optimization (2004), section 8.5; Mehrotra, On the implementation of a
    primal-dual interior point method, SIAM J. Optim. 2 (1992).

    >>> facets(Polytope.of([[1, 0], [0, 1], [-1, -1], [2, 0], [1, 1]], [1, 1, 0, 2, 2])).groups  # x + y <= 2 only touches
    ((0, 3), (1,), (2,))
    """
    p = p if isinstance(p, Polytope) else p.polytope
    tol = tolerance or Tolerance()
    deadline = None if time_limit is None else time.monotonic() + time_limit
    hull = _hull(p, tol)
    search = _Search(p, hull, tol)
    search.run(lambda: deadline is not None and time.monotonic() > deadline)
    return search.result()


def reduced(p: Polytope, *, tolerance: Tolerance | None = None) -> Polytope:
    """Return the same set from the rows that matter: one row for each facet, in their order, with their origins.

    Of a flat polytope the implicit equalities stay as they are, all of them. Undecided rows stay too.

    Args:
        p: the polytope.
        tolerance: as in `facets`.

    Raises: GeometryError for an empty polytope.

    >>> len(reduced(Polytope.box([0, 0], [1, 1]) & Polytope.of([[1, 1]], [2])))
    4
    """
    found = facets(p, tolerance=tolerance)
    first = torch.tensor([g[0] for g in found.groups], dtype=torch.long)
    return p.select(torch.cat([first, found.equalities, found.undecided]).sort().values)


# -- the affine hull


class _Hull(NamedTuple):
    """An affine hull: a point in the relative interior, and an orthonormal basis (dim, k) of its directions, without the
    lines that the polytope holds; None for the whole space.

    `equalities` are the rows (not of zeros) that hold with equality, `positive` multipliers m of them with
    sum m_e a_e = 0 and sum m_e b_e = 0.
    """

    point: Tensor
    basis: Tensor | None
    equalities: Tensor
    positive: Tensor


def _hull(p: Polytope, tol: Tolerance) -> _Hull:
    """Return the affine hull of a polytope, with the analytic centre as its point where there is one in a box."""
    positive = torch.zeros(len(p), dtype=torch.float64)
    center = _center(p, tol)
    if center is not None:
        return _Hull(center, None, torch.zeros(0, dtype=torch.long), positive)
    found = affine_hull(p, tolerance=tol)
    if found.multipliers is None:
        return _Hull(found.point, _across_lines(p.matrix, tol), torch.zeros(0, dtype=torch.long), positive)
    rows = found.equalities[p.matrix[found.equalities].any(1)]
    positive[rows] = found.multipliers[rows]
    return _Hull(found.point, found.basis if len(rows) else None, rows, positive)


def _across_lines(matrix: Tensor, tol: Tolerance) -> Tensor | None:
    """Return an orthonormal basis (dim, rank) of the row space, None where that is the whole space.

    A polytope that holds whole lines is as wide along them everywhere: its facets are those of its section across them.
    Regions of networks are often so: rows of later layers are combinations of those of the first.
    """
    norms = torch.linalg.vector_norm(matrix, dim=1)
    _, sizes, right = torch.linalg.svd(matrix[norms > 0] / norms[norms > 0, None], full_matrices=False)
    rank = int((sizes > tol.relative * SOLVER_FACTOR * sizes.amax()).sum()) if len(sizes) else 0
    return right[:rank].T.contiguous() if rank < matrix.shape[1] else None


def _center(p: Polytope, tol: Tolerance) -> Tensor | None:
    """Return the analytic centre of a polytope with two sides in every coordinate, or None."""
    single = (p.matrix != 0).sum(1) == 1
    signs = p.matrix[single].sign()
    if not bool(((signs > 0).any(0) & (signs < 0).any(0)).all()) or p.dim == 0:
        return None
    try:
        center = analytic_center(p)
    except GeometryError:
        return None
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    room = tol.relative * SOLVER_FACTOR * (p.bound.abs() + norms * torch.linalg.vector_norm(center))
    return center if bool((p.slack(center)[norms > 0] > room[norms > 0]).all()) else None


def _within(p: Polytope, hull: _Hull) -> tuple[Tensor, Tensor]:
    """Return the rows in coordinates of the hull, and their slacks at its point."""
    return p.matrix if hull.basis is None else p.matrix @ hull.basis, p.slack(hull.point)


def _free(p: Polytope, hull: _Hull, norms: Tensor, tol: Tolerance) -> Tensor:
    """Say which rows are not constant on the hull."""
    whole = torch.linalg.vector_norm(p.matrix, dim=1)
    return norms > (0 if hull.basis is None else tol.relative * SOLVER_FACTOR * whole)


def _lift(p: Polytope, hull: _Hull, vector: Tensor) -> Tensor:
    """Return multipliers y >= 0 of the hull's equalities with A^T y = vector, for a vector across the hull.

    Equalities have a positive combination that is 0, so any combination becomes nonnegative by adding enough of it.
    """
    y = torch.zeros(len(p), dtype=torch.float64)
    rows = torch.nonzero(hull.positive > 0).reshape(-1)
    if len(rows):
        signed = torch.linalg.pinv(p.matrix[rows].T, rtol=1e-10) @ vector
        y[rows] = (signed + hull.positive[rows] * (-signed / hull.positive[rows]).max().clamp(min=0)).clamp(min=0)
    return y


# -- the search


class _Search:
    """The rows in coordinates of the hull, centred and of length 1, and what is known of each."""

    def __init__(self, p: Polytope, hull: _Hull, tol: Tolerance) -> None:
        self.p, self.hull, self.tol = p, hull, tol
        self.accuracy = tol.relative * SOLVER_FACTOR
        matrix, slack = _within(p, hull)
        self.norms = torch.linalg.vector_norm(matrix, dim=1)
        free = _free(p, hull, self.norms, tol)
        free[hull.equalities] = False
        scale = torch.where(free, self.norms, 1.0)
        self.matrix = torch.where(free[:, None], matrix / scale[:, None], 0.0)
        self.slack = slack / scale
        self.length = _length(self.slack[free])
        self.whole = torch.linalg.vector_norm(p.matrix, dim=1)
        size = p.bound.abs() + self.whole * torch.linalg.vector_norm(hull.point)
        # What rounding may have done to the slacks of rows of length 1
        self.rounding = tol.relative * (size / scale + self.length)
        self.leader = torch.arange(len(p))
        self.verdict = torch.zeros(len(p), dtype=torch.long)
        self.points = torch.zeros(len(p), matrix.shape[1], dtype=torch.float64)
        self.proofs: dict[int, Tensor] = {}
        self.how: Counter[str] = Counter()
        self.merged = self.touching = 0.0
        self._set_constants_aside(free)

    def _set_constants_aside(self, free: Tensor) -> None:
        equal = torch.zeros_like(free)
        equal[self.hull.equalities] = True
        for row in torch.nonzero(~free & ~equal).reshape(-1).tolist():
            self._redundant(row, torch.zeros(len(self.p), dtype=torch.float64), "constant")
        self.verdict[equal] = REDUNDANT

    def run(self, late: Callable[[], bool]) -> None:
        self._group()
        if len(self.open()):
            self._shoot()
        if self._worth_batching():
            self._batch(late)
        self._solve(late)

    def open(self) -> Tensor:
        """Return the rows of which nothing is known, one of each hyperplane."""
        return torch.nonzero((self.verdict == OPEN) & (self.leader == torch.arange(len(self.leader)))).reshape(-1)

    def rows(self) -> Tensor:
        """Return the rows that still describe the polytope: those not redundant, one of each hyperplane."""
        return torch.nonzero((self.verdict != REDUNDANT) & (self.leader == torch.arange(len(self.leader)))).reshape(-1)

    # -- equal and parallel hyperplanes

    def _group(self) -> None:
        """Find rows of one direction: those on one hyperplane follow the first of them, those behind it are redundant."""
        for rows in self._parallels():
            tightest = float(self.slack[rows].min())
            close = self.slack[rows] - tightest <= self.rounding[rows]
            same = rows[close]
            self.leader[same] = same[0]
            self.merged = max(self.merged, float(self.slack[same].max() - tightest) / self.length)
            self.slack[same[0]] = tightest
            for row in rows[~close].tolist():
                self._redundant(row, self._one(int(same[self.slack[same].argmin()])), "parallel")

    def _parallels(self) -> Iterator[Tensor]:
        """Yield the classes of at least two rows with one direction."""
        candidates = self.open()
        if self.matrix.shape[1] == 0 or len(candidates) < 2:
            return
        # A random projection puts equal directions side by side; only neighbours in its order need a closer look
        probe = torch.randn(self.matrix.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        shadow, order = (self.matrix[candidates] @ probe).sort()
        reach = self.tol.relative * torch.linalg.vector_norm(probe)
        for block in torch.tensor_split(order, torch.nonzero(shadow.diff() > reach).reshape(-1) + 1):
            rest = candidates[block].sort().values
            while len(rest) > 1:
                near = torch.linalg.vector_norm(self.matrix[rest] - self.matrix[rest[0]], dim=1) <= self.tol.relative
                if int(near.sum()) > 1:
                    yield rest[near]
                rest = rest[~near]

    def _one(self, row: int) -> Tensor:
        y = torch.zeros(len(self.p), dtype=torch.float64)
        y[row] = 1.0
        return y

    # -- rays

    def _shoot(self) -> None:
        """Certify the rows through which the rays along H^-1 a_i leave alone."""
        rows = self.rows()
        scaled = self.matrix[rows] / self.slack[rows, None]
        hessian = scaled.T @ scaled
        hessian.diagonal().add_(hessian.diagonal().mean() * self.tol.relative)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        for part in rows.split(RAYS):
            along = self.matrix[part] if int(failed) else torch.cholesky_solve(self.matrix[part].T, factor).T
            self._try(along, "ray")

    def _try(self, rays: Tensor, how: str) -> None:
        """Certify the rows through which rays from the centre leave, by a clear lead over all others."""
        rows = self.rows()
        slack, speed = self.slack[rows], rays @ self.matrix[rows].T / self.slack[rows]
        top, place = speed.max(1)
        hit = place[:, None] == torch.arange(len(rows))
        # The slack that each row has at the point where the ray leaves; rounding must not have made it
        margin = slack * (1 - speed / top[:, None]) > torch.maximum(self.rounding[rows], LEAD * slack)
        leaves = (top > 0) & (margin | hit).all(1) & (self.verdict[rows[place]] == OPEN)
        found, number = rows[place[leaves]].unique(return_inverse=True)
        # The first ray of each row: several writes to one place at once may mix them
        chosen = torch.full_like(found, len(rays)).scatter_reduce(0, number, torch.nonzero(leaves).reshape(-1), "amin")
        self.points[found] = rays[chosen] / top[chosen, None]
        self.verdict[found] = FACET
        self.how[how] += len(found)

    # -- many rows of a box at once

    def _worth_batching(self) -> bool:
        return self.matrix.numel() >= WORTH_BATCHING and self.hull.basis is None and len(self.open()) >= MANY

    def _batch(self, late: Callable[[], bool]) -> None:
        rows = self.rows()
        single = (self.matrix[rows] != 0).sum(1) == 1
        sides, general = rows[single], rows[~single]
        column = self.matrix[sides].abs().argmax(1)
        up = self.matrix[sides, column] > 0
        upper, lower = (torch.full((self.p.dim,), -1).index_put((column[m],), sides[m]) for m in (up, ~up))
        if bool(((upper < 0) | (lower < 0)).any()) or not len(general):
            return
        system = Boxed(self.matrix[general], self.slack[general], -self.slack[lower], self.slack[upper])
        for part in self._promising(general, system).split(BATCH):
            if late():
                return
            proofs = certify(system, part, self.verdict[general] != REDUNDANT)
            self._try(proofs.direction[proofs.verdict == FACET], "interior point")
            for k in torch.nonzero(proofs.verdict == REDUNDANT).reshape(-1).tolist():
                y = torch.zeros(len(self.p), dtype=torch.float64)
                y[general] = proofs.multipliers[k]
                left = system.matrix[part[k]] - proofs.multipliers[k] @ system.matrix
                y[upper], y[lower] = left.clamp(min=0), (-left).clamp(min=0)
                self._redundant(int(general[part[k]]), y, "interior point")

    def _promising(self, general: Tensor, system: Boxed) -> Tensor:
        """Return the positions of open general rows, likely facets first: redundant rows found late need smaller proofs.

        A row is likely to be a facet where a ray along its own normal, in the barrier's metric, nearly leaves through it.
        """
        open_rows = torch.nonzero(self.verdict[general] == OPEN).reshape(-1)
        metric = (system.high**-2 + system.low**-2).reciprocal()
        rays = system.matrix[open_rows] * metric
        speed = rays @ system.matrix.T / system.slack
        top = torch.maximum(speed.amax(1), torch.maximum(rays / system.high, rays / system.low).amax(1))
        own = speed[torch.arange(len(open_rows)), open_rows]
        return open_rows[torch.argsort(own / top, descending=True)]

    # -- one linear program a row

    def _solve(self, late: Callable[[], bool]) -> None:
        rows, todo = self.rows(), self.open().tolist()
        if not todo:
            return
        program = LinearProgram(self.matrix[rows], self.slack[rows], tolerance=self.tol)
        place = {row: k for k, row in enumerate(rows.tolist())}
        for row in todo:
            if late():
                return
            if int(self.verdict[row]) == OPEN:
                self._decide(program, rows, row, place[row])

    def _decide(self, program: LinearProgram, rows: Tensor, row: int, place: int) -> None:
        """Decide a row by the greatest a_i.y when it is moved out to twice its slack, so that there is one."""
        slack = float(self.slack[row])
        program.set_bound(place, 2 * slack)
        found = program.maximise(self.matrix[row])
        program.set_bound(place, slack)
        if found.point is None or found.multipliers is None:
            return
        room = self.accuracy * max(slack, self.length)
        if found.value > slack + min(room, slack / 2):
            self._try(found.point[None], "linear program")
        if int(self.verdict[row]) == OPEN and found.upper <= slack + room:
            y = torch.zeros(len(self.p), dtype=torch.float64)
            y[rows] = found.multipliers
            y[row] = 0.0
            self._redundant(row, y, "linear program")
            self.touching = max(self.touching, (found.upper - slack) / self.length)
            # Out of reach: without row i, moved to twice its slack, the polytope at most doubles around the centre
            program.set_bound(place, 4 * slack)

    # -- what is known

    def _redundant(self, row: int, y: Tensor, how: str) -> None:
        """Keep multipliers (of rows of length 1, on the hull) once they are verified on the rows as given."""
        norms = torch.where(self.norms > 0, self.norms, 1.0)
        y = torch.where(y > 0, y / norms, 0.0) * (float(norms[row]) if bool(y.any()) else 1.0)
        y = y + _lift(self.p, self.hull, self.p.matrix[row] - y @ self.p.matrix)
        if self._implies(y, row):
            self.verdict[row] = REDUNDANT
            self.proofs[row] = y
            self.how[how] += 1

    def _implies(self, y: Tensor, row: int) -> bool:
        """Say whether y >= 0, A^T y = a_i and b.y <= b_i up to the solver's accuracy."""
        residue = torch.linalg.vector_norm(y @ self.p.matrix - self.p.matrix[row])
        size = float(y @ self.whole + self.whole[row])
        reach = torch.linalg.vector_norm(self.hull.point) + self.length
        excess = float(y @ self.p.bound - self.p.bound[row])
        room = self.accuracy * (float(y @ self.p.bound.abs() + self.p.bound[row].abs()) + size * float(reach))
        return bool((y >= 0).all()) and float(residue) <= self.accuracy * size and excess <= room

    def result(self) -> Facets:
        count = len(self.p)
        equal = torch.zeros(count, dtype=torch.bool)
        equal[self.hull.equalities] = True
        verdict = self.verdict[self.leader]
        firsts = torch.nonzero((verdict == FACET) & (self.leader == torch.arange(count))).reshape(-1)
        number = torch.full((count,), -1)
        number[firsts] = torch.arange(len(firsts))
        points, normals = self.points[firsts], self.matrix[firsts]
        if self.hull.basis is not None:
            points, normals = points @ self.hull.basis.T, normals @ self.hull.basis.T
        self._follow(verdict, equal)
        redundant = torch.nonzero((verdict == REDUNDANT) & ~equal).reshape(-1)
        proofs = [self.proofs[row] for row in redundant.tolist()]
        return Facets(
            facet_of_row=torch.where(verdict == FACET, number[self.leader], -1),
            witnesses=self.hull.point + points,
            normals=normals,
            equalities=self.hull.equalities,
            redundant=redundant,
            multipliers=torch.stack(proofs) if proofs else torch.zeros(0, count, dtype=torch.float64),
            undecided=torch.nonzero(verdict == OPEN).reshape(-1),
            center=self.hull.point,
            how=dict(self.how),
            merged=self.merged,
            touching=self.touching,
        )

    def _follow(self, verdict: Tensor, equal: Tensor) -> None:
        """Give rows that share the hyperplane of a redundant row its proof."""
        for row in torch.nonzero((verdict == REDUNDANT) & ~equal).reshape(-1).tolist():
            first = int(self.leader[row])
            if row != first:
                self.proofs[row] = self.proofs[first] * float(self.norms[row] / self.norms[first])


def _length(slack: Tensor) -> float:
    """Return the size of a polytope: the median distance of its hyperplanes."""
    kept = slack[slack > 0]
    return float(kept.median()) if len(kept) else 1.0
